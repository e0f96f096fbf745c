"""Three-stage training of the co-segmentation network (GeoFree-CoSeg; stages as read in its learning rates).

1. the 2D branch alone on L_s; 2. the 3D branch, samplers, graph, fusion and heads on frozen images; 3. everything. Several sets train one
network together: each step takes one set, the prototypes of the others are negatives.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.methods.geofree.bank import Bank, build_bank, spread
from geoseg_ros.methods.geofree.collapse_checks import Check, look, turned_about_z
from geoseg_ros.methods.geofree.inputs import stack
from geoseg_ros.methods.geofree.model import CosegNetwork, Pooled
from geoseg_ros.methods.geofree.objective import image_step, joint_step
from geoseg_ros.methods.geofree.predict import calibrated
from geoseg_ros.methods.geofree.resume import Tensors, TrainingState, digest, load_optimiser, optimiser_tensors, read_state, write_state
from geoseg_ros.methods.geofree.training_config import FitConfig, StageConfig
from geoseg_ros.methods.geofree.training_sets import TrainingSet, check_sets, controlled
from geoseg_ros.nets.dgcnn import Dgcnn

CHECKED = 8  # items that the guards look at
SAVE_EVERY = 60.0  # seconds between two states of a training that can be resumed


@dataclass
class History:
    """What happened.

    Attributes:
        epochs: per epoch: ``stage``, ``epoch``, ``seconds`` since the start, and the mean of each named loss.
        checks: stage, epoch, set and :class:`Check` of each look.
        flipped: whether the masks were inverted, before and after stage 1.
        kept: (stage, epoch) of the weights that were kept.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    checks: list[tuple[int, int, str, Check]] = field(default_factory=list)
    flipped: tuple[bool, bool] = (False, False)
    kept: tuple[int, int] = (0, 0)

    def warnings(self) -> list[str]:
        """Collapse warnings of the last look at each set."""
        last = {name: check for _, _, name, check in self.checks}
        return [f"{name}: {text}" for name, check in last.items() for text in check.warnings()]

    def plain(self) -> dict[str, Any]:
        """As JSON values; see :meth:`of`."""
        checks = [[stage, epoch, name, asdict(check)] for stage, epoch, name, check in self.checks]
        return {"epochs": self.epochs, "checks": checks, "flipped": list(self.flipped), "kept": list(self.kept)}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> History:
        """The inverse of :meth:`plain`."""
        checks = [(int(stage), int(epoch), str(name), Check(**check)) for stage, epoch, name, check in plain["checks"]]
        first, second = plain["flipped"]
        stage, epoch = plain["kept"]
        return cls(list(plain["epochs"]), checks, (bool(first), bool(second)), (int(stage), int(epoch)))

    def summary(self) -> dict[str, object]:
        """For manifests: plain numbers only."""
        last = {name: asdict(check) | {"criterion": check.criterion} for _, _, name, check in self.checks}
        stages = sorted({int(e["stage"]) for e in self.epochs})
        return {
            "epochs": {str(s): sum(e["stage"] == s for e in self.epochs) for s in stages},
            "seconds": round(self.epochs[-1]["seconds"], 1) if self.epochs else 0.0,
            "last": {k: round(v, 5) for k, v in self.epochs[-1].items()} if self.epochs else {},
            "checks": last,
            "warnings": self.warnings(),
            "flipped": list(self.flipped),
            "kept": list(self.kept),
        }


@dataclass(frozen=True)
class Fitted:
    """A trained network (evaluation mode), the bank of each set by name, and how it came about."""

    network: CosegNetwork
    banks: dict[str, Bank]
    history: History


