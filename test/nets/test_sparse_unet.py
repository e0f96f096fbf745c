"""The sparse network: its convolutions against dense ones, gradients, and what must not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geoseg_ros.errors import InputError
from geoseg_ros.nets import sparse_unet
from geoseg_ros.nets.kernel_maps import VoxelPyramid
from geoseg_ros.nets.sparse_unet import SparseUNet, interpolate, sparse_convolution

SIDE, LOW = 12, -8  # of the dense grid, even so that a cell at stride 2 does not straddle its border
CPU = torch.device("cpu")


def occupied(share, batches=3, seed=0):
    """Random voxels of ``batches`` grids [LOW, LOW + SIDE)^3, shuffled: int64 [n, 4]."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.rand(batches, SIDE, SIDE, SIDE, generator=generator) < share
    coords = grid.nonzero()
    coords[:, 1:] += LOW
    return coords[torch.randperm(len(coords), generator=generator)]


def dense(coords, x, side=SIDE, low=LOW):
    grid = x.new_zeros(int(coords[:, 0].max()) + 1, side, side, side, x.shape[1])
    b, i, j, k = (coords - torch.tensor([0, low, low, low])).T
    return grid.index_put((b, i, j, k), x).permute(0, 4, 1, 2, 3)


def at(grid, coords, low=LOW):
    b, i, j, k = (coords - torch.tensor([0, low, low, low])).T
    return grid.permute(0, 2, 3, 4, 1)[b, i, j, k]


def as_dense_kernel(weight, size):
    return weight.reshape(size, size, size, *weight.shape[1:]).permute(4, 3, 0, 1, 2)


def leaf(*shape, seed=0):
    """Random numbers; those of a kernel [offsets, in, out] are scaled so that its sums are about 1."""
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return (values / (shape[0] * shape[1]) ** 0.5 if len(shape) == 3 else values).requires_grad_()


