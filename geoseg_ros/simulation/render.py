"""Pictures of a scene: pinhole camera, several lights with shadows, textures, exposure, noise, blur.

Also the colours of the depth camera. Lambert shading with ambient light, a Blinn highlight, and ambient occlusion from the depth buffer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoseg_ros.compiled import compiled
from geoseg_ros.simulation.materials import albedo
from geoseg_ros.simulation.meshes import TexturedMesh
from geoseg_ros.simulation.raycast import Hits, RayCaster
from geoseg_ros.simulation.rooms import Scene, footprint_distance
from geoseg_ros.simulation.solids import Solids

Array = NDArray[np.floating]  # float32 throughout; numpy's own annotations often say wider


@dataclass(frozen=True)
class Light:
    """A point light without fall-off.

    Attributes:
        position: x, y, z in the world frame, metres.
        colour: strength in linear RGB.
    """

    position: tuple[float, float, float]
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        position: float32 [3], world.
        rotation: float32 [3, 3]; the columns are the axes of the optical frame (REP 103: x right, y down, z forward) in the world.
        width, height: pixels.
        focal: pixels, for both axes; the principal point is the middle.
    """

    position: Array
    rotation: Array
    width: int = 320
    height: int = 240
    focal: float = 277.0

    def rays(self) -> Array:
        """Unit directions of all pixels in the optical frame, row-major, float32 [height * width, 3]."""
        return _pixel_rays(self.width, self.height, self.focal).copy()


@lru_cache(8)
def _pixel_rays(width: int, height: int, focal: float) -> Array:
    u, v = np.meshgrid(np.arange(width) - (width - 1) / 2, np.arange(height) - (height - 1) / 2)
    d = np.stack([u.ravel() / focal, v.ravel() / focal, np.ones(u.size)], axis=1)
    return (d / np.linalg.norm(d, axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Picture:
    """A rendered picture with ground truth.

    Attributes:
        rgb: uint8 [H, W, 3], sRGB.
        family: int16 [H, W], family of the visible surface, 0 = the room.
        instance: int32 [H, W], instance of the visible surface, 0 = the room.
        part: int16 [H, W], index into ``shapes.PARTS``, -1 = nothing visible.
    """

    rgb: NDArray[np.uint8]
    family: NDArray[np.int16]
    instance: NDArray[np.int32]
    part: NDArray[np.int16]


def look_at(position: ArrayLike, target: ArrayLike) -> Array:
    """float32 [3, 3]: axes (columns) of an upright optical frame at ``position`` that looks at ``target``."""
    forward = np.asarray(target, np.float64) - np.asarray(position, np.float64)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward], axis=1).astype(np.float32)


def random_lights(rng: np.random.Generator, scene: Scene, room: int = 0) -> tuple[list[Light], Array]:
    """One to three lights in one room of the scene, and the ambient light (linear RGB)."""
    x0, x1, y0, y1 = scene.zones[room]
    centre, reach = ((x0 + x1) / 2, (y0 + y1) / 2), (0.35 * (x1 - x0), 0.35 * (y1 - y0))
    lights = []
    for k in range(int(rng.integers(1, 4))):
        warm = rng.uniform(-0.12, 0.2)
        strength = rng.uniform(0.5, 0.9) if k == 0 else rng.uniform(0.15, 0.4)
        level = scene.height - 0.05 if k == 0 else rng.uniform(1.6, scene.height - 0.1)
        at = (centre[0] + rng.uniform(-1, 1) * reach[0], centre[1] + rng.uniform(-1, 1) * reach[1], level)
        lights.append(Light(at, (strength * (1 + warm), strength, strength * (1 - warm))))
    return lights, rng.uniform(0.25, 0.5) * (1 + rng.uniform(-0.05, 0.05, 3).astype(np.float32))


def shade(scene: Scene, origin: ArrayLike, directions: Array, hits: Hits, lights: list[Light], ambient: Array) -> Array:
    """Linear RGB float32 [N, 3] of what the rays hit; black where they hit nothing."""
    out = np.zeros_like(directions)
    seen = np.flatnonzero(hits.solid >= 0)
    point = _lifted(seen, np.array(origin, np.float32), directions, hits.range, hits.normal)
    base, gloss = _surface(scene, hits, seen)
    # the room reflects light: surfaces that look up get more of it than those that look down
    light = np.asarray(ambient * (0.8 + 0.2 * hits.normal[seen, 2:]), np.float32)
    shine = np.zeros(len(seen), np.float32)
    for lamp in lights:
        position = np.array(lamp.position, np.float32)
        lit = np.flatnonzero(_faces(seen, point, hits.normal, position))
        lit = lit[~scene.caster.blocked(position, point[lit])]
        _illuminate(lit, seen, point, hits.normal, directions, position, np.array(lamp.colour, np.float32), light, shine)
    out[seen] = base * light + (0.35 * gloss * shine)[:, None]
    return out


