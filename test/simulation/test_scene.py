"""Families, rooms, sensors and pictures of the procedural world."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg_ros.simulation.families import FAMILIES, FURNITURE, NAMES
from geoseg_ros.simulation.materials import TEXTURES, Material, albedo
from geoseg_ros.simulation.render import Camera, find_view, look_at, render
from geoseg_ros.simulation.rooms import FLOOR, SeedSource, _overlap, close_doors, footprint_distance, make_scene
from geoseg_ros.simulation.sensors import DepthCamera, Lidar, Scanner, level_pose, optical_pose
from geoseg_ros.simulation.shapes import PARTS
from geoseg_ros.simulation.solids import BOX, Builder


@pytest.fixture(scope="module")
def scene():
    return make_scene(SeedSource(3, "test"), [["chair", "lamp", "table", "bookcase", "plant"], ["sofa", "bin"]])


def lone_box(centre, half):
    """A scene of one box and nothing else."""
    base = make_scene(SeedSource(1, "test"), [["bin"]])
    b = Builder()
    b.add(BOX, 0, 0, centre, half)
    return type(base)(b.solids(1, 1), base.materials, base.objects, base.zones, base.height, base.ids)


@pytest.mark.parametrize("name", NAMES)
def test_family(name):
    for seed in range(25):
        solids = FURNITURE.solids(name, seed)
        low, high = solids.bounds()
        assert -0.05 < low[2] < 0.12, "stands on the floor"
        assert 0.3 < high[2] < 2.2
        assert 0.2 < (high - low)[:2].max() < 2.5
        assert (solids.size[:, :2] >= 0).all() and np.isfinite(solids.centre).all()
        assert set(solids.family) == {FURNITURE.id(name)} and solids.part.max() < len(PARTS) and solids.part.min() >= 4
        assert solids.material.max() < len(FURNITURE.materials(name, seed))
        np.testing.assert_allclose(np.linalg.det(solids.rotation), 1, atol=1e-4)
    assert len(NAMES) >= 20 and len(set(NAMES)) == len(NAMES)


def test_instances_vary_and_repeat():
    a, b, again = FURNITURE.solids("chair", 1), FURNITURE.solids("chair", 2), FURNITURE.solids("chair", 1)
    np.testing.assert_array_equal(a.size, again.size)
    assert not np.allclose(a.bounds()[1], b.bounds()[1])
    assert "stool" in FURNITURE.similar("chair") and "chair" not in FURNITURE.similar("chair") and "lamp" not in FURNITURE.similar("chair")
    assert {f.group for f in FAMILIES} > {"seat", "storage"}


@pytest.mark.parametrize("texture", ["plain", *TEXTURES])
def test_texture_stays_between_its_colours(texture):
    x = np.random.default_rng(0).uniform(-3, 3, (5000, 3)).astype(np.float32)
    colour = albedo(Material((0.2, 0.4, 0.6), (0.5, 0.6, 0.1), texture, 0.1, seed=4), x)
    assert colour.shape == (5000, 3)
    assert (colour >= (0.19, 0.39, 0.09)).all() and (colour <= (0.52, 0.62, 0.61)).all()
    assert texture == "plain" or colour[:, 0].std() > 0.01


def test_room_is_collision_free_and_repeats(scene):
    objects = scene.objects
    assert len(objects) == 7
    assert not any(_overlap(a, b, 0.1) for i, a in enumerate(objects) for b in objects[:i])
    for o in objects:
        low, high = scene.solids.select(scene.solids.instance == o.instance).bounds()
        zone = scene.zones[0 if o.instance <= 5 else 1]
        assert zone[0] <= low[0] + 1e-3 and high[0] <= zone[1] + 1e-3 and zone[2] <= low[1] + 1e-3 and high[1] <= zone[3] + 1e-3
        assert set(scene.solids.family[scene.solids.instance == o.instance]) == {FURNITURE.id(o.family)}
    again = make_scene(SeedSource(3, "test"), [["chair", "lamp", "table", "bookcase", "plant"], ["sofa", "bin"]])
    assert again.objects == objects and again.ids == scene.ids
    other = make_scene(SeedSource(4, "test"), [["chair", "lamp", "table", "bookcase", "plant"], ["sofa", "bin"]])
    assert not any(other.ids[kind] & scene.ids[kind] for kind in ("room", "instance", "texture"))


def test_some_objects_touch_walls():
    gaps = []
    for seed in range(12):
        s = make_scene(SeedSource(seed, "touch"), [["cabinet", "bookcase"]], touch=0.5)
        for o in s.objects:
            low, high = s.solids.select(s.solids.instance == o.instance).bounds()
            x0, x1, y0, y1 = s.zones[0]
            gaps.append(min(low[0] - x0, x1 - high[0], low[1] - y0, y1 - high[1]))
    touching = np.mean(np.array(gaps) < 0.01)
    assert 0.15 < touching < 0.85


def test_footprint_distance(scene):
    chair = scene.objects[0]
    c, s = np.cos(chair.yaw), np.sin(chair.yaw)
    front = np.array(chair.position) + (chair.half[0] + 0.5) * np.array([c, s])
    np.testing.assert_allclose(footprint_distance(np.array([chair.position, front]), [chair]), [0, 0.5], atol=1e-6)


def test_lidar_frame():
    """x forward, y left, z up, whatever the robot's heading (REP 103)."""
    world = lone_box((0.0, 4.0, 1.5), (0.3, 0.3, 0.3))  # north of the robot, higher than it
    lidar = Lidar(noise=0, lost=0, fov_low=-20, fov_high=20)
    for yaw, axis, sign in ((np.pi / 2, 0, 1), (0.0, 1, 1), (np.pi, 1, -1), (-np.pi / 2, 0, -1)):
        scan = lidar.scan(world, level_pose((0, 0, 1.0), yaw), np.random.default_rng(0))
        middle = scan.cloud.xyz.mean(axis=0)
        assert len(scan.cloud) > 50 and scan.cloud.xyz.dtype == np.float32 and scan.cloud.rgb is None
        assert sign * middle[axis] == pytest.approx(3.7, abs=0.02) and abs(middle[1 - axis]) < 0.1
        assert middle[2] == pytest.approx(0.5, abs=0.1)


