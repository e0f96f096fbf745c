"""Training ``geoseg_tiny`` from any teacher on any folder of images: feature distillation without labels.

The target is the teacher's token, centred, projected on its main directions (PCA) and partly whitened, so that the student's own
tokens are ready for cosine similarity. Loss per token: 1 - cos(student, target) (the feature distillation loss of LogoSP, Zhang et
al., CVPR 2025) plus a small term that keeps the length. Teacher and student see the same crop and the same grey background, but only
the student sees the photometric changes: it learns to say what the teacher would have said about the undisturbed picture.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.tiny import STRIDE, GeosegTiny, Projection, TinyConfig, channels_last, load_tiny, save_tiny
from geoseg_ros.errors import InputError

Image = NDArray[np.uint8]
GREY = 128  # of the background of virtual views
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


@dataclass(frozen=True)
class DistillConfig:
    """Settings of one training run; ends after ``epochs`` or ``minutes``, whichever comes first.

    Attributes:
        epochs: passes over the training images, or None.
        minutes: wall-clock limit, or None. One of the two must be given.
        batch: images per step.
        sides: pixel sides of the training crops, drawn at random per step; multiples of 32.
        rate: peak learning rate of AdamW (cosine to 0).
        warm_up: steps of linear warm-up.
        weight_decay: of AdamW.
        whitening: exponent p: PCA axis i is divided by its standard deviation to the power p (0 = PCA only, 1 = white).
        projection_views: augmented training views on which the projection is fitted.
        length_weight: weight of the squared log ratio of lengths.
        average: decay of the moving average of the weights, which is what is saved.
        held_out: every ``held_out``-th image (in path order) is kept for evaluation.
        max_side: images are shrunk to this longer side when loaded (they stay in memory).
        checkpoint_minutes: time between checkpoints.
        bfloat16: mixed precision (faster only where the processor has it).
        seed: of everything random.
    """

    epochs: float | None = None
    minutes: float | None = None
    batch: int = 16
    sides: tuple[int, ...] = (128, 128, 128, 160, 192)
    rate: float = 2e-3
    warm_up: int = 100
    weight_decay: float = 0.02
    whitening: float = 0.5
    projection_views: int = 1500
    length_weight: float = 0.05
    average: float = 0.998
    held_out: int = 10
    max_side: int = 256
    checkpoint_minutes: float = 3.0
    bfloat16: bool = False
    seed: int = 0


def list_images(folders: Sequence[str | Path]) -> list[Path]:
    """Every image file below the folders, sorted within each. Raises InputError where a folder is absent or holds none."""
    found: list[Path] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected one with images")
        inside = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not inside:
            raise InputError(f"{folder}: no images; expected {', '.join(sorted(SUFFIXES))}")
        found += inside
    return found


def load_image(path: str | Path, max_side: int) -> Image:
    """RGB image [H, W, 3], its longer side at most ``max_side``. Raises InputError where it cannot be decoded."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"{path}: not a readable image")
    scale = max_side / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[:, :, ::-1])


def random_view(image: Image, side: int, rng: np.random.Generator) -> Image:
    """What teacher and student both see: a random crop, perhaps mirrored, perhaps on flat grey, [side, side, 3]."""
    height, width = image.shape[:2]
    area, aspect = rng.uniform(0.15, 1.0), math.exp(rng.uniform(-0.3, 0.3))
    h = int(np.clip(round(math.sqrt(area / aspect) * height), 16, height))
    w = int(np.clip(round(math.sqrt(area * aspect) * width), 16, width))
    y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    view = cv2.resize(image[y : y + h, x : x + w], (side, side), interpolation=cv2.INTER_AREA if h > side else cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        view = view[:, ::-1]
    if rng.random() < 0.35:  # a cut-out: keep a smooth random blob, the rest as flat as the background of a virtual view
        axis = np.linspace(-1, 1, side, dtype=np.float32)
        blob = cv2.resize(rng.normal(0, 0.35, (5, 5)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
        a, b = rng.uniform(0.5, 1.1, 2)
        view = np.where(((axis[:, None] / a) ** 2 + (axis / b) ** 2 + blob < 1)[:, :, None], view, GREY)
    return np.ascontiguousarray(view, np.uint8)


def disturb(view: Image, rng: np.random.Generator) -> Image:
    """What only the student sees: changes of colour, contrast, sharpness, and pictures that look like shaded geometry."""
    pixels = view.astype(np.float32)
    background = (view == GREY).all(2, keepdims=True)
    if rng.random() < 0.25:  # like shaded geometry: no colour, little texture
        pixels = np.repeat(pixels @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, axis=2)
        if rng.random() < 0.5:
            size = 2 * int(rng.integers(1, 4)) + 1
            pixels = np.repeat(cv2.medianBlur(pixels[:, :, 0].astype(np.uint8), size)[:, :, None].astype(np.float32), 3, axis=2)
    elif rng.random() < 0.6:
        grey = pixels.mean(2, keepdims=True)
        pixels = grey + (pixels - grey) * rng.uniform(0.4, 1.6)
        pixels = pixels * rng.uniform(0.85, 1.15, 3).astype(np.float32)
    if rng.random() < 0.6:
        pixels = (pixels - 127.5) * rng.uniform(0.6, 1.4) + 127.5 + rng.uniform(-30, 30)
    if rng.random() < 0.15:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.5, 1.5)), np.float32)
    if rng.random() < 0.2:
        pixels = pixels + rng.normal(0, rng.uniform(2, 10), pixels.shape).astype(np.float32)
    return np.where(background, GREY, pixels.clip(0, 255)).astype(np.uint8)


