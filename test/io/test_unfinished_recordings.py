"""Of a recording with a part that cannot be read, the rest is read."""

from __future__ import annotations

import json
import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from geoseg_ros.errors import InputError
from geoseg_ros.io.mcap_files import MAGIC
from geoseg_ros.io.recordings import Recording, RecordingWriter
from support.foreign_recordings import whole_recording
from support.mcap_records import channel, mcap, message, schema

IMAGE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def write(path: Path, count: int = 40, side: int = 160, first: int = 0) -> Path:
    with RecordingWriter(path) as writer:
        for k in range(count):
            writer.write_image("/image", 10**9 * (1 + first + k), "camera", np.full((side, side, 3), k, np.uint8))
    return path


def stamps(path: Path, topic: str = "/image") -> list[int]:
    with Recording(path) as recording:
        found = []
        for raw in recording.messages([topic]):
            recording.decode(raw)
            found.append(raw.stamp_ns // 10**9)
        return found


@pytest.mark.parametrize("share", [0.4, 0.7, 0.99, 0.999])
def test_an_unfinished_mcap_is_read_as_far_as_it_goes(tmp_path: Path, share: float) -> None:
    data = write(tmp_path / "whole.mcap").read_bytes()
    (tmp_path / "cut.mcap").write_bytes(data[: int(share * len(data))])
    with pytest.warns(UserWarning, match=r"cut.mcap: the recording was not finished.*mcap recover"):
        found = stamps(tmp_path / "cut.mcap")
    assert found == list(range(1, len(found) + 1)) and len(found) >= 13


def test_zeros_behind_an_unfinished_mcap(tmp_path: Path) -> None:
    data = write(tmp_path / "whole.mcap").read_bytes()
    (tmp_path / "cut.mcap").write_bytes(data[: len(data) // 2] + bytes(5000))
    with pytest.warns(UserWarning, match="not finished"):
        assert stamps(tmp_path / "cut.mcap")


def test_nothing_in_an_unfinished_mcap_names_the_tool(tmp_path: Path) -> None:
    data = write(tmp_path / "whole.mcap").read_bytes()
    for size in (8, 20, 100, 3000):
        (tmp_path / "cut.mcap").write_bytes(data[:size])
        with pytest.raises(InputError, match="mcap recover"):
            stamps(tmp_path / "cut.mcap")


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("metadata", ["empty", "blank", "absent"])
def test_a_split_recording_without_metadata(tmp_path: Path, storage: str, metadata: str) -> None:
    folder = tmp_path / "drive"
    folder.mkdir()
    suffix = {"mcap": ".mcap", "sqlite3": ".db3"}[storage]
    for part in range(11):  # 10 comes after 2
        write(folder / f"drive_{part}{suffix}", 2, 4, 2 * part)
    if metadata != "absent":
        (folder / "metadata.yaml").write_text("\n \n" if metadata == "blank" else "")
    assert stamps(folder) == list(range(1, 23))
    with Recording(folder) as recording:
        assert recording.message_count == 22 and recording.seconds == pytest.approx(21) and recording.start_ns == 10**9


def test_the_last_part_was_not_finished(tmp_path: Path) -> None:
    folder = tmp_path / "drive"
    folder.mkdir()
    write(folder / "drive_0.mcap")
    data = write(tmp_path / "other.mcap", first=40).read_bytes()
    (folder / "drive_1.mcap").write_bytes(data[: len(data) // 2])
    with pytest.warns(UserWarning, match="drive_1.mcap"):
        found = stamps(folder)
    assert found == list(range(1, len(found) + 1)) and len(found) > 50


def test_files_of_several_recordings_are_not_joined(tmp_path: Path) -> None:
    write(tmp_path / "bags" / "monday.mcap", 2, 4)
    write(tmp_path / "bags" / "tuesday.mcap", 2, 4)
    with pytest.raises(InputError, match="files of several recordings.*ros2 bag reindex"):
        Recording(tmp_path / "bags")


def test_damaged_metadata_names_the_tool(tmp_path: Path) -> None:
    write(tmp_path / "bag", 2, 4)
    (tmp_path / "bag" / "metadata.yaml").write_text("{")
    with pytest.raises(InputError, match="ros2 bag reindex"):
        Recording(tmp_path / "bag")


FOREIGN = {
    "json": (schema(2, "foxglove.Log", "jsonschema", "{}"), channel(2, 2, "/other", "json"), json.dumps({"a": 1}).encode()),
    "protobuf": (schema(2, "foxglove.Log", "protobuf", "\x00\xff"), channel(2, 2, "/other", "protobuf"), b"\x08\x01"),
    "name only": (schema(2, "my_msgs/msg/Unknown", "", ""), channel(2, 2, "/other", "cdr"), b"\0\1\0\0\1"),
    "no schema": (b"", channel(2, 0, "/other", "json"), b"{}"),
    "other definition": (schema(2, "my_msgs/msg/Odd", "ros2msg", "$ % & no definition"), channel(2, 2, "/other", "cdr"), b"\0\1\0\0"),
    "flatbuffer": (schema(2, "x", "flatbuffer", "\x01"), channel(2, 2, "/other", "flatbuffer"), b"\1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("in_folder", [False, True])
def test_a_topic_that_cannot_be_read_costs_only_itself(tmp_path: Path, kind: str, in_folder: bool) -> None:
    with RecordingWriter(tmp_path / "good") as writer:
        writer.write_image("/image", 5 * 10**9, "camera", IMAGE)
    with Recording(tmp_path / "good") as recording:
        (raw,) = recording.messages()
        text = recording._reader.connections[0].msgdef.data
    own = schema(1, raw.type, "ros2msg", text) + channel(1, 1, "/image", "cdr") + message(1, raw.stamp_ns, raw.data)
    described, declared, data = FOREIGN[kind]
    path = tmp_path / "mixed.mcap"
    path.write_bytes(mcap(own + described + declared + message(2, raw.stamp_ns, data)))
    if in_folder:
        folder = shutil.copytree(tmp_path / "good", tmp_path / "mixed")
        shutil.move(path, folder / "good.mcap")
        yaml = (folder / "metadata.yaml").read_text()
        at = yaml.index("  topics_with_message_count:\n") + len("  topics_with_message_count:\n")
        encoding = "json" if kind == "json" else "cdr"
        about = f"{{name: /other, type: x/msg/Y, serialization_format: {encoding}, offered_qos_profiles: ''}}"
        entry = f"  - message_count: 1\n    topic_metadata: {about}\n"
        (folder / "metadata.yaml").write_text(yaml[:at] + entry + yaml[at:])
        path = folder
    with Recording(path) as recording:
        assert recording.topics()["/image"].messages == 1
        (found,) = recording.messages(["/image"])
        assert recording.decode(found).width == 4
        assert recording.choose_topic([raw.type], None, "image") == "/image"
        if kind != "name only":
            assert "/other" in recording.foreign
            with pytest.raises(InputError, match="topic /other cannot be read"):
                recording.choose_topic([raw.type], "/other", "image")


def test_messages_outside_of_chunks_come_in_the_order_of_their_time(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "good.mcap") as writer:
        writer.write_image("/image", 5 * 10**9, "camera", IMAGE)
    with Recording(tmp_path / "good.mcap") as recording:
        (raw,) = recording.messages()
        text = recording._reader.connections[0].msgdef.data
    head = schema(1, raw.type, "ros2msg", text) + channel(1, 1, "/image", "cdr")
    (tmp_path / "a.mcap").write_bytes(mcap(head + b"".join(message(1, k * 10**9, raw.data) for k in (3, 1, 2))))
    assert stamps(tmp_path / "a.mcap") == [1, 2, 3]
    assert (tmp_path / "a.mcap").read_bytes().startswith(MAGIC) and struct.calcsize("<BQ") == 9


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.db3", r"`sqlite3 a.db3 .recover`"),
        ("a.bag", "`rosbag reindex` may mend it"),
        ("a.bag.active", "`rosbag reindex` makes a.bag of it"),
    ],
)
def test_other_unfinished_recordings_name_the_tool(tmp_path: Path, name: str, advice: str) -> None:
    data = whole_recording(".db3" if name.endswith("db3") else ".bag")
    (tmp_path / name).write_bytes(data[: 2 * len(data) // 3])
    with pytest.raises(InputError, match=advice):
        stamps(tmp_path / name, "/text")


def test_a_topic_of_unknown_type_in_a_database(tmp_path: Path) -> None:
    (tmp_path / "a.db3").write_bytes(whole_recording(".db3"))
    with closing(sqlite3.connect(tmp_path / "a.db3")) as database:
        columns = [row[1] for row in database.execute("pragma table_info(topics)")]
        topic = dict(zip(columns, database.execute("select * from topics").fetchone(), strict=True))
        topic |= {"id": 99, "name": "/odd", "type": "my_pkg/msg/Object"}
        database.execute(f"insert into topics values ({','.join('?' * len(columns))})", list(topic.values()))
        database.execute("insert into messages (topic_id, timestamp, data) values (99, 5, x'00010000')")
        database.commit()
    assert len(stamps(tmp_path / "a.db3", "/text")) == 3
    with pytest.raises(InputError, match="topic /odd: no definition of my_pkg/msg/Object"):
        stamps(tmp_path / "a.db3", "/odd")
