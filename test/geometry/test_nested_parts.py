"""Parts of a surface that stand out from what is around them, and leftovers of planes."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg_ros.geometry.analysis import GeometryConfig, analyse_cloud
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.nested_parts import nested_parts
from geoseg_ros.geometry.proposals import ProposalConfig
from support.geometry_worlds import TABLE, best_iou, camera_scene

EYE, TARGET = (0, -1.0, 0.8), (0, 0.1, 0.05)


def strip(colours: list[int], bends: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A chain of units with ten points each: positions, normals turned by ``bends`` [degrees] at the borders, grey values, units, edges."""
    unit = np.repeat(np.arange(len(colours)), 10)
    angle = np.deg2rad(np.cumsum([0.0, *bends]))[unit]
    step = np.stack([np.cos(angle), np.zeros(len(unit)), np.sin(angle)], axis=1)
    xyz = np.cumsum(step, axis=0) - step[0]
    normal = np.stack([-np.sin(angle), np.zeros(len(unit)), np.cos(angle)], axis=1)
    rgb = np.repeat(np.asarray(colours, np.uint8)[unit][:, None], 3, axis=1)
    near = np.stack([np.arange(len(unit) - 1), np.arange(1, len(unit))], axis=1)
    return xyz.astype(np.float32), normal.astype(np.float32), rgb, unit, near


def named(parts: list[np.ndarray], unit: np.ndarray) -> set[tuple[int, ...]]:
    """The units of each part; every part holds whole units."""
    found = [tuple(np.unique(unit[part]).tolist()) for part in parts]
    assert all(len(part) == np.isin(unit, units).sum() for part, units in zip(parts, found, strict=True))
    return set(found)


def test_a_concave_border_parts_and_a_convex_one_does_not() -> None:
    # a box (two faces, convex) on another (two faces): the crease between them is concave
    xyz, normal, _, unit, near = strip([0] * 4, [-90, 90, -90])
    assert named(nested_parts(xyz, normal, None, unit, near, 0.15, 10), unit) == {(0, 1), (2, 3), (0, 1, 2, 3)}


def test_colours_part_what_geometry_does_not() -> None:
    xyz, normal, rgb, unit, near = strip([40, 50, 200, 210], [0, 0, 0])
    assert named(nested_parts(xyz, normal, rgb, unit, near, 0.15, 10), unit) == {(0, 1), (2, 3), (0, 1, 2, 3)}
    assert named(nested_parts(xyz, normal, None, unit, near, 0.15, 10), unit) == {(0, 1, 2, 3)}


def test_a_part_stands_out_by_the_depth_of_its_border_over_that_within() -> None:
    xyz, normal, rgb, unit, near = strip([0, 100, 228], [0, 0])  # borders of .39 and .50
    assert named(nested_parts(xyz, normal, rgb, unit, near, 0.15, 10), unit) == {(0,), (1,), (2,), (0, 1, 2)}
    assert named(nested_parts(xyz, normal, rgb, unit, near, 0.1, 10), unit) == {(0,), (1,), (2,), (0, 1), (0, 1, 2)}
    # as crumbs: the first border counts a sixteenth, then the other one, of ten and twenty points, as well
    assert named(nested_parts(xyz, normal, rgb, unit, near, 0.15, 40), unit) == {(0, 1, 2)}


def test_what_touches_nothing_is_a_part_and_nothing_has_none() -> None:
    xyz, normal, rgb, unit, near = strip([0, 0], [0])
    apart = near[unit[near[:, 0]] == unit[near[:, 1]]]
    assert named(nested_parts(xyz, normal, rgb, unit, apart, 0.15, 10), unit) == {(0,), (1,)}
    nothing = np.zeros((0, 3), np.float32)
    assert nested_parts(nothing, nothing, None, np.zeros(0, np.int64), np.zeros((0, 2), np.int64), 0.15, 10) == []


@pytest.mark.parametrize("coloured", [True, False])
def test_boxes_with_a_common_front_come_apart_by_colour(coloured: bool) -> None:
    boxes = [((-0.1, 0, 0.1), (0.2, 0.2, 0.2), 0), ((0.1, 0, 0.1), (0.2, 0.2, 0.2), 0)]
    cloud, surface = camera_scene(EYE, TARGET, boxes, [TABLE], 0.001)
    grey = np.array([90, 90, 60, 190], np.uint8)[surface]
    rgb = np.repeat(grey[:, None], 3, axis=1) if coloured else None
    scene = analyse_cloud(Cloud(cloud.xyz, rgb, cloud.shape))
    found = [best_iou(scene.proposals, scene.inverse, surface == 2 + i) for i in range(2)]
    assert min(found) > 0.8 if coloured else max(found) < 0.7


def test_what_noise_leaves_over_of_a_plane_is_no_proposal() -> None:
    boxes = [((0, 0.1, 0.1), (0.2, 0.2, 0.2), 0.3), ((-0.35, 0, 0.02), (0.2, 0.15, 0.04), 0.1)]  # the second lies flat on the table
    cloud, surface = camera_scene(EYE, TARGET, boxes, [TABLE], 0.001)
    xyz, rng = cloud.xyz.copy(), np.random.default_rng(0)
    # a rough patch of the table, as a depth camera measures what shines
    side = xyz[:, 0] - np.median(xyz[surface == 2, 0])
    rough = (surface == 1) & (side > 0.25) & (side < 0.7) & (xyz[:, 2] < 2)
    ray = xyz / np.linalg.norm(xyz, axis=1, keepdims=True)
    xyz[rough] += (ray * rng.normal(0, 0.015, len(xyz))[:, None])[rough].astype(np.float32)
    cloud = Cloud(xyz, None, cloud.shape)

    def leftovers(config: ProposalConfig) -> int:
        scene = analyse_cloud(cloud, GeometryConfig(voxel=0.01, proposals=config))
        for i in range(2):
            assert best_iou(scene.proposals, scene.inverse, surface == 2 + i) > 0.75
        table = np.bincount(scene.inverse[(scene.inverse >= 0) & (surface == 1)], minlength=len(scene.xyz)) / scene.count
        return sum(float(table[p].mean()) > 0.7 for p in scene.proposals)

    assert leftovers(ProposalConfig(leftover=0)) > 0
    assert leftovers(ProposalConfig()) == 0