def same_with_gradients(mine, theirs, leaves):
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    direction = torch.randn(mine.shape, generator=torch.Generator().manual_seed(9)) / len(mine) ** 0.5
    for a, b in zip(torch.autograd.grad(mine, leaves, direction), torch.autograd.grad(theirs, leaves, direction), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("share", [0.02, 0.3, 1.0])
@pytest.mark.parametrize("size", [3, 5])
def test_submanifold_convolution_equals_the_dense_one(share, size, monkeypatch):
    monkeypatch.setattr(sparse_unet, "BLOCK", (40_000, 40_000))  # several blocks, the last of them not full
    coords = occupied(share)
    x, weight = leaf(len(coords), 4), leaf(size**3, 4, 3, seed=1)
    mine = sparse_convolution(x, weight, VoxelPyramid(coords, CPU).same(0, size))
    theirs = at(F.conv3d(dense(coords, x), as_dense_kernel(weight, size), padding=size // 2), coords)
    same_with_gradients(mine, theirs, (x, weight))


@pytest.mark.parametrize("share", [0.02, 0.3, 1.0])
def test_strided_convolution_equals_the_dense_one(share):
    coords = occupied(share)
    x, weight = leaf(len(coords), 4), leaf(8, 4, 3, seed=1)
    pyramid = VoxelPyramid(coords, CPU)
    coarse = torch.from_numpy(pyramid._at(1).coords)
    assert torch.equal(coarse, torch.cat([coords[:, :1], coords[:, 1:].div(2, rounding_mode="floor")], 1).unique(dim=0))
    mine = sparse_convolution(x, weight, pyramid.down(0))
    theirs = at(F.conv3d(dense(coords, x), as_dense_kernel(weight, 2), stride=2), coarse, LOW // 2)
    same_with_gradients(mine, theirs, (x, weight))


def test_a_convolution_behind_a_strided_one_meets_the_right_rows():
    coords = occupied(0.1)
    x, halve, weight = leaf(len(coords), 4), leaf(8, 4, 4, seed=1), leaf(27, 4, 4, seed=2)
    pyramid = VoxelPyramid(coords, CPU)
    mine = sparse_convolution(sparse_convolution(x, halve, pyramid.down(0)), weight, pyramid.same(1, 3))
    coarse = torch.from_numpy(pyramid._at(1).coords)
    empty = 1 - dense(coarse, torch.ones(len(coarse), 1), SIDE // 2, LOW // 2)
    half = F.conv3d(dense(coords, x), as_dense_kernel(halve, 2), stride=2)
    assert not (half * empty).any()
    theirs = at(F.conv3d(half, as_dense_kernel(weight, 3), padding=1), coarse, LOW // 2)
    same_with_gradients(mine, theirs, (x, halve, weight))


@pytest.mark.parametrize("level", [1, 2])
def test_interpolation_equals_the_dense_one_inside_a_full_grid(level):
    coords = occupied(1.0, batches=2)
    pyramid = VoxelPyramid(coords, CPU)
    scale = 2**level
    x = leaf(pyramid.rows(level), 5)
    coarse = torch.from_numpy(pyramid._at(level).coords)
    grid = dense(coarse, x, SIDE // scale, LOW // scale)
    theirs = at(F.interpolate(grid, scale_factor=scale, mode="trilinear", align_corners=False), coords)
    mine = interpolate(x, pyramid.interpolation(level))
    same_with_gradients(mine, theirs, (x,))  # torch repeats the border: so do the scaled weights


def test_interpolation_of_a_constant_is_that_constant():
    coords = occupied(0.03)
    pyramid = VoxelPyramid(coords, CPU)
    for level in (1, 2, 3, 4):
        constant = torch.ones(pyramid.rows(level), 2)
        torch.testing.assert_close(interpolate(constant, pyramid.interpolation(level)), torch.ones(len(coords), 2))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = SparseUNet(channels=3, dim=16)
    coords = occupied(0.1)
    for _ in range(3):  # statistics that are not the initial ones
        network(coords, torch.randn(len(coords), 3))
    return network.eval().requires_grad_(False)


def test_neither_order_nor_other_clouds_nor_a_shift_by_whole_cells_matter(network):
    coords = occupied(0.1)
    x = torch.randn(len(coords), 3)
    whole = network(coords, x)
    assert whole.shape == (len(coords), 16) and whole.std() > 0.01
    order = torch.randperm(len(coords))
    torch.testing.assert_close(network(coords[order], x[order]), whole[order], atol=1e-5, rtol=1e-4)
    one = coords[:, 0] == 1
    torch.testing.assert_close(network(coords[one], x[one]), whole[one], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(network(coords + torch.tensor([7, -16, 32, 160]), x), whole, atol=1e-5, rtol=1e-4)


def test_each_stage_reaches_the_output_and_every_weight_learns():
    torch.manual_seed(0)
    network = SparseUNet(channels=3, dim=8)
    coords = occupied(0.1, batches=1)
    network(coords, torch.randn(len(coords), 3)).square().sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_the_published_size():
    network = SparseUNet()
    assert [len(stage.blocks) for stage in network.stages] == [2, 2, 2, 2]
    assert network.stem.kernel.shape == (125, 6, 32) and network.stages[3].blocks[1].second.kernel.shape == (27, 256, 256)
    assert network.eval()(torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 6)).shape == (1, 128)


def test_one_point(network):
    out = network(torch.tensor([[0, -5, 3, 9]]), torch.ones(1, 3))
    assert out.shape == (1, 16) and out.isfinite().all()


def test_wrong_input_is_refused(network):
    coords = occupied(0.1)
    with pytest.raises(InputError, match="a voxel stands twice"):
        network(torch.cat([coords, coords[:1]]), torch.zeros(len(coords) + 1, 3))
    with pytest.raises(InputError, match=r"integers \[n, 4\]"):
        network(coords.float(), torch.zeros(len(coords), 3))
    with pytest.raises(InputError, match=r"features: expected"):
        network(coords, torch.zeros(len(coords), 6))
    with pytest.raises(InputError, match="too large"):
        network(torch.tensor([[0, 0, 0, 0], [0, 1 << 40, 1 << 40, 1 << 40]]), torch.zeros(2, 3))
    with pytest.raises(InputError, match="expected 3"):
        SparseUNet(channels=4)


def test_prepared_clouds_are_those_of_the_voxels():
    rng = np.random.default_rng(0)
    network = SparseUNet(dim=8, voxel=0.1).eval()
    clouds = []
    for points in (500, 300):
        xyz = rng.uniform(-1, 1, (points, 3)).astype(np.float32)
        xyz[7] = np.nan
        clouds.append((xyz, rng.integers(0, 256, (points, 3), dtype=np.uint8)))
    prepared = [network.prepare(*cloud) for cloud in clouds]
    batch = network.collate(prepared)
    coords, features = batch.inputs
    assert batch.rows == tuple(p.rows for p in prepared) and sum(batch.rows) == len(coords) == len(features)
    assert batch.points == (500, 300) and batch.inverse[7] == batch.inverse[507] == -1
    for number, (xyz, rgb) in enumerate(clouds):
        point = 20 + 500 * number
        row = int(batch.inverse[point])
        cell = np.floor(xyz / 0.1)
        members = (cell == cell[20]).all(1)
        assert coords[row].tolist() == [number, *cell[20].astype(int)]
        np.testing.assert_allclose(features[row, :3], rgb[members].mean(0) / 255 - 0.5, atol=1e-6)
        assert (batch.inverse[500 * number :][: batch.points[number]].numpy() == row).tolist() == members.tolist()
    with torch.inference_mode():
        together = network(*batch.inputs)
        apart = torch.cat([network(*network.collate([p]).inputs) for p in prepared])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-4)


def test_a_cloud_that_cannot_be_prepared_is_refused():
    network, xyz = SparseUNet(), np.zeros((4, 3), np.float32)
    with pytest.raises(InputError, match="colours"):
        network.prepare(xyz)
    with pytest.raises(InputError, match="finite"):
        SparseUNet(channels=3).prepare(np.full((4, 3), np.nan, np.float32))
    with pytest.raises(InputError, match=r"rgb: expected \[4, 3\]"):
        network.prepare(xyz, np.zeros((3, 3), np.uint8))
