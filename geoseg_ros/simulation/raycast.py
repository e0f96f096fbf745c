"""Ray casting of analytic solids in numpy: all rays of one sensor frame start at one point.

Objects are visited front to back; of every object, and then of every solid, only those rays are tested that enter the cone around its
bounding sphere and have not been stopped nearer. The quadratic equations are solved around the point of the ray next to the
solid's centre, which keeps float32 exact enough for millimetre-thin rods many metres away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoseg_ros.simulation.solids import BOX, ELLIPSOID, FRUSTUM, QUAD, Solids

_NEAR = np.float32(1e-4)  # metres; a ray that starts on a surface does not hit it again
_TINY = np.float32(1e-9)

Array = NDArray[np.floating]  # float32 throughout; numpy's own annotations often say wider


@dataclass(frozen=True)
class Hits:
    """What each of N rays hit first.

    Attributes:
        range: float32 [N], metres along the unit direction; inf where nothing was hit.
        solid: int32 [N], index of the solid; -1 where nothing was hit.
        normal: float32 [N, 3], unit, turned towards the ray's origin; 0 where nothing was hit.
        local: float32 [N, 3], the surface coordinate: the hit in the local frame of its solid; 0 where nothing was hit.
    """

    range: Array
    solid: NDArray[np.int32]
    normal: Array
    local: Array


def nearest(solids: Solids, origin: ArrayLike, directions: Array, limit: Array | None = None) -> tuple[Array, NDArray[np.int32]]:
    """Range and solid that each ray hits first.

    Args:
        solids: the scene.
        origin: [3], where all rays start.
        directions: float32 [N, 3], unit vectors.
        limit: float32 [N] or None; hits at or beyond this range do not count.

    Returns:
        range float32 [N] (``limit``, or inf, where nothing was hit) and solid int32 [N] (-1 where nothing was hit).
    """
    start = np.asarray(origin, np.float32)
    best = np.full(len(directions), np.inf, np.float32) if limit is None else limit.astype(np.float32, copy=True)
    which = np.full(len(directions), -1, np.int32)
    offset, radius = solids.centre - start, solids.radius()
    for members in _front_to_back(solids.instance, offset, radius):
        rays = None
        if len(members) > 1 and solids.instance[members[0]] > 0:  # solids of the room are too large for a common sphere
            low, high = (offset[members] - radius[members, None]).min(axis=0), (offset[members] + radius[members, None]).max(axis=0)
            middle = (low + high) / 2
            reach = (np.linalg.norm(offset[members] - middle, axis=1) + radius[members]).max()
            rays = _candidates(directions, best, middle, reach)
        ours, ours_best = (directions, best) if rays is None else (directions[rays], best[rays])
        for p in members:
            some = _candidates(ours, ours_best, offset[p], radius[p])
            if len(some) == 0:
                continue
            t = _INTERSECT[solids.kind[p]](-offset[p] @ solids.rotation[p], ours[some] @ solids.rotation[p], solids.size[p])
            nearer = t < ours_best[some]
            hit = some[nearer]
            ours_best[hit] = t[nearer]
            which[hit if rays is None else rays[hit]] = p
        if rays is not None:
            best[rays] = ours_best
    return best, which


def cast(solids: Solids, origin: ArrayLike, directions: Array) -> Hits:
    """First hit of each ray with normal and surface coordinate; arguments as in :func:`nearest`."""
    t, which = nearest(solids, origin, directions)
    normal, local = np.zeros_like(directions), np.zeros_like(directions)
    rays = np.argsort(which, kind="stable")
    rays = rays[np.searchsorted(which[rays], 0) :]
    for some in np.split(rays, np.flatnonzero(np.diff(which[rays])) + 1) if len(rays) else []:
        p = which[some[0]]
        turn = solids.rotation[p]
        d = directions[some]
        x = (np.asarray(origin, np.float32) - solids.centre[p]) @ turn + (d * t[some, None]) @ turn
        n = _normal(int(solids.kind[p]), x, solids.size[p]) @ turn.T
        local[some] = x
        normal[some] = np.where(np.einsum("ni,ni->n", n, d)[:, None] > 0, -n, n)
    return Hits(t, which, normal, local)


def _front_to_back(instance: NDArray[np.int32], offset: Array, radius: Array) -> list[NDArray[np.intp]]:
    """Indices of the solids of each instance, nearest instance first, the room last."""
    order = np.argsort(instance, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(instance[order])) + 1)
    distance = np.linalg.norm(offset, axis=1) - radius
    return sorted(groups, key=lambda g: np.inf if instance[g[0]] == 0 else float(distance[g].min()))


def _candidates(directions: Array, best: Array, middle: Array, radius: np.floating | float) -> NDArray[np.intp]:
    """Rays that meet the sphere (``middle`` relative to the origin) before ``best``."""
    distance = float(np.linalg.norm(middle))
    if distance <= radius:
        return np.arange(len(directions))
    cosine = np.sqrt(1 - (float(radius) / distance) ** 2) - 1e-6
    inside = directions @ (middle / np.float32(distance)) >= np.float32(cosine)
    inside &= best > np.float32(distance - radius)
    return np.flatnonzero(inside)


def _box(o: Array, d: Array, size: Array) -> Array:
    inverse = 1 / np.where(np.abs(d) < _TINY, _TINY, d)
    middle, half = -o * inverse, size * np.abs(inverse)
    near, far = (middle - half).max(axis=1), (middle + half).min(axis=1)
    t = np.where(near > _NEAR, near, far)
    return np.where((near <= far) & (t > _NEAR), t, np.float32(np.inf))


def _quad(o: Array, d: Array, size: Array) -> Array:
    z = np.where(np.abs(d[:, 2]) < _TINY, _TINY, d[:, 2])
    t = -o[2] / z
    inside = (np.abs(o[0] + t * d[:, 0]) <= size[0]) & (np.abs(o[1] + t * d[:, 1]) <= size[1])
    return np.where(inside & (t > _NEAR), t, np.float32(np.inf))


def _ellipsoid(o: Array, d: Array, size: Array) -> Array:
    o, d = o / size, d / size
    a = np.einsum("ni,ni->n", d, d)
    shift = -(d @ o) / a
    q = o + shift[:, None] * d  # the point of the ray next to the centre
    under = 1 - np.einsum("ni,ni->n", q, q)
    root = np.sqrt(np.maximum(under, 0) / a)
    t = np.where(shift - root > _NEAR, shift - root, shift + root)
    return np.where((under >= 0) & (t > _NEAR), t, np.float32(np.inf))


def _frustum(o: Array, d: Array, size: Array) -> Array:
    bottom, top, h = size
    radius, slope = (bottom + top) / 2, (top - bottom) / (2 * h)
    shift = -(d @ o)
    q = o + shift[:, None] * d
    r = radius + slope * q[:, 2]
    a = d[:, 0] ** 2 + d[:, 1] ** 2 - (slope * d[:, 2]) ** 2
    a = np.where(np.abs(a) < _TINY, _TINY, a)
    b = q[:, 0] * d[:, 0] + q[:, 1] * d[:, 1] - slope * d[:, 2] * r
    c = q[:, 0] ** 2 + q[:, 1] ** 2 - r * r
    under = b * b - a * c
    root = np.sqrt(np.maximum(under, 0))
    t = np.full(len(d), np.inf, np.float32)
    for s in ((-b - root) / a, (-b + root) / a):
        good = (under >= 0) & (np.abs(q[:, 2] + s * d[:, 2]) <= h) & (s + shift > _NEAR)
        t = np.where(good, np.minimum(t, s + shift), t)
    z = np.where(np.abs(d[:, 2]) < _TINY, _TINY, d[:, 2])
    for level, limit in ((-h, bottom), (h, top)):
        s = (level - q[:, 2]) / z
        good = (q[:, 0] + s * d[:, 0]) ** 2 + (q[:, 1] + s * d[:, 1]) ** 2 <= limit * limit
        t = np.where(good & (s + shift > _NEAR), np.minimum(t, s + shift), t)
    return t


_INTERSECT = {BOX: _box, FRUSTUM: _frustum, ELLIPSOID: _ellipsoid, QUAD: _quad}


def _normal(kind: int, x: Array, size: Array) -> Array:
    """Outward unit normals at local surface points ``x`` [N, 3]."""
    n = np.zeros_like(x)
    if kind == BOX:
        axis = np.argmax(np.abs(x) - size, axis=1)
        rows = np.arange(len(x))
        n[rows, axis] = np.sign(x[rows, axis])
    elif kind == QUAD:
        n[:, 2] = 1
    elif kind == ELLIPSOID:
        n = x / (size * size)
        n /= np.linalg.norm(n, axis=1, keepdims=True)
    else:
        bottom, top, h = size
        slope = (top - bottom) / (2 * h)
        rho = np.maximum(np.hypot(x[:, 0], x[:, 1]), _TINY)
        side = np.abs(rho - ((bottom + top) / 2 + slope * x[:, 2])) < np.abs(h - np.abs(x[:, 2]))
        wall = np.stack([x[:, 0] / rho, x[:, 1] / rho, np.full_like(rho, -slope)], axis=1) / np.sqrt(1 + slope * slope)
        cap = np.stack([np.zeros_like(rho), np.zeros_like(rho), np.sign(x[:, 2])], axis=1)
        n = np.where(side[:, None], wall, cap)
    return n.astype(np.float32)
