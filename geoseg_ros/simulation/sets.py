"""Co-segmentation sets: unpaired clouds and pictures of one family, with exact ground truth.

Clouds and pictures show different rooms, instances and textures. Every item keeps the seeds that it was made from, and
:func:`check_unpaired` proves that clouds and pictures share none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.simulation.families import FURNITURE, Catalogue
from geoseg_ros.simulation.render import find_view, render
from geoseg_ros.simulation.rooms import Scene, SeedSource, footprint_distance, make_scene
from geoseg_ros.simulation.sensors import DepthCamera, Lidar, Pose, Scan, Scanner, level_pose

Ids = dict[str, frozenset[int]]
Job = TypeVar("Job")
Made = TypeVar("Made")

SENSORS = ("lidar", "depth", "scanner")
_ATTEMPTS = 12  # rooms tried for one item


@dataclass(frozen=True)
class SetConfig:
    """What the rooms, items and sensors of a set are like. These settings decide how hard the set is.

    Attributes:
        clouds, images: items of each modality.
        others: smallest and largest number of objects of other families in the room of a cloud.
        image_others: the same in the room of a picture.
        similar: whether the other objects may share parts with the family (a stool beside a chair).
        touch: share of the objects at a wall that touch it.
        outliers: share of the items that do not show the family, 0 .. 1.
        confounder: share of the clouds, 0 .. 1, that also hold the same second family; pictures never show it.
        room: mean length and width of the rooms, metres.
        image_size: width and height of the pictures, pixels.
        lidar, depth, scanner: settings of the sensors.
        min_points: smallest number of points of the family in a cloud that is no outlier.
        catalogue: the families that can stand in the rooms.
    """

    clouds: int = 40
    images: int = 40
    others: tuple[int, int] = (4, 7)
    image_others: tuple[int, int] = (2, 5)
    similar: bool = True
    touch: float = 0.3
    outliers: float = 0.0
    confounder: float = 0.0
    room: tuple[float, float] = (5.0, 4.5)
    image_size: tuple[int, int] = (320, 240)
    lidar: Lidar = field(default_factory=Lidar)
    depth: DepthCamera = field(default_factory=DepthCamera)
    scanner: Scanner = field(default_factory=Scanner)
    min_points: int = 300
    catalogue: Catalogue = FURNITURE


PRESETS = {
    "tiny": SetConfig(
        8, 8, (2, 3), (0, 1), False, 0.0, image_size=(160, 120), room=(4.0, 3.6),
        lidar=Lidar(rings=48, columns=512), depth=DepthCamera(width=160, height=120, focal=142.5),
        scanner=Scanner(2, 2.0, spacing=0.04), min_points=80,
    ),
    "light": SetConfig(depth=DepthCamera(width=240, height=180, focal=213.0), scanner=Scanner(2, 1.0, spacing=0.03)),
    "easy": SetConfig(others=(2, 4), image_others=(0, 2), similar=False, touch=0.1),
    "standard": SetConfig(),
    "hard": SetConfig(others=(7, 11), image_others=(4, 8), touch=0.6, outliers=0.2, confounder=0.85, room=(5.5, 5.0), min_points=200),
}  # fmt: skip


@dataclass(frozen=True)
class CloudItem:
    """A cloud of a set.

    Attributes:
        scan: N points, and the surface that each of them lies on.
        truth: uint8 [N], 1 = the wanted family.
        ids: seeds by kind, see :class:`~geoseg_ros.simulation.rooms.SeedSource`.
        families: names of the families in the room.
    """

    scan: Scan
    truth: NDArray[np.uint8]
    ids: Ids
    families: frozenset[str]

    @property
    def cloud(self) -> Cloud:
        """The points."""
        return self.scan.cloud


@dataclass(frozen=True)
class ImageItem:
    """A picture of a set.

    Attributes:
        rgb: uint8 [H, W, 3].
        truth: uint8 [H, W], 1 = the wanted family.
        family: int16 [H, W], 0 = the room.
        instance: int32 [H, W], 0 = the room.
        ids: seeds by kind, see :class:`~geoseg_ros.simulation.rooms.SeedSource`.
        families: names of the families in the room.
    """

    rgb: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    family: NDArray[np.int16]
    instance: NDArray[np.int32]
    ids: Ids
    families: frozenset[str]


@dataclass(frozen=True)
class ConceptSet:
    """Clouds and pictures of one family, and items that do not show it.

    Attributes:
        family: its name.
        clouds, images: items with the family, and outliers if the settings ask for them.
        without_clouds, without_images: items without the family.
    """

    family: str
    clouds: list[CloudItem]
    images: list[ImageItem]
    without_clouds: list[CloudItem]
    without_images: list[ImageItem]


def make_set_config(preset: str, **changes: object) -> SetConfig:
    """A preset of ``PRESETS`` with some settings changed. Raises InputError for an unknown preset."""
    if preset not in PRESETS:
        raise InputError(f"preset {preset}: unknown, expected one of {', '.join(PRESETS)}")
    return replace(PRESETS[preset], **changes)  # type: ignore[arg-type]


def others(rng: np.random.Generator, count: int, avoid: Collection[str], catalogue: Catalogue = FURNITURE) -> list[str]:
    """Names of ``count`` families, drawn with repetition, without those in ``avoid``."""
    pool = [n for n in catalogue.names if n not in avoid]
    return [pool[i] for i in rng.integers(len(pool), size=count)]


def make_cloud(
    source: SeedSource, family: str | None, avoid: Collection[str], config: SetConfig, sensor: str, extra: Sequence[str] = ()
) -> CloudItem:
    """Make a cloud of a new room.

    Args:
        source: draws all seeds.
        family: stands once or twice in the room, and the cloud has at least ``config.min_points`` points of it; None: not in the room.
        avoid: families that are not in the room.
        config: settings of the set.
        sensor: one of ``SENSORS``.
        extra: further families in the room.

    Raises:
        GeosegError: none of 12 rooms shows the family.
    """
    for _ in range(_ATTEMPTS):
        rng = np.random.default_rng(source.draw("view"))
        wanted = [] if family is None else [family] * int(rng.integers(1, 3))
        rest = others(rng, int(rng.integers(config.others[0], config.others[1] + 1)), avoid, config.catalogue)
        scene = make_scene(source, [[*wanted, *extra, *rest]], size=config.room, touch=config.touch, catalogue=config.catalogue)
        scan = _scan_depth(scene, rng, config, family) if sensor == "depth" else _scan_standing(scene, rng, config, sensor)
        if scan is None:
            continue
        truth = _truth(scan.family, family, config)
        if family is None or int(truth.sum()) >= config.min_points:
            return CloudItem(scan, truth, scene.ids, scene.families())
    raise GeosegError(f"family {family}: no room of {_ATTEMPTS} shows it with {config.min_points} points")


def make_image(source: SeedSource, family: str | None, avoid: Collection[str], config: SetConfig, extra: Sequence[str] = ()) -> ImageItem:
    """Make a picture of a new room; arguments as in :func:`make_cloud`. Without ``family`` it shows other objects.

    Raises:
        GeosegError: none of 12 rooms offers a view of the family.
    """
    width, height = config.image_size
    for _ in range(_ATTEMPTS):
        rng = np.random.default_rng(source.draw("view"))
        low, high = config.image_others
        rest = others(rng, int(rng.integers(low if family else max(low, 1), max(high, 1) + 1)), avoid, config.catalogue)
        scene = make_scene(
            source,
            [[*([family] if family else []), *extra, *rest]],
            size=config.room,
            touch=config.touch,
            catalogue=config.catalogue,
        )
        camera = find_view(scene, rng, family, width=width, height=height)
        if camera is None:
            continue
        picture = render(scene, camera, rng)
        return ImageItem(picture.rgb, _truth(picture.family, family, config), picture.family, picture.instance, scene.ids, scene.families())
    raise GeosegError(f"family {family}: no room of {_ATTEMPTS} offers a view of it")


def concept_set(
    family: str,
    n_clouds: int | None = None,
    n_images: int | None = None,
    seed: int = 0,
    *,
    preset: str = "standard",
    config: SetConfig | None = None,
    sensor: str = "lidar",
    n_without_clouds: int = 0,
    n_without_images: int = 0,
    absent: Collection[str] = (),
    stream: str = "set",
    progress: Callable[[], object] | None = None,
) -> ConceptSet:
    """Make the set of one family.

    Args:
        family: name of a family of the catalogue.
        n_clouds, n_images: numbers of items; None: those of the preset.
        seed: equal seeds give equal sets.
        preset: one of ``PRESETS``.
        config: settings of the set, used instead of the preset.
        sensor: one of ``SENSORS``.
        n_without_clouds, n_without_images: numbers of items without the family.
        absent: families that are in no item of the set.
        stream: name of the source of seeds; sets with different streams share no seed, even with equal ``seed`` and ``family``.
        progress: called once per finished item.

    Raises:
        InputError: unknown family, preset or sensor.
    """
    if sensor not in SENSORS:
        raise InputError(f"sensor {sensor}: unknown, expected one of {', '.join(SENSORS)}")
    config = make_set_config(preset) if config is None else config
    config.catalogue.check([family])
    n_clouds, n_images = config.clouds if n_clouds is None else n_clouds, config.images if n_images is None else n_images
    items = _ItemMaker(family, frozenset(absent), config, sensor, seed, stream)
    made = ConceptSet(
        family,
        list(parallel(items.cloud, range(n_clouds), progress)),
        list(parallel(items.image, range(n_images), progress)),
        list(parallel(items.cloud_without, range(n_without_clouds), progress)),
        list(parallel(items.image_without, range(n_without_images), progress)),
    )
    check_unpaired([*made.clouds, *made.without_clouds], [*made.images, *made.without_images])
    return made


@dataclass(frozen=True)
class _ItemMaker:
    """Makes the items of one set by their numbers. Attributes as the arguments of :func:`concept_set`."""

    family: str
    absent: frozenset[str]
    config: SetConfig
    sensor: str
    seed: int
    stream: str

    @cached_property
    def avoid(self) -> set[str]:
        """Families that are not drawn at random for a room."""
        return {self.family, *self.absent} | (set() if self.config.similar else self.config.catalogue.similar(self.family))

    @cached_property
    def confounder(self) -> str:
        """The second family, which is in many rooms of clouds and in no room of a picture."""
        near = self.config.catalogue.similar(self.family)
        return next(n for n in ("cabinet", "plant", "bin") if n not in near | {self.family, *self.absent})

    @cached_property
    def image_avoid(self) -> set[str]:
        """Families that are not drawn at random for the room of a picture."""
        return self.avoid | ({self.confounder} if self.config.confounder else set())

    def cloud(self, k: int) -> CloudItem:
        source = self._source("clouds", k)
        rng = np.random.default_rng(source.draw("view"))
        extra = [self.confounder] if rng.random() < self.config.confounder else []
        return make_cloud(source, self._shown(rng), self.avoid | {self.confounder}, self.config, self.sensor, extra)

    def image(self, k: int) -> ImageItem:
        source = self._source("images", k)
        return make_image(source, self._shown(np.random.default_rng(source.draw("view"))), self.image_avoid, self.config)

    def cloud_without(self, k: int) -> CloudItem:
        return make_cloud(self._source("without_clouds", k), None, self.avoid, self.config, self.sensor)

    def image_without(self, k: int) -> ImageItem:
        return make_image(self._source("without_images", k), None, self.image_avoid, self.config)

    def _source(self, kind: str, k: int) -> SeedSource:
        return SeedSource(self.seed, f"{self.stream}/{self.family}/{kind}/{k}")

    def _shown(self, rng: np.random.Generator) -> str | None:
        """The family, or None for an outlier."""
        return None if rng.random() < self.config.outliers else self.family


def check_unpaired(first: Sequence[CloudItem | ImageItem], second: Sequence[CloudItem | ImageItem]) -> None:
    """Raise GeosegError if any seed of a room, instance or texture went into items of both sequences."""
    for kind in ("room", "instance", "texture"):
        a = {i for item in first for i in item.ids[kind]}
        b = {i for item in second for i in item.ids[kind]}
        if a & b:
            raise GeosegError(f"clouds and images share {len(a & b)} {kind} seeds, expected none")


def parallel(make: Callable[[Job], Made], jobs: Iterable[Job], progress: Callable[[], object] | None = None) -> Iterator[Made]:
    """Call ``make`` for each job on two threads; results in the order of the jobs. Compiled loops release the interpreter lock, Open3D does
    not."""
    with ThreadPoolExecutor(2) as pool:
        queue = iter(jobs)
        while batch := list(islice(queue, 8)):
            for result in pool.map(make, batch):
                if progress is not None:
                    progress()
                yield result


def _truth(family: NDArray[np.int16], name: str | None, config: SetConfig) -> NDArray[np.uint8]:
    return np.zeros(family.shape, np.uint8) if name is None else (family == config.catalogue.id(name)).astype(np.uint8)


def _scan_standing(scene: Scene, rng: np.random.Generator, config: SetConfig, sensor: str) -> Scan | None:
    x0, x1, y0, y1 = scene.zones[0]
    places = rng.uniform((x0 + 0.5, y0 + 0.5), (x1 - 0.5, y1 - 0.5), (60, 2))
    free = places[footprint_distance(places, scene.objects) > 0.35]
    if len(free) == 0:
        return None

    def pose(place: NDArray[np.float64], low: float, high: float) -> Pose:
        return level_pose((float(place[0]), float(place[1]), float(rng.uniform(low, high))), float(rng.uniform(-np.pi, np.pi)))

    if sensor == "lidar":
        return config.lidar.scan(scene, pose(free[0], 0.7, 1.1), rng)
    stations = [pose(place, 1.2, 1.6) for place in free[: config.scanner.stations]]
    return config.scanner.scan(scene, stations, rng, float(rng.uniform(1.2, 1.8)))


def _scan_depth(scene: Scene, rng: np.random.Generator, config: SetConfig, family: str | None) -> Scan | None:
    d = config.depth
    camera = find_view(scene, rng, family, width=d.width, height=d.height, focal=d.focal)
    return None if camera is None else d.scan(scene, Pose(camera.position, camera.rotation), rng, float(rng.uniform(1.2, 1.8)))
