"""Files of clouds and images into a recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geoseg_ros.cli.main import main
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.folders import write_image
from geoseg_ros.io.messages import cloud_from_message, image_from_message
from geoseg_ros.io.pack_frames import START_NS, FrameTiming, pack_frames
from geoseg_ros.io.recordings import Recording
from support.pcd_files import write_pcd


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two clouds, three images, and a file that is not an image."""
    for i in range(2):
        (tmp_path / "clouds").mkdir(exist_ok=True)
        write_pcd(tmp_path / "clouds" / f"{i}.pcd", Cloud(np.full((3, 3), i, np.float32)))
    for i in range(3):
        (tmp_path / "images").mkdir(exist_ok=True)
        write_image(tmp_path / "images" / f"{i}.png", np.full((4, 5, 3), 10 * i, np.uint8))
    (tmp_path / "images" / "1b.png").write_text("not an image")
    return tmp_path / "clouds", tmp_path / "images"


def read(path: Path) -> list[tuple[str, float, int]]:
    """(topic, seconds since the start, the value that the file was filled with)."""
    rows = []
    with Recording(path) as recording:
        for message in recording.messages():
            decoded = recording.decode(message)
            assert decoded.header.stamp.sec * 10**9 + decoded.header.stamp.nanosec == message.stamp_ns
            value = cloud_from_message(decoded).xyz[0, 0] if message.topic == "/lidar/points" else image_from_message(decoded)[0, 0, 0]
            rows.append((message.topic, round((message.stamp_ns - START_NS) * 1e-9, 6), int(value)))
    return rows


def test_each_file_once_at_the_rate_of_its_stream(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    result = pack_frames(*folders, tmp_path / "bag", FrameTiming(cloud_rate=4, image_rate=10))
    assert (result["clouds"], result["images"], result["seconds"]) == (2, 3, pytest.approx(0.25))
    assert len(result["skipped"]) == 1 and "1b.png" in result["skipped"][0]
    assert read(tmp_path / "bag") == [
        ("/lidar/points", 0.0, 0),
        ("/camera/image_raw", 0.0, 0),
        ("/camera/image_raw", 0.1, 10),
        ("/camera/image_raw", 0.2, 20),
        ("/lidar/points", 0.25, 1),
    ]


def test_files_are_repeated_to_a_length(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    result = pack_frames(None, folders[1], tmp_path / "bag.mcap", FrameTiming(image_rate=10, seconds=0.5))
    assert [value for _, _, value in read(tmp_path / "bag.mcap")] == [0, 10, 20, 0, 10]
    assert len(result["skipped"]) == 1 and result["clouds"] == 0


def test_bad_input_is_refused_and_leaves_nothing(tmp_path: Path, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    bag = tmp_path / "bag"
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "a.pcd").write_text("junk")
    for arguments in [(None, None), (tmp_path / "junk", None), (tmp_path / "none", None), (folders[1], folders[0])]:
        with pytest.raises(InputError):
            pack_frames(*arguments, bag)
    with pytest.raises(InputError, match="image_rate: expected .* Hz, got 0"):
        FrameTiming(image_rate=0)
    assert main(["pack-frames", "--images", str(folders[1]), "--out", str(bag), "--image-rate", "0"]) == 2
    assert "--image-rate: expected" in capsys.readouterr().err
    assert not bag.exists() and not list(tmp_path.glob(".*"))
    assert main(["pack-frames", "--images", str(tmp_path / "none"), "--out", str(bag)]) == 2
    assert capsys.readouterr().err.startswith("geoseg pack-frames: ")


def test_command(tmp_path: Path, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    bag = tmp_path / "bag"
    command = ["pack-frames", "--clouds", str(folders[0]), "--images", str(folders[1]), "--out", str(bag), "--frame", "velodyne"]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "2 clouds, 3 images" in printed.out and "1b.png" in printed.err
    with Recording(bag) as recording:
        frames = {recording.decode(m).header.frame_id for m in recording.messages(["/lidar/points"])}
    assert frames == {"velodyne"}
