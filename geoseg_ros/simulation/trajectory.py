"""A recording of a robot that drives through two rooms, with a LiDAR or a depth camera, and an unpaired stream of pictures.

The first room holds the concepts, the second does not. The sliding door between them is open only while the robot is near. The pictures
show other rooms with other instances; some of them show none of the concepts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.files import atomic_path
from geoseg_ros.io.folders import write_image
from geoseg_ros.io.recordings import RecordingWriter
from geoseg_ros.settings import Settings, setting
from geoseg_ros.simulation.families import FURNITURE, Catalogue
from geoseg_ros.simulation.rooms import Scene, SeedSource, Zone, close_doors, make_scene
from geoseg_ros.simulation.sensors import DepthCamera, Lidar, Pose, Scan, level_pose, optical_pose
from geoseg_ros.simulation.sets import ImageItem, SetConfig, concept_set, make_image, make_set_config, others, parallel
from geoseg_ros.simulation.truth import Truth, save_truth

_DOOR_OPENS = 1.0  # metres from the door
START_NS = 1_700_000_000 * 10**9  # stamps are made up, so that equal seeds give equal recordings


@dataclass(frozen=True)
class WalkConfig(Settings):
    """A recording of a walk. ``catalogue``: the families that can stand in the rooms; each of its meshes stands in the first room, where
    there is place."""

    seed: int = setting(0, "equal seeds give equal files", range=(0, math.inf))
    seconds: float = setting(20.0, "length of the recording", unit="s", range=(0.001, 3600.0))
    sensor: str = setting("lidar", "sensor of the clouds", choices=("lidar", "depth"))
    concepts: tuple[str, ...] = setting(("chair", "lamp"), "families with truth; the label is the position in this list + 1")
    cloud_rate: float | None = setting(None, "clouds per second; without it 10 for lidar, 5 for depth", unit="Hz", range=(0.001, 100.0))
    image_rate: float = setting(5.0, "images per second", unit="Hz", range=(0.001, 3600.0))
    pictures: int = setting(60, "different pictures; the stream repeats them in order when they are used up", range=(1, 3600))
    empty: float = setting(0.25, "share of the pictures without any of the concepts", range=(0.0, 1.0))
    room: tuple[float, float] = setting((5.4, 5.0), "mean length and width of each room", unit="m", range=(1.0, 100.0))
    cloud_topic: str = setting("/lidar/points", "topic of the clouds")
    image_topic: str = setting("/camera/image_raw", "topic of the images")
    cloud_frame: str = setting("", "frame_id of the clouds; empty: named after the sensor")
    image_frame: str = setting("camera_optical_frame", "frame_id of the images")
    catalogue: Catalogue = field(default=FURNITURE, metadata={"help": "the families that can stand in the rooms"})

    def __post_init__(self) -> None:
        """Raises InputError: an unknown or repeated concept, or none."""
        super().__post_init__()
        self.catalogue.check(self.concepts)
        if not self.concepts:
            raise InputError("concepts: expected at least one family")

    def set_config(self) -> SetConfig:
        """Settings of the rooms of the pictures and of the training items."""
        return make_set_config("standard", similar=False, catalogue=self.catalogue)

    def avoid(self) -> set[str]:
        """Families that are not drawn at random for a room: the concepts, and the families that are easily confused with them."""
        return set(self.concepts).union(*(self.catalogue.similar(c) for c in self.concepts))

    def labels(self, family: NDArray[np.int16]) -> NDArray[np.uint8]:
        """The label (position in ``concepts`` + 1, or 0) for each family id, uint8 of the same shape."""
        table = np.zeros(len(self.catalogue.families) + 1, np.uint8)
        for label, concept in enumerate(self.concepts, 1):
            table[self.catalogue.id(concept)] = label
        return table[family]


def walk_path(zones: Sequence[Zone]) -> NDArray[np.float64]:
    """A winding line from the far end of the first room to the far end of the last, through the doorways; float64 [400, 2]."""
    length = zones[0][1] - zones[0][0]
    x = np.linspace(zones[0][0] + 0.9, zones[-1][1] - 0.9, 400)
    y = 0.13 * (zones[0][3] - zones[0][2]) * np.sin(2 * np.pi * (x - zones[0][1]) / length)
    return np.stack([x, y], axis=1)


def walk_poses(scene: Scene, config: WalkConfig, stamps: NDArray[np.int64]) -> list[Pose]:
    """The pose of the sensor at each stamp. The robot drives along the path at 0.4 to 1 m/s, and back in reverse while time remains."""
    path = walk_path(scene.zones)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    heading = np.arctan2(*np.gradient(path, axis=0).T[::-1])
    speed = float(np.clip(along[-1] / config.seconds, 0.4, 1.0))
    t = (stamps - START_NS) * 1e-9
    s = along[-1] - np.abs(np.mod(t * speed, 2 * along[-1]) - along[-1])
    x, y, yaw = (np.interp(s, along, column) for column in (path[:, 0], path[:, 1], heading))
    if config.sensor == "lidar":
        return [level_pose((a, b, 0.9), c) for a, b, c in zip(x, y, yaw, strict=True)]
    pan = np.interp(s, along, heading + _pan_angles(scene, config.concepts, path, heading))
    return [optical_pose((a, b, 1.1), c, 0.18) for a, b, c in zip(x, y, pan, strict=True)]


def _pan_angles(scene: Scene, concepts: Sequence[str], path: NDArray[np.float64], heading: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angle of a panning head relative to the heading along the path, radians.

    The head looks at the nearest concept in the first room, and to and fro in the second.
    """
    spots = np.array([o.position for o in scene.objects if o.family in concepts])
    away = spots - path[:, None]
    distance = np.linalg.norm(away, axis=2)
    nearest = away[np.arange(len(path)), np.argmin(np.where(distance > 0.9, distance, np.inf), axis=1)]
    aside = np.arctan2(nearest[:, 1], nearest[:, 0]) - heading
    aside = np.clip(np.mod(aside + np.pi, 2 * np.pi) - np.pi, -1.8, 1.8)
    aside = np.where(path[:, 0] < scene.zones[0][1], aside, 1.2 * np.sin(2.5 * path[:, 0]))
    return np.asarray(gaussian_filter1d(aside, 12))


