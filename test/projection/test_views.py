"""Virtual views: what is shown, and which point is shown where."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from geoseg_ros.geometry.analysis import analyse_cloud
from geoseg_ros.projection.lifting import lift_tokens
from geoseg_ros.projection.proposal_views import look_at_proposals
from geoseg_ros.projection.shading import GREY
from geoseg_ros.projection.spacing import point_spacing
from geoseg_ros.projection.views import ViewConfig, draw_views, index_of, paint_views
from support.fake_world import CONFIG, table

ORIGIN = np.zeros(3)
ONE = ViewConfig(size=64, views=1)


def wall(distance, half_width, half_height, step, centre=(0.0, 0.0)):
    """Grid of points at x = distance (sensor at the origin, z up), normals towards the sensor."""
    y, z = np.meshgrid(np.arange(-half_width, half_width, step), np.arange(-half_height, half_height, step))
    xyz = np.stack([np.full(y.size, distance), y.ravel() + centre[0], z.ravel() + centre[1]], 1)
    return xyz.astype(np.float32), np.tile(np.float32([-1, 0, 0]), (y.size, 1))


def ball(n=5000, radius=0.3, centre=(2.0, 0.0, 0.0)):
    """The half of a sphere that a sensor at the origin sees; Fibonacci lattice."""
    i = np.arange(2 * n) + 0.5
    z, angle = 1 - 2 * i / (2 * n), np.pi * (1 + 5**0.5) * i
    normal = np.stack([np.sqrt(1 - z * z) * np.cos(angle), np.sqrt(1 - z * z) * np.sin(angle), z], 1)
    normal = normal[normal[:, 0] < 0]
    return (np.array(centre) + radius * normal).astype(np.float32), normal.astype(np.float32)


def colours(n):
    """A colour of its own for every row."""
    return np.stack([np.arange(n) & 255, np.arange(n) >> 8 & 255, np.full(n, 77)], 1).astype(np.uint8)


def render_views(xyz, rgb, normal, sensor, config, up=(0, 0, 1), spacing=None):
    """Pictures of one proposal, and the point that each pixel shows."""
    views = draw_views(xyz, normal, np.asarray(sensor), config, up, spacing)
    return paint_views(views, rgb, normal, config), index_of(views)


def test_image_shows_the_indexed_point():
    xyz, normal = ball()
    images, index = render_views(xyz, colours(len(xyz)), normal, ORIGIN, ViewConfig(size=96, views=3))
    assert images.shape == (3, 96, 96, 3) and images.dtype == np.uint8 and index.shape == (3, 96, 96) and index.dtype == np.int32
    assert (images[index >= 0] == colours(len(xyz))[index[index >= 0]]).all()
    assert (images[index < 0] == GREY).all()


def test_cameras_agree_with_the_pixels():
    xyz, normal = ball()
    for view in draw_views(xyz, normal, ORIGIN, ViewConfig(size=96, views=3)):
        pixels, depth = view.camera.project(xyz)
        assert view.camera.contains(pixels).all()
        v, u = np.nonzero(view.rendering.shown)
        shown = view.rendering.index[v, u]
        assert np.abs(pixels[shown] - np.stack([u, v], 1)).max() < 3, "but for gaps that were closed"
        np.testing.assert_allclose(view.rendering.depth[v, u], depth[shown], atol=1e-6)


def test_pixels_lie_where_their_points_are():
    xyz, normal = ball()
    _, index = render_views(xyz, None, normal, ORIGIN, replace(ONE, fill=0.8))
    y, x = np.nonzero(index[0] >= 0)
    seen = xyz[index[0][y, x]]
    scale = 0.8 * 64 / 0.6  # the ball's diameter takes 0.8 of the side
    # seen from the origin along +x with z up, right is -y
    assert np.abs(x - (32 - scale * seen[:, 1])).max() < 2.5
    assert np.abs(y - (32 - scale * seen[:, 2])).max() < 2.5
    assert len(y) == pytest.approx(np.pi * (0.4 * 64) ** 2, rel=0.04)  # solid, and no rim


def test_nearer_surface_hides_the_farther_one():
    """A small plate 20 cm in front of a plate; both are grids with gaps wider than a pixel."""
    near, n1 = wall(1.0, 0.3, 0.3, 0.03)
    far, n2 = wall(1.2, 0.6, 0.6, 0.013)
    xyz, normal = np.concatenate([far, near]), np.concatenate([n2, n1])
    _, index = render_views(xyz, None, normal, ORIGIN, ViewConfig(size=128, views=1), spacing=0.03)
    scale = 0.8 * 128 / 1.2
    inner = index[0, 64 - int(0.25 * scale) : 64 + int(0.25 * scale), 64 - int(0.25 * scale) : 64 + int(0.25 * scale)]
    assert (inner >= len(far)).all()
    corner = index[0, 18:30, 18:30]
    assert ((corner >= 0) & (corner < len(far))).all()


def test_ties_go_to_the_lower_row():
    xyz = np.float32([[1, 0, 0], [1, 0, 0], [1, 0.2, 0.2], [1, -0.2, -0.2]])
    _, index = render_views(xyz, None, np.tile(np.float32([-1, 0, 0]), (4, 1)), ORIGIN, ONE)
    assert 0 in index and 1 not in index


def test_drawing_is_repeatable_and_ignores_row_order():
    xyz, normal = ball(1500)
    first = render_views(xyz, None, normal, ORIGIN, ViewConfig(size=64, views=3))
    again = render_views(xyz, None, normal, ORIGIN, ViewConfig(size=64, views=3))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    shuffled = np.random.default_rng(0).permutation(len(xyz))
    _, index = render_views(xyz[shuffled], None, normal[shuffled], ORIGIN, ViewConfig(size=64, views=3), spacing=point_spacing(xyz, normal))
    assert (np.where(index >= 0, shuffled[index], -1) == first[1]).mean() > 0.999


@pytest.mark.parametrize(("across", "along"), [(0.02, 0.02), (0.05, 0.01)])
def test_scan_lines_far_apart_become_one_surface(across, along):
    y, z = np.meshgrid(np.arange(-0.5, 0.5, along), np.arange(-0.5, 0.5, across))
    xyz = np.stack([np.full(y.size, 2.0), y.ravel(), z.ravel()], 1)
    normal = np.tile([-1.0, 0, 0], (y.size, 1))
    assert point_spacing(xyz, normal) == pytest.approx(across, rel=0.1)
    _, index = render_views(xyz, None, normal, ORIGIN, ViewConfig(size=128, views=1))
    rows, columns = np.nonzero(index[0] >= 0)
    box = index[0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert (box >= 0).mean() > 0.98


def test_real_gaps_stay_open():
    left, n1 = wall(1.0, 0.1, 0.3, 0.01, (-0.3, 0))
    right, n2 = wall(1.0, 0.1, 0.3, 0.01, (0.3, 0))
    _, index = render_views(np.concatenate([left, right]), None, np.concatenate([n1, n2]), ORIGIN, ONE)
    assert (index[0, :, 28:36] < 0).all() and (index[0, 32] >= 0).sum() > 20


def test_views_turn_about_the_up_axis():
    """A bar to the sensor's left end and a knob on top: the top stays on top, the sides move."""
    xyz, normal = ball()
    config = ViewConfig(size=64, views=3, yaw=30)
    for up in ([0, 0, 1.0], [0, -1.0, 0]):
        _, index = render_views(xyz, None, normal, ORIGIN, config, up)
        heights = [(xyz @ np.array(up))[seen[seen >= 0]] for seen in index]
        tops = [xyz[seen[np.nonzero((seen >= 0).any(1))[0][0]].max()] @ np.array(up) for seen in index]
        assert all(top > 0.9 * 0.3 for top in tops)
        assert heights[0].max() == pytest.approx(heights[1].max(), abs=0.02)
    middle = [xyz[seen[32, 32]] for seen in render_views(xyz, None, normal, ORIGIN, config)[1]]
    assert middle[0][1] == pytest.approx(0, abs=0.03)
    assert np.sign(middle[1][1]) == -np.sign(middle[2][1]) != 0


