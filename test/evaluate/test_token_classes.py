"""Classes of photographs by the nearest tokens."""

import json

import cv2
import numpy as np
import pytest
import torch

from geoseg_ros.cli.main import main
from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.msrc import CLASSES, Photograph
from geoseg_ros.evaluate.token_classes import token_classes
from support.trivial_methods import colour_and_place

GREEN, BLUE = (20, 200, 30), (20, 60, 200)


def photographs(count=4):
    """The upper part is sky, the lower part grass, a strip between them is not labelled."""
    label = np.full((213, 320), CLASSES.index("sky"), np.uint8)
    label[100:] = CLASSES.index("grass")
    label[90:110] = 0
    rgb = np.where((np.arange(213) < 100)[:, None, None], BLUE, GREEN).astype(np.uint8) * np.ones((1, 320, 1), np.uint8)
    return [Photograph(f"p{k}", rgb, label) for k in range(count)]


def test_tokens_that_show_the_class_find_it_and_constant_ones_do_not():
    found = token_classes(colour_and_place, photographs())
    assert (found.pixel, found.class_mean, found.photographs) == (1, 1, 4)
    assert 4 * 20 * 11 < found.tokens < 4 * 20 * 14  # the strip is left out
    noise = torch.Generator().manual_seed(0)
    random = token_classes(lambda image: torch.randn(14, 20, 8, generator=noise), photographs())
    assert 0.3 < random.class_mean < 0.7
    with pytest.raises(InputError, match="at least 2 photographs, got 1"):
        token_classes(colour_and_place, photographs(1))


def test_the_table_names_the_backbone(tmp_path, capsys):
    root = tmp_path / "msrc"
    for photograph in photographs():
        for folder, name, picture in (
            ("images", f"{photograph.name}.jpg", photograph.rgb),
            ("labels", f"{photograph.name}.png", photograph.label),
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(root / folder / name), picture)
    out = tmp_path / "tokens.md"
    command = ["evaluate", "--table", "tokens", "--root", str(root), "--backbone", "geoseg_tiny", "--out", str(out), "--json"]
    assert main(command) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["pixel"] > 0.9 and "| geoseg_tiny | report | 4 |" in out.read_text()
    assert told.err == ""
