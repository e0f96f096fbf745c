"""Recordings: round trips, other people's bags, and damaged ones."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import sqlite3
import tarfile
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Rosbag1Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.messages import CLOUD_TYPE, IMAGE_TYPE, cloud_from_message, image_from_compressed, image_from_message
from geoseg_ros.io.recordings import Recording, RecordingWriter
from support.paths import SHARED

BAGS = SHARED / "data" / "bags"
RNG = np.random.default_rng(0)
COLOURED = Cloud(RNG.random((12, 3), np.float32), RNG.integers(0, 256, (12, 3), np.uint8), (3, 4))
PLAIN = Cloud(np.array([[1, 2, 3], [np.nan, 0, 0]], np.float32))
IMAGE = RNG.integers(0, 256, (5, 7, 3), np.uint8)


def write(path: Path, **options: str) -> Path:
    with RecordingWriter(path, **options) as writer:
        writer.write_cloud("/points", 10**9 + 5, "lidar", COLOURED)
        writer.write_image("/image", 2 * 10**9, "camera", IMAGE)
        writer.write_cloud("/points", 3 * 10**9, "lidar", PLAIN)
        writer.write_image("/mask", 3 * 10**9, "camera", IMAGE[..., 0])
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("name", "storage"), [("bag", "mcap"), ("bag", "sqlite3"), ("bag.mcap", "mcap"), ("bag.db3", "mcap")])
def test_round_trip(tmp_path: Path, name: str, storage: str) -> None:
    path = write(tmp_path / name, storage=storage)
    with Recording(path) as recording:
        assert {n: (t.type, t.messages) for n, t in recording.topics().items()} == {
            "/image": (IMAGE_TYPE, 1), "/mask": (IMAGE_TYPE, 1), "/points": (CLOUD_TYPE, 2),
        }  # fmt: skip
        assert recording.message_count == 4 and recording.start_ns == 10**9 + 5 and recording.seconds == pytest.approx(2, abs=1e-6)
        messages = list(recording.messages())
        assert [(m.topic, m.stamp_ns) for m in messages] == [
            ("/points", 10**9 + 5), ("/image", 2 * 10**9), ("/points", 3 * 10**9), ("/mask", 3 * 10**9),
        ]  # fmt: skip
        first = recording.decode(messages[0])
        assert (first.header.stamp.sec, first.header.stamp.nanosec, first.header.frame_id) == (1, 5, "lidar")
        for raw, cloud in ((messages[0], COLOURED), (messages[2], PLAIN)):
            decoded = recording.decode(raw)
            back = cloud_from_message(decoded)
            np.testing.assert_array_equal(back.xyz, cloud.xyz)
            assert back.shape == cloud.shape and decoded.is_dense == cloud.valid().all()
            assert (back.rgb is None) == (cloud.rgb is None)
            if cloud.rgb is not None:
                np.testing.assert_array_equal(back.rgb, cloud.rgb)
        np.testing.assert_array_equal(image_from_message(recording.decode(messages[1])), IMAGE)
        assert [m.topic for m in recording.messages(["/mask"])] == ["/mask"]
        with pytest.raises(InputError, match="no topic /nothing"):
            list(recording.messages(["/nothing"]))
    assert sorted(p.name for p in tmp_path.iterdir()) == [name], "no temporary folder is left"


def test_equal_calls_give_equal_bytes(tmp_path: Path) -> None:
    assert digest(write(tmp_path / "a.mcap")) == digest(write(tmp_path / "b" / "a.mcap"))
    assert digest(write(tmp_path / "c") / "c.mcap") == digest(write(tmp_path / "d" / "c") / "c.mcap")


def test_nothing_appears_and_nothing_is_lost_when_writing_fails(tmp_path: Path) -> None:
    path = write(tmp_path / "bag")
    before = digest(path / "bag.mcap")
    with pytest.raises(RuntimeError), RecordingWriter(path) as writer:
        writer.write_image("/image", 0, "camera", IMAGE)
        raise RuntimeError
    assert digest(path / "bag.mcap") == before
    assert [p.name for p in tmp_path.iterdir()] == ["bag"]


def test_only_recordings_are_replaced(tmp_path: Path) -> None:
    with RecordingWriter(write(tmp_path / "bag")) as writer:
        writer.write_image("/image", 0, "camera", IMAGE)
    with Recording(tmp_path / "bag") as recording:
        assert recording.message_count == 1
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "thesis.txt").write_text("x")
    for path in (precious, precious / "thesis.txt"):
        with pytest.raises(InputError, match=str(path)):
            RecordingWriter(path)
    assert (precious / "thesis.txt").read_text() == "x"


def test_one_type_for_a_topic_and_only_known_types(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "bag") as writer:
        writer.write_image("/image", 0, "camera", IMAGE)
        with pytest.raises(ValueError, match="/image"):
            writer.write_cloud("/image", 0, "camera", PLAIN)
        with pytest.raises(GeosegError, match="nobody_msgs/msg/Object"):
            writer.write("/object", "nobody_msgs/msg/Object", 0, b"")


def test_own_messages_and_latching(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "bag") as writer:
        make = writer.types.types["geoseg_ros/msg/CosegObjectArray"]
        writer.write_message("/objects", 7, make(header=writer.header(7, "lidar"), objects=[]), latched=True)
    with Recording(tmp_path / "bag") as recording:
        assert recording.topics()["/objects"].latched
        (message,) = recording.messages()
        assert recording.decode(message).header.frame_id == "lidar"


def test_choosing_a_topic(tmp_path: Path) -> None:
    with Recording(write(tmp_path / "bag")) as recording:
        assert recording.choose_topic([CLOUD_TYPE], None, "cloud") == "/points"
        assert recording.choose_topic([IMAGE_TYPE], "/mask", "image") == "/mask"
        assert recording.choose_topic(["std_msgs/msg/String"], None, "text") is None
        with pytest.raises(InputError, match="several image topics"):
            recording.choose_topic([IMAGE_TYPE], None, "image")
        with pytest.raises(InputError, match="no topic /x"):
            recording.choose_topic([IMAGE_TYPE], "/x", "image")
        with pytest.raises(InputError, match="/points is sensor_msgs/msg/PointCloud2"):
            recording.choose_topic([IMAGE_TYPE], "/points", "image")


def read_all(path: Path) -> int:
    with Recording(path) as recording:
        for message in recording.messages():
            recording.decode(message)
        return recording.message_count


def test_bad_recordings_are_named_in_one_line(tmp_path: Path) -> None:
    good = write(tmp_path / "good")
    cases = [tmp_path / "missing", tmp_path / "empty_folder", tmp_path / "empty.mcap", tmp_path / "text.txt"]
    (tmp_path / "empty_folder").mkdir()
    cases[2].touch()
    cases[3].write_text("hello")
    data = (good / "good.mcap").read_bytes()
    database = (write(tmp_path / "good.db3")).read_bytes()
    contents = {
        "noise.mcap": b"hello" * 99, "cut.mcap": data[:200], "headless.mcap": data[40:], "noise.db3": b"x" * 5000,
        "half.db3": database[: len(database) // 2], "noise.bag": b"#ROSBAG V2.0\n" + b"z" * 999, "old.bag": b"#ROSBAG V1.2\n",
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        cases.append(tmp_path / name)
    for name, replacement in {"no_yaml": "{", "no_keys": "rosbag2_bagfile_information: {}", "not_yaml": "5"}.items():
        cases.append(shutil.copytree(good, tmp_path / name))
        (cases[-1] / "metadata.yaml").write_text(replacement)
    cases.append(shutil.copytree(good, tmp_path / "no_data"))
    (cases[-1] / "good.mcap").unlink()
    sqlite3.connect(tmp_path / "other.db3").executescript("CREATE TABLE t(x)")
    cases.append(tmp_path / "other.db3")
    for path in cases:
        with pytest.raises(InputError) as caught:
            read_all(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value), path


def test_damage_inside_never_gives_anything_but_an_input_error(tmp_path: Path) -> None:
    """Bytes all over a small recording are turned over, one at a time; some must be noticed, none may crash."""
    data = write(tmp_path / "good.mcap").read_bytes()
    noticed = 0
    positions = range(8, len(data), max(1, len(data) // 90))
    for position in positions:
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        (tmp_path / "bad.mcap").write_bytes(bytes(damaged))
        try:
            read_all(tmp_path / "bad.mcap")
        except InputError as error:
            noticed += "\n" not in str(error)
    assert noticed > 8


def test_a_folder_whose_metadata_was_never_written_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "bag")
    (path / "metadata.yaml").unlink()
    assert read_all(path) == 4


def test_ros1_messages_come_out_as_cdr_of_ros2(tmp_path: Path) -> None:
    """A type that ROS 2 knows with other fields (CameraInfo), and one that it does not know."""
    store = get_typestore(Stores.ROS1_NOETIC)
    store.register(get_types_from_msg("std_msgs/Header header\nfloat64[] range", "own_msgs/msg/Ranges"))
    types = store.types
    header = types["std_msgs/msg/Header"](seq=3, stamp=types["builtin_interfaces/msg/Time"](sec=5, nanosec=6), frame_id="laser")
    with Rosbag1Writer(tmp_path / "a.bag") as writer:
        for topic, message in (
            ("/ranges", types["own_msgs/msg/Ranges"](header=header, range=np.arange(3.0))),
            ("/text", types["std_msgs/msg/String"](data="hi")),
        ):
            connection = writer.add_connection(topic, message.__msgtype__, typestore=store, latching=int(topic == "/text"))
            writer.write(connection, 10**9, store.serialize_ros1(message, message.__msgtype__))
    with Recording(tmp_path / "a.bag") as recording:
        assert recording.topics()["/text"].latched and not recording.topics()["/ranges"].latched
        decoded = {m.topic: recording.decode(m) for m in recording.messages()}
    assert decoded["/text"].data == "hi"
    assert decoded["/ranges"].header.frame_id == "laser" and decoded["/ranges"].header.stamp.nanosec == 6
    np.testing.assert_array_equal(decoded["/ranges"].range, [0, 1, 2])


@pytest.mark.skipif(not BAGS.is_dir(), reason="the shared real recordings are absent")
class TestRealRecordings:
    def test_ros1_watercan_cloud(self) -> None:
        with Recording(BAGS / "jsk_watercan.bag") as recording:
            topic = recording.choose_topic([CLOUD_TYPE], None, "cloud")
            (message,) = recording.messages([topic])
            cloud = cloud_from_message(recording.decode(message))
            assert recording.message_count == 3533
        assert len(cloud) == 13_966 and cloud.rgb is not None
        extent = np.ptp(cloud.xyz[cloud.valid()], axis=0)
        assert (extent > 0.05).all() and (extent < 3).all()
        assert cloud.rgb.std() > 10

    def test_2019_database_without_metadata(self) -> None:
        with Recording(BAGS / "rosbag2js_sample.db3") as recording:
            assert recording.topics()["/imu"].type == "sensor_msgs/msg/Imu"
            decoded = {m.topic: recording.decode(m) for m in recording.messages()}
        assert decoded["/text"].data == "Hello World"
        image, compressed = image_from_message(decoded["/image"]), image_from_compressed(decoded["/image/compressed"])
        assert image.shape == compressed.shape == (480, 640, 3)
        assert image.std() > 10 and compressed.std() > 10

    def test_rosbag2_of_263_clouds(self, tmp_path: Path) -> None:
        (archive,) = BAGS.glob("point_cloud_transport_*.tar.xz")
        with lzma.open(archive) as stream, tarfile.open(fileobj=stream) as tar:
            for member in tar:  # only plain files, so that no archive can write elsewhere
                if member.isfile():
                    (tmp_path / Path(member.name).name).write_bytes(tar.extractfile(member).read())  # type: ignore[union-attr]
        with Recording(tmp_path) as recording:
            sizes = [len(cloud_from_message(recording.decode(m), max_points=50_000)) for m in recording.messages()]
            assert recording.seconds == pytest.approx(11.86, abs=0.01)
        assert len(sizes) == 263 and min(sizes) > 30_000
