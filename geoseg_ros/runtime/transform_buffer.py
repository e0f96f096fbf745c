"""Transforms of a recording, looked up without ROS."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from geoseg_ros.io.messages import TRANSFORMS_TYPE, stamp_ns
from geoseg_ros.io.recordings import Recording
from geoseg_ros.runtime.placement import NoTransform, rigid_matrix

_WIDEST_GAP = 10 * 10**9  # nanoseconds; tf2 keeps ten seconds by default, so nothing is interpolated over more


@dataclass
class _Edge:
    """A frame in its parent. Attributes: parent; static; stamps in nanoseconds, rising; poses: translation and quaternion of each."""

    parent: str
    static: bool
    stamps: list[int] = field(default_factory=list)
    poses: list[tuple[tuple[float, ...], tuple[float, ...]]] = field(default_factory=list)


class TransformBuffer:
    """Transforms of a tree of frames, interpolated as tf2 does: linearly, rotations spherically, never beyond what was recorded."""

    def __init__(self) -> None:
        self._edges: dict[str, _Edge] = {}

    def add(self, parent: str, child: str, stamp: int, translation: Sequence[float], quaternion: Sequence[float], static: bool) -> None:
        """Add where ``child`` is in ``parent``. What tf2 refuses too, such as numbers that are not finite, is left out.

        Args:
            stamp: nanoseconds; means nothing where ``static``.
            translation: x, y, z in metres.
            quaternion: x, y, z, w, of length 1.
            static: holds at all times.
        """
        parent, child = parent.lstrip("/"), child.lstrip("/")
        numbers = np.array([*translation, *quaternion], np.float64)
        if not np.isfinite(numbers).all() or abs(float(numbers[3:] @ numbers[3:]) - 1) > 0.01 or child in ("", parent):
            return
        edge = self._edges.get(child)
        if edge is None or edge.parent != parent or edge.static != static:
            edge = self._edges[child] = _Edge(parent, static)
        pose = tuple(map(float, translation)), tuple(map(float, quaternion))
        if static:
            edge.stamps, edge.poses = [0], [pose]
            return
        at = bisect_left(edge.stamps, stamp)
        if at == len(edge.stamps) or edge.stamps[at] != stamp:
            edge.stamps.insert(at, stamp)
            edge.poses.insert(at, pose)

    def lookup(self, target: str, source: str, stamp: int) -> NDArray[np.float64]:
        """The transform of points of ``source`` to ``target`` at a time.

        Args:
            stamp: nanoseconds.

        Returns:
            float64 [4, 4].

        Raises:
            NoTransform: the frames are not joined, or not at that time.
        """
        up, down = self._ancestors(source.lstrip("/")), self._ancestors(target.lstrip("/"))
        common = next((frame for frame in up if frame in down), None)
        if common is None:
            raise NoTransform(f"no transform from {source!r} to {target!r}: the recording does not join them")
        try:
            return np.linalg.inv(self._chain(down, common, stamp)) @ self._chain(up, common, stamp)
        except NoTransform as error:
            raise NoTransform(f"no transform from {source!r} to {target!r}: {error}") from None

    def root(self, frame: str) -> str:
        """The frame at the top of the tree that ``frame`` is in; itself where nothing is known of it."""
        return self._ancestors(frame.lstrip("/"))[-1]

    def _ancestors(self, frame: str) -> list[str]:
        """The frame, its parent and so on; a loop ends where it closes."""
        found = [frame]
        while (edge := self._edges.get(found[-1])) is not None and edge.parent not in found:
            found.append(edge.parent)
        return found

    def _chain(self, frames: Sequence[str], top: str, stamp: int) -> NDArray[np.float64]:
        """From the first of ``frames`` to ``top``, which is one of them."""
        matrix = np.eye(4)
        for child in frames[: frames.index(top)]:
            matrix = self._at(child, stamp) @ matrix
        return matrix

    def _at(self, child: str, stamp: int) -> NDArray[np.float64]:
        edge = self._edges[child]
        if edge.static:
            return rigid_matrix(*edge.poses[0])
        after = bisect_left(edge.stamps, stamp)
        if after < len(edge.stamps) and edge.stamps[after] == stamp:
            return rigid_matrix(*edge.poses[after])
        if after in (0, len(edge.stamps)):
            first, last = 1e-9 * edge.stamps[0], 1e-9 * edge.stamps[-1]
            raise NoTransform(f"{child!r} is known from {first:.3f} to {last:.3f} s, not at {1e-9 * stamp:.3f}")
        begin, end = edge.stamps[after - 1 : after + 1]
        if end - begin > _WIDEST_GAP:
            raise NoTransform(f"{child!r} is not known for {1e-9 * (end - begin):.1f} s around {1e-9 * stamp:.3f} s")
        (shift, turn), (next_shift, next_turn) = edge.poses[after - 1 : after + 1]
        share = (stamp - begin) / (end - begin)
        rotation = Slerp([0, 1], Rotation.from_quat([turn, next_turn]))(share)
        between = (1 - share) * np.array(shift) + share * np.array(next_shift)
        return rigid_matrix(between.tolist(), rotation.as_quat().tolist())


def recorded_transforms(recording: Recording) -> TransformBuffer:
    """All transforms of a recording."""
    buffer = TransformBuffer()
    topics = [name for name, about in recording.topics().items() if about.type == TRANSFORMS_TYPE]
    for raw in recording.messages(topics) if topics else ():
        for entry in recording.decode(raw).transforms:
            shift, turn = entry.transform.translation, entry.transform.rotation
            buffer.add(
                entry.header.frame_id,
                entry.child_frame_id,
                stamp_ns(entry.header),
                (shift.x, shift.y, shift.z),
                (turn.x, turn.y, turn.z, turn.w),
                raw.topic.endswith("tf_static"),
            )
    return buffer
