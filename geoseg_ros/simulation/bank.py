"""Makes background banks from the procedural world and from photographs of the user."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from contextlib import suppress
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.errors import InputError
from geoseg_ros.packs.bank import BackgroundBank, bank_paths, build_bank, find_bank, save_bank
from geoseg_ros.progress import Progress, silent
from geoseg_ros.projection.scene import SceneConfig
from geoseg_ros.simulation.background import BackgroundConfig, background_clouds, background_pictures

STAGE = "background bank"


def make_bank(
    backbone: ImageBackbone,
    photographs: Iterable[NDArray[np.uint8]] = (),
    photographs_named: str = "",
    world: BackgroundConfig | None = None,
    config: SceneConfig | None = None,
    progress: Progress = silent,
) -> BackgroundBank:
    """Make the background bank of a backbone.

    Args:
        photographs: uint8 RGB [H, W, 3], of anything; they come before the rendered pictures.
        photographs_named: description of the photographs, which the bank keeps.
        world: number and contents of the rendered rooms.
        config: settings of scenes; they must be those that packs are learnt with.
        progress: called with (stage, done, total).
    """
    world = world or BackgroundConfig()
    known = len(photographs) if isinstance(photographs, Sized) else 0
    total, done = known + world.pictures + world.lidar + world.depth, 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(STAGE, done, total)

    source = f"procedural rooms: {world.pictures} pictures, {world.lidar} LiDAR and {world.depth} depth clouds, seed {world.seed}"
    if photographs_named:
        source += f"; photographs: {photographs_named}"
    items = chain(photographs, background_pictures(world))
    return build_bank(backbone, items, background_clouds(world), source, config or SceneConfig(), step)


def open_bank(backbone: ImageBackbone, progress: Progress = silent) -> BackgroundBank:
    """Find or make the bank of a backbone.

    The shipped bank is used if there is one, else the bank in the user's cache, else a new bank is made from the procedural world and
    cached. A damaged bank is made again. A cache that cannot be written is ignored.
    """
    try:
        bank = find_bank(backbone)
    except InputError:
        bank = None
    if bank is None:
        bank = make_bank(backbone, progress=progress)
        with suppress(OSError):
            save_bank(bank, bank_paths(backbone)[-1])
    return bank
