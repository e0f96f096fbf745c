"""Rooms: floor, walls, fittings, and furniture that is placed without collisions.

World frame: z up, the floor at z = 0, the middle of the (first) room at x = y = 0. Two rooms can stand side by side along x, joined by a
doorway.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.simulation import materials
from geoseg_ros.simulation.families import FURNITURE, Catalogue
from geoseg_ros.simulation.materials import Material
from geoseg_ros.simulation.meshes import TexturedMesh
from geoseg_ros.simulation.raycast import RayCaster
from geoseg_ros.simulation.shapes import PARTS
from geoseg_ros.simulation.solids import BOX, QUAD, Builder, Solids, axis_matrix, concatenate, yaw_matrix

FLOOR, WALL, CEILING, FITTING = (PARTS.index(p) for p in ("floor", "wall", "ceiling", "fitting"))
TRIM, DOOR = 4, 5  # material slots, see _shell_materials
DOORWAY = (1.3, 2.1)  # width and height, metres; in the middle of the wall between two rooms
STAND = 0.7  # metres; meshes that are smaller than this stand on a pillar of this height, unless their family stays on the floor

Rng = np.random.Generator
Zone = tuple[float, float, float, float]  # x low, x high, y low, y high of a room, metres


@dataclass
class SeedSource:
    """Draws seeds that no other source draws, and keeps them. They prove that items are unpaired.

    Args:
        seed: seed of the whole set.
        stream: name of the source, such as "clouds" or "images".

    Attributes:
        used: kind of seed -> seeds drawn so far.
    """

    seed: int
    stream: str
    used: dict[str, list[int]] = field(default_factory=dict)

    def draw(self, kind: str) -> int:
        """The next 63-bit seed of ``kind`` ("room", "instance", "texture" or "view")."""
        drawn = self.used.setdefault(kind, [])
        entropy = (self.seed, zlib.crc32(self.stream.encode()), zlib.crc32(kind.encode()), len(drawn))
        drawn.append(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1)))
        return drawn[-1]


@dataclass(frozen=True)
class PlacedObject:
    """One object of a scene.

    Attributes:
        family: name of its family.
        instance: its number in the scene, 1 or more.
        seed, texture_seed: seeds of its shape and of its materials.
        position: x and y of its middle in the world frame, metres.
        yaw: turn about z, radians.
        half: half lengths of its footprint along its own x and y, metres.
        height: its height, metres.
        base: height of the surface that it stands on, metres.
    """

    family: str
    instance: int
    seed: int
    texture_seed: int
    position: tuple[float, float]
    yaw: float
    half: tuple[float, float]
    height: float
    base: float = 0.0


@dataclass(frozen=True)
class Scene:
    """A furnished room (or two).

    Attributes:
        solids: world frame.
        materials: materials of the solids.
        objects: ``objects[i]`` is instance i + 1.
        zones: ground area of each room.
        height: height of the ceiling, metres.
        ids: kind of seed -> seeds that the scene was made from.
    """

    solids: Solids
    materials: tuple[Material | TexturedMesh, ...]
    objects: tuple[PlacedObject, ...]
    zones: tuple[Zone, ...]
    height: float
    ids: dict[str, frozenset[int]]

    @cached_property
    def caster(self) -> RayCaster:
        """Finds what rays hit in the scene."""
        return RayCaster(self.solids, self.materials)

    def families(self) -> frozenset[str]:
        """Names of the families in the scene."""
        return frozenset(o.family for o in self.objects)


def make_scene(
    source: SeedSource,
    furniture: Sequence[Sequence[str]],
    *,
    size: tuple[float, float] = (5.0, 4.5),
    path: Callable[[Sequence[Zone]], NDArray[np.float64]] | None = None,
    touch: float = 0.3,
    catalogue: Catalogue = FURNITURE,
) -> Scene:
    """Build one room per entry of ``furniture`` and furnish it.

    Args:
        source: draws all seeds.
        furniture: families to place in each room, the most important first; an object without a free place is left out.
        size: mean length and width of a room, metres; each room varies by 10 %.
        path: returns points float64 [K, 2] (x and y in the world frame, metres) for the zones of the rooms; 0.4 m around them stay free.
            None: no such points.
        touch: share of the objects at a wall that touch it, 0 .. 1.
        catalogue: the families that can be placed.
    """
    room_seed, texture_seed = source.draw("room"), source.draw("texture")
    rng = np.random.default_rng(room_seed)
    length, width = size[0] * rng.uniform(0.9, 1.1), size[1] * rng.uniform(0.9, 1.1)
    height = rng.uniform(2.4, 2.9)
    zones = [(k * length - length / 2, k * length + length / 2, -width / 2, width / 2) for k in range(len(furniture))]
    keep_free = None if path is None else path(zones)
    solids = [_shell(rng, zones, height)]
    table: list[Material | TexturedMesh] = list(_shell_materials(texture_seed))
    ids: dict[str, set[int]] = {"room": {room_seed}, "texture": {texture_seed}, "instance": set()}
    objects: list[PlacedObject] = []
    for zone, names in zip(zones, furniture, strict=True):
        for name in names:
            seed, texture = source.draw("instance"), source.draw("texture")
            family, shape = catalogue[name], catalogue.solids(name, seed)
            low, high = shape.bounds()
            half, tall = (high - low)[:2] / 2, float(high[2])
            base = STAND if family.meshes and family.raised and max(tall, *(2 * half)) < STAND else 0.0
            pose = _free_pose(rng, zone, half, family.wall, touch, objects, keep_free)
            if pose is None:
                continue
            x, y, yaw = pose
            placed = PlacedObject(name, len(objects) + 1, seed, texture, (x, y), yaw, (float(half[0]), float(half[1])), tall, base)
            shift = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, 0], np.float32)
            turn = yaw_matrix(yaw)
            shape = shape.moved(turn, np.array([x, y, base], np.float32) - turn @ shift)
            shape.instance[:] = placed.instance
            shape.material[:] += len(table)
            objects.append(placed)
            solids.append(shape)
            if base:
                pillar = Builder()
                pillar.box(FITTING, TRIM, (x, y, base / 2), (*(2 * half), base), yaw=yaw)
                solids.append(pillar.solids(family=0))
            table.extend(catalogue.materials(name, texture))
            ids["instance"].add(seed)
            ids["texture"].add(texture)
    frozen = {kind: frozenset(values) for kind, values in ids.items()}
    return Scene(concatenate(solids), tuple(table), tuple(objects), tuple(zones), height, frozen)


def close_doors(scene: Scene) -> Scene:
    """The same scene with a shut sliding door in every doorway between its rooms."""
    if len(scene.zones) < 2:
        return scene
    b = Builder()
    for left in scene.zones[:-1]:
        b.add(BOX, FITTING, DOOR, (left[1], (left[2] + left[3]) / 2, DOORWAY[1] / 2), (0.02, *np.divide(DOORWAY, 2)))
    return replace(scene, solids=concatenate([scene.solids, b.solids(family=0)]))


def footprint_distance(points: NDArray[np.float64], objects: Sequence[PlacedObject]) -> NDArray[np.float64]:
    """Distance from points to the nearest footprint, in the ground plane.

    Args:
        points: float64 [K, 2], x and y in the world frame, metres.
        objects: objects of a scene.

    Returns:
        float64 [K], metres; 0 inside a footprint, infinite without objects.
    """
    best = np.full(len(points), np.inf)
    for o in objects:
        c, s = np.cos(o.yaw), np.sin(o.yaw)
        local = (points - o.position) @ np.array([[c, -s], [s, c]])
        best = np.minimum(best, np.linalg.norm(np.maximum(np.abs(local) - o.half, 0), axis=1))
    return best


def _free_pose(
    rng: Rng,
    zone: Zone,
    half: NDArray[np.floating],
    at_wall: float,
    touch: float,
    objects: Sequence[PlacedObject],
    keep_free: NDArray[np.float64] | None,
) -> tuple[float, float, float] | None:
    """(x, y, yaw) of a place that is free, or None after 150 tries."""
    middle = np.array([(zone[0] + zone[1]) / 2, (zone[2] + zone[3]) / 2])
    extent = np.array([(zone[1] - zone[0]) / 2, (zone[3] - zone[2]) / 2])
    wall_bound = rng.random() < at_wall
    for _ in range(150):
        if wall_bound:
            side = int(rng.integers(4))
            gap = 0.002 if rng.random() < touch else rng.uniform(0.05, 0.3)
            yaw = side * np.pi / 2 + np.pi  # side 0 is the wall at +x, so the front looks to -x
            axis = side % 2
            room = extent[1 - axis] - half[1] - 0.02
            if room <= 0:
                return None
            offset = np.empty(2)
            offset[axis] = (extent[axis] - half[0] - gap) * (1 if side < 2 else -1)
            offset[1 - axis] = rng.uniform(-room, room)
        else:
            yaw = rng.uniform(0, 2 * np.pi)
            room = extent - np.linalg.norm(half) - 0.05
            if room.min() <= 0:
                return None
            offset = rng.uniform(-room, room)
        x, y = middle + offset
        candidate = PlacedObject("", 0, 0, 0, (float(x), float(y)), float(yaw), (float(half[0]), float(half[1])), 0.0)
        if keep_free is not None and footprint_distance(keep_free, [candidate]).min() < 0.4:
            continue
        if not any(_overlap(candidate, o, 0.12) for o in objects):
            return float(x), float(y), float(yaw)
    return None


def _overlap(a: PlacedObject, b: PlacedObject, clearance: float) -> bool:
    """Whether two footprints are closer than ``clearance``, metres (separating axes)."""
    between = np.subtract(b.position, a.position)
    axes, reach = [], []
    for o in (a, b):
        c, s = np.cos(o.yaw), np.sin(o.yaw)
        axes += [(c, s), (-s, c)]
        reach.append((np.array([c, s]) * (o.half[0] + clearance / 2), np.array([-s, c]) * (o.half[1] + clearance / 2)))
    for axis in np.array(axes):
        span = sum(abs(axis @ u) + abs(axis @ v) for u, v in reach)
        if abs(axis @ between) > span:
            return False
    return True


def _shell_materials(seed: int) -> tuple[Material, ...]:
    """Materials of the slots floor, wall, second wall, ceiling, trim, door, glass, picture."""
    rng = np.random.default_rng(seed)
    wall, second = materials.wall(rng), materials.wall(rng)
    white = materials.linear(0.1, 0.03, rng.uniform(0.8, 0.95))
    trim = materials.wood(rng) if rng.random() < 0.5 else Material(white, white, gloss=0.2)
    glass = Material((0.75, 0.85, 0.95), (0.9, 0.95, 1.0), "mottled", 0.5, 0.5, seed % 9973)
    colours = materials.linear(rng.random(), 0.6, 0.7), materials.linear(rng.random(), 0.6, 0.5)
    picture = Material(*colours, "mottled", 0.12, 0.1, seed % 9967)
    second = second if rng.random() < 0.3 else wall
    return materials.floor(rng), wall, second, Material(white, white), trim, materials.wood(rng), glass, picture


def _shell(rng: Rng, zones: Sequence[Zone], height: float) -> Solids:
    """Floor, walls, ceiling, skirting, doors, windows and pictures; instance 0, family 0."""
    b = Builder()
    x0, x1, y0, y1 = zones[0][0], zones[-1][1], zones[0][2], zones[0][3]
    middle, half = np.array([(x0 + x1) / 2, (y0 + y1) / 2]), np.array([(x1 - x0) / 2, (y1 - y0) / 2])
    b.add(QUAD, FLOOR, 0, (*middle, 0), (*half, 0))
    b.add(QUAD, CEILING, 3, (*middle, height), (*half, 0))
    for side in range(4):
        axis, sign = side % 2, 1 if side < 2 else -1
        along = half[1 - axis]
        inward = np.zeros(3)
        inward[axis] = -sign
        centre = np.array([*middle, height / 2])
        centre[axis] += sign * half[axis]
        b.add(QUAD, WALL, 1 + side % 2, centre, (along, height / 2, 0), axis_matrix(inward))
        across = np.array([inward[1], inward[0], 0])

        def place(slot: int, at: float, low: float, wide: float, tall: float, thick: float) -> None:
            spot = centre + across * at + inward * thick / 2  # noqa: B023
            spot[2] = low + tall / 2
            lengths = np.abs(across) * wide + np.abs(inward) * thick + (0, 0, tall)  # noqa: B023
            b.add(BOX, FITTING, slot, spot, lengths / 2)

        place(4, 0, 0, 2 * along, 0.08, 0.015)
        kind, at = rng.integers(4), rng.uniform(-0.5, 0.5) * along
        if kind == 0:
            place(6, at, 0.95, 1.2, 1.1, 0.01)
            for shift in (-0.62, 0, 0.62):
                place(4, at + shift, 0.9, 0.06, 1.2, 0.03)
            for low in (0.9, 2.05):
                place(4, at, low, 1.3, 0.06, 0.03)
        elif kind == 1:
            place(4, at, 0, 1.0, 2.08, 0.02)
            place(DOOR, at, 0, 0.88, 2.02, 0.03)
        elif kind == 2:
            wide, tall = rng.uniform(0.4, 0.9), rng.uniform(0.4, 0.7)
            place(4, at, 1.3, wide + 0.08, tall + 0.08, 0.015)
            place(7, at, 1.34, wide, tall, 0.02)
    for left in zones[:-1]:
        gap, low = DOORWAY[0] / 2, DOORWAY[1]
        part = (y1 - y0) / 2 - gap
        for sign in (-1, 1):
            b.add(BOX, WALL, 1, (left[1], middle[1] + sign * (gap + part / 2), height / 2), (0.05, part / 2, height / 2))
        b.add(BOX, WALL, 1, (left[1], middle[1], (low + height) / 2), (0.05, gap, (height - low) / 2))
    return b.solids(family=0)
