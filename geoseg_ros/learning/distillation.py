"""Training ``geoseg_tiny`` from any teacher on any folder of images: feature distillation without labels.

The target is the teacher's token, centred, projected on its main directions (PCA) and partly whitened, so that the student's own
tokens are ready for cosine similarity. Loss per token: 1 - cos(student, target) (the feature distillation loss of LogoSP, Zhang et
al., CVPR 2025) plus a small term that keeps the length. Teacher and student get the same crop on the same grey background; photometric
changes are applied to the student's input only, so its tokens become invariant to them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.tiny import STRIDE, GeosegTiny, Projection, TinyConfig, channels_last, load_tiny, save_tiny
from geoseg_ros.errors import InputError
from geoseg_ros.learning.checkpoint import Checkpoint, Tensors
from geoseg_ros.learning.fabric import open_fabric
from geoseg_ros.learning.image_views import Image, disturb, load_image, random_view, square
from geoseg_ros.learning.loop import LoopConfig, Run, Task, train
from geoseg_ros.learning.schedules import cosine, with_warm_up
from geoseg_ros.learning.steps import Step
from geoseg_ros.settings import Settings, setting


@dataclass(frozen=True)
class DistillConfig(Settings):
    """One training; it ends after ``epochs`` or ``minutes``, whichever comes first, and one of the two must be given."""

    epochs: float | None = setting(None, "passes over the training images", range=(1e-6, math.inf))
    minutes: float | None = setting(None, "wall-clock limit", unit="min", range=(1e-6, math.inf))
    batch: int = setting(16, "images per step", range=(1, 65536))
    sides: tuple[int, ...] = setting(
        (128, 128, 128, 160, 192),
        "sides of the square training crops, drawn at random per step; multiples of 32",
        unit="px",
        range=(32, 4096),
    )
    rate: float = setting(2e-3, "peak learning rate of AdamW, which follows a cosine to 0", range=(0.0, math.inf))
    warm_up: int = setting(100, "steps of linear warm-up", range=(1, math.inf))
    weight_decay: float = setting(0.02, "weight decay of AdamW", range=(0.0, math.inf))
    whitening: float = setting(
        0.5, "exponent p: an axis of the PCA is divided by its standard deviation to the power p; 0: not at all, 1: white", range=(0.0, 1.0)
    )
    projection_views: int = setting(1500, "augmented training views on which the projection is fitted", range=(1, math.inf))
    length_weight: float = setting(0.05, "weight of the squared log ratio of lengths", range=(0.0, math.inf))
    average: float = setting(0.998, "decay of the moving average of the weights, which is what is saved", range=(0.0, 1.0))
    held_out: int = setting(10, "every such image, in path order, is kept for evaluation", range=(2, math.inf))
    max_side: int = setting(256, "longer side that larger images are shrunk to; they stay in memory", unit="px", range=(16, 65536))
    checkpoint_minutes: float = setting(3.0, "time between two checkpoints", unit="min", range=(0.0, math.inf))
    bfloat16: bool = setting(False, "mixed precision, which is faster only where the device has it")
    seed: int = setting(0, "seed of everything random", range=(0, math.inf))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sides or any(side % 32 for side in self.sides):
            raise InputError(f"sides: expected multiples of 32, got {list(self.sides)}")


def teacher_tokens(teacher: ImageBackbone, views: Image) -> torch.Tensor:
    """Teacher tokens on the student's grid: [V, side / 16, side / 16, C]. Views are resized where the teacher's stride asks for it."""
    rows = views.shape[1] // STRIDE
    fold = max(1, round(STRIDE / teacher.stride))
    side = rows * fold * teacher.stride
    if side != views.shape[1]:
        views = np.stack([cv2.resize(v, (side, side), interpolation=cv2.INTER_AREA) for v in views])
    tokens = teacher.tokens(views)[0].float().cpu()
    if fold > 1:
        tokens = F.avg_pool2d(tokens.permute(0, 3, 1, 2), fold).permute(0, 2, 3, 1)
    return tokens


def fit_projection(tokens: torch.Tensor, dim: int, whitening: float) -> Projection:
    """PCA of tokens [n, C] to ``dim`` axes, partly whitened, scaled to unit mean square over all axes."""
    if tokens.shape[1] < dim:
        raise InputError(f"teacher tokens: expected at least {dim} dimensions, got {tokens.shape[1]}")
    tokens = tokens.double()
    mean = tokens.mean(0)
    values, vectors = torch.linalg.eigh((tokens - mean).T @ (tokens - mean) / len(tokens))
    values, vectors = values.flip(0)[:dim].clamp_min(1e-12), vectors.flip(1)[:, :dim]
    vectors = vectors * torch.sign(vectors.gather(0, vectors.abs().argmax(0, keepdim=True)))  # a fixed sign
    scaled = vectors * values.pow(-whitening / 2)
    scaled = scaled / values.pow(1 - whitening).mean().sqrt()
    return Projection(mean.float(), scaled.float())


def distillation_loss(student: torch.Tensor, target: torch.Tensor, length_weight: float) -> torch.Tensor:
    """Mean over tokens [..., D] of 1 - cosine + ``length_weight`` * squared log ratio of lengths."""
    cosine = F.cosine_similarity(student, target, dim=-1)
    ratio = torch.log(student.norm(dim=-1).clamp_min(1e-3)) - torch.log(target.norm(dim=-1).clamp_min(1e-3))
    return (1 - cosine + length_weight * ratio.square()).mean()


def agreement(teacher: torch.Tensor, student: torch.Tensor, k: int = 10, sample: int = 3000) -> float:
    """Share of the k nearest tokens (cosine, from other images) that both spaces have in common.

    Args:
        teacher, student: tokens [V, h, w, D] of the same images.
    """
    images = torch.arange(len(teacher)).repeat_interleave(teacher.shape[1] * teacher.shape[2])
    chosen = torch.linspace(0, len(images) - 1, min(sample, len(images))).long()
    nearest = []
    for tokens in (teacher, student):
        flat = F.normalize(tokens.flatten(0, 2)[chosen], dim=1)
        similarity = flat @ flat.T
        similarity[images[chosen][:, None] == images[chosen][None]] = -2
        nearest.append(similarity.topk(min(k, len(chosen) - 1)).indices)
    return (nearest[0][:, :, None] == nearest[1][:, None]).any(2).float().mean().item()


def evaluate(network: GeosegTiny, target: torch.Tensor, views: Image) -> dict[str, float]:
    """Mean cosine to the target tokens [V, h, w, D] of undisturbed views [V, H, W, 3], and :func:`agreement`."""
    device = network.head.weight.device
    with torch.inference_mode():
        parts = [network(v.to(device).permute(0, 3, 1, 2).float()).cpu() for v in torch.from_numpy(views).split(32)]
    tokens = torch.cat(parts).permute(0, 2, 3, 1)
    cosine = F.cosine_similarity(tokens, target, dim=-1).mean().item()
    return {"cosine": round(cosine, 4), "neighbour_agreement": round(agreement(target, tokens), 4)}


class _Objective(nn.Module):
    """The student, and the projection that makes targets of the teacher's tokens; a batch is (pixels, teacher tokens)."""

    mean: torch.Tensor
    matrix: torch.Tensor

    def __init__(self, student: GeosegTiny, projection: Projection, length_weight: float) -> None:
        super().__init__()
        self.student, self.length_weight = student, length_weight
        self.register_buffer("mean", projection.mean)
        self.register_buffer("matrix", projection.matrix)

    @property
    def projection(self) -> Projection:
        return Projection(self.mean, self.matrix)

    def forward(self, batch: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
        pixels, tokens = batch
        predicted = self.student(pixels).float().permute(0, 2, 3, 1)
        with torch.autocast(pixels.device.type, enabled=False):  # of mixed precision the student alone makes use
            return {"token": distillation_loss(predicted, self.projection(tokens), self.length_weight)}


class _Distillation(Task):
    """The task of :func:`distill`.

    Attributes:
        info: of the file that was written last.
    """

    model: _Objective

    def __init__(self, teacher: ImageBackbone, images: Sequence[Image], out: Path, config: DistillConfig, start: str | Path | None) -> None:
        self.teacher, self.out, self.config = teacher, out, config
        held = images[:: config.held_out]
        self.images = [image for i, image in enumerate(images) if i % config.held_out]
        self.held_views = np.stack([square(image, 160) for image in held])
        self.held_tokens = teacher_tokens(teacher, self.held_views)
        self.fitted = False
        if start is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                student = GeosegTiny(TinyConfig())
            projection = Projection(torch.zeros(teacher.dim), torch.zeros(teacher.dim, student.config.dim))
        else:
            student, projection, info, _ = load_tiny(start)
            self.fitted = info.get("teacher_hash") == teacher.hash
            if not self.fitted:  # weights from an earlier teacher are a good start, but their space of tokens is another one
                projection = Projection(torch.zeros(teacher.dim), torch.zeros(teacher.dim, student.config.dim))
        self.model = _Objective(channels_last(student), projection, config.length_weight)
        self.steps_per_epoch = len(self.images) / config.batch
        self.loss_first = self.loss_mean = math.nan
        self.scores: dict[str, float] = {}
        self.info: dict[str, object] = {}

    def optimiser(self) -> torch.optim.Optimizer:
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": self.config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=self.config.rate)

    def begin(self, run: Run) -> None:
        if self.fitted:
            return
        rng = np.random.default_rng(self.config.seed)
        chosen = rng.integers(len(self.images), size=self.config.projection_views)
        views = np.stack([random_view(self.images[i], 160, rng) for i in chosen])
        dim = self.model.student.config.dim
        projection = fit_projection(teacher_tokens(self.teacher, views).flatten(0, 2), dim, self.config.whitening)
        self.model.mean.copy_(projection.mean)
        self.model.matrix.copy_(projection.matrix)

    def batch(self, step: Step) -> tuple[torch.Tensor, torch.Tensor]:
        """Disturbed pictures [V, 3, H, W], and the teacher's tokens of the undisturbed ones."""
        side = int(step.rng().choice(self.config.sides))
        clean, disturbed = [], []
        for place, item in step.share(len(self.images), self.config.batch):
            rng = step.rng(place)
            clean.append(random_view(self.images[item], side, rng))
            disturbed.append(disturb(clean[-1], rng))
        pixels = torch.from_numpy(np.stack(disturbed)).permute(0, 3, 1, 2).float()
        return pixels, teacher_tokens(self.teacher, np.stack(clean))

    def after_step(self, run: Run) -> None:
        loss = run.losses["token"]
        first = run.step == 1
        self.loss_first = loss if first else self.loss_first
        self.loss_mean = loss if first else 0.98 * self.loss_mean + 0.02 * loss

    def after_saving(self, run: Run) -> None:
        if run.progress < 1:
            self.write(run)

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        return {}, {"loss_first": self.loss_first, "loss_mean": self.loss_mean}

    def load_state(self, tensors: Tensors, values: dict[str, Any]) -> None:
        self.loss_first, self.loss_mean = float(values["loss_first"]), float(values["loss_mean"])

    def write(self, run: Run) -> None:
        """Write the averaged student with its scores on the held-out images."""
        averaged, teacher = run.average, self.teacher
        assert isinstance(averaged, _Objective)
        projection = Projection(self.model.mean.cpu(), self.model.matrix.cpu())
        self.scores = evaluate(averaged.student, projection(self.held_tokens), self.held_views)
        self.info = {
            "teacher": Path(teacher.name.partition("?")[0]).name,
            "teacher_hash": teacher.hash,
            "supervision": f"distilled without labels; teacher: {teacher.supervision}",
            "images": len(self.images),
            "held_out_images": len(self.held_views),
            "steps": run.step,
            "minutes": round(run.seconds / 60, 2),
            "loss_first": round(self.loss_first, 4),
            "loss_last": round(self.loss_mean, 4),
            "config": asdict(self.config),
            **self.scores,
        }
        save_tiny(self.out, averaged.student, projection, self.info)


def distill(
    teacher: ImageBackbone,
    paths: Sequence[Path],
    out: str | Path,
    config: DistillConfig,
    start: str | Path | None = None,
    report: Callable[[float, dict[str, float]], None] | None = None,
    device: str = "cpu",
) -> dict[str, object]:
    """Train a student and write it to ``out`` (safetensors, atomically, again at every checkpoint).

    Until it is done, the training keeps its state in a file named ``out`` with ``.state`` appended; a killed training resumes when it is
    called again with the same arguments.

    Args:
        teacher: any backbone with at least 128-d tokens.
        paths: images.
        out: file to write.
        config: settings.
        start: weights of an earlier run to begin with; if it had this teacher, its projection is kept.
        report: called after every step, in the first process, with the progress 0..1 and the running figures.
        device: of the student, see :func:`~geoseg_ros.learning.fabric.open_fabric`.
            Each of several processes takes its share of a batch.

    Returns:
        The summary that is also stored in the file: teacher, supervision, images, steps, minutes, first and last loss, held-out scores.
        Empty in all processes but the first.

    Raises:
        InputError: too few images, an unreadable one, neither ``epochs`` nor ``minutes``, or the state of another training.
    """
    if config.epochs is None and config.minutes is None:
        raise InputError("distill: expected epochs or minutes")
    if len(paths) < config.held_out:
        raise InputError(f"distill: expected at least {config.held_out} images, got {len(paths)}")
    images = [load_image(p, config.max_side) for p in paths]
    state = Path(f"{out}.state")
    checkpoint = Checkpoint(state, _digest(teacher, images, config, start), 60 * config.checkpoint_minutes)
    fabric = open_fabric(device, precision="bf16-mixed" if config.bfloat16 else "32-true")
    task = _Distillation(teacher, images, Path(out), config, start)
    loop = LoopConfig(
        epochs=config.epochs,
        seconds=None if config.minutes is None else 60 * config.minutes,
        schedule=with_warm_up(cosine(), config.warm_up),
        clip=1.0,
        average=config.average,
        seed=config.seed,
    )

    def report_first(run: Run) -> None:
        if report is not None and fabric.is_global_zero:
            report(run.progress, {"loss": task.loss_mean, **task.scores})

    run = train(task, loop, fabric, checkpoint, report_first)
    if not fabric.is_global_zero:
        return {}
    task.write(run)
    checkpoint.remove()
    return task.info


def _digest(teacher: ImageBackbone, images: Sequence[Image], config: DistillConfig, start: str | Path | None) -> str:
    """Hexadecimal SHA-256 of all that a training depends on but its device."""
    found = hashlib.sha256(json.dumps([teacher.hash, asdict(config), start is not None], sort_keys=True).encode())
    for image in images:
        found.update(repr(image.shape).encode() + image.tobytes())
    if start is not None and Path(start).is_file():
        found.update(Path(start).read_bytes())
    return found.hexdigest()
