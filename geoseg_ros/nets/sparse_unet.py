"""Res16FPN18, the sparse network of PointDC (Chen et al., ICCV 2023), in plain PyTorch: gather and multiply.

A stem and four stages at strides 2, 4, 8, 16; the output of each stage is projected to one width, interpolated to the input voxels, and
summed. There is no decoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn
from torch.autograd.function import once_differentiable

from geoseg_ros.errors import InputError
from geoseg_ros.nets.base import PointBatch, PreparedCloud, collate_inverse, voxel_cloud
from geoseg_ros.nets.kernel_maps import Interpolation, KernelMap, VoxelPyramid

STEM, WIDTHS, BLOCKS = 32, (32, 64, 128, 256), 2
BLOCK = (1 << 22, 1 << 26)  # numbers gathered at a time, on the processor and on a GPU: 16 MB stay near the cache


def sparse_convolution(x: torch.Tensor, weight: torch.Tensor, pairs: KernelMap) -> torch.Tensor:
    """Features [m, in] and weights [offsets, in, out] -> [rows of ``pairs``, out].

    The features of all neighbours of a block of rows, zeros for the absent ones, times all weights: one large product. On the processor
    that is several times quicker than a product and a scattered sum per offset, although half of the numbers are zeros. The gathered
    features are not kept for the backward pass.
    """
    return _Convolution.apply(x, weight, pairs)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, pairs: KernelMap) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.pairs = pairs
        return _multiply(x, weight, pairs.table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _multiply(gradient, weight.transpose(1, 2), ctx.pairs.back)
        if ctx.needs_input_grad[1]:
            of_weight, start = weight.new_zeros(weight.shape).flatten(0, 1), 0
            for around in _gathered(x, ctx.pairs.table):
                of_weight.addmm_(around.t(), gradient[start : start + len(around)])
                start += len(around)
            of_weight = of_weight.view_as(weight)
        return of_x, of_weight, None


def _multiply(x: torch.Tensor, weight: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    out, start = x.new_empty(len(table), weight.shape[2]), 0
    flat = weight.reshape(-1, weight.shape[2])
    for around in _gathered(x, table):
        torch.mm(around, flat, out=out[start : start + len(around)])
        start += len(around)
    return out


def _gathered(x: torch.Tensor, table: torch.Tensor) -> Iterator[torch.Tensor]:
    """Blocks [rows, offsets * channels] of what the neighbours of the rows hold."""
    padded = torch.cat([x, x.new_zeros(1, x.shape[1])])
    block = max(1, BLOCK[x.is_cuda] // (table.shape[1] * x.shape[1]))
    for part in table.split(block):
        yield padded.index_select(0, part.flatten()).view(len(part), -1)


def interpolate(x: torch.Tensor, corners: Interpolation) -> torch.Tensor:
    """Features [m, dim] at a stride -> [n, dim] at stride 1."""
    return F.embedding_bag(corners.index, x, mode="sum", per_sample_weights=corners.weight)


class SparseConv(nn.Module):
    """A convolution without bias on occupied voxels; the kernel [size^3, in, out] is ordered as a dense one [kx, ky, kz] is."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(size**3, inputs, outputs))
        nn.init.normal_(self.kernel, std=(2 / (outputs * size**3)) ** 0.5)  # He et al., fan out: as the rectifiers behind it want it

    def forward(self, x: torch.Tensor, pairs: KernelMap) -> torch.Tensor:
        return sparse_convolution(x, self.kernel, pairs)


class BasicBlock(nn.Module):
    """Two 3-convolutions with batch normalisation, and the way around them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = SparseConv(inputs, outputs, 3), SparseConv(outputs, outputs, 3)
        self.first_norm, self.second_norm = nn.BatchNorm1d(outputs), nn.BatchNorm1d(outputs)
        self.around: nn.Module = nn.Identity()
        if inputs != outputs:
            self.around = nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs))

    def forward(self, x: torch.Tensor, pairs: KernelMap) -> torch.Tensor:
        y = torch.relu(self.first_norm(self.first(x, pairs)))
        return torch.relu(self.second_norm(self.second(y, pairs)) + self.around(x))


class Stage(nn.Module):
    """Half the resolution, then blocks."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down, self.norm = SparseConv(inputs, inputs, 2), nn.BatchNorm1d(inputs)
        self.blocks = nn.ModuleList(BasicBlock(inputs if k == 0 else outputs, outputs) for k in range(BLOCKS))

    def forward(self, x: torch.Tensor, down: KernelMap, same: KernelMap) -> torch.Tensor:
        x = torch.relu(self.norm(self.down(x, down)))
        for block in self.blocks:
            x = block(x, same)
        return x


