"""What a background bank is made from: pictures and clouds of procedural rooms full of other things."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.simulation.rooms import SeedSource
from geoseg_ros.simulation.sets import Dials, make_cloud, make_dials, make_image, parallel


@dataclass(frozen=True)
class BackgroundConfig:
    """How many rooms are seen, and what is in them.

    Attributes:
        pictures, lidar, depth: items of each kind; the depth camera's clouds are coloured and organised, the LiDAR's are not.
        absent: families that are in no room, so that the bank does not speak against them. The first six are those of the demo.
        dials: rooms, pictures and sensors.
        seed: equal seeds give equal items. The rooms are others than those of any co-segmentation set or walk.
    """

    pictures: int = 64
    lidar: int = 24
    depth: int = 48
    absent: tuple[str, ...] = ("chair", "office_chair", "stool", "armchair", "bench", "lamp")
    dials: Dials = field(default_factory=lambda: make_dials("standard"))
    seed: int = 0

    def __post_init__(self) -> None:
        self.dials.catalogue.check(self.absent)
        for name in ("pictures", "lidar", "depth", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}: expected 0 or more, got {getattr(self, name)}")

    def _source(self, kind: str, k: int) -> SeedSource:
        return SeedSource(self.seed, f"background/{kind}/{k}")


def background_pictures(config: BackgroundConfig) -> Iterator[NDArray[np.uint8]]:
    """The pictures, uint8 RGB [H, W, 3], two rendered at a time."""

    def make(k: int) -> NDArray[np.uint8]:
        return make_image(config._source("pictures", k), None, config.absent, config.dials).rgb

    return parallel(make, range(config.pictures))


def background_clouds(config: BackgroundConfig) -> Iterator[Cloud]:
    """The LiDAR's clouds, then the depth camera's."""

    def make(job: tuple[str, int]) -> Cloud:
        sensor, k = job
        return make_cloud(config._source(sensor, k), None, config.absent, config.dials, sensor).cloud

    jobs = [("lidar", k) for k in range(config.lidar)] + [("depth", k) for k in range(config.depth)]
    return parallel(make, jobs)
