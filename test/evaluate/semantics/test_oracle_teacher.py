"""The teacher that knows the truth: it is wrong as often, and as together, as it is told to be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.semantics.oracle_teacher import NoiseConfig, OracleTeacher
from geoseg_ros.evaluate.semantics.rooms import SemanticRoom
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.posed_frames import FrameList, PosedFrame

CLASSES = tuple("abcdefgh")
LABEL = np.random.default_rng(0).integers(0, 8, (60, 80))


def wrong(kind: str, room: int = 0, view: int = 0, **values) -> np.ndarray:
    return OracleTeacher(CLASSES, NoiseConfig(kind=kind, **values)).noisy(LABEL, room, view) != LABEL


@pytest.mark.parametrize("kind", ["independent", "blobs"])
@pytest.mark.parametrize("accuracy", [0.5, 0.8, 1.0])
def test_cells_are_right_as_often_as_told(kind, accuracy) -> None:
    assert np.mean(wrong(kind, accuracy=accuracy)) == pytest.approx(1 - accuracy, abs=0.03)


def test_blobs_are_wrong_together_and_cells_are_not() -> None:
    together = {kind: np.mean(wrong(kind, accuracy=0.5)[:, 1:] == wrong(kind, accuracy=0.5)[:, :-1]) for kind in ("independent", "blobs")}
    assert together["independent"] < 0.55 and together["blobs"] > 0.8


def test_classes_are_wrong_in_a_view_or_in_a_whole_room() -> None:
    for kind, same in (("views", False), ("rooms", True)):
        found = [wrong(kind, view=k, accuracy=0.5, pairs=True) for k in range(4)]
        for one in found:
            assert all(len(np.unique(one[k == LABEL])) == 1 for k in range(8))
        assert all(np.array_equal(found[0], other) for other in found[1:]) is same
    told = [OracleTeacher(CLASSES, NoiseConfig(0.0, "rooms", pairs=True)).noisy(np.arange(8)[None], room, 0).tolist() for room in (0, 1)]
    assert told[0] == told[1] and sorted(told[0][0]) == list(range(8))  # every class is always taken for the same other one


def test_features_say_the_label_and_nothing_of_what_has_none() -> None:
    label = np.full((64, 64), -1)
    label[:, 32:] = 3
    rgb = np.zeros((64, 64, 3), np.uint8)
    frame = PosedFrame(rgb, np.ones((64, 64), np.float32), np.array([[60.0, 0, 31.5], [0, 60.0, 31.5], [0, 0, 1]]), np.eye(4))
    teacher = OracleTeacher(CLASSES, NoiseConfig(1.0))
    with pytest.raises(InputError, match="not of the rooms"):
        teacher.encode_image(rgb)
    teacher.show(SemanticRoom("r", Cloud(np.zeros((1, 3), np.float32)), np.zeros(1, int), FrameList([frame]), (label,)))
    found = teacher.encode_image(rgb)
    assert found.shape == (8, 8, 64) and not found[:, :4].any()
    assert ((found[:, 4:] @ teacher.encode_text(CLASSES).T).argmax(dim=-1) == 3).all()
    assert torch.equal(found, teacher.encode_image(rgb))
    with pytest.raises(InputError, match="not 'z'"):
        teacher.encode_text(["z"])
    silent = OracleTeacher(CLASSES, NoiseConfig(missing=1.0))
    assert (silent.noisy(LABEL, 0, 0) == -1).all()
