"""Virtual views: a proposal drawn from virtual viewpoints, so that an image backbone can look at a piece of a point cloud.

A view is orthographic, a padded square around the points on flat grey. Every pixel knows which point it shows, so tokens of the
pictures can be carried back to points or superpoints (:func:`lift_tokens`; the back-projection of PointDC, with virtual instead of
real cameras). No calibration of any real camera is involved.

Drawing is a z-buffer of single pixels, then image morphology: a closing whose radius follows the spacing of the points makes
surfaces solid without widening the silhouette (a disc per point would leave a rim as wide as its radius).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geoseg_ros.settings import Settings, setting

GREY = 128
SHADINGS = ("lambert", "normals")

Floats = NDArray[np.floating]
Image = NDArray[np.uint8]
Index = NDArray[np.int32]


@dataclass(frozen=True)
class ViewConfig(Settings):
    """How proposals are drawn."""

    size: int = setting(128, "side of a view; a multiple of the backbone's stride", unit="pixels", range=(16, 2048))
    views: int = setting(
        1,
        "views of a proposal: one from the sensor, two turned by +yaw and -yaw about the up axis, two by twice that, and so on",
        range=(1, 64),
    )
    yaw: float = setting(25.0, "angle between neighbouring views", unit="degrees", range=(-180.0, 180.0))
    fill: float = setting(0.8, "share of the side that the larger extent of the object takes", range=(0.01, 1.0))
    colour: bool = setting(True, "paint points in their colour where they have one; else, and without colour, their shaded normals")
    shading: str = setting(
        "lambert",
        "grey under two lights, one at the viewer and one from the upper left; or the normal's x, y, z in the view as RGB",
        choices=SHADINGS,
    )
    closing: float = setting(
        1.3,
        "radius that closes holes between points; 0.71 (half the diagonal) closes a square grid, scattered points need more",
        unit="times the spacing of the points",
        range=(0.0, 100.0),
    )
    largest_radius: float = setting(0.1, "upper bound of that radius", unit="share of the side", range=(0.0, 1.0))
    hole: float = setting(0.02, "enclosed holes smaller than this are filled too", unit="share of the drawn area", range=(0.0, 1.0))


def point_spacing(xyz: Floats, normal: Floats, samples: int = 256) -> float:
    """Typical distance of neighbouring points in metres, the larger one where scan lines are far apart.

    For sample points, the nearest neighbour in each of four sectors of the tangent plane; the third smallest of the four distances
    (along a scan line, along it, across it; a border has no fourth), median over the samples.

    Args:
        xyz: [n, 3] finite. normal: [n, 3] unit.
    """
    neighbours = min(33, len(xyz))
    if neighbours < 4:
        return 0.0
    chosen = np.linspace(0, len(xyz) - 1, min(samples, len(xyz))).astype(np.int64)
    _, near = cKDTree(xyz, compact_nodes=False, balanced_tree=False).query(xyz[chosen], neighbours)
    offset = xyz[near[:, 1:]] - xyz[chosen, None]
    distance = np.linalg.norm(offset, axis=2)
    across = normal[chosen]
    helper = np.eye(3)[np.abs(across).argmin(1)]
    u = np.cross(across, helper)
    u /= np.maximum(np.linalg.norm(u, axis=1, keepdims=True), 1e-9)
    v = np.cross(across, u)
    # the sectors are turned so that the nearest neighbour lies in the middle of the first one
    angle = np.arctan2(np.einsum("skd,sd->sk", offset, v), np.einsum("skd,sd->sk", offset, u))
    sector = np.floor((angle - angle[:, :1]) / (np.pi / 2) + 0.5).astype(np.int64) % 4
    nearest = np.stack([np.where((sector == s) & (distance > 0), distance, np.inf).min(1) for s in range(4)])
    third = np.sort(nearest, axis=0)[2]
    third = third[np.isfinite(third)]
    return float(np.median(third)) if len(third) else float(np.median(distance[:, -1]))


def view_frames(centre: Floats, origin: Floats, up: Floats, config: ViewConfig) -> NDArray[np.float64]:
    """Rows right, up, forward of every view, float64 [V, 3, 3]; ``up`` is the direction that is upright in the pictures."""
    forward = np.asarray(centre, np.float64) - origin
    length = np.linalg.norm(forward)
    up = np.asarray(up, np.float64) / np.linalg.norm(up)
    forward = forward / length if length > 1e-6 else np.eye(3)[np.abs(up).argmin()]
    steps = [(k + 1) // 2 * (1 if k % 2 else -1) for k in range(config.views)]
    frames = []
    for angle in np.deg2rad(config.yaw) * np.array(steps):
        turned = forward * np.cos(angle) + np.cross(up, forward) * np.sin(angle) + up * (up @ forward) * (1 - np.cos(angle))  # Rodrigues
        right = np.cross(turned, up)
        if np.linalg.norm(right) < 1e-3:  # straight up or down: no axis is upright, take a fixed one
            right = np.cross(turned, np.eye(3)[np.abs(up).argmin()])
        right /= np.linalg.norm(right)
        frames.append(np.stack([right, np.cross(right, turned), turned]))
    return np.stack(frames)


def _draw(view: Floats, spacing: float, config: ViewConfig) -> Index:
    """Index [S, S] of the point seen at every pixel, -1 where none. ``view``: coordinates right, up, forward [n, 3]."""
    size = config.size
    low, high = view[:, :2].min(0), view[:, :2].max(0)
    scale = config.fill * size / max(float((high - low).max()), 1e-6)  # pixels per metre
    pixel = np.floor((view[:, :2] - (low + high) / 2) * scale * (1, -1) + size / 2).astype(np.int64).clip(0, size - 1)
    depth = (view[:, 2] - view[:, 2].min()).astype(np.float32)
    # the bits of a float >= 0 order like the float, so one integer minimum decides by depth, then by lower index
    key = depth.view(np.uint32).astype(np.uint64) << np.uint64(32) | np.arange(len(view), dtype=np.uint64)
    nearest = np.full(size * size, np.iinfo(np.uint64).max)
    np.minimum.at(nearest, pixel[:, 1] * size + pixel[:, 0], key)
    winner = nearest.reshape(size, size)
    drawn = winner != np.iinfo(np.uint64).max

    radius = int(np.clip(np.ceil(config.closing * spacing * scale), 1, max(1, round(config.largest_radius * size))))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    far = np.float32(1e9)
    at = np.where(drawn, (winner >> np.uint64(32)).astype(np.uint32).view(np.float32), far)
    # points of a farther surface that show through the gaps of a nearer one go
    front = drawn & (at <= cv2.erode(at, disc, borderType=cv2.BORDER_CONSTANT, borderValue=float(far)) + 3 * radius / scale)
    solid = cv2.morphologyEx(front.astype(np.uint8), cv2.MORPH_CLOSE, disc)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(1 - solid, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < config.hole * solid.sum()
    small[0] = False  # label 0 is the solid part itself
    inside = (solid > 0) | small[parts]

    # every inside pixel takes the nearest pixel that a point was drawn to
    _, label = cv2.distanceTransformWithLabels((~front).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    point_of = np.zeros(int(label.max()) + 1, np.int32)
    point_of[label[front]] = (winner[front] & np.uint64(0xFFFFFFFF)).astype(np.int32)
    return np.where(inside, point_of[label], np.int32(-1))


def _shade(normal: Floats, frame: Floats, shading: str) -> NDArray[np.float32]:
    """RGB float32 [n, 3] of unit normals under the lights of one view, independent of the normals' sign."""
    local = (normal @ frame.T).astype(np.float32)
    local *= np.where(local[:, 2:] > 0, np.float32(-1), np.float32(1))  # towards the viewer (forward is negative)
    if shading == "normals":
        return 127.5 + 127.5 * local * np.array([1, 1, -1], np.float32)
    side = np.array([-0.6, 0.65, -0.47], np.float32)  # from the upper left, in front
    light = 0.15 + 0.45 * -local[:, 2] + 0.4 * np.maximum(local @ side, 0)
    return np.repeat(255 * light[:, None], 3, axis=1)


