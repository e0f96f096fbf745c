"""From a click or a box to the object that is meant: a proposal of a cloud, or a part of a picture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.analysis import GeometryConfig, SceneGeometry, analyse_cloud
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.neighbours import connected_parts

_REACH = 4.0  # voxels from a click to the object
_REACH_PIXELS = 6  # from a click to the nearest pixel with a point
_WINDOW = 0.3  # of a picture's shorter side: how far an object may reach from the click
_SURE = 0.02  # likewise, what is surely of the object
_SIDE = 160  # pixels, at which the picture around a click is cut
_LEAST = 8  # pixels: side of the smallest part of a picture that is taken
_MARGIN = 0.5  # of an object's size in a picture: what is kept around it, as photographs of an object show its surroundings


@dataclass(frozen=True)
class Picked:
    """An example. Attributes: item: what is learnt from; taken: the box around the object (pixels, or metres in the frame of the message),
    empty for whole scenes; text: what was taken, in words."""

    item: Cloud | NDArray[np.uint8]
    taken: tuple[float, ...]
    text: str


def pick_from_cloud(cloud: Cloud, click: NDArray[np.float64], box: NDArray[np.float64], config: GeometryConfig | None = None) -> Picked:
    """The cloud without any other object than the one that is meant; floor and walls stay, as the surroundings of objects.

    Args:
        cloud: the scene.
        click: [3] metres in the frame of the message, [2] pixels of an organised cloud, or empty.
        box: [6] least and greatest x y z, metres in the frame of the message, or empty.
        config: of the analysis.

    Raises:
        InputError: nothing stands there.
    """
    if not click.size and not box.size:
        return Picked(cloud, (), f"a cloud of {len(cloud)} points")
    config = config or GeometryConfig()
    geometry = analyse_cloud(cloud, config)
    members = _in_box(cloud, geometry, box) if box.size else _under_click(cloud, geometry, click, config.proposals.radius)
    erased = np.zeros(len(geometry.xyz), bool)
    erased[np.concatenate([members[:0], *geometry.proposals])] = True
    erased[geometry.plane >= 0] = False
    erased[members] = False
    own = np.zeros(len(geometry.xyz), bool)
    own[members] = True
    xyz = cloud.xyz.copy()
    xyz[geometry.point_values(erased)] = np.nan
    points = cloud.original()[geometry.point_values(own)]
    low, high = points.min(axis=0), points.max(axis=0)
    size = " x ".join(f"{edge:.2f}" for edge in high - low)
    return Picked(replace(cloud, xyz=xyz), (*low.tolist(), *high.tolist()), f"an object of {len(points)} points, {size} m")


def _under_click(cloud: Cloud, geometry: SceneGeometry, click: NDArray[np.float64], reach: float) -> NDArray[np.int64]:
    point = _clicked_point(cloud, click) if click.size == 2 else _local(cloud, click)
    free = np.unique(np.concatenate([np.zeros(0, np.int64), *geometry.proposals]))
    away = np.linalg.norm(geometry.xyz[free] - point, axis=1) if free.size else np.zeros(0)
    if not free.size or away.min() > _REACH * geometry.voxel:
        raise InputError("click: nothing stands there, expected a point on an object; a box can say where it is")
    voxel = free[away.argmin()]
    # the largest is the whole object, or two objects with a gap between them
    members = next(members for members in geometry.proposals if voxel in members)
    near = cKDTree(geometry.xyz[members]).query_pairs(reach * geometry.voxel, output_type="ndarray")
    part = connected_parts(len(members), near.astype(np.int64))
    return members[part == part[np.searchsorted(members, voxel)]]


def _clicked_point(cloud: Cloud, click: NDArray[np.float64]) -> NDArray[np.float32]:
    """The point behind a pixel of an organised cloud, or the nearest one beside it."""
    if cloud.shape is None or cloud.shape[0] < 2:
        raise InputError("click: this cloud has no rows and columns, expected x, y, z in metres")
    height, width = cloud.shape
    x, y = _pixel(click, width, height)
    valid = cloud.valid().reshape(cloud.shape)
    top, left = max(0, y - _REACH_PIXELS), max(0, x - _REACH_PIXELS)
    rows, columns = np.nonzero(valid[top : y + _REACH_PIXELS + 1, left : x + _REACH_PIXELS + 1])
    if not rows.size:
        raise InputError("click: the sensor measured nothing there")
    nearest = ((rows + top - y) ** 2 + (columns + left - x) ** 2).argmin()
    return cloud.xyz[(rows[nearest] + top) * width + columns[nearest] + left]


def _pixel(click: NDArray[np.float64], width: int, height: int) -> tuple[int, int]:
    x, y = (int(value) for value in np.clip(np.floor(click), -1, 1e9))
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(f"click: {click[0]:g}, {click[1]:g} is outside the picture of {width} x {height} pixels")
    return x, y


def _local(cloud: Cloud, point: NDArray[np.float64]) -> NDArray[np.float64]:
    pose = cloud.pose()
    return point if pose is None else (point - pose[:3, 3]) @ pose[:3, :3]


def _in_box(cloud: Cloud, geometry: SceneGeometry, box: NDArray[np.float64]) -> NDArray[np.int64]:
    if not (box[:3] < box[3:]).all():
        raise InputError("box: expected least x, y, z below greatest x, y, z")
    inside = np.flatnonzero(((cloud.original() >= box[:3]) & (cloud.original() <= box[3:])).all(axis=1) & (geometry.inverse >= 0))
    members = np.unique(geometry.inverse[inside])
    standing = members[geometry.plane[members] < 0]  # without the floor below
    if not standing.size:
        raise InputError("box: nothing stands there")
    return standing


def pick_from_image(image: NDArray[np.uint8], click: NDArray[np.float64], box: NDArray[np.float64]) -> Picked:
    """The part of a picture that shows the object that is meant, with some surroundings.

    Args:
        image: uint8 RGB [H, W, 3].
        click: [2] pixels, or empty; what is coloured unlike the surroundings is taken (GrabCut).
        box: [4] left, top, right, bottom, pixels, or empty.

    Raises:
        InputError: outside the picture, or too small.
    """
    height, width = image.shape[:2]
    if box.size:
        left, top, right, bottom = np.clip(box, 0, (width, height, width, height))
    elif click.size:
        left, top, right, bottom = _around_click(image, *_pixel(click, width, height))
    else:
        return Picked(image, (), f"a picture of {width} x {height} pixels")
    if right - left < _LEAST or bottom - top < _LEAST:
        raise InputError(f"box: expected at least {_LEAST} x {_LEAST} pixels in the picture of {width} x {height}")
    x, y = _MARGIN * (right - left), _MARGIN * (bottom - top)
    part = image[int(max(0, top - y)) : int(np.ceil(bottom + y)), int(max(0, left - x)) : int(np.ceil(right + x))]
    return Picked(part.copy(), (float(left), float(top), float(right), float(bottom)), f"{right - left:.0f} x {bottom - top:.0f} pixels")


def _around_click(image: NDArray[np.uint8], x: int, y: int) -> tuple[float, float, float, float]:
    """The box around what is coloured like the place of the click and unlike the border of its surroundings."""
    reach = max(round(_WINDOW * min(image.shape[:2])), 2 * _LEAST)
    left, top = max(0, x - reach), max(0, y - reach)
    window = image[top : y + reach, left : x + reach]
    scale = min(1.0, _SIDE / max(window.shape[:2]))
    small = cv2.resize(window, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    trimap = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
    edge = max(1, round(0.08 * min(small.shape[:2])))
    trimap[edge:-edge, edge:-edge] = cv2.GC_PR_BGD
    middle = round((x - left) * scale), round((y - top) * scale)
    cv2.circle(trimap, middle, round(0.5 * reach * scale), cv2.GC_PR_FGD, -1)
    cv2.circle(trimap, middle, max(2, round(_SURE * reach / _WINDOW * scale)), cv2.GC_FGD, -1)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(np.ascontiguousarray(small[..., ::-1]), trimap, None, *models, 3, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    _, parts = cv2.connectedComponents(((trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD)).astype(np.uint8))
    rows, columns = np.nonzero(parts == parts[min(middle[1], len(parts) - 1), min(middle[0], parts.shape[1] - 1)])
    least = _LEAST / 2
    return (
        min(left + columns.min() / scale, x - least),
        min(top + rows.min() / scale, y - least),
        max(left + (columns.max() + 1) / scale, x + least),
        max(top + (rows.max() + 1) / scale, y + least),
    )