def test_lidar_truth_is_aligned(scene):
    pose = level_pose((scene.zones[0][0] + 0.6, 0.0, 0.9), 0.7)
    lidar = Lidar()
    scan = lidar.scan(scene, pose, np.random.default_rng(1))
    world = scan.cloud.xyz @ pose.rotation.T + pose.position
    assert 0.9 * lidar.rings * lidar.columns < len(world) < lidar.rings * lidar.columns
    for o in scene.objects:
        rows = scan.instance == o.instance
        low, high = scene.solids.select(scene.solids.instance == o.instance).bounds()
        assert ((world[rows] > low - 0.06) & (world[rows] < high + 0.06)).all()
        assert (scan.family[rows] == FURNITURE.id(o.family)).all()
    assert sum(np.count_nonzero(scan.instance == o.instance) >= 300 for o in scene.objects) >= 3
    assert np.abs(world[scan.part == FLOOR, 2]).max() < 0.05
    again = lidar.scan(scene, pose, np.random.default_rng(1))
    np.testing.assert_array_equal(again.cloud.xyz, scan.cloud.xyz)


def test_depth_frame():
    """Optical frame: x right, y down, z forward; organised row by row."""
    world = lone_box((3.0, -0.6, 1.6), (0.2, 0.2, 0.2))  # ahead, to the right, higher than the camera
    camera = DepthCamera(noise=0)
    scan = camera.scan(world, optical_pose((0, 0, 1.0), 0.0, 0.0), np.random.default_rng(0))
    assert scan.cloud.shape == (240, 320) and scan.cloud.rgb is not None
    valid = scan.cloud.valid()
    x, y, z = scan.cloud.xyz[valid].mean(axis=0)
    assert 100 < valid.sum() < 0.2 * len(valid)
    assert 0.35 < x < 0.85 and -0.85 < y < -0.35 and z == pytest.approx(2.8, abs=0.1)
    rows, columns = np.divmod(np.flatnonzero(valid), 320)
    np.testing.assert_allclose(scan.cloud.xyz[valid, 0] / scan.cloud.xyz[valid, 2], (columns - 159.5) / 285, atol=1e-5)
    np.testing.assert_allclose(scan.cloud.xyz[valid, 1] / scan.cloud.xyz[valid, 2], (rows - 119.5) / 285, atol=1e-5)
    assert (scan.family[~valid] == 0).all() and (scan.part[~valid] == -1).all()


