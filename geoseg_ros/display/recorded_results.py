"""The results of a node in a recording of `geoseg replay`, the demo, a snapshot or `ros2 bag record`."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator

from geoseg_ros.display.frame import LabelledCloud, LabelledFrame, LabelledImage, paint
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io import messages as codec
from geoseg_ros.io.messages import CLOUD_TYPE, COMPRESSED_TYPE, IMAGE_TYPE, results, stamp_ns
from geoseg_ros.io.recordings import RawMessage, Recording
from geoseg_ros.results import LabelSpace

OUTPUTS = ("points_labeled", "points_obstacles", "mask", "overlay")
"""Clouds and images that a node publishes; others in its recording are inputs."""


def stamp_in(message: RawMessage) -> int:
    """The stamp in the header with which the message begins, nanoseconds; read without decoding the rest."""
    if len(message.data) < 12:
        raise InputError(f"{message.topic}: {len(message.data)} bytes, expected a message with a header")
    seconds, nanoseconds = struct.unpack_from("<iI", message.data, 4)  # behind the four bytes of the encoding
    return int(seconds) * 10**9 + int(nanoseconds)


class _ByStamp:
    """The messages of one topic by the stamps of their headers.

    The recording is read once if requested and recorded stamps both rise; a request for an earlier stamp reads it again from the start.
    """

    def __init__(self, recording: Recording, topic: str | None) -> None:
        self._recording, self._topic = recording, topic
        self._messages: Iterator[RawMessage] = iter(())
        self._next: RawMessage | None = None
        self._asked: int | None = None

    def find(self, stamp: int) -> RawMessage | None:
        if self._topic is None:
            return None
        if self._asked is None or stamp < self._asked:
            self._messages = self._recording.messages([self._topic])
            self._next = next(self._messages, None)
        self._asked = stamp
        while self._next is not None and stamp_in(self._next) < stamp:
            self._next = next(self._messages, None)
        return self._next if self._next is not None and stamp_in(self._next) == stamp else None


class RecordedResults:
    """The labelled clouds and images of a recording.

    Args:
        recording: of the node's outputs.
        inputs: recording of its inputs, for the images under the masks and the colours of the clouds; may be the same one.
        node: full name of the node; None: the only one that the recording has outputs of.
        points, image: topics in ``inputs``; None: the only ones, or none.

    Attributes:
        labels: of the recording; where it has none, those of its objects, and numbered ones for the rest.

    Raises:
        InputError: no outputs of a node, of several nodes, or wrong topics.
    """

    def __init__(
        self, recording: Recording, inputs: Recording, node: str | None = None, points: str | None = None, image: str | None = None
    ) -> None:
        self._recording, self._inputs = recording, inputs
        known = recording.topics()
        node = _node(recording) if node is None else f"/{node.strip('/')}"
        topics = {name: f"{node}/{name}" for name in (*OUTPUTS, "objects", "label_info") if f"{node}/{name}" in known}
        above = f"{node.rpartition('/')[0]}/label_info"  # where this is a stream of a node with several sensors
        topics |= {"label_info": above} if above in known and "label_info" not in topics else {}
        self._clouds = _typed(recording, topics.get("points_labeled"), CLOUD_TYPE)
        # painted by the node itself where that was recorded
        self._overlays = _typed(recording, topics.get("overlay"), IMAGE_TYPE)
        self._masks = None if self._overlays else _typed(recording, topics.get("mask"), IMAGE_TYPE)
        if self._clouds is None and self._overlays is None and self._masks is None:
            raise InputError(f"{recording.path}: no points_labeled, mask or overlay of {node}, it has {', '.join(known) or 'no topics'}")
        self._objects = _ByStamp(recording, topics.get("objects"))
        own = {f"{node}/{name}" for name in OUTPUTS} if inputs is recording else set()
        self._points = _ByStamp(inputs, _input(inputs, (CLOUD_TYPE,), points, own))
        self._images = _ByStamp(inputs, _input(inputs, (IMAGE_TYPE, COMPRESSED_TYPE), image, own))
        self.labels = self._label_space(topics.get("label_info"), topics.get("objects"))

    def items(self) -> Iterator[LabelledCloud | LabelledImage]:
        """All of them in the order in which they were recorded."""
        for message in self._messages():
            yield self._read(message)

    def frame(self, seconds: float | None = None) -> LabelledFrame:
        """The frame that a viewer would show ``seconds`` after the start of the recording; None: at its end.

        Raises:
            InputError: there is no result until then.
        """
        end = None if seconds is None else self._recording.start_ns + round(seconds * 1e9)
        newest: dict[str, RawMessage] = {}
        for message in self._messages():
            if end is not None and message.stamp_ns > end:
                break
            newest[message.topic] = message
        if not newest:
            when = "" if seconds is None else f" in the first {seconds:g} s"
            raise InputError(f"{self._recording.path}: no labelled cloud and no mask{when}")
        found = [self._read(message) for message in newest.values()]
        cloud = next((entry for entry in found if isinstance(entry, LabelledCloud)), None)
        return LabelledFrame(self.labels, cloud, next((entry for entry in found if isinstance(entry, LabelledImage)), None))

    def _messages(self) -> Iterator[RawMessage]:
        return self._recording.messages([t for t in (self._clouds, self._overlays, self._masks) if t is not None])

    def _read(self, message: RawMessage) -> LabelledCloud | LabelledImage:
        return self._cloud(message) if message.topic == self._clouds else self._image(message)

    def _cloud(self, message: RawMessage) -> LabelledCloud:
        decoded = self._recording.decode(message)
        stamp, frame = stamp_ns(decoded.header), decoded.header.frame_id
        cloud, label = results.labelled_cloud(decoded, message.topic)
        source = self._points.find(stamp)
        if source is not None:
            rgb = codec.cloud_from_message(self._inputs.decode(source), source.topic).rgb
            if rgb is not None and len(rgb) == len(cloud):
                cloud = Cloud(cloud.xyz, rgb, cloud.shape)
        found = self._objects.find(stamp)
        if found is None:
            return LabelledCloud(stamp, frame, cloud, label)
        array = self._recording.decode(found)
        if array.header.frame_id != frame:
            return LabelledCloud(stamp, frame, cloud, label, objects_frame=array.header.frame_id)
        return LabelledCloud(stamp, frame, cloud, label, results.objects(array, found.topic))

    def _image(self, message: RawMessage) -> LabelledImage:
        decoded = self._recording.decode(message)
        stamp = stamp_ns(decoded.header)
        if message.topic == self._overlays:
            return LabelledImage(stamp, codec.image_from_message(decoded, message.topic))
        mask = codec.image_from_message(decoded, message.topic)[..., 0]
        source = self._images.find(stamp)
        below = None
        if source is not None:
            decode = codec.image_from_compressed if source.type == COMPRESSED_TYPE else codec.image_from_message
            below = decode(self._inputs.decode(source), source.topic)
        return paint(stamp, mask, below, self.labels)

    def _label_space(self, topic: str | None, objects: str | None) -> LabelSpace:
        text = None
        for message in self._recording.messages([topic]) if topic else ():
            text = self._recording.decode(message).data
        if text is not None:
            return results.label_space(text, str(topic))
        names: dict[int, str] = {}
        for message in self._recording.messages([objects]) if objects else ():
            names |= {entry.label: entry.name for entry in results.objects(self._recording.decode(message), message.topic)}
        highest = max(names, default=0)
        for message in self._messages():
            decoded = self._recording.decode(message)
            if message.topic == self._clouds:
                highest = max(highest, int(results.labelled_cloud(decoded, message.topic)[1].max(initial=0)))
            elif message.topic == self._masks:
                highest = max(highest, int(codec.image_from_message(decoded, message.topic).max(initial=0)))
        return LabelSpace(tuple(names.get(i, f"label {i}") for i in range(1, highest + 1)))


def _node(recording: Recording) -> str:
    """The only node that the recording has outputs of."""
    found = {
        topic[: -len(name) - 1]
        for topic, about in recording.topics().items()
        for name in ("points_labeled", "mask", "overlay")
        if topic.endswith(f"/{name}") and about.messages and about.type in (CLOUD_TYPE, IMAGE_TYPE)
    }
    if len(found) > 1:
        raise InputError(f"{recording.path}: outputs of several nodes ({', '.join(sorted(found))}), name one")
    if not found:
        known = ", ".join(recording.topics()) or "no topics"
        raise InputError(f"{recording.path}: expected points_labeled, mask or overlay of a node, it has {known}")
    return found.pop()


def _typed(recording: Recording, topic: str | None, kind: str) -> str | None:
    """The topic, if there is one with messages."""
    if topic is None or not recording.topics()[topic].messages:
        return None
    return recording.choose_topic([kind], topic, "output")


def _input(inputs: Recording, types: Collection[str], wanted: str | None, own: Collection[str]) -> str | None:
    """The topic asked for, or the only one of these types that is no output of the node itself, or none."""
    if wanted is not None:
        return inputs.choose_topic(types, wanted, "input")
    possible = [name for name, about in inputs.topics().items() if about.type in types and about.messages and name not in own]
    return possible[0] if len(possible) == 1 else None
