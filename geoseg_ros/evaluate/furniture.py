"""Rooms of artist-made furniture, rendered by the simulation: unpaired clouds and pictures with exact truth.

Everything is by mesh: the meshes of the development split are not in the report, and within a split those of the clouds are not in the
pictures. A set is a folder of clouds and a folder of pictures, learnt from and measured alike. Three forms:

* ``all show it``: every room has the kind, beside objects of other kinds.
* ``some show it``: the same, and half as many rooms without it.
* ``switch``: every cloud shows three kinds, and the pictures show one of them and never the other two.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import geoseg_ros.simulation
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.evaluate.datasets.sweethome3d import list_models, read_model
from geoseg_ros.evaluate.items import CosegSet, Image, Item, transductive
from geoseg_ros.files import atomic_path
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.simulation.families import Catalogue, mesh_family
from geoseg_ros.simulation.rooms import SeedSource
from geoseg_ros.simulation.sets import SetConfig, make_cloud, make_image, parallel

SENSORS = ("depth", "lidar")
SPLITS = ("report", "development")
MODALITIES = ("clouds", "pictures")
# Dealt out by position: every fourth to the report's clouds, the report's pictures, development's clouds, development's pictures.
MESHES = {
    kind: tuple(names.split())
    for kind, names in {
        "chair": "oakChair chairWithCushion plasticChair osakaChair office-chair armchair chair2 antiqueChair chair dining-chair thonet"
        " cafe-chair sillaBlanca designChair",
        "table": "oakTable cafe-table table folding-table glass-dining-table lbDesk tableWithTablecloth technicalTable1",
        "sofa": "winchesterSofa mid-century-sofa couch futon-couch sofa2 couch2 sofa L_shaped_sofa",
        "bed": "bed2 bed3 bed1 bedWithTexture",
        "lamp": "pedestal-vase-lamp desklamp JapaneseLantern outdoorLamp wallLight",
        "plant": "decorativePlant plant littlePlant augalas orchids cactus flowerBox plantie",
        "cabinet": "drawersCabinet filing-cabinet wardrobeWithSlidingDoors cupboard highCabinet bedsideTable2 modernVanity"
        " televisionCabinet lowerCabinet",
        # never a target
        "other": "crate dustbin barrel bullet-trash-can refrigerator speaker3 whiteBoard residential-trashcan electricGuitar"
        " utility-shelving fireExtinguisher full-bookcase",
    }.items()
}
KINDS = tuple(kind for kind in MESHES if kind != "other")
TRIOS = (("chair", "sofa", "table"), ("bed", "cabinet", "plant"))
ITEMS = 10
_WALL = {"sofa": 0.8, "bed": 0.9, "cabinet": 0.95, "chair": 0.1, "table": 0.2}  # share with the back to a wall; others 0.4
_RAISED = ("lamp", "plant")  # small ones of these stand on a pillar, as on a table; other objects stand on the floor
_LEAST = {"depth": 300, "lidar": 60}  # points of a kind in a cloud that shows it
_ROOM, _TRIO_ROOM = (5.0, 4.5), (4.2, 3.8)  # metres; in a smaller room more of a view shows three kinds
_ATTEMPTS = 60  # rooms tried for one that shows three kinds

Log = Callable[[str], object]


def dealt(split: str, modality: str) -> dict[str, tuple[str, ...]]:
    """The meshes of each kind, "other" included, for a split of ``SPLITS`` and a modality of ``MODALITIES``."""
    first = 2 * SPLITS.index(split) + MODALITIES.index(modality)
    return {kind: names[first::4] for kind, names in MESHES.items()}


def furniture_catalogue(root: Path, split: str, modality: str = "clouds") -> Catalogue:
    """The kinds as families of meshes. Arguments as of :func:`dealt` and :func:`furniture_sets`, which also say what raises InputError."""
    models, families = list_models(root), []
    for kind, names in dealt(split, modality).items():
        for name in names:
            if name not in models:
                raise InputError(f"{root}: no model {name} in the catalogues")
        families.append(mesh_family(kind, [read_model(models[name]) for name in names], _WALL.get(kind, 0.4), kind in _RAISED))
    return Catalogue(tuple(families))


def furniture_sets(
    root: Path,
    split: str,
    kinds: Sequence[str],
    seeds: Sequence[int],
    items: int | None = None,
    sensor: str = "depth",
    cache: Path | None = None,
    log: Log = lambda text: None,
) -> list[CosegSet]:
    """The sets of all kinds, all trios of these kinds, and all seeds.

    Args:
        root: see :func:`~geoseg_ros.evaluate.datasets.sweethome3d.list_models`.
        kinds: of ``KINDS``; none means all.
        items: clouds, and pictures, of each set that show the kind; None means ``ITEMS``.
        sensor: of ``SENSORS``.
        cache: folder in which rooms are kept once they are made.

    Raises:
        InputError: unknown kind or sensor, fewer than two items, or meshes that are absent or damaged.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"families: {kind} unknown, expected some of {', '.join(KINDS)}")
    if sensor not in SENSORS:
        raise InputError(f"sensor {sensor}: expected one of {', '.join(SENSORS)} for furniture")
    count = ITEMS if items is None else items
    if count < 2:
        raise InputError(f"items: expected at least 2, got {count}")
    wanted = tuple(kind for kind in KINDS if kind in (kinds or KINDS))
    sets: list[CosegSet] = []
    for seed in seeds:
        rooms = Rooms(root, split, sensor, seed, cache)
        for kind in wanted:
            log(f"furniture, seed {seed}: rooms with {kind}")
            sets += _kind_sets(rooms, kind, count)
        for trio in TRIOS:
            if set(trio) <= set(wanted):
                log(f"furniture, seed {seed}: rooms with {', '.join(trio)}")
                sets += _switch_sets(rooms, trio, count)
    return sets


