"""Simulated rooms with a class per point: a scan of the room, and posed frames of a depth camera that was carried through it.

Rooms of a split, seed and number are always the same. Learning and measuring never share a seed of a room, an object or a texture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.posed_frames import FrameList, PosedFrame, PosedFrames
from geoseg_ros.projection.cameras import camera_matrix
from geoseg_ros.simulation.families import FURNITURE, Catalogue
from geoseg_ros.simulation.rooms import Scene, SeedSource, footprint_distance, make_scene
from geoseg_ros.simulation.sensors import DepthCamera, Pose, Scan, level_pose, optical_pose
from geoseg_ros.simulation.sets import SetConfig, make_set_config, others, parallel
from geoseg_ros.simulation.shapes import PARTS

SHELL = ("floor", "wall", "ceiling", "fitting")  # parts of the room itself; fittings are doors, windows, pictures and skirting
GROUPS = {  # classes of furniture, and the families in each
    "seat": ("chair", "office_chair", "stool", "bench"),
    "table": ("table", "round_table", "desk"),
    "sofa": ("sofa", "armchair"),
    "bed": ("bed",),
    "storage": ("bookcase", "cabinet", "drawer_unit"),
    "lamp": ("lamp",),
    "plant": ("plant",),
    "toilet": ("toilet",),
    "clutter": ("bin", "box_pile", "monitor", "ladder", "bag"),
}
CLASSES = (*SHELL, *GROUPS)
SPLITS = ("learn", "measure")
ROOMS = {"learn": 40, "measure": 16}
FRAMES = 16
OBJECTS = {
    "tiny": (4, 6),
    "light": (8, 13),
    "standard": (8, 13),
    "hard": (13, 18),
}  # fewest and most in a room, by preset; for some there is no place
_CLEARANCE = 0.35  # metres between a sensor and the footprints of objects
_ATTEMPTS = 20


@dataclass(frozen=True, eq=False)
class SemanticRoom:
    """A room with truth.

    Attributes:
        name: of the room.
        cloud: N points, metres, z up.
        label: int64 [N], class of each point, -1 for points that do not count.
        frames: posed frames in the frame of the cloud, or None where there are none.
        frame_labels: of simulated rooms: int64 [H, W] of each frame, class of each pixel, -1 where it has no depth or does not count.
        sweeps: turns of a LiDAR in the room, in the frame of the cloud.
    """

    name: str
    cloud: Cloud
    label: NDArray[np.int64]
    frames: PosedFrames | None = None
    frame_labels: Sequence[NDArray[np.int64]] = ()
    sweeps: Sequence[Cloud] = ()


@dataclass(frozen=True)
class SemanticRooms:
    """The rooms of one split of a data set, made or read one at a time by every iteration.

    Attributes:
        data: name of the data set.
        split: of ``SPLITS``.
        classes: names of the classes.
        names: of the rooms.
        read: the room of a number.
        about: everything that rooms which are made on demand depend on; "" for files.
    """

    data: str
    split: str
    classes: tuple[str, ...]
    names: Sequence[str]
    read: Callable[[int], SemanticRoom]
    about: str = ""

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[SemanticRoom]:
        return parallel(self.read, range(len(self.names)))


def simulated_rooms(
    split: str,
    count: int | None = None,
    seed: int = 0,
    preset: str = "standard",
    frames: int = FRAMES,
    catalogue: Catalogue = FURNITURE,
    sweeps: int = 0,
) -> SemanticRooms:
    """Simulated rooms with the classes ``CLASSES``, or, with a catalogue of one's own, the parts of the room and one class per family.

    Args:
        split: of ``SPLITS``.
        count: rooms; None: 40 to learn from, 16 to measure.
        seed: of the whole set.
        preset: ``tiny`` (small, for tests), ``light`` (coarser sensors, several times quicker), ``standard`` or ``hard`` (more objects that
            touch one another).
        frames: posed frames of each room.
        sweeps: turns of a LiDAR in each room.

    Raises:
        InputError: unknown split or preset, or no room.
    """
    if split not in SPLITS:
        raise InputError(f"split {split}: expected one of {', '.join(SPLITS)}")
    if preset not in OBJECTS:
        raise InputError(f"preset {preset}: expected one of {', '.join(OBJECTS)} for rooms with classes")
    number = ROOMS[split] if count is None else count
    if number < 1 or frames < 1:
        raise InputError(f"rooms: expected at least one room and one frame, got {number} and {frames}")
    set_config, (classes, of_family) = make_set_config(preset, catalogue=catalogue, others=OBJECTS[preset]), family_classes(catalogue)

    def make(k: int) -> SemanticRoom:
        return _make_room(f"{split}/{k}", SeedSource(seed, f"semantics/{split}/{preset}/{k}"), set_config, of_family, frames, sweeps)

    about = repr((split, seed, preset, frames, catalogue.names, *([sweeps] if sweeps else [])))
    return SemanticRooms("rooms", split, classes, [f"{split}/{k}" for k in range(number)], make, about)


def family_classes(catalogue: Catalogue) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The classes of rooms with a catalogue's families, and the class of each family id, int64 [families + 1]; that of id 0 is not used."""
    if set(catalogue.names) == set(FURNITURE.names):
        group = {family: name for name, families in GROUPS.items() for family in families}
        return CLASSES, np.array([-1, *(CLASSES.index(group[name]) for name in catalogue.names)])
    classes = (*SHELL, *catalogue.names)
    return classes, np.array([-1, *range(len(SHELL), len(classes))])


