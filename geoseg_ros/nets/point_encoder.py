"""An encoder of clouds for real time, made of what ONNX Runtime and TensorRT compile: gathers of rows, products, convolutions in planes.

After WaffleIron (Puy et al., ICCV 2023), which projects points to planes, convolves there, and reads the result back, one plane after
another. Here the planes are gathered from a few members of each cell instead of summed by scattering, which TensorRT does not have, and the
work is done at twice the voxel edge, with the voxels themselves only at the ends.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from geoseg_ros.compiled import compiled
from geoseg_ros.nets.base import PointBatch, PreparedCloud, collate_inverse, voxel_cloud

PLANES = ((0, 1), (0, 2), (1, 2))
"""The axes that each plane keeps: xy, xz, yz."""
SCALES = (1, 2, 4)  # edge of a plane's cells, in coarse voxels
MEMBERS = 8
SIDE = 256  # cells; places further apart than that share cells
KERNEL = 7
GAP = KERNEL // 2  # empty rows between the clouds of a batch: more than a convolution reaches
STEM = 32
FLOOR = 1  # percent of the voxels below the height that counts as zero
OPTIONAL = {"rgb": slice(7, 11), "intensity": slice(11, 13), "normal": slice(13, 17)}
"""Channels of what may be missing; the last of each says whether it is there."""
CHANNELS = 17
INPUTS = (
    "features",
    "parent",
    "children",
    *(f"{name}_{'xyz'[a]}{'xyz'[b]}{scale}" for scale in SCALES for a, b in PLANES for name in ("sample", "grid", "place", "cell")),
)
"""Names of the inputs of :meth:`PointEncoder.forward`, in its order."""


class _Plane(NamedTuple):
    """How the m coarse voxels and the cells of one plane belong together, int32.

    Attributes:
        sample: [c, 8] rows of voxels in each occupied cell, evenly spaced over them; where there are fewer, some stand twice.
        grid: [H, W], row of each cell, c where it is empty.
        place: [c], cell of each row in the flat grid.
        cell: [m], row of the cell of each voxel.
    """

    sample: torch.Tensor
    grid: torch.Tensor
    place: torch.Tensor
    cell: torch.Tensor


def encoder_inputs(
    xyz: NDArray[np.float32],
    rgb: NDArray[np.uint8] | None = None,
    intensity: NDArray[np.float32] | None = None,
    normal: NDArray[np.float32] | None = None,
    *,
    voxel: float,
) -> PreparedCloud:
    """What the encoder needs of one cloud; a pure function, for training and for engines alike.

    The channels are: the mean of the voxel's points from the voxel's centre, in voxels (3); the voxel's centre from that of the coarse
    voxel around it, in voxels (3); height above the height that one percent of the voxels lie below, metres; colour -.5 .. .5 and 1, or
    zeros; intensity in parts of its 99th percentile, at most 1, and 1, or zeros; mean normal and 1, or zeros.

    Args:
        xyz, rgb, intensity, normal: see :meth:`~geoseg_ros.nets.base.PointNetwork.prepare`.
        voxel: edge length, metres.

    Raises:
        InputError: see :func:`~geoseg_ros.nets.base.voxel_cloud`.
    """
    cloud = voxel_cloud(xyz, voxel, rgb, intensity, normal)
    features = np.zeros((len(cloud.cell), CHANNELS), np.float32)
    features[:, :3] = np.clip(cloud.xyz / np.float64(voxel) - cloud.cell - 0.5, -0.5, 0.5)
    features[:, 3:6] = (cloud.cell & 1) - 0.5
    features[:, 6] = cloud.xyz[:, 2] - np.percentile(cloud.xyz[:, 2], FLOOR)
    if cloud.rgb is not None:
        features[:, 7:10] = cloud.rgb / 255 - 0.5
        features[:, 10] = 1
    if cloud.intensity is not None:
        features[:, 11] = np.clip(cloud.intensity[:, 0] / max(float(np.percentile(cloud.intensity, 99)), 1e-9), 0, 1)
        features[:, 12] = 1
    if cloud.normal is not None:
        features[:, 13:16] = cloud.normal
        features[:, 16] = 1
    coarse, parent = _grouped(cloud.cell >> 1)
    children = _spread(parent, len(coarse))
    arrays = {"features": features, "parent": parent, "children": children}
    for scale in SCALES:
        for a, b in PLANES:
            cells = coarse[:, (a, b)] // scale
            low, high = cells.min(0), cells.max(0)
            cells = np.where(high - low >= SIDE, cells % SIDE, cells - low)
            name = f"{'xyz'[a]}{'xyz'[b]}{scale}"
            place, cell = _grouped(cells)
            arrays |= {f"sample_{name}": _spread(cell, len(place)), f"place_{name}": place.astype(np.int32), f"cell_{name}": cell}
    return PreparedCloud(arrays, len(features), cloud.inverse)


def _grouped(cells: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The distinct rows of ``cells`` in ascending order, and which of them each row is."""
    low = cells.min(0)
    shape = tuple(int(side) for side in cells.max(0) - low + 1)
    keys = np.ravel_multi_index(tuple((cells - low).T), shape)
    size = math.prod(shape)
    if size <= SIDE**2:  # much quicker than sorting
        occupied = np.zeros(size, np.bool_)
        occupied[keys] = True
        found, inverse = np.flatnonzero(occupied), (np.cumsum(occupied) - 1)[keys]
    else:
        found, inverse = np.unique(keys, return_inverse=True)
    return np.stack(np.unravel_index(found, shape), 1) + low, inverse.astype(np.int32)