class SparseUNet(nn.Module):
    """One feature per occupied voxel, from the position and (with 6 channels) the colour of its surroundings; a ``PointNetwork``.

    For training and for background work: the kernel maps depend on the data, so that the network cannot become an engine. On the
    processor the sums are taken in a fixed order.

    Args:
        channels: 3 for positions alone, 6 for colours too.
        dim: width of a feature.
        voxel: edge length, metres, see :class:`~geoseg_ros.nets.base.PointNetwork`.
    """

    def __init__(self, channels: int = 6, dim: int = 128, voxel: float = 0.05) -> None:
        super().__init__()
        if channels not in (3, 6):
            raise InputError(f"channels: expected 3 (positions) or 6 (colours and positions), got {channels}")
        self.channels, self.dim, self.voxel = channels, dim, voxel
        self.stem, self.stem_norm = SparseConv(channels, STEM, 5), nn.BatchNorm1d(STEM)
        self.stages = nn.ModuleList(Stage(a, b) for a, b in zip((STEM, *WIDTHS), WIDTHS, strict=False))
        self.project = nn.ModuleList(nn.Linear(width, dim, bias=False) for width in WIDTHS)

    @property
    def config(self) -> dict[str, int | float]:
        """See :class:`~geoseg_ros.nets.base.PointNetwork`."""
        return {"channels": self.channels, "dim": self.dim, "voxel": self.voxel}

    def forward(self, coords: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Voxels int64 [n, 4] (batch, x, y, z; any order, each once) with float32 [n, channels] -> float32 [n, dim].

        Raises:
            InputError: see :class:`~geoseg_ros.nets.kernel_maps.VoxelPyramid`; or features of another shape.
        """
        if features.shape != (len(coords), self.channels):
            raise InputError(f"features: expected [{len(coords)}, {self.channels}], got {list(features.shape)}")
        pyramid = VoxelPyramid(coords, features.device)
        x = torch.relu(self.stem_norm(self.stem(features, pyramid.same(0, 5))))
        out = features.new_zeros(len(coords), self.dim)
        for level, (stage, project) in enumerate(zip(self.stages, self.project, strict=True)):
            x = stage(x, pyramid.down(level), pyramid.same(level + 1, 3))
            out = out + interpolate(project(x), pyramid.interpolation(level + 1))
        return out

    def prepare(
        self,
        xyz: NDArray[np.float32],
        rgb: NDArray[np.uint8] | None = None,
        intensity: NDArray[np.float32] | None = None,
        normal: NDArray[np.float32] | None = None,
    ) -> PreparedCloud:
        """See :class:`~geoseg_ros.nets.base.PointNetwork`. Intensity and normals are not used; colours are needed with 6 channels.

        Channels: colour -.5 .. .5, then the place within the voxel, 0 .. 1 edges: half of an edge on average, which says that a voxel is
        filled. No place in the room: what a single view shows of it says neither where its middle nor where its floor is.
        """
        del intensity, normal
        if self.channels == 6 and rgb is None:
            raise InputError("rgb: the network takes colours, but the cloud has none")
        cloud = voxel_cloud(xyz, self.voxel, rgb if self.channels == 6 else None)
        place = (cloud.xyz / np.float64(self.voxel) - cloud.cell).astype(np.float32)
        features = place if cloud.rgb is None else np.hstack([cloud.rgb / np.float32(255) - np.float32(0.5), place])
        return PreparedCloud({"cell": cloud.cell, "features": features}, len(place), cloud.inverse)

    def collate(self, clouds: Sequence[PreparedCloud]) -> PointBatch:
        """See :class:`~geoseg_ros.nets.base.PointNetwork`."""
        coords = [np.insert(c.arrays["cell"], 0, number, axis=1) for number, c in enumerate(clouds)]
        inputs = (np.concatenate(coords), np.concatenate([c.arrays["features"] for c in clouds]))
        rows, points = tuple(c.rows for c in clouds), tuple(len(c.inverse) for c in clouds)
        return PointBatch(tuple(torch.from_numpy(a) for a in inputs), collate_inverse(clouds), rows, points)
