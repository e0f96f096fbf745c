"""The families of objects that can stand in a room: furniture of random shape, and meshes of the user.

A new family of furniture needs one function in ``shapes.py`` and one row in ``FAMILIES``. Meshes of the user become families of a
:class:`Catalogue`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geoseg_ros.errors import InputError
from geoseg_ros.simulation import shapes
from geoseg_ros.simulation.materials import Material, style
from geoseg_ros.simulation.meshes import TexturedMesh
from geoseg_ros.simulation.shapes import BODY, Rng
from geoseg_ros.simulation.solids import MESH, Builder, Solids


@dataclass(frozen=True)
class Family:
    """A family of objects.

    Attributes:
        name: its name in options and results.
        group: families of one group share parts and are easily confused.
        wall: share of the instances whose back stands at a wall, 0 .. 1.
        build: adds the parts of one random instance to a builder.
        meshes: for a family of meshes; each instance is one of them. Empty for furniture.
        raised: whether small meshes stand on a pillar, where sensors can see them.
    """

    name: str
    group: str
    wall: float
    build: Callable[[Builder, Rng], None]
    meshes: tuple[TexturedMesh, ...] = ()
    raised: bool = True


FAMILIES = (
    Family("chair", "seat", 0.25, shapes.chair),
    Family("office_chair", "seat", 0.1, shapes.office_chair),
    Family("stool", "seat", 0.1, shapes.stool),
    Family("bench", "seat", 0.6, shapes.bench),
    Family("table", "table", 0.3, shapes.table),
    Family("round_table", "table", 0.1, shapes.round_table),
    Family("desk", "table", 0.8, shapes.desk),
    Family("sofa", "soft", 0.8, shapes.sofa),
    Family("armchair", "soft", 0.5, shapes.armchair),
    Family("bookcase", "storage", 0.95, shapes.bookcase),
    Family("cabinet", "storage", 0.95, shapes.cabinet),
    Family("drawer_unit", "storage", 0.85, shapes.drawer_unit),
    Family("bed", "soft", 0.9, shapes.bed),
    Family("lamp", "slim", 0.4, shapes.lamp),
    Family("bin", "small", 0.5, shapes.bin_),
    Family("plant", "slim", 0.5, shapes.plant),
    Family("box_pile", "small", 0.4, shapes.box_pile),
    Family("monitor", "storage", 0.9, shapes.monitor),
    Family("ladder", "slim", 0.3, shapes.ladder),
    Family("toilet", "seat", 1.0, shapes.toilet),
    Family("bag", "small", 0.4, shapes.bag),
)


@dataclass(frozen=True)
class Catalogue:
    """The families that can stand in a room: those of this module, followed by meshes of the user.

    Attributes:
        families: family i has id i + 1 in ``Solids.family``; id 0 is the room.
    """

    families: tuple[Family, ...] = FAMILIES

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the families, in the order of their ids."""
        return tuple(f.name for f in self.families)

    def with_meshes(self, meshes: Mapping[str, TexturedMesh]) -> Catalogue:
        """This catalogue and a family for each mesh. Raises InputError where a name is taken."""
        for name in meshes:
            if name in self.names:
                raise InputError(f"mesh {name}: there is a family of this name already, rename the file")
        return Catalogue((*self.families, *(mesh_family(name, [mesh]) for name, mesh in meshes.items())))

    def check(self, names: Iterable[str]) -> tuple[str, ...]:
        """The names as a tuple. Raises InputError for an unknown or repeated family."""
        found = tuple(names)
        for name in found:
            if name not in self.names:
                raise InputError(f"family {name}: unknown, expected one of {', '.join(self.names)}")
            if found.count(name) > 1:
                raise InputError(f"family {name}: named twice")
        return found

    def id(self, name: str) -> int:
        """The id of a family, 1 or more. Raises ValueError for an unknown name."""
        return self.names.index(name) + 1

    def similar(self, name: str) -> frozenset[str]:
        """The other families of the same group."""
        group = self[name].group
        return frozenset(f.name for f in self.families if f.group == group and f.name != name)

    def __getitem__(self, name: str) -> Family:
        return self.families[self.id(name) - 1]

    def solids(self, name: str, seed: int) -> Solids:
        """The shape of one instance; its material column holds slots of :meth:`materials`."""
        b = Builder()
        self[name].build(b, np.random.default_rng(seed))
        return b.solids(self.id(name))

    def materials(self, name: str, seed: int) -> tuple[Material | TexturedMesh, ...]:
        """The materials of one instance: those of the five slots, which do not depend on the family, or the family's meshes."""
        return self[name].meshes or object_materials(seed)


FURNITURE = Catalogue()
NAMES = FURNITURE.names


def mesh_family(name: str, meshes: Sequence[TexturedMesh], wall: float = 0.2, raised: bool = True) -> Family:
    """The family of which each instance is one of ``meshes``, drawn by its seed; further arguments as in :class:`Family`."""
    halves = [mesh.half() for mesh in meshes]

    def build(b: Builder, rng: Rng) -> None:
        which = int(rng.integers(len(halves)))
        b.add(MESH, BODY, which, (0, 0, halves[which][2]), halves[which])

    return Family(name, f"mesh {name}", wall, build, tuple(meshes), raised)


def object_materials(seed: int) -> tuple[Material, ...]:
    """The materials of the slots FRAME, SURFACE, SOFT, GREEN and DARK."""
    rng = np.random.default_rng(seed)
    frame, surface, soft = style(rng)
    hue = rng.uniform(0.22, 0.36)
    green = Material((0.03 + 0.1 * (0.36 - hue), 0.12 + 0.2 * rng.random(), 0.03), (0.02, 0.07, 0.02), "mottled", 0.08, 0.2, seed % 9973)
    dark = float(rng.uniform(0.01, 0.05))
    return frame, surface, soft, green, Material((dark, dark, dark), (dark, dark, dark), gloss=0.5)