def test_depth_quantum_holes_and_range(scene):
    pose = optical_pose((scene.zones[0][0] + 0.5, 0.0, 1.1), 0.2, 0.3)
    camera = DepthCamera(noise=0, quantum=0.01)
    scan = camera.scan(scene, pose, np.random.default_rng(0))
    z = scan.cloud.xyz[:, 2]
    valid = scan.cloud.valid()
    assert 0.6 < valid.mean() < 0.999
    assert z[valid].min() > 0.35 and z[valid].max() < 6.2
    fine = DepthCamera(noise=0, quantum=1e-6).scan(scene, pose, np.random.default_rng(0)).cloud.xyz[:, 2]
    off = np.abs(z - fine)[valid]
    assert off.max() > 0.02 and (off <= 0.0051 * fine[valid] ** 2).all()
    world = scan.cloud.xyz[valid] @ pose.rotation.T + pose.position
    assert np.median(np.abs(world[scan.part[valid] == FLOOR, 2])) < 0.05


def test_scanner_registers_its_stations_and_thins(scene):
    x, y = scene.zones[0][0] + 0.6, (scene.zones[0][2] + scene.zones[0][3]) / 2
    poses = [level_pose((x, y, 1.4), 0.7), level_pose((x + 1.0, y + 0.8, 1.3), -2.0)]
    scanner = Scanner(2, 1.5, noise=0)
    one, both = (scanner.scan(scene, poses[:count], np.random.default_rng(1)) for count in (1, 2))
    world = both.cloud.xyz @ poses[0].rotation.T + poses[0].position
    assert both.cloud.rgb is not None and len(both.cloud.rgb) == len(world) and len(world) > 1.2 * len(one.cloud)
    assert np.abs(world[both.part == FLOOR, 2]).max() < 1e-3  # of both stations, in one frame
    for o in scene.objects:
        low, high = scene.solids.select(scene.solids.instance == o.instance).bounds()
        rows = both.instance == o.instance
        assert ((world[rows] > low - 0.01) & (world[rows] < high + 0.01)).all() and (both.family[rows] == FURNITURE.id(o.family)).all()
        assert rows.sum() >= (one.instance == o.instance).sum()
    cells = np.floor(both.cloud.xyz / scanner.spacing).astype(int)
    assert len(np.unique(cells, axis=0)) == len(cells)
    again = scanner.scan(scene, poses, np.random.default_rng(1))
    np.testing.assert_array_equal(again.cloud.xyz, both.cloud.xyz)


def test_look_at_is_upright():
    r = look_at((0, 0, 1), (2, 0, 1))
    np.testing.assert_allclose(r, np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]]).T, atol=1e-6)
    np.testing.assert_allclose(optical_pose((0, 0, 1), 0.0, 0.0).rotation, r, atol=1e-6)


def test_picture_shows_the_family_where_the_mask_says(scene):
    rng = np.random.default_rng(2)
    camera = find_view(scene, rng, "chair", width=160, height=120)
    assert camera is not None
    picture = render(scene, camera, rng)
    assert picture.rgb.shape == (120, 160, 3) and picture.rgb.dtype == np.uint8
    assert 25 < picture.rgb.mean() < 230 and picture.rgb.std() > 8
    v, u = np.nonzero(picture.family == FURNITURE.id("chair"))
    assert 0.02 * 19200 < len(v) < 0.6 * 19200
    chair = next(o for o in scene.objects if o.family == "chair")
    low, high = scene.solids.select(scene.solids.instance == chair.instance).bounds()
    corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    local = (corners - camera.position) @ camera.rotation
    pixels = camera.focal * local[:, :2] / local[:, 2:] + (79.5, 59.5)
    assert pixels[:, 0].min() - 1 <= u.min() and u.max() <= pixels[:, 0].max() + 1
    assert pixels[:, 1].min() - 1 <= v.min() and v.max() <= pixels[:, 1].max() + 1


def test_no_view_of_what_is_not_there(scene):
    assert find_view(scene, np.random.default_rng(0), "toilet") is None


def test_shut_door_hides_the_other_room(scene):
    x, y = scene.zones[0][1], 0.0
    ray = np.array([[1, 0, 0]], np.float32)
    opened, shut = (s.caster.cast((x - 1, y, 1.0), ray).range[0] for s in (scene, close_doors(scene)))
    assert shut == pytest.approx(0.98, abs=1e-3) and opened > 1.2


def test_camera_rays_are_unit_and_centred():
    rays = Camera(np.zeros(3, np.float32), np.eye(3, dtype=np.float32), 5, 3, 4.0).rays()
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(rays[7], (0, 0, 1), atol=1e-6)
