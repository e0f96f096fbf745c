"""Marked parts of objects as messages: of this package, and as markers for RViz; and read back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.io.messages.buffers import MessageTypes
from geoseg_ros.results import PartPoint

_NONE = (math.nan, math.nan, math.nan)
_SIZE = 0.04  # metres, of a marker


def part_array(types: MessageTypes, header: Any, parts: Sequence[PartPoint]) -> Any:
    """Make a geoseg_ros/PartArray.

    Args:
        types: message classes.
        header: std_msgs/Header in the frame of the points.
        parts: in any number; where no point is given its coordinates are NaN.
    """
    return types["geoseg_ros/msg/PartArray"](header=header, parts=part_entries(types, parts))


def part_entries(types: MessageTypes, parts: Sequence[PartPoint]) -> list[Any]:
    """A geoseg_ros/Part per part."""
    kind, point, vector = (types[name] for name in ("geoseg_ros/msg/Part", "geometry_msgs/msg/Point", "geometry_msgs/msg/Vector3"))
    entries = []
    for part in parts:
        (px, py, pz), (nx, ny, nz) = _numbers(part.point), _numbers(part.normal)
        entries.append(
            kind(
                track_id=int(part.track),
                instance=int(part.instance),
                label=int(part.label),
                object=part.object,
                name=part.name,
                point=point(x=px, y=py, z=pz),
                normal=vector(x=nx, y=ny, z=nz),
                confidence=float(part.confidence),
                seen=bool(part.seen),
                symmetric=bool(part.symmetric),
                reason=part.reason,
            )
        )
    return entries


def part_markers(types: MessageTypes, header: Any, parts: Sequence[PartPoint], palette: NDArray[np.uint8]) -> list[Any]:
    """A visualization_msgs/Marker for the point and one for the name of every part that has a point; pale where it is inferred.

    Args:
        types, header: as for :func:`part_array`.
        palette: uint8 [labels + 1, 3] RGB.
    """
    marker, color = types["visualization_msgs/msg/Marker"], types["std_msgs/msg/ColorRGBA"]
    markers = []
    for number, part in enumerate((part for part in parts if part.point is not None), 1):
        red, green, blue = (float(v) / 255 for v in palette[min(part.label, len(palette) - 1)])
        ball = marker(header=header, ns="parts", id=number, type=marker.SPHERE)
        text = marker(header=header, ns="part names", id=number, type=marker.TEXT_VIEW_FACING, text=part.name)
        ball.color = color(r=red, g=green, b=blue, a=1.0 if part.seen else 0.4)
        text.color = color(r=1.0, g=1.0, b=1.0, a=1.0)
        ball.scale.x = ball.scale.y = ball.scale.z = _SIZE
        text.scale.z = 0.06
        x, y, z = _numbers(part.point)
        for entry, above in ((ball, 0.0), (text, 0.06)):
            entry.pose.orientation.w = 1.0
            entry.pose.position.x, entry.pose.position.y, entry.pose.position.z = x, y, z + above
        markers += [ball, text]
    return markers


def parts(message: Any) -> tuple[PartPoint, ...]:
    """Read ~/parts (geoseg_ros/PartArray)."""
    found = []
    for entry in message.parts:
        point = np.array([entry.point.x, entry.point.y, entry.point.z])
        normal = np.array([entry.normal.x, entry.normal.y, entry.normal.z])
        found.append(
            PartPoint(
                str(entry.object),
                str(entry.name),
                int(entry.instance),
                point if np.isfinite(point).all() else None,
                normal if np.isfinite(normal).all() else None,
                None,
                float(entry.confidence),
                bool(entry.seen),
                bool(entry.symmetric),
                str(entry.reason),
                int(entry.label),
                int(entry.track_id),
            )
        )
    return tuple(found)


def _numbers(vector: NDArray[np.floating] | None) -> tuple[float, float, float]:
    if vector is None:
        return _NONE
    x, y, z = (float(v) for v in vector)
    return x, y, z
