"""Training of the co-segmentation network: sets in, a trained network and a bank per set out.

The stages are in ``training_stages.py``, the loop is :mod:`geoseg_ros.learning.loop`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from geoseg_ros.learning.checkpoint import Checkpoint
from geoseg_ros.learning.fabric import open_fabric
from geoseg_ros.learning.loop import LoopConfig, Run, train
from geoseg_ros.methods.geofree.bank import Bank, build_bank
from geoseg_ros.methods.geofree.model import CosegNetwork
from geoseg_ros.methods.geofree.predict import calibrated
from geoseg_ros.methods.geofree.training_config import FitConfig
from geoseg_ros.methods.geofree.training_history import History
from geoseg_ros.methods.geofree.training_sets import TrainingSet, check_sets, controlled, digest
from geoseg_ros.methods.geofree.training_stages import ImageStage, JointStage, SharedState, Stage
from geoseg_ros.nets.dgcnn import Dgcnn

SAVE_EVERY = 60.0  # seconds between two states of a training that can be resumed


@dataclass(frozen=True)
class Fitted:
    """A trained network (evaluation mode), the bank of each set by name, and how it came about."""

    network: CosegNetwork
    banks: dict[str, Bank]
    history: History


def fit(
    sets: Sequence[TrainingSet],
    config: FitConfig,
    extractor: Dgcnn,
    seconds: float | None = None,
    device: str = "cpu",
    report: Callable[[float], object] | None = None,
    state: Path | None = None,
    save_every: float = SAVE_EVERY,
) -> Fitted:
    """Train one network on one set (as the paper) or on several together.

    Deterministic by ``config.seed`` on the processor, unless limited by ``seconds``. The presence of a concept is judged against the
    others that were trained with it.

    Args:
        sets: what is trained on.
        config: settings, among them the control.
        extractor: frozen DGCNN; it is copied.
        seconds: wall-clock limit of the stages together, or None. Each has its share of it, and makes at least one step.
        device: see :func:`~geoseg_ros.learning.fabric.open_fabric`.
        report: called after each step with the progress 0 .. 1.
        state: file that the training keeps its state in, and goes on from if it is there; the end is the same as without a break. It is
            left behind: remove it when the result is safe.
        save_every: seconds between two states.

    Raises:
        InputError: sets or settings that cannot work; a state that is damaged or of another training.
        GeosegError: the loss is no longer finite.
    """
    check_sets(sets, config)
    given, config = controlled(sets, config)
    fabric = open_fabric(device)
    shared = SharedState(given, config, extractor, fabric.device)
    checkpoint = None if state is None else Checkpoint(state, digest(given, config, extractor), save_every)
    stages: list[Stage] = [JointStage(shared, 2, config.stage2), JointStage(shared, 3, config.stage3)]
    if config.network.mgcm.signal != "contrast":  # there the masks are given
        stages.insert(0, ImageStage(shared))
    shares, done = sum(task.stage.share for task in stages), 0.0
    for task in stages:
        share = task.stage.share / shares
        limit = None if seconds is None else share * seconds
        loop = LoopConfig(task.stage.epochs, limit, clip=config.clip, seed=config.seed, stage=task.number)
        progress = None if report is None else _part(report, done, share)
        train(task, loop, fabric, checkpoint, progress)
        done += share
    if report is not None:
        report(1.0)
    if shared.best[1]:
        shared.network.load_state_dict(shared.best[1])
    network = shared.network.eval()
    return Fitted(network, _banks(network, given), shared.history)


def _part(report: Callable[[float], object], done: float, share: float) -> Callable[[Run], object]:
    """Report the progress of a stage, of which ``done`` lies behind and ``share`` is its own."""
    return lambda run: report(min(1.0, done + share * run.progress))


def _banks(network: CosegNetwork, sets: Sequence[TrainingSet]) -> dict[str, Bank]:
    """The bank of each set, on the processor; its presence is calibrated against what lacks the concept, and against the other sets."""
    banks = {s.name: build_bank(network, s.clouds, s.images) for s in sets}
    objects = {name: bank.object[None] for name, bank in banks.items()}
    for s in sets:
        foreign = [objects[name] for name in objects if name != s.name]
        bank = replace(banks[s.name], negatives=torch.cat([banks[s.name].negatives, *foreign]))
        banks[s.name] = calibrated(network, bank, s.clouds, s.images, s.without_clouds, s.without_images).to("cpu")
    return banks
