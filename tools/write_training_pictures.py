"""Write pictures for ``geoseg distill`` that no camera took: photographs of procedural rooms, and virtual views of what is in their clouds,
in colour and shaded. A student that is to look at clouds has to have seen them.

  python tools/write_training_pictures.py --rooms 300 --clouds 150 --out rooms/
  geoseg distill --teacher geoseg_base --images caltech101/ rooms/ --minutes 240 --out student.safetensors
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from geoseg_ros.errors import InputError
from geoseg_ros.geometry.analysis import analyse_cloud
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.projection.proposal_views import draw_proposals
from geoseg_ros.projection.views import ViewConfig
from geoseg_ros.simulation.background import BackgroundConfig, background_clouds, background_pictures

SIZE = 192  # pixels of a view: the largest crop that the student is trained with
SEED = 1  # other rooms than those of the background bank


def views(cloud: Cloud) -> list[NDArray[np.uint8]]:
    """The virtual views of a cloud's proposals, uint8 RGB [SIZE, SIZE, 3]."""
    drawn = draw_proposals(cloud, analyse_cloud(cloud), ViewConfig(size=SIZE))
    return [view for drawing in drawn for part in drawing.pictures for view in part]


def pictures(rooms: int, clouds: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Names and pictures: of ``rooms`` rooms, and of the views of ``clouds`` clouds of each sensor."""
    world = BackgroundConfig(rooms, clouds, clouds, absent=(), seed=SEED)
    for k, picture in enumerate(background_pictures(world)):
        yield f"room_{k:05}", picture
    for k, cloud in enumerate(background_clouds(world)):
        for number, view in enumerate(views(cloud)):
            yield f"cloud_{k:05}_{number:03}", view


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pictures; 2 where the input is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=300, metavar="N", help="pictures of rooms (default %(default)s)")
    parser.add_argument("--clouds", type=int, default=150, metavar="N", help="clouds of each of two sensors (default %(default)s)")
    parser.add_argument("--out", required=True, metavar="DIR", help="new or empty folder")
    options = parser.parse_args(arguments)
    out = Path(options.out)
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"--out: {out} exists, expected a new or an empty folder")
        out.mkdir(parents=True, exist_ok=True)
        count = 0
        for name, picture in pictures(options.rooms, options.clouds):
            cv2.imwrite(str(out / f"{name}.png"), picture[:, :, ::-1])
            count += 1
    except InputError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(f"{out}: {count} pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
