"""Reading and writing recordings (rosbag2 in MCAP or SQLite, ROS 1 bags) without ROS."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rosbags.convert.converter import is_same_wireformat, migrate_bytes
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag1,
    MessageDefinitionFormat,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag1 import Reader as Rosbag1Reader
from rosbags.rosbag2 import Reader as Rosbag2Reader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from geoseg_ros.errors import GeosegError, InputError, warn
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.fields import pack_rgb
from geoseg_ros.io.message_definitions import modern_type, standard_types
from geoseg_ros.io.messages import CLOUD_TYPE, IMAGE_TYPE
from geoseg_ros.io.recording_files import FILE_STORAGE, OWN, FilesReader, is_own_recording, recording_files
from geoseg_ros.settings import Settings, setting

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

_STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
_FOREVER = QosTime(9223372036, 854775807)


class Topic(NamedTuple):
    """A topic of a recording: message type with its present name, number of messages, and whether late subscribers get the last one."""

    type: str
    messages: int
    latched: bool


class RawMessage(NamedTuple):
    """One recorded message: topic, type, time of reception in nanoseconds, and its little-endian CDR bytes."""

    topic: str
    type: str
    stamp_ns: int
    data: bytes


@dataclass(frozen=True)
class PlayConfig(Settings):
    """How a recording is played."""

    rate: float = setting(1.0, "seconds of the recording per second", range=(1e-6, 1e6))
    loop: bool = setting(False, "start again at the end, until stopped")
    clock: bool = setting(False, "publish the time of the recording on /clock")
    topics: tuple[str, ...] | None = setting(None, "play only these topics")
    remap: Mapping[str, str] = field(default_factory=dict, metadata={"help": "recorded topic -> topic to publish on"})
    wait: int = setting(0, "first wait until every topic that is played has this many subscribers", range=(0, 10_000))
    wait_seconds: float = setting(60.0, "give up waiting for subscribers after this", unit="s", range=(0.0, 1e6))


class Recording:
    """A recording opened for reading; use it as a context manager.

    ``path`` is a rosbag2 folder, a bare ``.mcap`` or ``.db3`` file (also of the 2019 layout without metadata and definitions), or a
    ROS 1 ``.bag``. ROS 1 messages come out as CDR of the ROS 2 message of the same name. Of a recording that was not finished what is
    there is read, with a warning; topics whose messages cannot be read are left out.

    Attributes:
        foreign: topic -> why its messages cannot be read.

    Raises:
        InputError: missing, damaged, or of another kind. Damage inside shows when the iteration reaches it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path, files = recording_files(Path(path))
        self._reader: Rosbag1Reader | FilesReader | Rosbag2Reader
        self._ros1 = self.path.suffix == ".bag"
        self.foreign: dict[str, str] = {}
        try:
            self._reader = Rosbag1Reader(self.path) if self._ros1 else FilesReader(files) if files else Rosbag2Reader(self.path)
            self._reader.open()
        except Exception as error:  # damaged bytes surface as whatever the parser stumbled over
            raise self._damaged(error) from None
        try:
            if isinstance(self._reader, FilesReader):
                self.foreign = self._reader.foreign
                for line in self._reader.unfinished:
                    warn(f"{line}; what is there is read, `mcap recover` mends the file")
            self._source = self._recorded_types()
            self.types = _ros2_types(self._reader.connections, self._source) if self._ros1 else self._source
        except Exception as error:
            self._reader.close()
            raise self._damaged(error) from None
        self._convert: dict[str, Callable[[bytes], memoryview]] = {}

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._reader.close()

    @property
    def start_ns(self) -> int:
        """Time of the first message in nanoseconds."""
        return self._reader.start_time

    @property
    def seconds(self) -> float:
        """Time from the first to the last message; 0 for an empty recording."""
        return max(0, self._reader.duration - 1) * 1e-9 if self.message_count else 0.0

    @property
    def message_count(self) -> int:
        """Messages of all topics, as the index of the recording says."""
        return self._reader.message_count

    def topics(self) -> dict[str, Topic]:
        """Every topic by name, sorted."""
        found: dict[str, Topic] = {}
        for connection in sorted(self._connections(), key=lambda c: c.topic):
            kind, count, latched = found.get(connection.topic, Topic(modern_type(connection.msgtype), 0, False))
            found[connection.topic] = Topic(kind, count + connection.msgcount, latched or _is_latched(connection))
        return found

    def _connections(self) -> list[Connection]:
        return [c for c in self._reader.connections if c.topic not in self.foreign]

    def choose_topic(self, types: Collection[str], wanted: str | None, kind: str) -> str | None:
        """The topic of one of ``types``: ``wanted`` if given, else the only one that has messages, else None.

        Raises:
            InputError: ``wanted`` is absent or of another type, or several topics are possible. ``kind`` names the input in the error.
        """
        topics = self.topics()
        if wanted is not None:
            if wanted in self.foreign:
                raise InputError(f"{self.path}: topic {wanted} cannot be read: {self.foreign[wanted]}")
            if wanted not in topics:
                raise InputError(f"{self.path}: no topic {wanted}, it has {', '.join(topics) or 'none'}")
            if topics[wanted].type not in types:
                raise InputError(f"{self.path}: topic {wanted} is {topics[wanted].type}, expected {' or '.join(types)}")
            return wanted
        possible = [name for name, topic in topics.items() if topic.type in types and topic.messages]
        if len(possible) > 1:
            raise InputError(f"{self.path}: several {kind} topics ({', '.join(possible)}), name one")
        return possible[0] if possible else None

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Messages in the order of their time; only those of ``topics`` where given.

        Raises:
            InputError: an unknown topic, or damaged data.
        """
        connections = self._connections()
        if topics is not None:
            known = self.topics()
            for topic in topics:
                if topic in self.foreign:
                    raise InputError(f"{self.path}: topic {topic} cannot be read: {self.foreign[topic]}")
                if topic not in known:
                    raise InputError(f"{self.path}: no topic {topic}, it has {', '.join(known) or 'none'}")
            connections = [c for c in connections if c.topic in topics]
        if not connections:
            return
        number = 0
        stream: Iterator[tuple[Connection, int, bytes]] = iter(self._reader.messages(connections))  # type: ignore[arg-type]
        while True:
            try:
                connection, stamp, data = next(stream)
                raw = bytes(self._to_cdr(connection.msgtype)(data)) if self._ros1 else bytes(data)
            except StopIteration:
                break
            except Exception as error:
                raise self._damaged(error, f" after {number} messages") from None
            number += 1
            yield RawMessage(connection.topic, modern_type(connection.msgtype), stamp, raw)
        # a lost data file or chunk leaves fewer messages than the index promises
        expected = sum(c.msgcount for c in connections)
        if number < expected:
            raise InputError(f"{self.path}: damaged recording: {number} messages, its index says {expected}")

    def decode(self, message: RawMessage) -> Any:
        """The message object (attributes named as in its definition, arrays as numpy).

        Raises:
            InputError: the bytes do not fit the definition.
        """
        if message.type not in self.types.fielddefs:
            raise self._damaged(ValueError(f"no definition of {message.type}"), f", topic {message.topic}")
        try:
            return self.types.deserialize_cdr(message.data, message.type)
        except Exception as error:
            raise self._damaged(error, f", topic {message.topic} at {message.stamp_ns} ns") from None

    def _recorded_types(self) -> Typestore:
        """The definitions stored in the recording; types without one come from the standard set."""
        types: dict[str, Any] = {}
        for connection in self._reader.connections:
            form, text = connection.msgdef
            try:
                if form is MessageDefinitionFormat.MSG:
                    types.update(get_types_from_msg(text, connection.msgtype))
                elif form is MessageDefinitionFormat.IDL:
                    # a concatenation of files, each headed by a line of 80 '=' and a line 'IDL: name'
                    for part in text.split("=" * 80 + "\n"):
                        types.update(get_types_from_idl(part.split("\n", 1)[1] if part.startswith("IDL: ") else part))
            except Exception as error:  # whatever the parser stumbled over: it costs this topic
                self.foreign[connection.topic] = (
                    f"the definition of {connection.msgtype} cannot be read: {' '.join(str(error).split())[:100]}"
                )
        if not types:
            return standard_types()
        if self.foreign or any(c.msgdef.format is MessageDefinitionFormat.NONE for c in self._reader.connections):
            types = {**standard_types().fielddefs, **types}
        store = get_typestore(Stores.EMPTY)
        store.register(types)
        return store

    def _to_cdr(self, name: str) -> Callable[[bytes], memoryview]:
        if name not in self._convert:
            target = modern_type(name)
            if is_same_wireformat(self._source, self.types, name, target):
                self._convert[name] = partial(self.types.ros1_to_cdr, typename=target)
            else:
                self._convert[name] = partial(migrate_bytes, self._source, self.types, name, target, {}, src_is2=False, dst_is2=True)
        return self._convert[name]

    def _damaged(self, error: Exception, where: str = "") -> InputError:
        text = " ".join(str(error).split()) or type(error).__name__
        advice = ""
        if not where:
            kinds = {".mcap": "; `mcap recover` may mend it", ".bag": "; `rosbag reindex` may mend it"}
            kinds[".db3"] = f"; `sqlite3 {self.path.name} .recover` may save what is there"
            folder = "; `ros2 bag reindex` makes metadata.yaml anew"
            advice = folder if self.path.is_dir() else kinds.get(self.path.suffix, "")
        return InputError(f"{self.path}: not a readable recording{where}: {text}{advice}")


def _ros2_types(connections: list[Connection], source: Typestore) -> Typestore:
    """The ROS 2 definitions for the topics of a ROS 1 bag; types that ROS 2 does not have keep their ROS 1 fields."""
    types = dict(standard_types().fielddefs)
    for connection in connections:
        name = modern_type(connection.msgtype)
        if name not in types:  # its parts come along, in the source's layout unless ROS 2 knows them
            text = source.generate_msgdef(connection.msgtype, ros_version=2)[0]
            types.update({n: d for n, d in get_types_from_msg(text, name).items() if n not in types})
    store = get_typestore(Stores.EMPTY)
    store.register(types)
    return store


def _is_latched(connection: Connection) -> bool:
    if isinstance(connection.ext, ConnectionExtRosbag1):
        return bool(connection.ext.latching)
    return any(profile.durability is QosDurability.TRANSIENT_LOCAL for profile in connection.ext.offered_qos_profiles)


class RecordingWriter:
    """Writes a rosbag2 recording that appears at ``path`` only when it is complete.

    Use it as a context manager: leaving it normally renames the finished recording into place, an exception removes what was written. Equal
    calls give equal MCAP bytes.

    Args:
        path: a folder to make, or a bare file ending in ``.mcap`` or ``.db3``. An older one that this class has written is replaced,
            anything else is refused.
        storage: ``mcap`` or ``sqlite3``; a bare file goes by its suffix.
    """

    def __init__(self, path: str | os.PathLike[str], storage: str = "mcap") -> None:
        self.path = Path(path).absolute()
        self._bare = self.path.suffix in FILE_STORAGE
        storage = FILE_STORAGE.get(self.path.suffix, storage)
        if storage not in _STORAGES:
            raise InputError(f"{path}: unknown storage {storage}, expected {' or '.join(_STORAGES)}")
        if os.path.lexists(self.path) and not is_own_recording(self.path):
            raise InputError(f"{path}: exists and is not a recording made by geoseg, will not replace it")
        self.types = standard_types()
        self.counts: dict[str, int] = {}
        self._connections: dict[str, Connection] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # the writer names files after their folder, so the temporary one holds a folder with the final name
        self._temporary = Path(tempfile.mkdtemp(prefix=f".{self.path.stem}.", dir=self.path.parent))
        self._writer = Writer(
            self._temporary / (self.path.stem if self._bare else self.path.name), version=9, storage_plugin=_STORAGES[storage]
        )
        self._writer.set_custom_data(OWN, "1")
        self._writer.open()

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                self._writer.abort()
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _finish(self) -> None:
        self._writer.close()
        if self._bare:
            made = next(p for p in self._writer.path.iterdir() if p.suffix == self.path.suffix)
        else:
            made = self._writer.path
            if self.path.exists():
                os.replace(self.path, self._temporary / "older")
        for file in [made] if self._bare else sorted(made.iterdir()):
            with open(file, "rb") as stream:
                os.fsync(stream.fileno())
        os.replace(made, self.path)

    def write(self, topic: str, type_name: str, stamp_ns: int, data: bytes | memoryview, latched: bool = False) -> None:
        """Add one message that is already CDR. Every message of a topic must have the same type."""
        connection = self._connections.get(topic)
        if connection is None:
            if type_name not in self.types.fielddefs:
                raise GeosegError(f"topic {topic}: cannot record {type_name}, its definition is not installed")
            connection = self._writer.add_connection(
                topic, type_name, typestore=self.types, offered_qos_profiles=[_qos(latched)], serialization_format="cdr"
            )
            self._connections[topic] = connection
            self.counts[topic] = 0
        if connection.msgtype != type_name:
            raise ValueError(f"topic {topic}: is {connection.msgtype}, got {type_name}")
        self._writer.write(connection, stamp_ns, data)
        self.counts[topic] += 1

    def write_message(self, topic: str, stamp_ns: int, message: Any, latched: bool = False) -> None:
        """Add a message object made from ``self.types.types``."""
        name = message.__msgtype__
        self.write(topic, name, stamp_ns, self.types.serialize_cdr(message, name, little_endian=True), latched)

    def header(self, stamp_ns: int, frame: str) -> Any:
        """A std_msgs/Header with this time and frame."""
        types = self.types.types
        time = types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
        return types["std_msgs/msg/Header"](stamp=time, frame_id=frame)

    def write_cloud(self, topic: str, stamp_ns: int, frame: str, cloud: Cloud) -> None:
        """Add a PointCloud2 with x y z, float32 (float64 where the cloud came in another frame), and packed ``rgb`` where it has colour.

        An organised cloud keeps its height and width.
        """
        xyz = cloud.original()
        columns = {name: xyz[:, axis] for axis, name in enumerate("xyz")}
        if cloud.rgb is not None:
            columns["rgb"] = pack_rgb(cloud.rgb).view(np.float32)
        packed = np.empty(len(cloud), [(name, values.dtype) for name, values in columns.items()])
        for name, values in columns.items():
            packed[name] = values
        types = self.types.types
        field: Any = types["sensor_msgs/msg/PointField"]
        height, width = cloud.shape or (1, len(cloud))
        step = packed.dtype.itemsize
        kinds = {4: field.FLOAT32, 8: field.FLOAT64}
        offsets = {name: about[1] for name, about in (packed.dtype.fields or {}).items()}
        message = types[CLOUD_TYPE](
            header=self.header(stamp_ns, frame),
            height=height,
            width=width,
            fields=[field(name=name, offset=offsets[name], datatype=kinds[values.itemsize], count=1) for name, values in columns.items()],
            is_bigendian=False,
            point_step=step,
            row_step=step * width,
            data=packed.view(np.uint8).reshape(-1),
            is_dense=bool(cloud.valid().all()),
        )
        self.write_message(topic, stamp_ns, message)

    def write_image(self, topic: str, stamp_ns: int, frame: str, image: NDArray[np.uint8]) -> None:
        """Add an Image: ``rgb8`` for uint8 [H, W, 3], ``mono8`` for uint8 [H, W]."""
        height, width = image.shape[:2]
        message = self.types.types[IMAGE_TYPE](
            header=self.header(stamp_ns, frame),
            height=height,
            width=width,
            encoding="rgb8" if image.ndim == 3 else "mono8",
            is_bigendian=0,
            step=image[0].size,
            data=np.ascontiguousarray(image).reshape(-1),
        )
        self.write_message(topic, stamp_ns, message)


def _qos(latched: bool) -> Qos:
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_FOREVER,
        lifespan=_FOREVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_FOREVER,
        avoid_ros_namespace_conventions=False,
    )