@compiled
def _lifted(seen, origin, directions, distance, normal):  # type: ignore[no-untyped-def]
    """float32 [K, 3]: the hits of the rays ``seen`` [K], 2 mm off the surface."""
    out = np.empty((len(seen), 3), np.float32)
    for k in range(len(seen)):
        for i in range(3):
            out[k, i] = origin[i] + directions[seen[k], i] * distance[seen[k]] + normal[seen[k], i] * np.float32(2e-3)
    return out


@compiled
def _faces(seen, point, normal, lamp):  # type: ignore[no-untyped-def]
    """bool [K]: the surface at ``point`` [K, 3], whose normal is that of the ray ``seen`` [K], is turned towards the position ``lamp``."""
    out = np.empty(len(point), np.bool_)
    for k in range(len(point)):
        p, n = point[k], normal[seen[k]]
        out[k] = n[0] * (lamp[0] - p[0]) + n[1] * (lamp[1] - p[1]) + n[2] * (lamp[2] - p[2]) > 0
    return out


@compiled
def _illuminate(rows, seen, point, normals, directions, lamp, colour, light, shine):  # type: ignore[no-untyped-def]
    """Add a lamp's light to the surface points ``rows``: Lambert's to ``light`` [K, 3], Blinn's highlight to ``shine`` [K]."""
    for k in rows:
        normal, view = normals[seen[k]], directions[seen[k]]
        x, y, z = lamp[0] - point[k, 0], lamp[1] - point[k, 1], lamp[2] - point[k, 2]
        distance = np.sqrt(x * x + y * y + z * z)
        x, y, z = x / distance, y / distance, z / distance
        facing = normal[0] * x + normal[1] * y + normal[2] * z
        for i in range(3):
            light[k, i] += facing * colour[i]
        x, y, z = x - view[0], y - view[1], z - view[2]
        cosine = (normal[0] * x + normal[1] * y + normal[2] * z) / np.sqrt(x * x + y * y + z * z)
        shine[k] += max(cosine, 0.0) ** 40 * colour[1]


def _surface(scene: Scene, hits: Hits, rows: NDArray[np.intp]) -> tuple[Array, Array]:
    """Linear RGB float32 [K, 3] and gloss float32 [K] of the surface at the hits ``rows`` [K]."""
    material = scene.solids.material[hits.solid[rows]]
    order = np.argsort(material, kind="stable")
    base, gloss = np.empty((len(rows), 3), np.float32), np.zeros(len(rows), np.float32)
    for some in np.split(order, np.flatnonzero(np.diff(material[order])) + 1) if len(rows) else []:
        substance = scene.materials[material[some[0]]]
        if isinstance(substance, TexturedMesh):
            base[some] = substance.albedo(hits.triangle[rows[some]], hits.weights[rows[some]])
        else:
            base[some], gloss[some] = albedo(substance, hits.local[rows[some]]), substance.gloss
    return base, gloss


def develop(linear: Array, exposure: float) -> NDArray[np.uint8]:
    """Display values uint8 of linear light: exposure, soft shoulder, gamma 2.2."""
    x = linear * np.float32(exposure)
    x = x * (1 + x / 6) / (1 + x)  # Reinhard's curve with white at sqrt(6)
    return (255 * np.clip(x, 0, 1) ** np.float32(1 / 2.2) + 0.5).astype(np.uint8)


def render(scene: Scene, camera: Camera, rng: np.random.Generator) -> Picture:
    """A picture with random lights, exposure, noise, blur and JPEG loss drawn from ``rng``."""
    h, w = camera.height, camera.width
    lights, ambient = random_lights(rng, scene)
    rays = camera.rays() @ camera.rotation.T
    hits = scene.caster.cast(camera.position, rays)
    linear = shade(scene, camera.position, rays, hits, lights, ambient).reshape(h, w, 3)
    solid = hits.solid.reshape(h, w)
    _smooth_edges(scene, camera, solid, linear, lights, ambient)
    depth = np.where(np.isfinite(hits.range), hits.range, 20).astype(np.float32).reshape(h, w)
    behind = np.maximum(depth - cv2.GaussianBlur(depth, (0, 0), 0.02 * w), 0) / depth
    linear *= np.exp(-2.5 * np.minimum(behind, 0.25))[..., None]  # occlusion by unsharp depth (Luft et al. 2006)
    exposure = rng.uniform(1.3, 2.0) * 0.45 / max(float(np.mean(linear)) + 0.15, 0.2)
    linear = linear + rng.normal(0, 0.004, linear.shape).astype(np.float32) + rng.normal(0, 0.02, linear.shape).astype(np.float32) * linear
    rgb = cv2.GaussianBlur(develop(np.maximum(linear, 0), exposure), (0, 0), rng.uniform(0.3, 0.7))
    packed = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(75, 96))])[1]
    rgb = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
    s, seen = scene.solids, solid >= 0
    return Picture(
        np.ascontiguousarray(rgb),
        np.where(seen, s.family[solid], 0).astype(np.int16),
        np.where(seen, s.instance[solid], 0).astype(np.int32),
        np.where(seen, s.part[solid], -1).astype(np.int16),
    )