def test_shading_needs_no_orientation_and_shows_the_shape():
    xyz, normal = ball()
    images, index = render_views(xyz, None, normal, ORIGIN, ONE)
    flipped, _ = render_views(xyz, None, normal * np.where(np.arange(len(xyz)) % 2, 1, -1)[:, None], ORIGIN, ONE)
    assert np.abs(images.astype(int) - flipped).max() <= 1
    inside = images[0][..., 0].astype(float)
    assert (images[..., 0] == images[..., 1]).all()
    assert inside[22, 22] > inside[42, 42] + 20  # the light comes from the upper left
    colour, _ = render_views(xyz, colours(len(xyz)), normal, ORIGIN, replace(ONE, colour=False))
    assert (colour == images).all()
    as_normals, _ = render_views(xyz, None, normal, ORIGIN, replace(ONE, shading="normals"))
    assert as_normals[0, 32, 12, 0] < 100 < 150 < as_normals[0, 32, 52, 0]  # red = right
    assert as_normals[0, 12, 32, 1] > 150 > 100 > as_normals[0, 52, 32, 1]  # green = up


def test_few_points_and_odd_directions_are_drawn():
    for n in (1, 2, 3, 5):
        xyz = np.float32([[2, 0.1 * i, 0] for i in range(n)])
        _, index = render_views(xyz, None, np.tile(np.float32([-1, 0, 0]), (n, 1)), ORIGIN, ViewConfig(size=32, views=3))
        assert set(np.unique(index[0])) - {-1} == set(range(n))
    below, normal = ball(500, centre=(0, 0, -3))
    _, index = render_views(below, None, normal, ORIGIN, ONE)  # looking straight down the up axis
    assert (index >= 0).any()
    _, index = render_views(below, None, normal, below.mean(0), ONE)  # the sensor inside the object
    assert (index >= 0).any()