def point_classes(scan: Scan, of_family: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 [N]: class of each point; -1 for invalid ones and the pillars that small objects stand on."""
    shell = np.full(len(PARTS) + 1, -1, np.int64)  # the last is for invalid points
    for k, name in enumerate(SHELL):
        shell[PARTS.index(name)] = k
    return np.where(scan.family > 0, of_family[scan.family], shell[scan.part])


def _make_room(
    name: str, source: SeedSource, set_config: SetConfig, of_family: NDArray[np.int64], frames: int, sweeps: int
) -> SemanticRoom:
    for _ in range(_ATTEMPTS):
        rng = np.random.default_rng(source.draw("view"))
        furniture = others(rng, int(rng.integers(set_config.others[0], set_config.others[1] + 1)), (), set_config.catalogue)
        scene = make_scene(source, [furniture], size=set_config.room, touch=set_config.touch, catalogue=set_config.catalogue)
        places = _free_places(scene, rng)
        if len(places) < 2:
            continue
        stations = [
            level_pose((float(x), float(y), float(rng.uniform(1.2, 1.6))), 0.0)
            for x, y in (places[k % len(places)] for k in range(set_config.scanner.stations))
        ]
        exposure = float(rng.uniform(1.2, 1.8))
        scan = set_config.scanner.scan(scene, stations, rng, exposure)
        to_cloud = np.eye(4)
        to_cloud[:3, :3], to_cloud[:3, 3] = stations[0].rotation.T, -stations[0].rotation.T @ stations[0].position
        shots = [
            _frame(f"{name} frame {k}", scene, pose, set_config.depth, rng, exposure, to_cloud, of_family)
            for k, pose in enumerate(_walk(scene, places, frames, rng))
        ]
        turns = [_sweep(scene, places[k % len(places)], set_config, rng, to_cloud) for k in range(sweeps)]
        frames_of, labels = zip(*shots, strict=True)
        return SemanticRoom(name, scan.cloud, point_classes(scan, of_family), FrameList(frames_of, name), labels, turns)
    raise GeosegError(f"{name}: no room of {_ATTEMPTS} has places for the sensors")


def _free_places(scene: Scene, rng: np.random.Generator) -> NDArray[np.float64]:
    """Places float64 [K, 2] with room for a sensor, the first far from one another."""
    x0, x1, y0, y1 = scene.zones[0]
    tried = rng.uniform((x0 + 0.4, y0 + 0.4), (x1 - 0.4, y1 - 0.4), (120, 2))
    free = tried[footprint_distance(tried, scene.objects) > _CLEARANCE]
    order = [0] if len(free) else []
    while len(order) < min(len(free), 8):
        apart = np.linalg.norm(free[:, None] - free[order], axis=2).min(axis=1)
        order.append(int(apart.argmax()))
    return np.asarray(free[order])


def _walk(scene: Scene, places: NDArray[np.float64], count: int, rng: np.random.Generator) -> list[Pose]:
    """Poses of a camera at several places, looking across the room and down a little, and now and then up to the ceiling."""
    x0, x1, y0, y1 = scene.zones[0]
    poses = []
    for k in range(count):
        x, y = places[k % len(places)]
        across = np.arctan2((y0 + y1) / 2 - y, (x0 + x1) / 2 - x) + np.radians(rng.uniform(-50, 50))
        pitch = np.radians(-20.0 if k % 5 == 4 else rng.uniform(5, 30))
        poses.append(optical_pose((float(x), float(y), float(rng.uniform(1.1, 1.7))), float(across), float(pitch)))
    return poses


def _sweep(
    scene: Scene, place: NDArray[np.float64], set_config: SetConfig, rng: np.random.Generator, to_cloud: NDArray[np.float64]
) -> Cloud:
    """A turn of the LiDAR at a place, in the frame of the room's cloud."""
    pose = level_pose((float(place[0]), float(place[1]), float(rng.uniform(0.7, 1.1))), float(rng.uniform(-np.pi, np.pi)))
    xyz = set_config.lidar.scan(scene, pose, rng).cloud.xyz @ pose.rotation.T + pose.position
    return Cloud((xyz @ to_cloud[:3, :3].T + to_cloud[:3, 3]).astype(np.float32))


def _frame(
    name: str,
    scene: Scene,
    pose: Pose,
    camera: DepthCamera,
    rng: np.random.Generator,
    exposure: float,
    to_cloud: NDArray[np.float64],
    of_family: NDArray[np.int64],
) -> tuple[PosedFrame, NDArray[np.int64]]:
    """A frame and the class of each of its pixels."""
    scan = camera.scan(scene, pose, rng, exposure)
    cloud = scan.cloud
    assert cloud.rgb is not None
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = pose.rotation, pose.position
    size = (camera.height, camera.width)
    intrinsics = camera_matrix(camera.focal, ((camera.width - 1) / 2, (camera.height - 1) / 2))
    frame = PosedFrame(cloud.rgb.reshape(*size, 3), cloud.xyz[:, 2].reshape(size).copy(), intrinsics, to_cloud @ matrix, name)
    return frame, point_classes(scan, of_family).reshape(size)
