"""Images and clouds of procedural rooms, from which a background bank is made."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.settings import Settings, setting
from geoseg_ros.simulation.rooms import SeedSource
from geoseg_ros.simulation.sets import SetConfig, make_cloud, make_image, make_set_config, parallel


@dataclass(frozen=True)
class BackgroundConfig(Settings):
    """Number and contents of the procedural rooms that a background bank is made from."""

    pictures: int = setting(64, "rendered pictures of rooms", range=(0, 100_000))
    lidar: int = setting(24, "rendered clouds of the LiDAR", range=(0, 100_000))
    depth: int = setting(48, "rendered clouds of the depth camera, coloured and organised", range=(0, 100_000))
    absent: tuple[str, ...] = setting(
        ("chair", "office_chair", "stool", "armchair", "bench", "lamp"),
        "families that are in no room, so that the bank is no evidence against them; the first six are those of the demo",
    )
    set_config: SetConfig = field(default_factory=lambda: make_set_config("standard"), metadata={"help": "rooms, pictures and sensors"})
    seed: int = setting(0, "equal seeds give equal items, in other rooms than those of any set or walk", range=(0, math.inf))

    def __post_init__(self) -> None:
        """Raises InputError: an unknown or repeated family."""
        super().__post_init__()
        self.set_config.catalogue.check(self.absent)

    def _source(self, kind: str, k: int) -> SeedSource:
        return SeedSource(self.seed, f"background/{kind}/{k}")


def background_pictures(config: BackgroundConfig) -> Iterator[NDArray[np.uint8]]:
    """Render the pictures, uint8 RGB [H, W, 3]; two at a time."""

    def make(k: int) -> NDArray[np.uint8]:
        return make_image(config._source("pictures", k), None, config.absent, config.set_config).rgb

    return parallel(make, range(config.pictures))


def background_clouds(config: BackgroundConfig) -> Iterator[Cloud]:
    """Make the clouds: first those of the LiDAR, then those of the depth camera."""

    def make(job: tuple[str, int]) -> Cloud:
        sensor, k = job
        return make_cloud(config._source(sensor, k), None, config.absent, config.set_config, sensor).cloud

    jobs = [("lidar", k) for k in range(config.lidar)] + [("depth", k) for k in range(config.depth)]
    return parallel(make, jobs)