def walk_scene(config: WalkConfig) -> Scene:
    """Make the two rooms: one or two instances of every concept in the first, none in the second, and no family that is easily confused.

    Raises:
        GeosegError: none of 12 rooms has place for all concepts.
    """
    avoid, catalogue = config.avoid(), config.catalogue
    meshes = [f.name for f in catalogue.families if f.meshes and f.name not in config.concepts]
    for attempt in range(12):
        source = SeedSource(config.seed, f"walk/clouds/{attempt}")
        rng = np.random.default_rng(source.draw("view"))
        first = [*config.concepts, *config.concepts[: max(0, 4 - len(config.concepts))]]
        furniture = [[*first, *meshes, *others(rng, 6, avoid, catalogue)], others(rng, 8, avoid, catalogue)]
        scene = make_scene(source, furniture, size=config.room, path=walk_path, catalogue=catalogue)
        if scene.families() >= set(config.concepts):
            return scene
    raise GeosegError(f"concepts {', '.join(config.concepts)}: no room has place for all of them")


def walk_pictures(
    config: WalkConfig, count: int, progress: Callable[[], object] | None = None
) -> list[tuple[ImageItem, NDArray[np.uint8]]]:
    """``count`` pictures and their masks (uint8 [H, W] of labels). Stretches of five show one concept or none; in the room of every fourth
    picture with a concept stands a second one."""
    set_config = config.set_config()
    blocks = -(-count // 5)
    empty = round(config.empty * blocks)
    role = np.resize(np.arange(len(config.concepts)), blocks)
    role[np.linspace(0, blocks - 1, empty + 2)[1:-1].round().astype(int)] = -1
    avoid = config.avoid()

    def make(k: int) -> ImageItem:
        shown = int(role[k // 5])
        extra = [config.concepts[(shown + 1) % len(config.concepts)]] if shown >= 0 and k % 4 == 3 and len(config.concepts) > 1 else []
        return make_image(
            SeedSource(config.seed, f"walk/images/{k}"), config.concepts[shown] if shown >= 0 else None, avoid, set_config, extra
        )

    return [(item, config.labels(item.family)) for item in parallel(make, range(count), progress)]


def record(out: str | os.PathLike[str], config: WalkConfig, progress: Callable[[int, int], object] | None = None) -> dict[str, object]:
    """Write ``out``/recording (rosbag2, MCAP) and ``out``/truth.npz.

    Args:
        out: folder, made if absent; an older recording in it is replaced.
        config: settings of the recording.
        progress: called with (done, total).

    Returns:
        Paths and counts.

    Raises:
        InputError: ``out``/recording exists and is no recording.
        GeosegError: a concept cannot be shown.
    """
    root = Path(out)
    cloud_stamps = _stamps(config.seconds, config.cloud_rate or (10.0 if config.sensor == "lidar" else 5.0))
    image_stamps = _stamps(config.seconds, config.image_rate) + 37_000_000
    n_pictures = min(config.pictures, len(image_stamps))
    step = _counter(progress, len(cloud_stamps) + n_pictures)
    scene = walk_scene(config)
    poses = walk_poses(scene, config, cloud_stamps)
    pictures = walk_pictures(config, n_pictures, step)
    _check_other_seeds(scene, [item for item, _ in pictures])
    scans = _walk_scans(scene, config, poses, step)
    images = [item.rgb for item, _ in pictures]
    labels, instances = _write_recording(root / "recording", config, cloud_stamps, scans, image_stamps, images)
    sizes = [len(label) for label in labels]
    save_truth(
        root / "truth.npz",
        Truth(
            concepts=np.array(config.concepts),
            cloud_stamps=cloud_stamps,
            cloud_offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            cloud_labels=np.concatenate(labels),
            cloud_instances=np.concatenate(instances),
            cloud_poses=_matrices(poses),
            image_stamps=image_stamps,
            image_index=(np.arange(len(image_stamps)) % n_pictures).astype(np.int32),
            image_masks=np.stack([mask for _, mask in pictures]),
        ),
    )
    return {
        "recording": str(root / "recording"),
        "truth": str(root / "truth.npz"),
        "concepts": list(config.concepts),
        "clouds": len(cloud_stamps),
        "images": len(image_stamps),
        "pictures": n_pictures,
        "points": int(np.mean(sizes)),
    }


def _walk_scans(scene: Scene, config: WalkConfig, poses: Sequence[Pose], progress: Callable[[], object]) -> Iterator[Scan]:
    """What the sensor measures at each pose; the door is open where the robot is near it."""
    sensor: Lidar | DepthCamera = Lidar() if config.sensor == "lidar" else DepthCamera()
    shut = close_doors(scene)

    def scan(m: int) -> Scan:
        near = abs(float(poses[m].position[0]) - scene.zones[0][1]) < _DOOR_OPENS
        return sensor.scan(scene if near else shut, poses[m], np.random.default_rng((config.seed, 7, m)))

    return parallel(scan, range(len(poses)), progress)


def _write_recording(
    path: Path,
    config: WalkConfig,
    cloud_stamps: NDArray[np.int64],
    scans: Iterable[Scan],
    image_stamps: NDArray[np.int64],
    pictures: Sequence[NDArray[np.uint8]],
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint16]]]:
    """Write clouds and images in the order of their stamps; ``pictures`` repeat. Returns labels and instances of each cloud's points."""
    labels, instances, written = [], [], 0
    frame = config.cloud_frame or ("lidar" if config.sensor == "lidar" else "depth_optical_frame")
    with RecordingWriter(path, storage="mcap") as writer:

        def write_images(until: int) -> None:
            nonlocal written
            for k in range(written, until):
                writer.write_image(config.image_topic, int(image_stamps[k]), config.image_frame, pictures[k % len(pictures)])
            written = until

        for stamp, scan in zip(cloud_stamps, scans, strict=True):
            write_images(int(np.searchsorted(image_stamps, stamp)))
            writer.write_cloud(config.cloud_topic, int(stamp), frame, scan.cloud)
            labels.append(config.labels(scan.family))
            instances.append(scan.instance.astype(np.uint16))
        write_images(len(image_stamps))
    return labels, instances


def _matrices(poses: Sequence[Pose]) -> NDArray[np.float32]:
    """The poses as float32 [M, 4, 4]."""
    matrices = np.tile(np.eye(4, dtype=np.float32), (len(poses), 1, 1))
    matrices[:, :3, :3], matrices[:, :3, 3] = [p.rotation for p in poses], [p.position for p in poses]
    return matrices


def write_training(
    out: str | os.PathLike[str],
    config: WalkConfig,
    clouds: int,
    images: int,
    without: int,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, object]:
    """Write for every concept ``out``/<concept>/clouds/*.npy, images/*.png, without/*.png and without_clouds/*.npy.

    The rooms, instances and textures differ from those of every recording. Clouds are float32 [N, 3] in metres; those of the depth camera
    are [H, W, 6], with colour 0 .. 255 in the last three channels.

    Args:
        out: folder.
        config: seed, sensor and concepts are used.
        clouds, images: numbers of items of each concept.
        without: number of pictures without the concept; half as many clouds without it are written, too.
        progress: called with (done, total).
    """
    root = Path(out)
    step = _counter(progress, len(config.concepts) * (clouds + images + without + without // 2))
    for concept in config.concepts:
        made = concept_set(
            concept, clouds, images, config.seed, config=config.set_config(), sensor=config.sensor,
            n_without_clouds=without // 2, n_without_images=without, stream="training", progress=step,
        )  # fmt: skip
        for folder, scans in (("clouds", made.clouds), ("without_clouds", made.without_clouds)):
            for k, item in enumerate(scans):
                cloud = item.cloud
                table = cloud.xyz if cloud.rgb is None else np.concatenate([cloud.xyz, cloud.rgb], axis=1, dtype=np.float32)
                if cloud.shape is not None:
                    table = table.reshape(*cloud.shape, -1)
                with atomic_path(root / concept / folder / f"{k:03d}.npy") as temporary:
                    np.save(temporary, table)
        for folder, shots in (("images", made.images), ("without", made.without_images)):
            for k, shot in enumerate(shots):
                write_image(root / concept / folder / f"{k:03d}.png", shot.rgb)
    return {"training": str(root), "concepts": list(config.concepts), "clouds": clouds, "images": images, "without": without}


def _counter(progress: Callable[[int, int], object] | None, total: int) -> Callable[[], None]:
    """A function that counts its calls and reports (done, total) to ``progress``."""
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return step


def _stamps(seconds: float, rate: float) -> NDArray[np.int64]:
    return START_NS + (np.arange(max(1, round(seconds * rate))) * (1e9 / rate)).astype(np.int64)


def _check_other_seeds(scene: Scene, pictures: Sequence[ImageItem]) -> None:
    for kind, used in scene.ids.items():
        shared = used & {i for item in pictures for i in item.ids[kind]}
        if shared:
            raise GeosegError(f"the walk and its pictures share {len(shared)} {kind} seeds, expected none")