def test_proposals_index_the_voxels_of_the_cloud(fake_backbone):
    cloud = table(3, ("red", "green"))[0]
    scene = analyse_cloud(cloud, CONFIG.geometry)
    views = look_at_proposals(cloud, scene, fake_backbone, ViewConfig(size=48, views=2))
    assert views.index.shape == (len(scene.proposals), 4, 48, 48) and len(scene.proposals) >= 2, "in colour and shaded"
    for proposal, shown in zip(scene.proposals, views.index, strict=True):
        assert set(np.unique(shown)) - {-1} <= set(proposal.tolist()) and (shown >= 0).any()
        assert (shown[:2] == shown[2:]).all()


def test_lifting_a_drawn_object_recovers_its_parts():
    xyz, normal = ball()
    group = (xyz[:, 2] > 0).astype(int)
    _, index = render_views(xyz, None, normal, ORIGIN, ViewConfig(size=128, views=3))
    tokens = torch.zeros(3, 8, 8, 2)
    tokens[:, :4, :, 1] = 1  # the upper half of every picture
    tokens[:, 4:, :, 0] = 1
    single, seen = lift_tokens(tokens, index, len(xyz))
    assert seen.float().mean() > 0.6
    assert (single[seen].argmax(1).numpy() == group[seen.numpy()]).mean() > 0.97


def test_wrong_input_is_refused():
    xyz, normal = ball(100)
    for bad in (xyz[:0], np.full_like(xyz, np.nan), xyz[:, :2], xyz[:-1]):
        with pytest.raises(ValueError, match="xyz and normal"):
            render_views(bad, None, normal if len(bad) else normal[:0], ORIGIN, ONE)
    for wrong in ({"shading": "cartoon"}, {"size": 4}, {"views": 0}, {"fill": 0.0}):
        with pytest.raises(ValueError):
            ViewConfig(**wrong)
