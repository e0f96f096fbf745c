"""Readers of the messages that a coseg_node publishes; they accept messages of rclpy and of recordings."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.messages.clouds import LABELLED_FIELDS, cloud_from_message
from geoseg_ros.results import LabelSpace, ObjectInstance

_LABEL_TYPE = dict(LABELLED_FIELDS)["label"]


def labelled_cloud(message: Any, topic: str = "points_labeled") -> tuple[Cloud, NDArray[np.uint32]]:
    """Read ~/points_labeled.

    Returns:
        The cloud without colour, because the colour of the message is that of the labels; labels uint32 [N], 0 = none.

    Raises:
        InputError: not a cloud, or one without labels.
    """
    cloud = cloud_from_message(message, topic)
    label = point_field(message, "label", _LABEL_TYPE)
    if label is None:
        raise InputError(f"{topic}: no field label of type uint32, expected a cloud that coseg_node published")
    return Cloud(cloud.xyz, None, cloud.shape), label.astype(np.uint32)


def point_field(message: Any, name: str, datatype: int) -> NDArray | None:
    """One field of a PointCloud2 of a 4-byte type, [N]; None where it has none of this name and type. The message has been checked."""
    field = next((field for field in message.fields if field.name == name), None)
    if field is None or field.datatype != datatype or field.offset + 4 > message.point_step:
        return None
    height, width, step = int(message.height), int(message.width), int(message.point_step)
    row = int(message.row_step) or width * step
    kind = f"{'>' if message.is_bigendian else '<'}{'u4' if datatype == _LABEL_TYPE else 'f4'}"
    return np.ndarray((height, width), kind, np.frombuffer(message.data, np.uint8), int(field.offset), (row, step)).reshape(-1)


def objects(message: Any, topic: str = "objects") -> tuple[ObjectInstance, ...]:
    """Read ~/objects (geoseg_ros/CosegObjectArray).

    Raises:
        InputError: an orientation is not a unit quaternion.
    """
    found = []
    for entry in message.objects:
        turn, place = entry.center.orientation, entry.center.position
        try:
            rotation = Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).as_matrix()
        except ValueError:
            raise InputError(f"{topic}: object {entry.instance} has the orientation 0 0 0 0, expected a unit quaternion") from None
        found.append(
            ObjectInstance(
                label=int(entry.label),
                name=str(entry.name),
                instance=int(entry.instance),
                confidence=float(entry.confidence),
                p_value=float(entry.p_value),
                center=np.array([place.x, place.y, place.z]),
                rotation=rotation,
                size=np.array([entry.size.x, entry.size.y, entry.size.z]),
                count=int(entry.point_count),
                track=int(entry.track_id),
            )
        )
    return tuple(found)


def label_space(text: str, topic: str = "label_info") -> LabelSpace:
    """Read the JSON of ~/label_info.

    Raises:
        InputError: anything else.
    """
    try:
        names = {int(row["id"]): str(row["name"]) for row in json.loads(text)}
        return LabelSpace(tuple(names[i] for i in range(max(len(names), 1)))[1:])
    except (ValueError, TypeError, KeyError):
        raise InputError(f"{topic}: expected a JSON list of id and name from 0 on, got {text[:60]!r}") from None
