"""Posed frames of recordings."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.io.posed_frames import PosedFrame
from geoseg_ros.runtime.recorded_frames import RecordedTopics, recorded_frames
from support.recorded_camera import SECOND, record_frames


def shots(count: int = 6) -> list[PosedFrame]:
    rng = np.random.default_rng(0)
    intrinsics = np.array([[20.0, 0, 15.5], [0, 20.0, 11.5], [0, 0, 1]])
    frames = []
    for k in range(count):
        pose = np.eye(4)
        pose[:3, 3] = 0.1 * k, 0, 1
        depth = rng.uniform(1, 3, (24, 32)).round(3).astype(np.float32)
        depth[0, 0] = np.nan
        frames.append(PosedFrame(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8), depth, intrinsics, pose))
    return frames


def test_frames_come_back_as_they_were(tmp_path) -> None:
    given = shots()
    found = recorded_frames(record_frames(tmp_path / "a.mcap", given))
    assert len(found) == 6 and found.warnings == []
    for number, (frame, other) in enumerate(zip(found, given, strict=True)):
        assert (
            np.array_equal(frame.rgb, other.rgb) and np.allclose(frame.pose, other.pose) and np.allclose(frame.intrinsics, other.intrinsics)
        )
        assert np.allclose(frame.depth, other.depth, atol=1e-3, equal_nan=True)
        assert frame.stamp == (100 + number) * SECOND and "depth at 10" in frame.name


def test_of_many_frames_an_even_part_is_taken(tmp_path) -> None:
    found = recorded_frames(record_frames(tmp_path / "a.mcap", shots(9)), limit=3)
    assert [frame.stamp // SECOND for frame in found] == [100, 104, 108]


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ({"tf": False}, "no depth image of /camera/depth/image has a pose: nothing joins the camera's frame 'camera'"),
        ({"color": False}, "no color topic, name one: --color"),
        ({"info": False}, "no camera-info topic"),
        ({"late": 60_000_000}, "has a colour image within 0.05 s"),
        ({"units": 10}, "the median depth is"),
    ],
)
def test_what_is_missing_is_said(tmp_path, missing, said) -> None:
    with pytest.raises(InputError, match=said):
        recorded_frames(record_frames(tmp_path / "a.mcap", shots(), **missing))


def test_topics_and_the_fixed_frame_can_be_named(tmp_path) -> None:
    path = record_frames(tmp_path / "a.mcap", shots())
    topics = RecordedTopics("/camera/depth/image", "/camera/depth/camera_info", "/camera/color/image", "odom")
    assert len(recorded_frames(path, topics)) == 6
    with pytest.raises(InputError, match="does not join them"):
        recorded_frames(path, RecordedTopics(fixed_frame="moon"))
    with pytest.raises(InputError, match="no topic /depth"):
        recorded_frames(path, RecordedTopics(depth="/depth"))
