"""Posed frames of a recording: depth images with their calibration, the colour image nearest in time, and the pose from TF."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.io import messages as codec
from geoseg_ros.io.messages import CAMERA_INFO_TYPE, COMPRESSED_TYPE, IMAGE_TYPE
from geoseg_ros.io.posed_frames import FrameSource, PosedFrame, ReadFrames, evenly
from geoseg_ros.io.recordings import Recording
from geoseg_ros.runtime.placement import NoTransform
from geoseg_ros.runtime.transform_buffer import TransformBuffer, recorded_transforms

LIMIT = 120  # frames that are kept in memory, as they were recorded
REACH = 50_000_000  # nanoseconds between a depth image and its colour image
_KEPT = 30  # colour images that are kept to choose from
_DEPTH = ("16uc1", "32fc1", "mono16")  # encodings, in small letters
_COLOUR_LIKE = ("8UC3", "8UC4", "rgb", "bgr", "bayer", "yuv")  # beginnings of encodings


@dataclass(frozen=True)
class RecordedTopics:
    """Topics of a depth camera. Attributes: depth, camera_info, color: None where the only possible one is taken; fixed_frame: the world;
    empty: the frame at the top of the tree that the camera is in."""

    depth: str | None = None
    camera_info: str | None = None
    color: str | None = None
    fixed_frame: str = ""


@dataclass
class _Shot:
    """Attributes: stamp, of the depth image, nanoseconds; depth, info, color: decoded messages; color_stamp: of the colour image."""

    stamp: int
    depth: Any
    info: Any
    color: Any = None
    color_stamp: int = field(default=1 << 62)

    def offer(self, stamp: int, color: Any) -> None:
        """Take a colour image if it is the nearest one so far, and near enough."""
        if abs(stamp - self.stamp) <= REACH and abs(stamp - self.stamp) < abs(self.color_stamp - self.stamp):
            self.color, self.color_stamp = color, stamp


def recorded_frames(path: str | os.PathLike[str], topics: RecordedTopics | None = None, limit: int | None = LIMIT) -> ReadFrames:
    """The posed frames of a depth camera in a recording, at most ``limit``, evenly spread over those with a pose.

    The colour image must be registered to the depth image; one of another size, but the same shape, is resized. Messages stay in memory as
    they were recorded until the frames are let go.

    Raises:
        InputError: no depth, calibration, colour or transforms; a topic is ambiguous; depth in other units than REP 118 says.
    """
    with Recording(path) as recording:
        chosen = _choose(recording, topics or RecordedTopics())
        buffer = recorded_transforms(recording)
        shots, name = _shots(recording, chosen, buffer, limit), str(path)
    sources = [
        FrameSource(
            f"{name}: depth at {1e-9 * shot.stamp:.3f} s", pose, partial(_frame, shot, f"{name}: depth at {1e-9 * shot.stamp:.3f} s")
        )
        for shot, pose in shots
    ]
    return ReadFrames(name, sources)


def _choose(recording: Recording, wanted: RecordedTopics) -> RecordedTopics:
    """The topics, all of them given, by the encodings of the first images."""
    known = recording.topics()
    pictures = [name for name, about in known.items() if about.type in (IMAGE_TYPE, COMPRESSED_TYPE) and about.messages]
    encoding: dict[str, str] = {}
    for raw in recording.messages(pictures) if pictures else ():
        if raw.topic not in encoding:
            encoding[raw.topic] = recording.decode(raw).encoding if raw.type == IMAGE_TYPE else "compressed"
        if len(encoding) == len(pictures):
            break
    depths = [name for name, kind in encoding.items() if kind.lower() in _DEPTH]
    colours = [name for name, kind in encoding.items() if kind.lower().startswith(_COLOUR_LIKE)]
    colours = colours or [name for name, kind in encoding.items() if kind == "compressed" and "depth" not in name.lower()]
    depth = _one(recording, "depth", wanted.depth, depths, (IMAGE_TYPE,))
    infos = [name for name, about in known.items() if about.type == CAMERA_INFO_TYPE and about.messages]
    beside = f"{depth.rpartition('/')[0]}/camera_info"
    info = _one(recording, "camera-info", wanted.camera_info, [beside] if beside in infos else infos, (CAMERA_INFO_TYPE,))
    color = _one(recording, "color", wanted.color, colours, (IMAGE_TYPE, COMPRESSED_TYPE))
    return RecordedTopics(depth, info, color, wanted.fixed_frame)


def _one(recording: Recording, what: str, wanted: str | None, possible: list[str], types: tuple[str, ...]) -> str:
    if wanted is not None:
        recording.choose_topic(types, wanted, what)  # refuses what is not there, or of another type
        return wanted
    if len(possible) != 1:
        found = f"several {what} topics ({', '.join(sorted(possible))}), name one" if possible else f"no {what} topic, name one"
        raise InputError(f"{recording.path}: {found}: --{what}")
    return possible[0]


def _shots(
    recording: Recording, topics: RecordedTopics, buffer: TransformBuffer, limit: int | None
) -> list[tuple[_Shot, NDArray[np.float64]]]:
    """Depth images with a pose and a colour image, and their poses."""
    assert topics.depth and topics.color and topics.camera_info
    poses = _poses(recording, topics.depth, topics.fixed_frame, buffer)
    stamps = sorted(poses)
    chosen = {stamps[k] for k in evenly(len(stamps), limit)}
    found: list[_Shot] = []
    recent: deque[tuple[int, Any]] = deque(maxlen=_KEPT)
    info: Any = None
    early: list[_Shot] = []  # before the first calibration
    for raw in recording.messages({topics.depth, topics.color, topics.camera_info}):
        message = recording.decode(raw)
        if raw.topic == topics.camera_info:
            info = message
            for shot in early:
                shot.info = info
            early = []
        stamp = codec.stamp_ns(message.header)
        if raw.topic == topics.color:
            recent.append((stamp, message))
            for shot in found[-_KEPT:]:
                shot.offer(stamp, message)
        if raw.topic == topics.depth and stamp in chosen:
            chosen.discard(stamp)
            found.append(_Shot(stamp, message, info))
            early += [found[-1]] if info is None else []
            for at, color in recent:
                found[-1].offer(at, color)
    usable = [shot for shot in found if shot.color is not None and shot.info is not None]
    if not usable:
        lack = "calibration" if info is None else f"colour image within {1e-9 * REACH:g} s"
        raise InputError(f"{recording.path}: no depth image of {topics.depth} has a {lack}")
    return [(shot, poses[shot.stamp]) for shot in usable]


def _poses(recording: Recording, topic: str, fixed: str, buffer: TransformBuffer) -> dict[int, NDArray[np.float64]]:
    """Stamp -> pose, camera to world, of the depth images whose pose is known."""
    poses: dict[int, NDArray[np.float64]] = {}
    reason = "there is no depth image"
    for raw in recording.messages([topic]):
        header = recording.decode(raw).header
        world = fixed.lstrip("/") or buffer.root(header.frame_id)
        if world == header.frame_id.lstrip("/"):
            reason = f"nothing joins the camera's frame {header.frame_id!r} to a fixed frame, expected /tf"
            continue
        try:
            poses[codec.stamp_ns(header)] = buffer.lookup(world, header.frame_id, codec.stamp_ns(header))
        except NoTransform as error:
            reason = str(error)
    if not poses:
        raise InputError(f"{recording.path}: no depth image of {topic} has a pose: {reason}")
    return poses


def _frame(shot: _Shot, name: str, pose: NDArray[np.float64]) -> PosedFrame:
    cloud = codec.cloud_from_depth(shot.depth, shot.info, None, name)
    assert cloud.shape is not None
    depth = cloud.xyz[:, 2].reshape(cloud.shape).copy()
    decode = codec.image_from_message if hasattr(shot.color, "encoding") else codec.image_from_compressed
    rgb = decode(shot.color, name)
    if rgb.shape[:2] != depth.shape:
        if abs(rgb.shape[1] / rgb.shape[0] - depth.shape[1] / depth.shape[0]) > 0.01:
            raise InputError(
                f"{name}: colour is {rgb.shape[1]} x {rgb.shape[0]}, depth {depth.shape[1]} x {depth.shape[0]}: not registered"
            )
        rgb = np.asarray(cv2.resize(rgb, depth.shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    k = np.asarray(shot.info.p, np.float64).reshape(3, 4)[:, :3]
    k = k if k[0, 0] else np.asarray(shot.info.k, np.float64).reshape(3, 3)
    return PosedFrame(rgb, depth, k.copy(), pose, name, shot.stamp)
