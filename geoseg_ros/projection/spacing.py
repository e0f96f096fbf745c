"""Typical distance between neighbouring points of a surface."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.compiled import compiled

_NEIGHBOURS = 32  # of each sample
_PER_CELL = 4.0  # points per cell of the search grid that are aimed at, if they filled a plane
_FIRST_RING = 2  # cells around a point within which its neighbours mostly are
_LARGEST_GRID = 64  # cells along an axis


def point_spacing(xyz: NDArray[np.floating], normal: NDArray[np.floating], samples: int = 256) -> float:
    """Typical distance of neighbouring points in metres; where scan lines are far apart, the distance across them.

    For sample points, the nearest neighbour in each of four sectors of the tangent plane; the third smallest of the four distances
    (along a scan line, along it, across it; a border has no fourth), median over the samples.

    The samples are few, so their neighbours are searched in a grid: building a tree over all points would take most of the time.

    Args:
        xyz: [n, 3] finite. normal: [n, 3] unit.
        samples: number of points at which it is measured.
    """
    count = min(_NEIGHBOURS, len(xyz) - 1)
    if count < 3:
        return 0.0
    xyz = np.ascontiguousarray(xyz, np.float64)
    chosen = np.linspace(0, len(xyz) - 1, min(samples, len(xyz))).astype(np.int64)
    low, high = bounds(xyz, np.eye(3))
    extent = high - low
    cell = float(np.sort(extent)[-2:].mean() * np.sqrt(_PER_CELL / len(xyz)))
    cell = max(cell, float(extent.max()) / _LARGEST_GRID, 1e-12)
    shape = np.floor(extent / cell).astype(np.int64) + 1
    start, rows, place = _fill_grid(xyz, low, cell, shape)
    points, across = xyz[rows], np.ascontiguousarray(normal[chosen], np.float64)
    third, farthest = _third_sectors(points, across, place[chosen], count, low, cell, shape, start)
    third = third[np.isfinite(third)]
    return float(np.median(third)) if len(third) else float(np.median(farthest))


@compiled
def bounds(xyz, rotation):  # type: ignore[no-untyped-def]
    """Smallest and largest coordinates, two float64 [3], of points [n, 3] along the rows of ``rotation`` [3, 3]."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for i in range(len(xyz)):
        for k in range(3):
            along = rotation[k, 0] * xyz[i, 0] + rotation[k, 1] * xyz[i, 1] + rotation[k, 2] * xyz[i, 2]
            low[k], high[k] = min(low[k], along), max(high[k], along)
    return low, high


@compiled
def _cell_of(point, low, cell, shape):  # type: ignore[no-untyped-def]
    """Column, row and layer of the cell that holds a point [3]; see :func:`_fill_grid`."""
    x, y, z = int((point[0] - low[0]) / cell), int((point[1] - low[1]) / cell), int((point[2] - low[2]) / cell)
    return min(x, shape[0] - 1), min(y, shape[1] - 1), min(z, shape[2] - 1)


@compiled
def _fill_grid(xyz, low, cell, shape):  # type: ignore[no-untyped-def]
    """Sort points [n, 3] into a grid of ``shape`` [3] cells with edge ``cell`` from the corner ``low``.

    Returns:
        Where each cell starts int32 [cells + 1] (x-major), the points cell by cell int32 [n], and the place of each in that order.
    """
    key = np.empty(len(xyz), np.int32)
    start = np.zeros(shape[0] * shape[1] * shape[2] + 1, np.int32)
    for i in range(len(xyz)):
        x, y, z = _cell_of(xyz[i], low, cell, shape)
        key[i] = (x * shape[1] + y) * shape[2] + z
        start[key[i] + 1] += 1
    for k in range(1, len(start)):
        start[k] += start[k - 1]
    rows, place, filled = np.empty(len(xyz), np.int32), np.empty(len(xyz), np.int32), start[:-1].copy()
    for i in range(len(xyz)):
        place[i] = filled[key[i]]
        rows[place[i]] = i
        filled[key[i]] += 1
    return start, rows, place


