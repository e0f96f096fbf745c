"""PCK, the readers of SPair-71k, SPair-U and AP-10K on made files, and the table."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from geoseg_ros.cli.main import main
from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.datasets.keypoints import read_pairs
from geoseg_ros.evaluate.parts.pck import Found, nearest_places, pck, summary
from geoseg_ros.evaluate.parts.table import evaluate_parts


def test_pck_per_point_and_per_image():
    true = np.zeros((4, 2))
    one = Found(np.array([[9, 0], [0, 11], [4, 0], [0.5, 0]], float), true, 100.0)
    two = Found(np.array([[30.0, 0]]), true[:1], 100.0)
    assert pck([one, two]) == {"point": pytest.approx(3 / 5), "image": pytest.approx(3 / 8)}
    row = summary([one, two])
    assert row["pck0.05_point"] == pytest.approx(2 / 5) and row["pck0.01_point"] == pytest.approx(1 / 5) and row["points"] == 5
    assert np.isnan(row["wrong_side"]) and np.isnan(pck([])["point"])


def test_wrong_sides_are_counted_where_the_mirror_image_is_seen_and_far():
    true, mirror = np.zeros((4, 2)), np.array([[50, 0], [50, 0], [5, 0], [np.nan, np.nan]], float)
    found = Found(np.array([[45, 0], [5, 0], [5, 0], [50, 0]], float), true, 100.0, mirror)
    assert found.wrong_side.tolist() == [True, False]


def test_nearest_places_are_the_middles_of_cells():
    features = np.eye(16, dtype=np.float32).reshape(4, 4, 16)
    at = np.array([[10.0, 30.0], [39.0, 0.0]])
    found = nearest_places(features, features, at, (40.0, 80.0))
    np.testing.assert_allclose(found, [[29.5, 69.5], [69.5, 9.5]])
    mask = np.zeros((4, 4), bool)
    mask[2, 2] = True
    np.testing.assert_allclose(nearest_places(features, features, at, (40.0, 80.0), mask), [[49.5, 49.5]] * 2)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A wide and a high picture of one coloured pattern, as SPair-71k has them."""
    root = tmp_path_factory.mktemp("spair")
    (root / "JPEGImages/cat").mkdir(parents=True)
    (root / "PairAnnotation/test").mkdir(parents=True)
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
    places = {"a": [(30, 30), (90, 30), (30, 80), (90, 80)], "b": [(25, 120), (75, 120), (25, 30), (75, 30)]}
    for name, (width, height) in (("a", (160, 120)), ("b", (100, 160))):
        image = np.full((height, width, 3), 128, np.uint8)
        for (x, y), colour in zip(places[name], colours, strict=True):
            cv2.rectangle(image, (x - 9, y - 9), (x + 9, y + 9), colour, -1)
        cv2.imwrite(str(root / f"JPEGImages/cat/{name}.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
    pair = {"src_imname": "a.jpg", "trg_imname": "b.jpg", "category": "cat", "kps_ids": ["0", "1", "4", "5"]}
    pair |= {"src_kps": places["a"], "trg_kps": places["b"], "src_bndbox": [10, 10, 110, 100], "trg_bndbox": [5, 10, 95, 140]}
    (root / "PairAnnotation/test/000000-a-b:cat.json").write_text(json.dumps(pair))
    (root / "geo_aware.json").write_text(json.dumps({"cat": [["0", "1"], ["5", "7"]]}))
    return root


def test_spair_files(photographs):
    (pair,) = read_pairs(photographs)
    assert pair.category == "cat" and pair.extent == 130 and pair.source.name == "a.jpg"
    assert pair.source_at.tolist()[1] == [90, 30] and pair.target_at.tolist()[1] == [75, 120]
    assert pair.geo_aware.tolist() == [True, True, False, False]  # the target shows no 7 beside 5


def test_the_protocol_pads_and_comes_back_to_pixels(photographs, fake_backbone):
    result, text = evaluate_parts(fake_backbone, photographs, (), (0,), None, lambda line: None)
    rows = {name.partition(", ")[2]: row for name, row in result["rows"].items()}
    assert rows["test"]["pck0.1_point"] == rows["test"]["pck0.1_image"] == 1, rows["test"]
    assert rows["test"]["points"] == 4 and rows["test, geometry-aware"]["points"] == 2
    assert "73.0" in text and "PartField" in text


def test_animal_files(tmp_path):
    folder = tmp_path / "ImageAnnotation/felidae/cat"
    folder.mkdir(parents=True)
    for name, seen in (("1", [2, 2, 0]), ("2", [2, 0, 1])):
        points = [v for k in range(3) for v in (10 * k + 1, 20 * k + 2, seen[k])]
        obj = {"keypoints": points, "bbox": [5, 6, 70, 40], "width": 100, "height": 90}
        (folder / f"{name}.json").write_text(json.dumps(obj))
    pairs = tmp_path / "PairAnnotation/test_cross_species"
    pairs.mkdir(parents=True)
    names = {f"{side}_json_path": f"data/ap-10k/ImageAnnotation/felidae/cat/{k}.json" for side, k in (("src", 1), ("trg", 2))}
    (pairs / "1-2:felidae.json").write_text(json.dumps(names))
    (pair,) = read_pairs(tmp_path, "test_cross_species")
    assert pair.category == "felidae" and pair.extent == 70 and pair.source_at.tolist() == [[1, 2]]
    assert pair.target == tmp_path / "JPEGImages/felidae/cat/2.jpg"
    (pairs / "1-2:felidae.json").write_text(json.dumps({**names, "src_json_path": "/etc/../ImageAnnotation/../../x.json"}))
    with pytest.raises(InputError, match="not a pair"):
        list(read_pairs(tmp_path, "test_cross_species"))


def test_files_that_are_no_pairs(tmp_path, photographs):
    with pytest.raises(InputError, match="no pairs"):
        list(read_pairs(tmp_path))
    folder = tmp_path / "PairAnnotation/test"
    folder.mkdir(parents=True)
    for text, message in (("{", "not readable"), ("{}", "not a pair"), ("[]", "not a pair")):
        (folder / "x.json").write_text(text)
        with pytest.raises(InputError, match=message):
            list(read_pairs(tmp_path))


def test_command_on_simulated_instances(capsys, tmp_path):
    command = ["evaluate", "--table", "parts", "--backbone", "geoseg_tiny", "--items", "1", "--seeds", "0"]
    assert main([*command, "--families", "bag", "--out", str(tmp_path / "parts.md")]) == 0
    out = capsys.readouterr().out
    assert "| geoseg_tiny, seed 0 |" in out and "| 20 |" in out
    assert 0 < json.loads((tmp_path / "parts.json").read_text())["rows"]["geoseg_tiny, seed 0"]["pck0.1_point"] <= 1
    assert main([*command, "--families", "mug"]) == 2
    assert "mug" in capsys.readouterr().err
