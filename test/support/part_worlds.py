"""Mugs: a round body with one handle, of any size and turn, alone or on the coloured table of ``fake_world``."""

from __future__ import annotations

import numpy as np

from geoseg_ros.geometry.cloud import Cloud
from support.fake_world import COLOURS, table


def mug(seed=0, size=1.0, yaw=0.0, tall=1.0, handle=True):
    """float32 [n, 3], z up, standing on z = 0, and {"handle": [3], "bottom": [3], "rim": [3]}."""
    rng = np.random.default_rng(seed)
    angle, height = rng.uniform(0, 2 * np.pi, 2500), rng.uniform(0, 0.2, 2500)
    side = np.stack([0.08 * np.cos(angle), 0.08 * np.sin(angle), height], axis=1)
    radius = 0.08 * np.sqrt(rng.uniform(0, 1, 700))
    angle = rng.uniform(0, 2 * np.pi, 700)
    floor = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros(700)], axis=1)
    bow, around = rng.uniform(-np.pi / 2, np.pi / 2, 700), rng.uniform(0, 2 * np.pi, 700)
    out = 0.06 + 0.012 * np.cos(around)
    ear = np.stack([0.078 + out * np.cos(bow), 0.012 * np.sin(around), 0.1 + out * np.sin(bow)], axis=1)
    xyz = np.concatenate([side, floor, ear] if handle else [side, floor])
    marks = {"handle": (0.15, 0, 0.1), "bottom": (0, 0, 0), "rim": (0.08, 0, 0.2)}
    c, s = np.cos(yaw), np.sin(yaw)
    turn = size * np.array([[c, -s, 0], [s, c, 0], [0, 0, tall]])
    xyz = xyz @ turn.T + rng.normal(0, 0.0005, xyz.shape)
    return xyz.astype(np.float32), {name: np.asarray(mark) @ turn.T for name, mark in marks.items()}


def table_with_mug(seed, yaw=0.0, others=("green", "cyan"), size=1.0):
    """The table of ``fake_world`` with a red mug in front (optical frame), and where its marks are: a coloured cloud, dict."""
    rng = np.random.default_rng(seed)
    ground, _ = table(seed, others)
    xyz, marks = mug(seed, size, yaw)
    place = np.array([0.0, 0.4, 1.3])

    def standing(points):
        return np.stack([points[..., 0], -points[..., 2], points[..., 1]], axis=-1) + place

    free = np.linalg.norm(ground.xyz[:, [0, 2]] - place[[0, 2]], axis=1) > 0.25
    free |= ground.xyz[:, 1] > 0.39
    colour = np.clip(np.array(COLOURS["red"]) + rng.normal(0, 5, (len(xyz), 3)), 0, 255)
    points = np.concatenate([ground.xyz[free], standing(xyz)]).astype(np.float32)
    rgb = np.concatenate([ground.rgb[free], colour]).astype(np.uint8)
    return Cloud(points, rgb), {name: standing(mark) for name, mark in marks.items()}
