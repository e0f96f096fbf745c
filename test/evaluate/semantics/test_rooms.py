"""Simulated rooms with classes: the same again, splits apart, frames that see what the scan has, and labels that fit."""

import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.semantics.rooms import CLASSES, GROUPS, family_classes, simulated_rooms
from geoseg_ros.projection.frame_lifting import LiftConfig, seen
from geoseg_ros.projection.fusing import fuse_frames
from geoseg_ros.simulation.families import FURNITURE, Catalogue


@pytest.fixture(scope="module")
def rooms():
    return list(simulated_rooms("learn", 2, preset="tiny", frames=6))


def test_every_family_has_a_class():
    classes, of_family = family_classes(FURNITURE)
    assert len(CLASSES) == 13 and classes == CLASSES
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(FURNITURE.names)
    assert {classes[of_family[FURNITURE.id(name)]] for name in ("stool", "bench")} == {"seat"}
    own, ids = family_classes(Catalogue(FURNITURE.families[:3]))
    assert own == ("floor", "wall", "ceiling", "fitting", *FURNITURE.names[:3]) and ids.tolist() == [-1, 4, 5, 6]


def test_labels_fit_the_places_of_points(rooms):
    for room in rooms:
        assert len(room.label) == len(room.cloud) and room.label.min() >= 0 and room.label.max() < len(CLASSES)
        z, label = room.cloud.xyz[:, 2], room.label
        floor, ceiling = z[label == CLASSES.index("floor")], z[label == CLASSES.index("ceiling")]
        assert np.ptp(floor) < 0.05 and np.ptp(ceiling) < 0.05 and ceiling.min() - floor.max() > 2.2
        assert (label >= 4).mean() > 0.02  # some furniture


def test_frames_are_in_the_frame_of_the_cloud(rooms):
    for room in rooms:
        fused = fuse_frames(room.frames, 0.1)
        inside = ((fused.xyz > room.cloud.xyz.min(0) - 0.1) & (fused.xyz < room.cloud.xyz.max(0) + 0.1)).all(1)
        assert inside.mean() > 0.98
        shown = np.zeros(len(room.cloud), bool)
        for frame in room.frames:
            row, pixel, _ = seen(room.cloud.xyz, frame, LiftConfig())
            shown[row] = True
            column, line = np.rint(pixel).astype(int).T
            # a point and the pixel that shows it have much the same colour
            assert np.median(np.abs(frame.rgb[line, column].astype(int) - room.cloud.rgb[row])) < 12
        assert shown.mean() > 0.3


def test_rooms_repeat_and_splits_differ(rooms):
    again = next(iter(simulated_rooms("learn", 1, preset="tiny", frames=6)))
    assert (again.cloud.xyz == rooms[0].cloud.xyz).all() and (again.label == rooms[0].label).all()
    assert all((a.rgb == b.rgb).all() for a, b in zip(again.frames, rooms[0].frames, strict=True))
    other = simulated_rooms("measure", 1, preset="tiny", frames=1).read(0)
    assert other.cloud.xyz.shape != rooms[0].cloud.xyz.shape and other.name == "measure/0"
    assert len(simulated_rooms("learn")) == 40 and len(simulated_rooms("measure")) == 16


def test_wrong_requests_are_refused():
    for arguments, text in (({"split": "test"}, "split test"), ({"split": "learn", "preset": "easy"}, "preset easy")):
        with pytest.raises(InputError, match=text):
            simulated_rooms(**arguments)
    with pytest.raises(InputError, match="at least one room"):
        simulated_rooms("learn", 0)