def _kind_sets(rooms: Rooms, kind: str, count: int) -> list[CosegSet]:
    def jobs(show: str | None, number: int) -> list[Job]:
        return [Job(kind, "kind" if show else "without", (kind,) if show else (), (kind,), k, _ROOM) for k in range(number)]

    pictures, clouds = rooms.pictures(jobs(kind, count), kind), rooms.clouds(jobs(kind, count), kind)
    bare, empty = rooms.pictures(jobs(None, count // 2), kind), rooms.clouds(jobs(None, count // 2), kind)
    result = []
    for form, images, points in (("all show it", pictures, clouds), ("some show it", [*pictures, *bare], [*clouds, *empty])):
        given = transductive(kind, f"furniture, {rooms.sensor}, {form}", images, points, "itself")
        result.append(replace(given, seed=rooms.seed))
    return result


def _switch_sets(rooms: Rooms, trio: tuple[str, ...], count: int) -> list[CosegSet]:
    shown = [Job("+".join(trio), "switch", trio, trio, k, _TRIO_ROOM) for k in range(count)]
    result = []
    for kind in trio:
        pictures = rooms.pictures([Job(kind, "switch", (kind,), trio, k, _ROOM) for k in range(count)], kind)
        clouds = rooms.clouds(shown, kind, tuple(other for other in trio if other != kind))
        given = transductive(f"{kind} of {', '.join(trio)}", f"furniture, {rooms.sensor}, switch", pictures, clouds, "itself")
        result.append(replace(given, seed=rooms.seed))
    return result


@dataclass(frozen=True)
class Job:
    """One room to be made.

    Attributes:
        name, form, number: identify it.
        show: kinds that the item shows, the target first; may be empty.
        avoid: kinds of which the room has no further instance.
        size: metres.
    """

    name: str
    form: str
    show: tuple[str, ...]
    avoid: tuple[str, ...]
    number: int
    size: tuple[float, float]


@dataclass(frozen=True)
class Shot:
    """Attributes: data: picture or cloud; family int16 and instance int32 of each pixel or point, 0 = the room."""

    data: Any
    family: NDArray[np.int16]
    instance: NDArray[np.int32]


class Rooms:
    """Makes the items of one split, sensor and seed, each once."""

    def __init__(self, root: Path, split: str, sensor: str, seed: int, cache: Path | None) -> None:
        self.split, self.sensor, self.seed = split, sensor, seed
        self._root, self._cache = root, cache
        self._known: dict[tuple[str, Job], Shot] = {}
        self._catalogues: dict[str, Catalogue] = {}
        if cache is not None and cache.exists() and not cache.is_dir():
            raise InputError(f"--cache {cache}: not a folder")

    def pictures(self, jobs: Sequence[Job], kind: str) -> list[Item[Image]]:
        """Items whose truth is ``kind``."""
        asked, shots = self._id(kind), self._shots("pictures", jobs)
        return [Item(f"{job.form}{job.number}", shot.data, shot.family == asked, instance=shot.instance) for job, shot in shots]

    def clouds(self, jobs: Sequence[Job], kind: str, others: Sequence[str] = ()) -> list[Item[Cloud]]:
        """Items whose truth is ``kind`` and in which ``others`` must not be marked."""
        asked, wrong = self._id(kind), [self._id(other) for other in others]
        result = []
        for job, shot in self._shots("clouds", jobs):
            truth = shot.family == asked
            other = np.isin(shot.family, wrong) if wrong else None
            name = f"{job.form}{job.number}"
            result.append(Item(name, shot.data, truth, other, shot.data.valid(), np.where(truth, shot.instance, 0)))
        return result

    def _id(self, kind: str) -> int:
        return list(MESHES).index(kind) + 1

    def _shots(self, modality: str, jobs: Sequence[Job]) -> Iterator[tuple[Job, Shot]]:
        missing = [job for job in jobs if (modality, job) not in self._known]
        places = {job: self._place(modality, job) for job in missing}
        for job in [*missing]:
            path = places[job]
            if path is not None and path.is_file():
                self._known[modality, job] = _read(path)
                missing.remove(job)
        if missing:
            self._set_config(modality, _ROOM)  # meshes are read once, not by two threads
        for job, shot in zip(missing, parallel(lambda job: self._make(modality, job), missing), strict=True):
            self._known[modality, job] = shot
            path = places[job]
            if path is not None:
                _write(path, shot)
        return ((job, self._known[modality, job]) for job in jobs)

    def _place(self, modality: str, job: Job) -> Path | None:
        """Path of a room in the cache, named after everything that it depends on except the files of meshes."""
        if self._cache is None:
            return None
        sensor = self.sensor if modality == "clouds" else None  # pictures are the same for every sensor
        parts = (self._stream(modality, job), self.seed, sensor, job.show, job.avoid, job.size, dealt(self.split, modality), self._program)
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]
        return self._cache / f"{modality}-{job.name}-{job.form}{job.number}-{digest}.npz"

    @cached_property
    def _program(self) -> str:
        """Digest of the source of the simulation: rooms of another version are not taken from the cache."""
        files = [Path(__file__), *sorted(Path(geoseg_ros.simulation.__path__[0]).glob("*.py"))]
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

    def _stream(self, modality: str, job: Job) -> str:
        return f"furniture/{self.split}/{modality}/{job.name}/{job.form}/{job.number}"

    def _set_config(self, modality: str, size: tuple[float, float]) -> SetConfig:
        if modality not in self._catalogues:
            self._catalogues[modality] = furniture_catalogue(self._root, self.split, modality)
        return SetConfig(catalogue=self._catalogues[modality], room=size, min_points=_LEAST[self.sensor])

    def _make(self, modality: str, job: Job) -> Shot:
        set_config, stream = self._set_config(modality, job.size), self._stream(modality, job)
        if modality == "pictures":
            picture = make_image(SeedSource(self.seed, stream), next(iter(job.show), None), job.avoid, set_config)
            return Shot(picture.rgb, picture.family, picture.instance)
        if len(job.show) < 2:
            scan = make_cloud(SeedSource(self.seed, stream), next(iter(job.show), None), job.avoid, set_config, self.sensor).scan
            return Shot(scan.cloud, scan.family, scan.instance)
        set_config = replace(set_config, others=(0, 2))
        for attempt in range(_ATTEMPTS):
            asked = job.show[attempt % len(job.show)]  # the kind that the sensor is aimed at
            rest = [kind for kind in job.show if kind != asked]
            try:
                scan = make_cloud(SeedSource(self.seed, f"{stream}/{attempt}"), asked, job.avoid, set_config, self.sensor, rest).scan
            except GeosegError:  # no view of this kind; the next room may have one
                continue
            if all(np.count_nonzero(scan.family == self._id(kind)) >= set_config.min_points for kind in job.show):
                return Shot(scan.cloud, scan.family, scan.instance)
        raise GeosegError(f"{', '.join(job.show)}: no room of {_ATTEMPTS} shows them all")


def _write(path: Path, shot: Shot) -> None:
    arrays: dict[str, NDArray[Any]] = {"family": shot.family, "instance": shot.instance}
    if isinstance(shot.data, Cloud):
        arrays |= {"xyz": shot.data.xyz, "shape": np.array(shot.data.shape or (), np.int64)}
        arrays |= {} if shot.data.rgb is None else {"rgb": shot.data.rgb}
    else:
        arrays["picture"] = shot.data
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def _read(path: Path) -> Shot:
    try:
        with np.load(path, allow_pickle=False) as found:
            if "picture" in found:
                return Shot(found["picture"], found["family"], found["instance"])
            shape = tuple(int(n) for n in found["shape"])
            cloud = Cloud(found["xyz"], found.get("rgb"), (shape[0], shape[1]) if shape else None)
            return Shot(cloud, found["family"], found["instance"])
    except Exception as error:  # numpy raises many types for damaged files
        raise InputError(f"{path}: damaged, remove it: {type(error).__name__}") from None
