"""Small scenes with known surfaces, seen by an ideal depth camera or LiDAR: ray casting onto planes and boxes."""

from __future__ import annotations

import hashlib

import numpy as np

from geoseg_ros.geometry.analysis import analyse_cloud
from geoseg_ros.geometry.cloud import Cloud


def camera_rays(height: int = 240, width: int = 320, field: float = 1.0) -> np.ndarray:
    """Unit rays [H*W, 3], x right, y down, z forward."""
    v, u = np.mgrid[0:height, 0:width]
    rays = np.stack(
        [(u - width / 2) / width * 2 * np.tan(field / 2), (v - height / 2) / width * 2 * np.tan(field / 2), np.ones_like(u)], -1
    )
    rays = rays.reshape(-1, 3)
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rotation [3, 3] whose columns are the camera's x, y, z axes in a world with z up."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward], axis=1)


def cast(eye, rays, boxes, planes) -> tuple[np.ndarray, np.ndarray]:
    """(range [R], surface id [R]): planes are 1 .. P, boxes P+1 ..; inf and 0 where nothing is hit.

    boxes: list of (centre, size, yaw); planes: list of (normal, offset), normal . x = offset.
    """
    best = np.full(len(rays), np.inf)
    label = np.zeros(len(rays), int)
    with np.errstate(divide="ignore", invalid="ignore"):
        for i, (normal, offset) in enumerate(planes):
            t = (offset - eye @ np.asarray(normal, float)) / (rays @ np.asarray(normal, float))
            closer = (t > 0.05) & (t < best)
            best[closer], label[closer] = t[closer], 1 + i
        for i, (centre, size, yaw) in enumerate(boxes):
            c, s = np.cos(yaw), np.sin(yaw)
            turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
            o, d = (eye - np.asarray(centre)) @ turn, rays @ turn
            near = (-np.sign(d) * np.asarray(size) / 2 - o) / d
            far = (np.sign(d) * np.asarray(size) / 2 - o) / d
            t = near.max(axis=1)
            closer = (t <= far.min(axis=1)) & (t > 0.05) & (t < best)
            best[closer], label[closer] = t[closer], 1 + len(planes) + i
    return best, label


def camera_scene(eye, target, boxes, planes, noise: float = 0.0, seed: int = 0) -> tuple[Cloud, np.ndarray]:
    """Organised 240x320 cloud in the camera frame and the surface id of every point (see :func:`cast`)."""
    eye, target = np.asarray(eye, float), np.asarray(target, float)
    rays = camera_rays()
    distance, label = cast(eye, rays @ look_at(eye, target).T, boxes, planes)
    distance += np.random.default_rng(seed).normal(0, noise, len(rays))
    distance[label == 0] = np.nan
    return Cloud((rays * distance[:, None]).astype(np.float32), None, (240, 320)), label


TABLE = ((0, 0, 1), 0.0)


def best_iou(proposals: list[np.ndarray], inverse: np.ndarray, truth: np.ndarray) -> float:
    """Best IoU, in points, of voxel sets with a bool [N] mask."""
    best = 0.0
    for proposal in proposals:
        inside = np.isin(inverse, proposal)
        best = max(best, np.count_nonzero(inside & truth) / np.count_nonzero(inside | truth))
    return best


def digest(cloud: Cloud) -> str:
    """A hash of every array of the analysis of a cloud."""
    scene = analyse_cloud(cloud)
    arrays = [scene.xyz, scene.normal, scene.inverse, scene.count, scene.plane, scene.superpoint, *scene.proposals]
    arrays += [] if scene.rgb is None else [scene.rgb]
    arrays += [part for plane in scene.planes for part in (plane.normal, np.array(plane.offset), plane.mask)]
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def digests(runs: int) -> list[str]:
    """The hash of one coloured scene, several times over."""
    boxes = [((-0.2, 0, 0.1), (0.12, 0.1, 0.2), 0.3), ((0.2, 0.1, 0.06), (0.2, 0.15, 0.12), -0.4)]
    cloud, surface = camera_scene((0, -1.0, 0.8), (0, 0.1, 0.05), boxes, [TABLE], 0.002)
    rgb = (np.random.default_rng(0).integers(0, 60, cloud.xyz.shape) + 60 * surface[:, None]).astype(np.uint8)
    return [digest(Cloud(cloud.xyz, rgb, cloud.shape)) for _ in range(runs)]
