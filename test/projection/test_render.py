"""The renderer: the nearest point wins, gaps of surfaces close, light follows the normals."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from geoseg_ros.projection.cameras import OrthographicCamera, PerspectiveCamera, camera_matrix, camera_pose
from geoseg_ros.projection.render import Rendering, close_gaps, render_points
from geoseg_ros.projection.shading import GREY, colour_picture, eye_dome, shaded_picture
from support.paths import PYTHONPATH

KINDS = (PerspectiveCamera, OrthographicCamera)
CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)


def camera(kind=PerspectiveCamera, position=(0, 0, -4), turn=(0, 0, 0), size=(64, 48), focal=40.0):
    """It looks along z, unless it is turned."""
    rotation = Rotation.from_euler("xyz", turn).as_matrix()
    return kind(camera_pose(rotation, np.array(position, float)), camera_matrix(focal, ((size[0] - 1) / 2, (size[1] - 1) / 2)), size)


@pytest.mark.parametrize("kind", KINDS)
def test_nearest_wins_and_equals_go_to_the_lower_row(kind):
    xyz = np.array([[0, 0, 2.0], [0, 0, 1], [0, 0, 1], [0, 0, -5], [0, 0, np.nan], [np.inf, 0, 1], [1e300, 0, 1]])
    seen = render_points(camera(kind, size=(9, 9)), xyz, radius=1)
    assert (seen.index[3:6, 3:6] == 1).all() and seen.shown.sum() == 9 and (seen.depth[seen.shown] == 5).all()


@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS), st.integers(0, 2))
@settings(max_examples=30, deadline=None)
def test_the_order_of_points_does_not_matter(seed, kind, radius):
    rng = np.random.default_rng(seed)
    xyz = rng.normal(0, 1, (300, 3))
    view = camera(kind)
    first = render_points(view, xyz, radius)
    order = rng.permutation(len(xyz))
    other = render_points(view, xyz[order], radius)
    assert (other.depth == first.depth).all()
    assert (np.where(other.shown, order[other.index], -1) == first.index).all()


def test_squares_at_the_border_are_cut():
    pixels = np.array([[0, 0], [-1, 20], [64, 20], [-3, 30]])
    xyz = np.column_stack([(pixels - [31.5, 23.5]) / 40, np.full(4, -3.0)])  # 1 m before the camera
    seen = render_points(camera(), xyz, radius=1)
    assert seen.shown[:2, :2].all() and seen.shown[19:22, 0].all() and seen.shown[19:22, 63].all() and seen.shown.sum() == 10


def test_near_and_far():
    xyz = np.array([[0, 0, -3.5], [0, 0, 1]])
    assert render_points(camera(), xyz, near=0.6).index.max() == 1 and render_points(camera(), xyz).index.max() == 0


def test_gaps_close_and_what_shines_through_goes():
    x, y = np.meshgrid(np.arange(-1, 1, 0.08), np.arange(-0.8, 0.8, 0.08))
    plate = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], 1)
    rng = np.random.default_rng(0)
    behind = np.column_stack([rng.uniform(-1, 1, (2000, 1)), rng.uniform(-0.8, 0.8, (2000, 1)), np.full(2000, 3.0)])
    view = camera(OrthographicCamera, focal=26)
    drawn = render_points(view, np.concatenate([plate, behind]))
    whole = close_gaps(drawn, view, 2)
    rows, columns = np.nonzero(drawn.index[:, :] >= 0)
    middle = np.s_[rows.min() + 3 : rows.max() - 2, columns.min() + 3 : columns.max() - 2]
    assert (drawn.index[middle] >= len(plate)).any() and (whole.index[middle] < len(plate)).all() and whole.shown[middle].all()
    assert (whole.depth[middle] == 4).all()
    assert np.ptp(np.nonzero(whole.shown)[1]) <= np.ptp(columns), "no rim"


def test_holes_are_filled_up_to_a_share():
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, 60), np.linspace(-0.5, 0.5, 60))
    ring = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], 1)
    ring = ring[np.abs(ring[:, :2]).max(1) > 0.12]
    view = camera(OrthographicCamera)
    drawn = render_points(view, ring)
    assert close_gaps(drawn, view, 1).index[24, 32] == -1 and close_gaps(drawn, view, 1, hole=0.2).index[24, 32] >= 0


def test_pictures_in_colour_and_with_light():
    view = camera()
    xyz = np.column_stack([np.linspace(-1, 1, 12), np.zeros((12, 2))])
    seen = render_points(view, xyz, radius=3)
    colours = np.arange(36, dtype=np.uint8).reshape(12, 3)
    picture = colour_picture(seen, colours)
    assert (picture[seen.shown] == colours[seen.index[seen.shown]]).all() and (picture[~seen.shown] == GREY).all()
    normal = np.tile([0, 0, 1.0], (12, 1))
    for flip in (1, -1):
        lit = shaded_picture(seen, view, flip * normal, background=250)
        assert (lit[~seen.shown] == 250).all() and len(np.unique(lit[seen.shown])) == 1 and lit[24, 32, 0] > 180
    dark = shaded_picture(seen, view, np.full((12, 3), np.nan))
    assert (dark[seen.shown] < 50).all()
    directions = shaded_picture(seen, view, normal, "normals")
    assert directions[24, 32].tolist() == [128, 128, 255]


def test_edges_of_depth_are_darkened():
    depth = np.full((40, 40), 3.0, np.float32)
    depth[10:30, 10:30] = 2
    grey = np.full((40, 40, 3), 200, np.uint8)
    lit = eye_dome(grey, Rendering(np.zeros((40, 40), np.int32), depth))
    assert (lit[20, 9] < 180).all() and (lit[20, 20] == 200).all() and (lit[20, 10] == 200).all() and (lit[0, 0] == 200).all()


def test_wrong_input_is_refused_before_it_is_compiled_code():
    view, seen = camera(), render_points(camera(), CUBE)
    for call in (
        lambda: render_points(view, CUBE[:, :2]),
        lambda: render_points(view, CUBE, radius=-1),
        lambda: close_gaps(seen, view, 0),
        lambda: colour_picture(seen, np.zeros((2, 3), np.uint8)),
        lambda: shaded_picture(seen, view, np.zeros((8, 2))),
        lambda: shaded_picture(seen, view, CUBE, "cartoon"),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()
    nothing = render_points(view, np.zeros((0, 3)))
    assert not nothing.shown.any() and not close_gaps(nothing, view, 2, 0.1).shown.any()
    assert (colour_picture(nothing, np.zeros((0, 3), np.uint8)) == GREY).all()


def test_every_number_of_threads_gives_the_same_bytes():
    code = (
        "import hashlib, numpy as np\n"
        "from geoseg_ros.projection.views import ViewConfig, draw_views, index_of, paint_views\n"
        "rng = np.random.default_rng(0)\n"
        "xyz, normal = rng.normal(0, 1, (4000, 3)), rng.normal(0, 1, (4000, 3))\n"
        "config = ViewConfig(views=3)\n"
        "views = draw_views(xyz, normal, np.array([5.0, 0, 0]), config)\n"
        "print(hashlib.sha256(index_of(views).tobytes() + paint_views(views, None, normal, config).tobytes()).hexdigest())\n"
    )
    found = set()
    for threads in ("1", "2", "4"):
        environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads}
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environment)
        assert run.returncode == 0, run.stderr
        found.add(run.stdout)
    assert len(found) == 1