def _spread(group: NDArray[np.int32], groups: int) -> NDArray[np.int32]:
    """Members of each group, evenly spaced in the order of the rows: int32 [groups, 8]."""
    count = np.bincount(group, minlength=groups)
    start = np.cumsum(count) - count
    step = (2 * np.arange(MEMBERS) + 1) * count[:, None] // (2 * MEMBERS)
    return np.asarray(_order(group, start.copy())[start[:, None] + step])


@compiled
def _order(group, place):  # noqa: ANN001, ANN202
    """Rows by group, in each group as they come, int32: a counting sort; ``place`` is where each group begins, and is used up."""
    order = np.empty(len(group), np.int32)
    for row in range(len(group)):
        order[place[group[row]]] = row
        place[group[row]] += 1
    return order


class PlaneMixing(nn.Module):
    """x + what the surroundings in one plane say: mean of each cell, expand, convolve each channel, reduce."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand, self.expand_norm = nn.Linear(width, 2 * width, bias=False), nn.BatchNorm1d(2 * width)
        self.spread = nn.Conv2d(2 * width, 2 * width, KERNEL, padding=GAP, groups=2 * width, bias=False)
        self.spread_norm = nn.BatchNorm1d(2 * width)
        self.reduce, self.reduce_norm = nn.Linear(2 * width, width, bias=False), nn.BatchNorm1d(width)

    def forward(self, x: torch.Tensor, plane: _Plane) -> torch.Tensor:
        cells = torch.relu(self.expand_norm(self.expand(_mean(x, plane.sample))))
        height, width = plane.grid.shape
        padded = torch.cat([cells, cells.new_zeros(1, cells.shape[1])])
        picture = padded.index_select(0, plane.grid.reshape(-1)).reshape(1, height, width, -1).permute(0, 3, 1, 2)
        flat = self.spread(picture).permute(0, 2, 3, 1).reshape(height * width, -1)
        cells = torch.relu(self.spread_norm(flat.index_select(0, plane.place)))
        return x + self.reduce_norm(self.reduce(cells)).index_select(0, plane.cell)


class ChannelMixing(nn.Module):
    """x + a perceptron of each voxel alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand, self.expand_norm = nn.Linear(width, 2 * width, bias=False), nn.BatchNorm1d(2 * width)
        self.reduce, self.reduce_norm = nn.Linear(2 * width, width, bias=False), nn.BatchNorm1d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.reduce_norm(self.reduce(torch.relu(self.expand_norm(self.expand(x)))))