def see_points(
    xyz: Floats,
    normal: Floats,
    sensor_origin: Floats,
    config: ViewConfig | None = None,
    up: Floats | Sequence[float] = (0.0, 0.0, 1.0),
    spacing: float | None = None,
) -> tuple[Index, NDArray[np.float64]]:
    """Which point of a proposal each pixel of its views shows. Arguments as in :func:`render_views`.

    Returns:
        index int32 [V, S, S], the row of ``xyz`` seen at each pixel, -1 for background, and the frames of the views
        (:func:`view_frames`): what :func:`paint_views` needs, as often as there are ways to paint.
    """
    config = config or ViewConfig()
    xyz = np.asarray(xyz, np.float64)
    if len(xyz) == 0 or xyz.shape != np.shape(normal) or not np.isfinite(xyz).all():
        raise ValueError(f"xyz and normal: expected finite [n >= 1, 3], got {xyz.shape} and {np.shape(normal)}")
    if spacing is None:
        spacing = point_spacing(xyz, np.nan_to_num(np.asarray(normal, np.float64)))
    frames = view_frames((xyz.min(0) + xyz.max(0)) / 2, np.asarray(sensor_origin, np.float64), np.asarray(up), config)
    return np.stack([_draw(xyz @ frame.T, spacing, config) for frame in frames]), frames


