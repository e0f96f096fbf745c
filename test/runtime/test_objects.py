"""Labelled voxels to instances."""

from __future__ import annotations

import numpy as np

from geoseg_ros.runtime.objects import connected_instances


def test_instances_are_connected_parts_largest_first():
    xyz = np.concatenate([np.linspace(0, 1, 11)[:, None] * [1, 0, 0], np.linspace(0, 2, 21)[:, None] * [1, 0, 0] + [0, 5, 0], [[9, 9, 9]]])
    members = np.arange(33)
    found = connected_instances(xyz.astype(np.float32), members, 0.15, 5)
    assert [part.tolist() for part in found] == [list(range(11, 32)), list(range(11))]
    assert connected_instances(xyz.astype(np.float32), members[:0], 0.15, 5) == []