def square(image: Image, side: int) -> Image:
    """The central square, resized to [side, side, 3]."""
    short = min(image.shape[:2])
    y, x = ((s - short) // 2 for s in image.shape[:2])
    return np.asarray(cv2.resize(image[y : y + short, x : x + short], (side, side), interpolation=cv2.INTER_AREA), np.uint8)


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
    with torch.inference_mode():
        tokens = torch.cat([network(v.permute(0, 3, 1, 2).float()) for v in torch.from_numpy(views).split(32)]).permute(0, 2, 3, 1)
    cosine = F.cosine_similarity(tokens, target, dim=-1).mean().item()
    return {"cosine": round(cosine, 4), "neighbour_agreement": round(agreement(target, tokens), 4)}


def distill(
    teacher: ImageBackbone,
    paths: Sequence[Path],
    out: str | Path,
    config: DistillConfig,
    start: str | Path | None = None,
    report: Callable[[float, dict[str, float]], None] | None = None,
) -> dict[str, object]:
    """Train a student and write it to ``out`` (safetensors, atomically, again at every checkpoint).

    Args:
        teacher: any backbone with at least 128-d tokens.
        paths: images.
        out: file to write.
        config: settings.
        start: weights of an earlier run with this teacher to go on from; its projection is kept.
        report: called after every step with the progress 0..1 and the running figures.

    Returns:
        what is also stored in the file: teacher, supervision, images, steps, minutes, first and last loss, held-out scores.

    Raises:
        InputError: too few images, an unreadable one, or neither ``epochs`` nor ``minutes``.
    """
    if config.epochs is None and config.minutes is None:
        raise InputError("distill: expected epochs or minutes")
    if len(paths) < config.held_out:
        raise InputError(f"distill: expected at least {config.held_out} images, got {len(paths)}")
    images = [load_image(p, config.max_side) for p in paths]
    held = images[:: config.held_out]
    train = [image for i, image in enumerate(images) if i % config.held_out]
    rng = np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)

    student = GeosegTiny(TinyConfig())
    if start is None:
        views = np.stack([random_view(train[i], 160, rng) for i in rng.integers(len(train), size=config.projection_views)])
        projection = fit_projection(teacher_tokens(teacher, views).flatten(0, 2), student.config.dim, config.whitening)
    else:
        student, projection, _, _ = load_tiny(start)
        if len(projection.mean) != teacher.dim:
            raise InputError(f"{start}: projection: expected {teacher.dim} teacher dimensions, got {len(projection.mean)}")
    student = channels_last(student)
    average = deepcopy(student).eval()
    held_views = np.stack([square(image, 160) for image in held])
    held_target = projection(teacher_tokens(teacher, held_views))
    decayed = [p for p in student.parameters() if p.ndim > 1]
    others = [p for p in student.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=config.rate)

    began = saved = time.monotonic()
    step, progress, loss_first, loss_mean = 0, 0.0, math.nan, math.nan
    info: dict[str, object] = {}
    scores: dict[str, float] = {}

    def checkpoint() -> None:
        scores.update(evaluate(average, held_target, held_views))
        info.update(
            teacher=Path(teacher.name.partition("?")[0]).name,
            teacher_hash=teacher.hash,
            supervision=f"distilled without labels; teacher: {teacher.supervision}",
            images=len(train),
            held_out_images=len(held),
            steps=step,
            minutes=round((time.monotonic() - began) / 60, 2),
            loss_first=round(loss_first, 4),
            loss_last=round(loss_mean, 4),
            config=asdict(config),
            **scores,
        )
        save_tiny(out, average, projection, info)

    order: list[int] = []  # of training images still to come in this pass

    def prepare() -> tuple[torch.Tensor, torch.Tensor]:
        """Disturbed pictures [V, 3, H, W] and their target tokens."""
        if len(order) < config.batch:
            order.extend(rng.permutation(len(train)).tolist())
        chosen = [order.pop(0) for _ in range(config.batch)]
        side = int(rng.choice(config.sides))
        clean = np.stack([random_view(train[i], side, rng) for i in chosen])
        disturbed = torch.from_numpy(np.stack([disturb(v, rng) for v in clean]))
        return disturbed.permute(0, 3, 1, 2).float(), projection(teacher_tokens(teacher, clean))

    # the teacher works on the next batch while the student learns from this one; only one thread ever draws random numbers
    worker = ThreadPoolExecutor(1)
    following = worker.submit(prepare)
    while progress < 1:
        pixels, target = following.result()
        following = worker.submit(prepare)
        rate = config.rate * min(1.0, (step + 1) / config.warm_up) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimiser.param_groups:
            group["lr"] = rate
        student.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            predicted = student(pixels)
        loss = distillation_loss(predicted.float().permute(0, 2, 3, 1), target, config.length_weight)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()

        decay = min(config.average, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, value in zip(average.state_dict().values(), student.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - decay)
        step += 1
        loss_first = loss.item() if step == 1 else loss_first
        loss_mean = loss.item() if step == 1 else 0.98 * loss_mean + 0.02 * loss.item()
        now = time.monotonic()
        by_time = (now - began) / (60 * config.minutes) if config.minutes else 0.0
        by_count = step * config.batch / (config.epochs * len(train)) if config.epochs else 0.0
        progress = min(1.0, max(by_time, by_count))
        if now - saved > 60 * config.checkpoint_minutes and progress < 1:
            checkpoint()
            saved = time.monotonic()
        if report is not None:
            report(progress, {"loss": loss_mean, **scores})
    worker.shutdown(cancel_futures=True)
    checkpoint()
    return info