def paint_views(
    index: Index, frames: NDArray[np.float64], rgb: NDArray[np.uint8] | None, normal: Floats, config: ViewConfig | None = None
) -> Image:
    """Pictures uint8 [V, S, S, 3] of the points that :func:`see_points` has found: in colour where ``rgb`` (uint8 [n, 3]) is given and
    ``config`` asks for it, else shaded by ``normal`` [n, 3], unit, either sign."""
    config = config or ViewConfig()
    images = np.full((*index.shape, 3), GREY, np.uint8)
    normal = np.nan_to_num(np.asarray(normal, np.float64))
    for image, seen, frame in zip(images, index, frames, strict=True):
        inside = seen >= 0
        if rgb is not None and config.colour:
            image[inside] = rgb[seen[inside]]
        else:
            values = np.zeros((*seen.shape, 3), np.float32)
            values[inside] = _shade(normal, frame, config.shading)[seen[inside]]
            # mean over 3x3 inside pixels, as estimated normals are noisy; a wider window costs more recognition than noise does
            weight = cv2.blur(inside.astype(np.float32), (3, 3))[inside]
            image[inside] = (cv2.blur(values, (3, 3))[inside] / weight[:, None] + 0.5).clip(0, 255).astype(np.uint8)
    return images


def render_views(
    xyz: Floats,
    rgb: NDArray[np.uint8] | None,
    normal: Floats,
    sensor_origin: Floats,
    config: ViewConfig | None = None,
    up: Floats | Sequence[float] = (0.0, 0.0, 1.0),
    spacing: float | None = None,
) -> tuple[Image, Index]:
    """Draw one proposal.

    Args:
        xyz: [n, 3] finite, metres. rgb: uint8 [n, 3] or None. normal: [n, 3] unit, either sign.
        sensor_origin: [3], where the sensor was, in the frame of ``xyz``.
        config: settings.
        up: [3] upright direction in that frame: +z in body and map frames (REP 103), -y in camera optical frames.
        spacing: distance of neighbouring points in metres, where known; else :func:`point_spacing`.

    Returns:
        images uint8 [V, S, S, 3] and index int32 [V, S, S], the row of ``xyz`` seen at each pixel, -1 for background.
    """
    index, frames = see_points(xyz, normal, sensor_origin, config, up, spacing)
    return paint_views(index, frames, rgb, normal, config), index


def render_proposals(
    xyz: Floats,
    rgb: NDArray[np.uint8] | None,
    normal: Floats,
    proposals: Sequence[NDArray[np.integer]],
    sensor_origin: Floats,
    config: ViewConfig | None = None,
    up: Floats | Sequence[float] = (0.0, 0.0, 1.0),
) -> tuple[Image, Index]:
    """Draw several proposals of one cloud.

    Args:
        proposals: row numbers of each proposal, every one with at least one point. The rest as in :func:`render_views`.

    Returns:
        images uint8 [P, V, S, S, 3] and index int32 [P, V, S, S] into the rows of the whole cloud, -1 for background.
    """
    config = config or ViewConfig()
    images = np.empty((len(proposals), config.views, config.size, config.size, 3), np.uint8)
    index = np.empty(images.shape[:-1], np.int32)
    for i, rows in enumerate(proposals):
        images[i], local = render_views(xyz[rows], None if rgb is None else rgb[rows], normal[rows], sensor_origin, config, up)
        index[i] = np.where(local >= 0, np.asarray(rows, np.int32)[local], np.int32(-1))
    return images, index


def lift_tokens(tokens: torch.Tensor, index: Index, group: NDArray[np.integer], n_groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean token of every group (superpoint, proposal, or single point) over the pixels that see it.

    Args:
        tokens: [V, h, w, D] of the views.
        index: [V, S, S] of the same views, from :func:`render_views` (flatten the first two axes of :func:`render_proposals`).
        group: [n] group of each point, -1 for none.
        n_groups: number of groups G.

    Returns:
        features [G, D] (zeros where unseen) and seen bool [G].
    """
    views, rows, columns, dim = tokens.shape
    view, y, x = np.nonzero(index >= 0)
    owner = np.asarray(group)[index[view, y, x]]
    cell = (view * rows + y * rows // index.shape[1]) * columns + x * columns // index.shape[2]
    pairs, counts = np.unique((owner.astype(np.int64) * (views * rows * columns) + cell)[owner >= 0], return_counts=True)
    owner_of, cell_of = (torch.from_numpy(a).to(tokens.device) for a in np.divmod(pairs, views * rows * columns))
    count = torch.from_numpy(counts).to(tokens.device, tokens.dtype)
    total = torch.zeros(n_groups, dtype=tokens.dtype, device=tokens.device).index_add_(0, owner_of, count)
    features = torch.zeros(n_groups, dim, dtype=tokens.dtype, device=tokens.device)
    features.index_add_(0, owner_of, tokens.reshape(-1, dim)[cell_of] * count[:, None])
    return features / total.clamp_min(1)[:, None], total > 0