def _smooth_edges(scene: Scene, camera: Camera, solid: NDArray[np.int32], linear: Array, lights: list[Light], ambient: Array) -> None:
    """Replace the pixels on the borders between solids by the mean of four rays, in place."""
    edge = np.zeros(solid.shape, bool)
    across, down = solid[:, 1:] != solid[:, :-1], solid[1:] != solid[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    v, u = np.nonzero(edge)
    if len(v) == 0:
        return
    corners = np.array([[-0.25, -0.25], [0.25, -0.25], [-0.25, 0.25], [0.25, 0.25]])
    x = ((u[:, None] + corners[:, 0]).ravel() - (camera.width - 1) / 2) / camera.focal
    y = ((v[:, None] + corners[:, 1]).ravel() - (camera.height - 1) / 2) / camera.focal
    rays = np.stack([x, y, np.ones_like(x)], axis=1)
    rays = (rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32) @ camera.rotation.T
    hits = scene.caster.cast(camera.position, rays)
    linear[v, u] = shade(scene, camera.position, rays, hits, lights, ambient).reshape(-1, 4, 3).mean(axis=1)


def find_view(
    scene: Scene,
    rng: np.random.Generator,
    family: str | None,
    *,
    width: int = 320,
    height: int = 240,
    focal: float | None = None,
    share: tuple[float, float] = (0.03, 0.5),
    tries: int = 60,
) -> Camera | None:
    """A camera at human or robot height from which ``family`` fills a share of the picture within ``share`` and shows at least half
    of one instance; with ``family`` None, any view in which objects fill a tenth of the picture. None if none is found.
    ``focal`` in pixels, or None for a random lens.
    """
    x0, x1, y0, y1 = scene.zones[0]
    wanted = [o for o in scene.objects if family is None or o.family == family]
    if not wanted:
        return None
    alone: dict[int, RayCaster] = {}  # instance -> the object without the rest of the room
    for _ in range(tries):
        target = wanted[int(rng.integers(len(wanted)))]
        extent = max(target.height, 2 * max(target.half), 0.35 if target.base else 0.7)
        distance, azimuth = extent * rng.uniform(1.2, 2.7), rng.uniform(0, 2 * np.pi)
        at = np.array([target.position[0] + distance * np.cos(azimuth), target.position[1] + distance * np.sin(azimuth)])
        if not (x0 + 0.15 < at[0] < x1 - 0.15 and y0 + 0.15 < at[1] < y1 - 0.15) or footprint_distance(at[None], scene.objects)[0] < 0.25:
            continue
        aim = np.array([*target.position, target.base + target.height * rng.uniform(0.35, 0.65)]) + rng.normal(0, 0.12, 3)
        position = np.array([*at, rng.uniform(0.7, 1.7)], np.float32)
        lens = float(width * rng.uniform(0.75, 1.05)) if focal is None else focal
        camera = Camera(position, look_at(position, aim), width, height, lens)
        small = Camera(position, camera.rotation, width // 5, height // 5, lens / 5)
        rays = small.rays() @ small.rotation.T
        solid = np.maximum(scene.caster.first_solid(position, rays), 0)  # solid 0 is the floor
        if family is None:
            if np.mean(scene.solids.instance[solid] > 0) > 0.1:
                return camera
            continue
        own = scene.solids.instance == target.instance
        if target.instance not in alone:
            alone[target.instance] = RayCaster(scene.solids.select(own), scene.materials)
        whole = int(np.count_nonzero(alone[target.instance].first_solid(position, rays) >= 0))
        visible = int(np.count_nonzero(own[solid])) / max(whole, 1) * _share_in_picture(scene.solids.select(own), camera)
        fills = np.mean(scene.solids.family[solid] == scene.solids.family[own][0])
        if visible > 0.5 and share[0] < fills < share[1]:
            return camera
    return None


def _share_in_picture(solids: Solids, camera: Camera) -> float:
    """Share of the picture-plane box around ``solids`` that lies inside the picture."""
    local = (solids.centre - camera.position) @ camera.rotation
    z = np.maximum(local[:, 2], 0.1)
    middle, reach = camera.focal * local[:, :2] / z[:, None], camera.focal * np.linalg.norm(solids.size, axis=1) / z
    low, high = (middle - reach[:, None]).min(axis=0), (middle + reach[:, None]).max(axis=0)
    half = np.array([camera.width / 2, camera.height / 2])
    shown = np.maximum(np.minimum(high, half) - np.maximum(low, -half), 0)
    return float(np.prod(shown) / np.prod(high - low))