@compiled
def _third_sectors(xyz, normal, chosen, count, low, cell, shape, start):  # type: ignore[no-untyped-def]
    """For every chosen point, by its ``count`` nearest neighbours: third smallest of the distances to the nearest one in each sector,
    infinite where fewer sectors have one; and distance of the farthest neighbour. Both float64 [s].

    Args:
        xyz: float64 [n, 3], cell by cell. normal: float64 [s, 3]. low, cell, shape, start: see :func:`_fill_grid`.
    """
    third, farthest = np.empty(len(chosen)), np.empty(len(chosen))
    squared, near = np.empty(len(xyz)), np.empty(len(xyz), np.int32)
    for s in range(len(chosen)):
        i = chosen[s]
        at = _cell_of(xyz[i], low, cell, shape)
        found = 0
        for ring in range(_FIRST_RING, max(_FIRST_RING + 1, shape[0], shape[1], shape[2])):  # growing cubes of cells
            found = _collect(xyz, i, at, ring, shape, start, squared, near, found)
            # what lies beyond the rings so far is at least ``ring`` cells away
            if found >= count and _smallest(squared, near, found, count) < (ring * cell) ** 2:
                break
        farthest[s] = np.sqrt(_smallest(squared, near, found, count))
        third[s] = _third_sector(xyz, normal[s], i, squared, near, count)
    return third, farthest


@compiled
def _collect(xyz, i, at, ring, shape, start, squared, near, found):  # type: ignore[no-untyped-def]
    """Append the points in the cells on the surface of a cube, ``ring`` cells around the cell ``at`` (of the first one: in all its cells),
    and their squared distances from point ``i``, to ``near`` and ``squared``, of which ``found`` are filled. The new number."""
    for x in range(max(at[0] - ring, 0), min(at[0] + ring + 1, shape[0])):
        for y in range(max(at[1] - ring, 0), min(at[1] + ring + 1, shape[1])):
            column = (x * shape[1] + y) * shape[2]
            side = ring == _FIRST_RING or abs(x - at[0]) == ring or abs(y - at[1]) == ring
            for end in range(1 if side else 2):  # a whole column, or the bottom and the top
                low = at[2] - ring if side or end == 0 else at[2] + ring
                high = at[2] + ring if side or end == 1 else at[2] - ring
                if high < 0 or low >= shape[2]:
                    continue
                for j in range(start[column + max(low, 0)], start[column + min(high, shape[2] - 1) + 1]):
                    if j != i:
                        a, b, c = xyz[j, 0] - xyz[i, 0], xyz[j, 1] - xyz[i, 1], xyz[j, 2] - xyz[i, 2]
                        squared[found], near[found] = a * a + b * b + c * c, j
                        found += 1
    return found


@compiled
def _smallest(squared, near, found, count):  # type: ignore[no-untyped-def]
    """Move the ``count`` smallest of ``squared[:found]``, with their ``near``, to the front (quickselect); the largest of them."""
    first, last = 0, found - 1
    while first < last:
        pivot = squared[(first + last) // 2]
        a, b = first, last
        while a <= b:
            while squared[a] < pivot:
                a += 1
            while squared[b] > pivot:
                b -= 1
            if a <= b:
                squared[a], squared[b] = squared[b], squared[a]
                near[a], near[b] = near[b], near[a]
                a += 1
                b -= 1
        if count - 1 <= b:
            last = b
        elif count - 1 >= a:
            first = a
        else:
            break
    return squared[count - 1]


@compiled
def _third_sector(xyz, normal, i, squared, near, count):  # type: ignore[no-untyped-def]
    """Third smallest of the distances from point ``i`` to the nearest of its first ``count`` neighbours in each sector of the plane across
    ``normal`` [3]; the sectors are turned so that the nearest neighbour lies in the middle of the first one."""
    first = 0
    for k in range(1, count):
        if squared[k] < squared[first]:
            first = k
    nearest = near[first]
    x, y, z = xyz[nearest, 0] - xyz[i, 0], xyz[nearest, 1] - xyz[i, 1], xyz[nearest, 2] - xyz[i, 2]
    along = x * normal[0] + y * normal[1] + z * normal[2]
    u0, u1, u2 = x - along * normal[0], y - along * normal[1], z - along * normal[2]
    v0, v1, v2 = normal[1] * u2 - normal[2] * u1, normal[2] * u0 - normal[0] * u2, normal[0] * u1 - normal[1] * u0
    right, up, left, down = np.inf, np.inf, np.inf, np.inf
    for k in range(count):
        row, distance = near[k], squared[k]
        if distance == 0:
            continue
        x, y, z = xyz[row, 0] - xyz[i, 0], xyz[row, 1] - xyz[i, 1], xyz[row, 2] - xyz[i, 2]
        a, b = x * u0 + y * u1 + z * u2, x * v0 + y * v1 + z * v2
        if a >= abs(b):
            right = min(right, distance)
        elif -a >= abs(b):
            left = min(left, distance)
        elif b > 0:
            up = min(up, distance)
        else:
            down = min(down, distance)
    # the third smallest of four is the smaller one of the larger ones of two pairs, or the larger one of their smaller ones
    low, high = max(min(right, left), min(up, down)), min(max(right, left), max(up, down))
    return np.sqrt(max(low, high))
