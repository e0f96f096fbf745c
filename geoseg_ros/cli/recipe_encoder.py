"""``geoseg train --recipe encoder``: train the encoder of clouds that ships with the package, on simulated rooms, without labels."""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg_ros.errors import InputError
from geoseg_ros.files import check_output
from geoseg_ros.learning.cloud_distillation import EncoderConfig

if TYPE_CHECKING:
    import torch

    from geoseg_ros.backbones.base import ImageBackbone
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.evaluate.semantics.rooms import SemanticRooms
    from geoseg_ros.learning.sensor_clouds import LearningRoom
    from geoseg_ros.nets.encoder_file import TrainedEncoder


@dataclass(frozen=True)
class EncoderRecipe:
    """What the encoder is trained on, and how.

    Attributes:
        rooms, held_out: numbers of simulated rooms to learn from and to measure on.
        preset: of the rooms.
        seed: of the rooms; those that methods are measured on have seed 0.
        frames: whose tokens are lifted; views: every which one of them is also learnt from alone; sweeps: turns of a LiDAR, of each room.
        background: LiDAR clouds of other rooms, without the families of the demo, whose object proposals no target should match.
        side: longest side of a frame for the backbone, pixels.
        network: arguments of the encoder beside its width.
        training: settings.
    """

    rooms: int = 64
    held_out: int = 6
    preset: str = "light"
    seed: int = 1404
    frames: int = 10
    views: int = 2
    sweeps: int = 2
    background: int = 24
    side: int = 480
    network: dict[str, Any] = field(default_factory=lambda: {"width": 64, "voxel": 0.05, "drop": 0.0})
    training: EncoderConfig = field(default_factory=lambda: EncoderConfig(minutes=45.0))


RECIPE = EncoderRecipe()


def run(options: argparse.Namespace, recipe: EncoderRecipe = RECIPE) -> dict[str, object]:
    """Make the rooms, train, measure on held-out rooms, write the weights to ``--out``; returns the card's figures.

    Args:
        options: ``out``, ``seconds`` (instead of the recipe's minutes), ``backbone``, ``backend``, ``json`` as of ``geoseg train``.
        recipe: what to train on.

    Raises:
        InputError: ``--out`` is no file to write, or a backbone that cannot be used.
    """
    import shutil

    import torch

    from geoseg_ros.cli.backbone_options import open_image_backbone
    from geoseg_ros.cli.outputs import UNFINISHED, keep_on_interrupt
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.evaluate.semantics.encoder_probe import probe
    from geoseg_ros.learning.cloud_distillation import agreement, mean_token, train_encoder
    from geoseg_ros.nets.encoder_file import load_encoder, save_encoder
    from geoseg_ros.nets.point_encoder import PointEncoder

    begin, out = time.monotonic(), Path(options.out)
    _check(options, out)
    backbone = open_image_backbone(options)
    folder = out.with_name(f".{out.name}{UNFINISHED}")
    config = replace(recipe.training, minutes=options.seconds / 60) if options.seconds else recipe.training
    with Stages("step", options.json) as progress, keep_on_interrupt(folder, options.json):
        rooms = {split: make_rooms(recipe, split, backbone, folder, progress) for split in ("learn", "measure")}
        learn, measure = ([room for room, _ in rooms[split]] for split in ("learn", "measure"))
        mean = mean_token(learn)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            untrained = PointEncoder(dim=backbone.dim, **recipe.network)
            network = copy.deepcopy(untrained)
        state = folder / "training.safetensors"
        trained = train_encoder(network, learn, mean, config, state, lambda run: progress("training", round(100 * run.progress), 100))
        about: dict[str, Any] = {
            "rooms": recipe.rooms,
            "clouds": sum(len(room.clouds) for room in learn),
            "preset": recipe.preset,
            "steps": trained.steps,
            "minutes": round(trained.minutes, 1),
            "loss": round(trained.loss, 4),
            "backbone": backbone.name,
            "cosine_held_out": agreement(trained.encoder, measure, mean),
            "config": asdict(config),
        }
        about["classes_by_neighbours"] = probe(trained.encoder, untrained.eval(), rooms["learn"], rooms["measure"])
        parts = trained.encoder, backbone.hash, torch.from_numpy(mean), about
        save_encoder(out, *parts)
        save_encoder(out, *parts, background_features(load_encoder(out), backbone, recipe.background))
        found = load_encoder(out)
    shutil.rmtree(folder, ignore_errors=True)
    if not options.json:
        print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {trained.steps} steps, loss {about['loss']}")
        print(f"cosine on held-out rooms: {about['cosine_held_out']}")
    seconds = round(time.monotonic() - begin, 1)
    return {"out": str(out), "bytes": out.stat().st_size, "hash": found.hash, **about, "seconds": seconds}


