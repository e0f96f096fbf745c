"""Record of a training, with checks for a collapse of the network that need no labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geoseg_ros.methods.geofree.inputs import ImageTokens
from geoseg_ros.methods.geofree.model import CosegNetwork, Foreground, patch_columns
from geoseg_ros.methods.geofree.samplers import matched

FOREGROUND = (0.02, 0.9)  # shares of foreground points outside these limits are a collapse
SAME = 1e-3  # spread of the presence scores below which all items count as alike
COMPETITORS = 5  # nearest samples of each kind that a point is compared with


@dataclass(frozen=True)
class Check:
    """One check on a fixed subset of a set.

    Attributes:
        foreground: mean share of foreground points, 0 .. 1.
        presence_deviation: standard deviation over clouds of cosine(y_obj^o, p_o) - cosine(y_obj^b, p_o).
    """

    foreground: float
    presence_deviation: float

    def warnings(self) -> list[str]:
        """Signs of a collapse, one line each."""
        found = []
        low, high = FOREGROUND
        if not low <= self.foreground <= high:
            found.append(f"foreground share {self.foreground:.3f} outside {low} .. {high}")
        if self.presence_deviation < SAME:
            found.append("every cloud has the same presence score")
        return found


@dataclass
class History:
    """Record of a training.

    Attributes:
        epochs: per epoch: ``stage``, ``epoch``, ``seconds`` since the start, ``total`` loss, and the mean of each named loss.
        checks: stage, epoch, set and :class:`Check` of each collapse check.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    checks: list[tuple[int, int, str, Check]] = field(default_factory=list)

    def warnings(self) -> list[str]:
        """Collapse warnings of the last check of each set."""
        last = {name: check for _, _, name, check in self.checks}
        return [f"{name}: {text}" for name, check in last.items() for text in check.warnings()]

    def plain(self) -> dict[str, Any]:
        """The record as JSON values."""
        checks = [[stage, epoch, name, asdict(check)] for stage, epoch, name, check in self.checks]
        return {"epochs": self.epochs, "checks": checks}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> History:
        """Read the result of :meth:`plain`."""
        checks = [(int(stage), int(epoch), str(name), Check(**check)) for stage, epoch, name, check in plain["checks"]]
        return cls(list(plain["epochs"]), checks)

    def summary(self) -> dict[str, object]:
        """Summary for the manifest of a pack."""
        last = {name: asdict(check) for _, _, name, check in self.checks}
        stages = sorted({int(e["stage"]) for e in self.epochs})
        return {
            "epochs": {str(s): sum(e["stage"] == s for e in self.epochs) for s in stages},
            "seconds": round(self.epochs[-1]["seconds"], 1) if self.epochs else 0.0,
            "last": {k: round(v, 5) for k, v in self.epochs[-1].items()} if self.epochs else {},
            "checks": last,
            "warnings": self.warnings(),
        }


@torch.inference_mode()
def check_collapse(network: CosegNetwork, points: torch.Tensor, images: ImageTokens) -> Check:
    """Check a network on points [B, N, 3], B >= 2, and images. It runs in evaluation mode; its mode is restored."""
    mode = network.training
    network.eval()
    clouds = network.clouds(points)
    features = network.images(images.tokens, images.cls, evidence=images.evidence)
    foreground = Foreground(clouds.foreground)
    if network.fused:
        shown = torch.arange(len(points), device=points.device)[:, None] + torch.arange(network.config.gcsf.r_img, device=points.device)
        against = None if images.against is None else network.against(images.against)
        foreground = network.fused_clouds(clouds, patch_columns(features, shown % len(images), against))
    points = clouds.points
    samples = network.samples(foreground, clouds.background, points)
    extracted = network.extract(samples)
    masks = []
    index = [matched(q, points) for q in (samples.simplified_o, samples.simplified_b)]
    for k, cloud in enumerate(points):
        chosen = [cloud[i[k]].cpu().numpy() for i in index]
        masks.append(competitive_score(cloud.cpu().numpy(), *chosen) > 0)
    prototype = F.normalize(network.pooled(features, features, detach=True).object, dim=1).mean(0, keepdim=True)
    objects, backgrounds = network.cloud_object(extracted[2].embedding), network.cloud_object(extracted[3].embedding)
    network.train(mode)
    presence = F.cosine_similarity(objects, prototype) - F.cosine_similarity(backgrounds, prototype)
    return Check(float(np.mean([m.mean() for m in masks])), float(presence.std()))


def competitive_score(
    points: NDArray[np.float32], foreground: NDArray[np.float32], background: NDArray[np.float32], k: int = COMPETITORS
) -> NDArray[np.float32]:
    """Score of every point: (d_bg - d_fg) / (d_bg + d_fg), where d is the mean distance to the k nearest samples of each kind.

    Args:
        points: float32 [M, 3].
        foreground, background: float32 [m, 3], samples in the same frame, m >= 1.
        k: number of nearest samples.

    Returns:
        float32 [M], -1 .. 1; above 0 for foreground.
    """
    to_foreground, to_background = _mean_distance(points, foreground, k), _mean_distance(points, background, k)
    total = np.maximum(to_foreground + to_background, 1e-12)
    return ((to_background - to_foreground) / total).astype(np.float32)


def _mean_distance(points: NDArray[np.float32], samples: NDArray[np.float32], k: int) -> NDArray[np.float64]:
    # samples repeat; each position counts once, so that one position cannot be all five neighbours
    distinct = np.unique(samples, axis=0)
    distance = cKDTree(distinct).query(points, min(k, len(distinct)))[0]
    return np.asarray(distance, np.float64).reshape(len(points), -1).mean(axis=1)
