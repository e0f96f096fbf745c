"""Go on with the training of the encoder of clouds on your own recordings, without labels.

The encoder learns to say, from points alone, what the image backbone sees at them in the frames: the same objective and settings as for the
one that ships (geoseg train --recipe encoder), on your rooms and your sensor. The node takes the result by its parameter encoder.

What is learnt from, at least one of:
  --recording  rosbag2, MCAP or ROS 1 bag of a depth camera: depth images, camera_info, registered colour images, and /tf
  --frames  a folder per room with posed frames, in the layout of 7-Scenes, TUM RGB-D or ScanNet

After an interruption the same command resumes; until it is done, a hidden folder beside --out has intermediate results.

example:
  geoseg adapt-encoder --recording drive.mcap --minutes 20 --out encoder.safetensors
  geoseg adapt-encoder --frames rooms/kitchen rooms/office --minutes 20 --out encoder.safetensors
"""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg_ros.cli.backbone_options import add_backbone, add_backend
from geoseg_ros.errors import InputError
from geoseg_ros.files import check_output

if TYPE_CHECKING:
    from geoseg_ros.backbones.base import ImageBackbone
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.io.posed_frames import PosedFrames
    from geoseg_ros.learning.sensor_clouds import LearningRoom

RATE = 1e-3  # a quarter of that of a training from scratch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--recording", nargs="+", action="extend", default=[], metavar="BAG", help="recordings of a depth camera with /tf")
    parser.add_argument("--frames", nargs="+", action="extend", default=[], metavar="DIR", help="posed frames, a folder per room")
    parser.add_argument("--out", required=True, metavar="FILE", help="encoder to write (.safetensors)")
    parser.add_argument("--start", metavar="FILE", help="encoder to begin with (default: the one that ships)")
    parser.add_argument("--minutes", type=float, default=20.0, metavar="M", help="of training (default %(default)s)")
    parser.add_argument("--limit", type=int, default=120, metavar="N", help="frames taken of a room, evenly spread (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (default %(default)s)")
    parser.add_argument("--device", default="cpu", help="of the training: auto, cpu, cuda or cuda:N (default %(default)s)")
    add_backbone(parser)
    add_backend(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Lift the rooms, train, write the encoder, and return its figures."""
    from geoseg_ros.cli.backbone_options import open_image_backbone
    from geoseg_ros.cli.outputs import UNFINISHED, keep_on_interrupt
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.learning.cloud_distillation import EncoderConfig, agreement, train_encoder
    from geoseg_ros.nets.encoder_file import DEFAULT, is_encoder, load_encoder, save_encoder
    from geoseg_ros.runtime.discovery import open_posed_frames

    begin, out = time.monotonic(), Path(options.out)
    _check(options, out)
    check_output(out, "--out", [*options.recording, *options.frames, options.start], is_encoder, "an encoder")
    start = load_encoder(options.start or DEFAULT)
    backbone = open_image_backbone(options)
    if start.backbone != backbone.hash:
        raise InputError(f"--start: its features are tokens of another backbone than {backbone.name}")
    sources = [open_posed_frames(path, options.limit) for path in [*options.recording, *options.frames]]
    folder, mean = out.with_name(f".{out.name}{UNFINISHED}"), start.mean.numpy()
    config = EncoderConfig(minutes=options.minutes, rate=RATE, seed=options.seed)
    config = replace(config, batch=min(config.batch, max(1, len(sources) * 2)))
    with Stages("step", options.json) as progress, keep_on_interrupt(folder, options.json):
        rooms = _rooms(sources, backbone, start.network.voxel, folder, progress)
        before = agreement(start.network, rooms, mean)
        trained = train_encoder(
            start.network,
            rooms,
            mean,
            config,
            folder / "training.safetensors",
            lambda state: progress("training", round(100 * state.progress), 100),
            options.device,
        )
        about = {
            "started_from": start.hash,
            "rooms": len(rooms),
            "clouds": sum(len(room.clouds) for room in rooms),
            "steps": trained.steps,
            "minutes": round(trained.minutes, 1),
            "backbone": backbone.name,
            "cosine_before": before,
            "cosine_after": agreement(trained.encoder, rooms, mean),
            "config": asdict(config),
        }
        save_encoder(out, trained.encoder, backbone.hash, start.mean, about, start.background)
    shutil.rmtree(folder, ignore_errors=True)
    summary = {"out": str(out), "hash": load_encoder(out).hash, **about, "seconds": round(time.monotonic() - begin, 1)}
    if not options.json:
        print(f"{out}: {trained.steps} steps on {len(rooms)} rooms")
        print(f"cosine to the tokens of the frames (of the rooms that were learnt from): before {before}, after {about['cosine_after']}")
    return summary


def _check(options: argparse.Namespace, out: Path) -> None:
    """Raise InputError for options that are wrong whatever the inputs hold."""
    if not options.recording and not options.frames:
        raise InputError("expected --recording or --frames")
    if out.suffix != ".safetensors":
        raise InputError(f"--out: expected a .safetensors file, got '{out}'")
    if not 0 < options.minutes < float("inf"):
        raise InputError(f"--minutes: expected more than 0, got {options.minutes:g}")
    if not 1 <= options.limit <= 100_000:
        raise InputError(f"--limit: expected 1 to 100000, got {options.limit}")


def _rooms(sources: list[Any], backbone: ImageBackbone, voxel: float, folder: Path, progress: Stages) -> list[LearningRoom]:
    """The rooms of posed frames, from the ``folder`` where they are in it already."""
    import hashlib

    from geoseg_ros.learning.sensor_clouds import learning_room, load_room, save_room
    from geoseg_ros.projection.frame_lifting import LiftConfig, lift_frames

    folder.mkdir(parents=True, exist_ok=True)
    rooms = []
    for number, frames in enumerate(sources):
        source: PosedFrames = frames
        name = hashlib.sha256(f"{source.name} {len(source)} {backbone.hash} {voxel}".encode()).hexdigest()[:16]
        path = folder / f"{number}_{name}.safetensors"
        if not path.exists():
            scene = lift_frames(source, backbone, LiftConfig(voxel=voxel), progress=progress)
            save_room(path, learning_room(scene, source))
        rooms.append(load_room(path))
        progress("rooms", number + 1, len(sources))
    return rooms