def _check(options: argparse.Namespace, out: Path) -> None:
    """Raise InputError where options do not go with the recipe."""
    from geoseg_ros.nets.encoder_file import is_encoder

    names = ("name", "images", "clouds", "without", "without_clouds")
    if given := [f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]:
        raise InputError(f"--recipe encoder: the rooms are simulated, it cannot be combined with {', '.join(given)}")
    if out.suffix != ".safetensors":
        raise InputError(f"--out: expected a .safetensors file, got '{out}'")
    check_output(out, "--out", [], is_encoder, "an encoder")


def background_features(encoder: TrainedEncoder, backbone: ImageBackbone, clouds: int) -> torch.Tensor:
    """Unit mean features of the object proposals of so many LiDAR clouds of simulated rooms, float32 [n, D]."""
    import torch

    from geoseg_ros.projection.scene import CloudScene, SceneConfig
    from geoseg_ros.runtime.engines.points import CloudFeatures
    from geoseg_ros.simulation.background import BackgroundConfig, background_clouds

    features = CloudFeatures(encoder)
    scenes = (CloudScene(cloud, backbone, SceneConfig(), features) for cloud in background_clouds(BackgroundConfig(lidar=clouds, depth=0)))
    found = [scene.proposal_features for scene in scenes]
    return torch.cat([torch.zeros(0, encoder.network.dim), *(rows for rows in found if rows is not None)])


def make_rooms(
    recipe: EncoderRecipe, split: str, backbone: ImageBackbone, folder: Path, progress: Stages
) -> list[tuple[LearningRoom, list[int]]]:
    """Rooms of a split, from the ``folder`` where they are in it, and the class of each super-voxel (of most of its points; -1: of none),
    which only the measurement looks at."""
    import numpy as np

    from geoseg_ros.evaluate.semantics.rooms import simulated_rooms
    from geoseg_ros.files import write_text
    from geoseg_ros.learning.sensor_clouds import load_room, save_room

    count = recipe.rooms if split == "learn" else recipe.held_out
    source: SemanticRooms = simulated_rooms(split, count, recipe.seed, recipe.preset, recipe.frames, sweeps=recipe.sweeps)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for k in range(count):
        path, truth = folder / f"{split}_{k}.safetensors", folder / f"{split}_{k}.txt"
        if not truth.exists():
            room, classes = _lifted(recipe, source, k, backbone)
            save_room(path, room)
            write_text(truth, " ".join(map(str, classes)))
        made.append((load_room(path), np.array(truth.read_text().split(), int).tolist()))
        progress(f"rooms to {split}", k + 1, count)
    return made


def _lifted(recipe: EncoderRecipe, source: SemanticRooms, number: int, backbone: ImageBackbone) -> tuple[LearningRoom, list[int]]:
    import numpy as np

    from geoseg_ros.learning.sensor_clouds import learning_room
    from geoseg_ros.projection.frame_lifting import LiftConfig, lift_frames

    room = source.read(number)
    assert room.frames is not None  # simulated rooms have them
    config = LiftConfig(voxel=recipe.network["voxel"], sides=(recipe.side,))
    scene = lift_frames(room.frames, backbone, config, points=room.cloud)
    votes = np.zeros((int(scene.superpoint.max()) + 1, len(source.classes)), int)
    use = (room.label >= 0) & (scene.inverse >= 0)
    np.add.at(votes, (scene.superpoint[scene.inverse[use]], room.label[use]), 1)
    classes = np.where(votes.sum(axis=1) > 0, votes.argmax(axis=1), -1)
    return learning_room(scene, list(room.frames)[:: recipe.views], room.sweeps), classes.tolist()
