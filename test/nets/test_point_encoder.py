"""The encoder for real time: what it is given, what its parts compute, and what must not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geoseg_ros.errors import InputError
from geoseg_ros.nets.point_encoder import GAP, INPUTS, OPTIONAL, SIDE, PlaneMixing, PointEncoder, _Plane, encoder_inputs, folded
from support.point_clouds import corner

VOXEL = 0.05


@pytest.fixture(scope="module")
def network():
    """Small, with statistics and scales that are not the initial ones."""
    torch.manual_seed(0)
    network = PointEncoder(width=16, dim=12, voxel=VOXEL, drop=0.5)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
    for seed in range(3):
        network(*network.collate([network.prepare(corner(seed))]).inputs)
    return network.eval().requires_grad_(False)


def of_points(network, xyz, **channels):
    """Features of the points of one cloud."""
    batch = network.collate([network.prepare(xyz, **channels)])
    return network(*batch.inputs)[batch.inverse]


def test_channels_say_what_was_measured_and_what_was_not():
    xyz = corner(0)
    rng = np.random.default_rng(0)
    given = {
        "rgb": rng.integers(0, 256, xyz.shape, dtype=np.uint8),
        "intensity": rng.uniform(0, 900, len(xyz)).astype(np.float32),
        "normal": np.tile(np.float32([0, 0.6, 0.8]), (len(xyz), 1)),
    }
    bare = encoder_inputs(xyz, voxel=VOXEL).arrays["features"]
    full = encoder_inputs(xyz, **given, voxel=VOXEL).arrays["features"]
    assert not bare[:, 7:].any() and (full[:, [10, 12, 16]] == 1).all() and np.array_equal(bare[:, :7], full[:, :7])
    for name, channels in OPTIONAL.items():
        alone = encoder_inputs(xyz, **{name: given[name]}, voxel=VOXEL).arrays["features"]
        assert np.array_equal(alone[:, channels], full[:, channels])
        alone[:, channels] = 0
        assert np.array_equal(alone, bare)
    assert full[:, 11].max() == 1 and np.allclose(full[:, 13:16], [0, 0.6, 0.8], atol=1e-6)
    point = 17
    row = encoder_inputs(xyz, voxel=VOXEL).inverse[point]
    mates = (np.floor(xyz / VOXEL) == np.floor(xyz[point] / VOXEL)).all(1)
    np.testing.assert_allclose(full[row, 7:10], given["rgb"][mates].mean(0) / 255 - 0.5, atol=1e-6)
    cell = np.floor(xyz[point].astype(np.float64) / VOXEL)
    np.testing.assert_allclose(full[row, :3], xyz[mates].mean(0) / VOXEL - cell - 0.5, atol=1e-4)
    np.testing.assert_array_equal(full[row, 3:6], cell % 2 - 0.5)


def test_tables_name_the_members_of_each_cell():
    xyz = corner(0)
    network = PointEncoder(width=8, voxel=VOXEL)
    prepared = network.prepare(xyz)
    inputs = dict(zip(INPUTS, network.collate([prepared]).inputs, strict=True))
    parent, children = inputs["parent"].numpy(), inputs["children"].numpy()
    cell = np.zeros((prepared.rows, 3))
    cell[prepared.inverse] = np.floor(xyz / VOXEL)
    coarse = np.floor(cell / 2)
    for row in (0, 5, len(children) - 1):
        members = np.flatnonzero((coarse == coarse[children[row, 0]]).all(1))
        assert set(children[row]) == set(members) and (parent[members] == row).all()
    of_coarse = coarse[children[:, 0]]
    for name, axes, scale in (("xy1", [0, 1], 1), ("xz2", [0, 2], 2), ("yz4", [1, 2], 4)):
        sample, grid, place, of_voxel = (inputs[f"{kind}_{name}"].numpy() for kind in ("sample", "grid", "place", "cell"))
        wanted = np.floor(of_coarse[:, axes] / scale)
        wanted -= wanted.min(0)
        assert np.array_equal(np.stack(np.divmod(place[of_voxel], grid.shape[1]), 1), wanted)
        assert np.array_equal(grid.ravel()[place], np.arange(len(place))) and (grid == len(place)).sum() == grid.size - len(place)
        counts = np.bincount(of_voxel)
        for row in (int(counts.argmax()), int(counts.argmin())):
            members = np.flatnonzero(of_voxel == row)
            assert set(sample[row]) <= set(members) and len(set(sample[row])) == min(8, len(members))
            picked = np.searchsorted(members, sample[row])
            assert np.ptp(np.diff(picked)) <= 1, "evenly spaced"


def test_mixing_in_a_plane_equals_the_dense_form():
    torch.manual_seed(0)
    mix = PlaneMixing(4).eval()
    torch.nn.init.uniform_(mix.spread_norm.running_mean, -0.1, 0.1)
    network = PointEncoder(width=8, voxel=VOXEL)
    inputs = dict(zip(INPUTS, network.collate([network.prepare(corner(1))]).inputs, strict=True))
    sample, grid, place, cell = plane = [inputs[f"{kind}_xz2"] for kind in ("sample", "grid", "place", "cell")]
    x = torch.randn(len(cell), 4)
    dense = torch.zeros(grid.numel(), 8)
    dense[place.long()] = torch.relu(mix.expand_norm(mix.expand(x[sample.long()].mean(1))))
    dense = F.conv2d(dense.T.reshape(1, 8, *grid.shape), mix.spread.weight, padding=3, groups=8)
    dense = torch.relu(mix.spread_norm(dense.reshape(8, -1).T[place.long()]))
    expected = x + mix.reduce_norm(mix.reduce(dense))[cell.long()]
    torch.testing.assert_close(mix(x, _Plane(*plane)), expected, atol=1e-5, rtol=1e-5)


def test_clouds_of_a_batch_do_not_see_each_other(network):
    clouds = [network.prepare(corner(seed)) for seed in range(3)]
    batch = network.collate(clouds)
    apart = [network(*network.collate([c]).inputs) for c in clouds]
    assert batch.rows == tuple(len(a) for a in apart) and GAP == 3
    torch.testing.assert_close(network(*batch.inputs), torch.cat(apart), atol=1e-5, rtol=1e-4)
    assert batch.inverse.tolist() == [i + s for c, s in zip(clouds, np.cumsum([0, *batch.rows]), strict=False) for i in c.inverse.tolist()]


def test_the_order_of_points_does_not_matter(network):
    xyz = corner(0)
    features = of_points(network, xyz)
    assert features.std() > 0.1
    order = np.random.default_rng(0).permutation(len(xyz))
    torch.testing.assert_close(of_points(network, xyz[order]), features[order], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("shift", [(8, 0, 0), (0, -16, 0), (-8, 24, 80)])
def test_a_shift_by_whole_cells_does_not_matter(network, shift):
    xyz = np.unique(np.floor(corner(0) / VOXEL), axis=0)
    here, there = ((xyz + 0.5) * VOXEL).astype(np.float32), ((xyz + 0.5 + shift) * VOXEL).astype(np.float32)
    torch.testing.assert_close(of_points(network, there), of_points(network, here), atol=2e-3, rtol=1e-3)


def test_training_hides_channels_of_single_clouds_and_evaluation_none():
    xyz = corner(0)
    rgb = np.full(xyz.shape, 200, np.uint8)
    network = PointEncoder(width=8, voxel=VOXEL, drop=0.5)
    clouds = [network.prepare(xyz, rgb)] * 40
    torch.manual_seed(0)
    features = network.collate(clouds).inputs[0].reshape(40, -1, 17)
    hidden = (features[:, :, 7:11] == 0).all(2)
    assert torch.equal(hidden.all(1), hidden.any(1)) and 10 < hidden.all(1).sum() < 30
    assert (clouds[0].arrays["features"][:, 10] == 1).all(), "what was prepared stays as it is"
    assert (network.eval().collate(clouds).inputs[0][:, 10] == 1).all()


def test_folding_keeps_the_result_and_the_original(network):
    inputs = network.collate([network.prepare(corner(0)), network.prepare(corner(1))]).inputs
    before = network(*inputs)
    copied = folded(network)
    assert not [m for m in copied.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    torch.testing.assert_close(copied(*inputs), before, atol=1e-5, rtol=1e-4)
    assert torch.equal(network(*inputs), before)


def test_every_weight_learns():
    torch.manual_seed(0)
    network = PointEncoder(width=8, dim=4, voxel=VOXEL, drop=0)
    xyz = corner(0)
    batch = network.collate([network.prepare(xyz, np.uint8(xyz * 50 % 255))])
    network(*batch.inputs).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_far_places_share_cells_instead_of_filling_the_memory(network):
    far = np.concatenate([corner(0), corner(0) + np.float32([4000, 0, 0])])
    inputs = dict(zip(INPUTS, network.collate([network.prepare(far)]).inputs, strict=True))
    assert max(max(grid.shape) for name, grid in inputs.items() if name.startswith("grid")) == SIDE
    assert network(*inputs.values()).isfinite().all()


def test_one_point_and_wrong_input(network):
    assert of_points(network, np.float32([[1, 2, 3]])).shape == (1, 12)
    xyz = np.zeros((4, 3), np.float32)
    for channels, message in (
        ({"intensity": np.zeros(3, np.float32)}, r"intensity: expected \[4\]"),
        ({"normal": np.full((4, 3), np.nan, np.float32)}, "normal: a value is not finite"),
        ({"rgb": np.zeros((4, 4), np.uint8)}, "rgb: expected"),
    ):
        with pytest.raises(InputError, match=message):
            network.prepare(xyz, **channels)
    with pytest.raises(InputError, match="voxel: expected"):
        encoder_inputs(xyz, voxel=0)
    with pytest.raises(InputError, match="no point with finite"):
        network.prepare(xyz * np.nan)