def _mean(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Mean of the rows [k, 8] of x [m, width]: [k, width]."""
    return x.index_select(0, rows.reshape(-1)).reshape(rows.shape[0], MEMBERS, -1).mean(1)


class PointEncoder(nn.Module):
    """One feature per occupied voxel, from whatever the sensor gives beside the positions; a ``PointNetwork``.

    Args:
        width: of the features inside.
        dim: width of a feature.
        repeats: how often the planes at all scales are gone through.
        voxel: edge length, metres, see :class:`~geoseg_ros.nets.base.PointNetwork`.
        drop: in training mode, the probability that :meth:`collate` hides an optional channel of a cloud.
    """

    def __init__(self, width: int = 64, dim: int = 128, repeats: int = 1, voxel: float = 0.05, drop: float = 0.2) -> None:
        super().__init__()
        self.width, self.dim, self.repeats, self.voxel, self.drop = width, dim, repeats, voxel, drop
        rounds = repeats * len(SCALES)
        self.stem, self.stem_norm = nn.Linear(CHANNELS, STEM, bias=False), nn.BatchNorm1d(STEM)
        self.enter, self.enter_norm = nn.Linear(STEM, width, bias=False), nn.BatchNorm1d(width)
        self.planes = nn.ModuleList(PlaneMixing(width) for _ in range(rounds * len(PLANES)))
        self.channels = nn.ModuleList(ChannelMixing(width) for _ in range(rounds))
        self.own, self.around, self.last_norm = nn.Linear(STEM, width, bias=False), nn.Linear(width, width), nn.BatchNorm1d(width)
        self.last = nn.Linear(width, dim)

    @property
    def config(self) -> dict[str, int | float]:
        """See :class:`~geoseg_ros.nets.base.PointNetwork`."""
        return {"width": self.width, "dim": self.dim, "repeats": self.repeats, "voxel": self.voxel, "drop": self.drop}

    def forward(self, features: torch.Tensor, parent: torch.Tensor, children: torch.Tensor, *planes: torch.Tensor) -> torch.Tensor:
        """Encode n voxels in m coarse ones.

        Args:
            features: float32 [n, 17], see :func:`encoder_inputs`.
            parent: int32 [n], the coarse voxel of each voxel.
            children: int32 [m, 8], voxels in each coarse one, as ``sample`` of a plane.
            *planes: four arrays for each scale and plane, see :data:`INPUTS`.

        Returns:
            float32 [n, dim].
        """
        tables = [_Plane(*planes[k : k + 4]) for k in range(0, len(planes), 4)]
        own = torch.relu(self.stem_norm(self.stem(features)))
        x = torch.relu(self.enter_norm(self.enter(_mean(own, children))))
        for number, mix in enumerate(self.planes):
            x = mix(x, tables[number % len(tables)])
            if number % len(PLANES) == len(PLANES) - 1:
                x = self.channels[number // len(PLANES)](x)
        around = self.around(x).index_select(0, parent)
        return self.last(torch.relu(self.last_norm(self.own(own) + around)))

    def prepare(
        self,
        xyz: NDArray[np.float32],
        rgb: NDArray[np.uint8] | None = None,
        intensity: NDArray[np.float32] | None = None,
        normal: NDArray[np.float32] | None = None,
    ) -> PreparedCloud:
        """See :class:`~geoseg_ros.nets.base.PointNetwork`, and :func:`encoder_inputs`."""
        return encoder_inputs(xyz, rgb, intensity, normal, voxel=self.voxel)

    def collate(self, clouds: Sequence[PreparedCloud]) -> PointBatch:
        """See :class:`~geoseg_ros.nets.base.PointNetwork`. In training mode optional channels are hidden at random (torch's generator)."""
        rows, points = tuple(c.rows for c in clouds), tuple(len(c.inverse) for c in clouds)
        inputs = _collate([c.arrays for c in clouds])
        if self.training:
            for part in inputs[0].split(rows):
                for channels in OPTIONAL.values():
                    if torch.rand(()) < self.drop:
                        part[:, channels] = 0
        return PointBatch(inputs, collate_inverse(clouds), rows, points)


def _collate(clouds: list[dict[str, NDArray]]) -> tuple[torch.Tensor, ...]:
    """The inputs of the network for several clouds: rows behind rows, grids below grids."""

    def joined(name: str, counted: str | None = None) -> NDArray:
        """One array; its values are rows of ``counted``."""
        start, parts = 0, []
        for c in clouds:
            parts.append(c[name] + np.int32(start) if counted else c[name])
            start += len(c[counted]) if counted else 0
        return np.concatenate(parts)

    arrays = {
        "features": joined("features"),
        "parent": joined("parent", "children"),
        "children": joined("children", "features"),
    }
    for name in (n.removeprefix("place_") for n in clouds[0] if n.startswith("place_")):
        places, top = [], 0
        for c in clouds:
            place = c[f"place_{name}"]
            places.append(place + np.array([top, 0], np.int32))
            top += int(place[:, 0].max()) + 1 + GAP
        place = np.concatenate(places)
        height, width = (int(v) + 1 for v in place.max(0))
        flat = place[:, 0] * np.int32(width) + place[:, 1]
        grid = np.full(height * width, len(place), np.int32)
        grid[flat] = np.arange(len(place))
        arrays |= {
            f"sample_{name}": joined(f"sample_{name}", "children"),
            f"grid_{name}": grid.reshape(height, width),
            f"place_{name}": flat,
            f"cell_{name}": joined(f"cell_{name}", f"place_{name}"),
        }
    return tuple(torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in INPUTS)


def folded(encoder: PointEncoder) -> PointEncoder:
    """A copy in evaluation mode whose normalisations are part of the weights before them; float32, on the processor."""
    copied = copy.deepcopy(encoder).cpu().float().eval().requires_grad_(False)
    with torch.no_grad():
        for module in copied.modules():
            for name, norm in [(n, m) for n, m in module.named_children() if isinstance(m, nn.BatchNorm1d)]:
                layers = [module.own, module.around] if name == "last_norm" else [getattr(module, name.removesuffix("_norm"))]
                _fold(norm, layers)
                setattr(module, name, nn.Identity())
    return copied


def _fold(norm: nn.BatchNorm1d, layers: Sequence[Any]) -> None:
    """Make the sum of ``layers`` what ``norm`` makes of it."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    bias = norm.bias - norm.running_mean * scale
    for layer in layers:
        layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.ndim - 1)))
        bias = bias + (layer.bias * scale if layer.bias is not None else 0)
        layer.bias = None
    layers[-1].bias = nn.Parameter(bias, requires_grad=False)