class _Trainer:
    """State of one training."""

    def __init__(self, sets: Sequence[TrainingSet], config: FitConfig, extractor: Dgcnn, seconds: float | None, device: str) -> None:
        self.config, self.seconds, self.device = config, seconds, torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = CosegNetwork(sets[0].images.tokens.shape[2], config.network, deepcopy(extractor))
        self.network = network.to(self.device)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.names = [s.name for s in sets]
        self.points = {s.name: stack(s.clouds).to(self.device) for s in sets}
        self.images = {s.name: s.images.to(self.device) for s in sets}
        self.prototypes: dict[str, Pooled] = {}
        self.history = History()
        self.began = time.monotonic()
        self.best: tuple[float, dict[str, torch.Tensor]] = (-math.inf, {})
        self.file: tuple[Path, str, float] | None = None  # of the state, its digest, and the seconds between two
        self.saved = self.began
        self.resumed: TrainingState | None = None

    def resume_from(self, path: Path, of: str, every: float) -> None:
        """Keep the state in a file from now on, and go on from what is in it."""
        self.file = path, of, every
        state = read_state(path, of)
        if state is None:
            return
        try:
            self.network.load_state_dict(_under("network", state.tensors))
            self.best = float(state.plain["best"]), {k: v.to(self.device) for k, v in _under("best", state.tensors).items()}
            self.generator.set_state(state.tensors["generator"])
            self.history = History.of(state.plain["history"])
            for at, name in enumerate(state.plain["prototypes"]):
                parts = _under(f"prototypes.{at}", state.tensors)
                self.prototypes[name] = Pooled(*(parts[field].to(self.device) for field in Pooled._fields))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{path}: damaged state of a training ({str(error).splitlines()[0]})") from None
        self.resumed = state
        self.began = time.monotonic() - state.seconds

    def save(self, stage: int, epoch: int, optimiser: torch.optim.Optimizer, last: bool) -> None:
        """Write the state after an epoch, unless it was written a moment ago; always after the last one of a stage."""
        if self.file is None or not (last or time.monotonic() - self.saved >= self.file[2]):
            return
        path, of, _ = self.file
        tensors: Tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best[1].items()} | optimiser_tensors(optimiser)
        tensors["generator"] = self.generator.get_state()
        for at, pooled in enumerate(self.prototypes.values()):
            tensors |= {f"prototypes.{at}.{k}": v for k, v in pooled._asdict().items()}
        plain = {"history": self.history.plain(), "best": self.best[0], "prototypes": list(self.prototypes)}
        write_state(path, TrainingState(stage, epoch, time.monotonic() - self.began, tensors, plain), of)
        self.saved = time.monotonic()

    def done(self, stage: int) -> int:
        """Epochs of a stage that a resumed training has behind it; all of them count for the stages before its own."""
        if self.resumed is None or self.resumed.stage < stage:
            return 0
        return self.resumed.epoch + 1 if self.resumed.stage == stage else sys.maxsize

    def draw(self, high: int, count: int | None = None) -> torch.Tensor:
        """``count`` (default all) different indices below ``high``, in random order."""
        return torch.randperm(high, generator=self.generator)[: high if count is None else count]

    def end(self, epoch: int, stage: int, terms: list[dict[str, float]]) -> None:
        names = list(dict.fromkeys(name for t in terms for name in t))
        means = {name: sum(t.get(name, 0.0) for t in terms) / len(terms) for name in names}
        passed = time.monotonic() - self.began
        self.history.epochs.append({"stage": stage, "epoch": epoch, "seconds": passed, "total": sum(means.values()), **means})

    def descend(self, optimiser: torch.optim.Optimizer, terms: dict[str, torch.Tensor]) -> dict[str, float]:
        """One step on the sum of the terms."""
        total = torch.stack(list(terms.values())).sum()
        if not bool(torch.isfinite(total)):
            bad = ", ".join(name for name, value in terms.items() if not bool(torch.isfinite(value)))
            raise GeosegError(f"training: the loss is no longer finite ({bad})")
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, self.config.clip)
        optimiser.step()
        self.network.constrain()
        return {name: float(value.detach()) for name, value in terms.items()}

    def epochs(self, number: int, stage: StageConfig, report: Callable[[float], object] | None) -> Iterator[int]:
        """Epochs of a stage until they or its share of the time are spent; at least one, unless the stage has none."""
        stages = (self.config.stage1, self.config.stage2, self.config.stage3)
        shares = sum(s.share for s in stages)
        before = sum(s.share for s in stages[: number - 1]) / shares
        share = stage.share / shares
        for epoch in range(self.done(number), stage.epochs):
            passed = math.inf if self.seconds is None else (time.monotonic() - self.began) / self.seconds
            if self.seconds is not None and epoch and passed >= before + share:
                break
            yield epoch
            if report is not None:
                report(min(1.0, before + share * (epoch + 1) / stage.epochs if self.seconds is None else passed))

    def saliency_sign(self) -> bool:
        """Invert the masks if the images are less salient inside than outside; whether it did."""
        if self.config.sign == "none" or self.config.network.mgcm.signal == "contrast":
            return False
        gain = 0.0
        with torch.inference_mode():
            for images in self.images.values():
                group = images.select(spread(len(images), self.config.group))
                score, _ = self.network.mgcm.correlate(self.network.mgcm.channels(group.tokens), group.cls, evidence=group.evidence)
                mask = self.network.mgcm.mask(score)
                inside, outside = ((group.saliency * m).sum(1) / m.sum(1).clamp_min(1e-6) for m in (mask, 1 - mask))
                gain += float((inside - outside).mean())
        if gain < 0:
            self.network.mgcm.flip()
        return gain < 0

    def image_stage(self, report: Callable[[float], object] | None) -> None:
        """Stage 1."""
        config, stage = self.config, self.config.stage1
        if config.network.mgcm.signal == "contrast" or self.done(2):  # the masks are given, or this is behind us
            return
        mgcm = list(self.network.mgcm.parameters())
        optimiser = torch.optim.Adam(mgcm, lr=stage.image_rate, weight_decay=config.weight_decay, betas=(0.9, 0.99))
        if self.resumed is None:
            first = self.saliency_sign()
            self.history.flipped = first, False
        else:
            first = self.history.flipped[0]
            load_optimiser(optimiser, self.resumed.tensors)
        self.network.train()
        for epoch in self.epochs(1, stage, report):
            terms = []
            for at in self.draw(len(self.names)).tolist():
                images = self.images[self.names[at]]
                group = images.select(self.draw(len(images), config.group))
                terms.append(self.descend(optimiser, image_step(self.network, group)))
            self.end(epoch, 1, terms)
            self.save(1, epoch, optimiser, epoch + 1 == stage.epochs)
        self.history.flipped = (first, self.saliency_sign())
        self.history.kept = (1, len(self.history.epochs))

    def joint_stage(self, number: int, stage: StageConfig, report: Callable[[float], object] | None) -> None:
        """Stage 2 or 3."""
        config, network = self.config, self.network
        if self.done(number + 1):
            return
        network.mgcm.requires_grad_(stage.image_rate > 0)
        image_side = {id(p) for p in network.mgcm.parameters()}
        between = {id(p) for part in network.between() for p in part.parameters()} if config.fusion_rate != 1 else set()
        others = [p for p in network.parameters() if p.requires_grad and id(p) not in image_side | between]
        groups = [{"params": others, "lr": stage.rate}]
        if between:
            groups.append({"params": [p for p in network.parameters() if id(p) in between], "lr": config.fusion_rate * stage.rate})
        if stage.image_rate > 0:
            groups.append({"params": list(network.mgcm.parameters()), "lr": stage.image_rate})
        optimiser = torch.optim.Adam(groups, lr=stage.rate, weight_decay=config.weight_decay)
        if self.resumed is not None and self.resumed.stage == number:
            load_optimiser(optimiser, self.resumed.tensors)
        network.train()
        last = self.done(number) - 1
        checked = max((epoch for at, epoch, _, _ in self.history.checks if at == number), default=-1)
        for last in self.epochs(number, stage, report):
            plan = [(name, part) for name in self.names for part in self.parts(len(self.points[name]))]
            order = [plan[at] for at in self.draw(len(plan)).tolist()]
            terms = [self.step(optimiser, name, part, number == 3) for name, part in order]
            self.end(last, number, terms)
            if (last + 1) % config.check_every == 0:
                self.check(number, last)
                checked = last
            self.save(number, last, optimiser, last + 1 == stage.epochs)
        if checked < last:
            self.check(number, last)
        network.mgcm.requires_grad_(True)

    def parts(self, count: int) -> list[torch.Tensor]:
        """A pass over ``count`` clouds in batches of nearly equal size, at least 2 each."""
        return list(self.draw(count).tensor_split(max(1, min(-(-count // self.config.batch), count // 2))))

    def step(self, optimiser: torch.optim.Optimizer, name: str, part: torch.Tensor, train_images: bool) -> dict[str, float]:
        """One joint step on some clouds of a set and as many of its images as configured."""
        images = self.images[name]
        points = self.points[name][part.to(self.device)]
        if self.config.rotate:
            points = turned_about_z(points, torch.rand(len(points), generator=self.generator).to(self.device) * 2 * math.pi)
        loss = self.config.network.loss
        alone = not self.network.fused and loss.sem == 0 and loss.obj == 0 and not train_images
        chosen = None if alone else images.select(self.draw(len(images), self.config.images))
        foreign = [p for other, p in self.prototypes.items() if other != name]
        result = joint_step(self.network, points, chosen, self.generator, train_images, _join(foreign) if foreign else None)
        if result.pooled is not None:
            means = (F.normalize(F.normalize(x.detach(), dim=1).mean(0, keepdim=True), dim=1) for x in result.pooled)
            self.prototypes[name] = Pooled(*means)
        return self.descend(optimiser, result.terms)

    def check(self, stage: int, epoch: int) -> None:
        """Look at the guards; keep the weights if they are the best by the criterion."""
        found = []
        for name in self.names:
            images, points = self.images[name], self.points[name]
            some = images.select(spread(len(images), CHECKED))
            found.append(look(self.network, points[spread(len(points), CHECKED)], some))
            self.history.checks.append((stage, epoch, name, found[-1]))
        if self.config.checkpoint == "last":
            self.history.kept = (stage, epoch)
            return
        score = sum(c.criterion for c in found) / len(found)
        if score > self.best[0]:
            self.best = score, {k: v.detach().clone() for k, v in self.network.state_dict().items()}
            self.history.kept = (stage, epoch)


def _under(prefix: str, tensors: Tensors) -> Tensors:
    """The tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix + "."): value for name, value in tensors.items() if name.startswith(prefix + ".")}


def _join(prototypes: list[Pooled]) -> Pooled:
    return Pooled(*(torch.cat(parts) for parts in zip(*prototypes, strict=True)))


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
        seconds: wall-clock limit of the three stages together, or None; each stage makes at least one epoch.
        report: called after each epoch with the progress 0 .. 1.
        state: file that the training keeps its state in, and goes on from if it is there; the end is the same as without a break. It is
            left behind: remove it when the result is safe.
        save_every: seconds between two states.

    Raises:
        InputError: sets or settings that cannot work; a state that is damaged or of another training.
        GeosegError: the loss is no longer finite.
    """
    check_sets(sets, config)
    given, config = controlled(sets, config)
    trainer = _Trainer(given, config, extractor, seconds, device)
    if state is not None:
        trainer.resume_from(state, digest(given, config, extractor), save_every)
    trainer.image_stage(report)
    trainer.joint_stage(2, config.stage2, report)
    trainer.joint_stage(3, config.stage3, report)
    if report is not None:
        report(1.0)
    if trainer.best[1]:
        trainer.network.load_state_dict(trainer.best[1])
    network = trainer.network.eval()
    banks = {s.name: build_bank(network, s.clouds, s.images) for s in given}
    objects = {name: bank.object[None] for name, bank in banks.items()}
    for s in given:
        foreign = [objects[name] for name in objects if name != s.name]
        bank = replace(banks[s.name], negatives=torch.cat([banks[s.name].negatives, *foreign]))
        banks[s.name] = calibrated(network, bank, s.clouds, s.images, s.without_clouds, s.without_images).to("cpu")
    return Fitted(network, banks, trainer.history)
