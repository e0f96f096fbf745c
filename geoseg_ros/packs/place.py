"""A scene pack's content: the classes of a place, the network that separates them, and how they lie in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from geoseg_ros.errors import InputError
from geoseg_ros.learning.checkpoint import below, under
from geoseg_ros.learning.rooms import RoomEncoder
from geoseg_ros.nets.base import PointNetwork
from geoseg_ros.nets.sparse_unet import SparseUNet
from geoseg_ros.packs.pack import Pack
from geoseg_ros.packs.scene_pack import CLASS_OF, SHARES, centroid_pictures, picture_name
from geoseg_ros.results import MOST_LABELS
from geoseg_ros.settings import Settings, with_values

LEVELS = 65  # quantiles kept of the distances of a class
NETWORKS: dict[str, type[SparseUNet] | type[RoomEncoder]] = {"sparse_unet": SparseUNet, "encoder": RoomEncoder}


@dataclass(frozen=True, eq=False)
class Spread:
    """How far the rows of each of C clusters are from its centre.

    Attributes:
        quantiles: float32 [C, LEVELS], of the distances 1 - cosine, rising; of a cluster without rows zeros.
    """

    quantiles: NDArray[np.float32]

    @classmethod
    def of(cls, distance: NDArray[np.floating], label: NDArray[np.int64], count: int) -> Spread:
        """From the distance float [n] of each row to the centre of its cluster, int [n], 0 .. count - 1."""
        table = np.zeros((count, LEVELS), np.float32)
        for k in np.unique(label):
            table[k] = np.quantile(distance[label == k], np.linspace(0, 1, LEVELS))
        return cls(table)

    def nearer(self, distance: NDArray[np.floating], label: NDArray[np.int64]) -> NDArray[np.float64]:
        """Share of a cluster's own rows that are nearer to its centre, float64 [n] in 0 .. 1, of distances [n] in clusters ``label``."""
        share = np.ones(len(distance))
        for k in np.unique(label):
            rows = label == k
            share[rows] = np.interp(distance[rows], self.quantiles[k], np.linspace(0, 1, LEVELS))
            share[rows] = np.where(distance[rows] > self.quantiles[k, -1], 1.0, share[rows])
        return share


@dataclass(frozen=True, eq=False)
class Place:
    """What a method knows of one place: C centroids, each of one of its classes.

    Attributes:
        name: of the pack.
        method: that made it.
        backbone: name and hash of the image backbone.
        config: settings of the method that it was trained with.
        unlike: unlike anything seen: where a smaller share of the class in training was as far from its centroid.
        network: in evaluation mode, on the processor.
        centroids: float32 [C, d], unit, of the network's features.
        spread: of super-voxels around them.
        mean: float32 [D], removed from tokens.
        tokens: float32 [C, D], mean unit token of the super-voxels of each centroid, unit; zeros where no frame shows any.
        token_spread: of tokens around them.
        classes: names, in the order of their ids.
        class_of: int64 [C], place in ``classes`` of each centroid.
        pictures: uint8, a JPEG file of each centroid: what its super-voxels look like.
        info: what the pack's manifest says beside.
        kappa: factor of the cosines before the softmax that gives the confidence of a class; 0: the confidence is the share of the class in
            training that was farther from its centroid.
    """

    name: str
    method: str
    backbone: tuple[str, str]
    config: Settings
    unlike: float
    network: PointNetwork
    centroids: NDArray[np.float32]
    spread: Spread
    mean: NDArray[np.float32]
    tokens: NDArray[np.float32]
    token_spread: Spread
    classes: tuple[str, ...]
    class_of: NDArray[np.int64]
    pictures: Sequence[NDArray[np.uint8]] = ()
    info: Mapping[str, Any] = field(default_factory=dict)
    kappa: float = 0.0

    def to_pack(self) -> Pack:
        """The pack of the place; the network in half precision."""
        assert isinstance(self.network, nn.Module)
        state = {name: value.half() if value.is_floating_point() else value for name, value in self.network.state_dict().items()}
        arrays = {
            "centroids": self.centroids,
            "spread": self.spread.quantiles,
            "mean": self.mean,
            "tokens": self.tokens,
            "token_spread": self.token_spread.quantiles,
            CLASS_OF: self.class_of,
            **{picture_name(k): picture for k, picture in enumerate(self.pictures)},
        }
        tensors = below("network", state) | {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        kind = next(name for name, made in NETWORKS.items() if type(self.network) is made)
        info = dict(self.info) | {"config": asdict(self.config), "network": {"kind": kind, **self.network.config}}
        if self.kappa:
            info["kappa"] = self.kappa
        return Pack(self.name, self.method, *self.backbone, tensors, self.classes, info)

    @classmethod
    def from_pack(cls, pack: Pack, defaults: Settings) -> Place:
        """Read a pack. ``defaults``: settings of its method, ``unlike`` among them, which those of the pack replace.

        Raises:
            InputError: tensors or settings are missing or do not fit together.
        """
        try:
            config = with_values(defaults, pack.info["config"])
            about = dict(pack.info["network"])
            network = NETWORKS[about.pop("kind")](**about)
            network.load_state_dict(under("network", pack.tensors))
            arrays = {name: tensor.numpy() for name, tensor in pack.tensors.items() if not name.startswith("network.")}
            place = cls(
                pack.name,
                pack.method,
                (pack.backbone, pack.backbone_hash),
                config,
                float(asdict(config)["unlike"]),
                network.eval(),
                arrays["centroids"],
                Spread(arrays["spread"]),
                arrays["mean"],
                arrays["tokens"],
                Spread(arrays["token_spread"]),
                pack.classes,
                arrays[CLASS_OF],
                centroid_pictures(pack),
                {key: value for key, value in pack.info.items() if key not in ("config", "network", "kappa")},
                float(pack.info.get("kappa", 0.0)),
            )
            place._check()
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, InputError) as error:
            where = pack.path or f"pack '{pack.name}'"
            raise InputError(f"{where}: damaged pack of the method {pack.method} ({str(error).splitlines()[0]})") from None
        return place

    def _check(self) -> None:
        """Raise ValueError where arrays do not fit together."""
        count = len(self.centroids)
        shapes = {
            "centroids": (count, self.network.dim),
            "tokens": (count, len(self.mean)),
            "class_of": (count,),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name}: expected {list(shape)}, got {list(getattr(self, name).shape)}")
        for name in ("spread", "token_spread"):
            table = getattr(self, name).quantiles
            if table.shape != (count, LEVELS) or (np.diff(table, axis=1) < 0).any():
                raise ValueError(f"{name}: expected {count} rows of {LEVELS} rising numbers")
        if not all(np.isfinite(array).all() for array in (self.centroids, self.mean, self.tokens)):
            raise ValueError("a value is not finite")
        if not (np.isfinite(self.kappa) and self.kappa >= 0):
            raise ValueError(f"kappa: expected a number of at least 0, got {self.kappa}")
        if not (0 < len(self.classes) <= MOST_LABELS and set(self.class_of.tolist()) == set(range(len(self.classes)))):
            raise ValueError("class_of: expected every class at least once")


def fit_kappa(cosine: NDArray[np.floating], vote: NDArray[np.floating], size: NDArray[np.integer]) -> float:
    """Factor of cosines at which the softmax over classes agrees best with shares of votes (temperature scaling: Guo et al., ICML 2017).

    Args:
        cosine: [S, C]. vote: [S, C], of each row sums to 1, or 0 where nothing is known. size: [S], weight of the rows.

    Returns:
        of 1 .. 200 that with the smallest cross-entropy; 1 where nothing is known.
    """
    tried = np.geomspace(1, 200, 80)
    weight = vote * size[:, None]
    cost = []
    for kappa in tried:
        logits = kappa * cosine.astype(np.float64)
        peak = logits.max(axis=1, keepdims=True)
        cost.append((weight * (peak + np.log(np.exp(logits - peak).sum(axis=1, keepdims=True)) - logits)).sum())
    return float(tried[int(np.argmin(cost))])


def with_class(place: Place, name: str, anchor: NDArray[np.float32]) -> Place:
    """The place with one class more, without training: ``anchor`` float32 [d], unit, in the space of its network's features.

    Its distances are taken to be like those of the other classes, on average. Pictures of cameras do not show it: it has no token.

    Raises:
        InputError: a name that is there, too many classes, or an anchor of another width.
    """
    if name in place.classes:
        raise InputError(f"'{name}': is a class already")
    if len(place.classes) >= MOST_LABELS:
        raise InputError(f"classes: expected at most {MOST_LABELS}")
    if anchor.shape != place.centroids.shape[1:]:
        raise InputError(f"'{name}': an embedding of width {len(anchor)}, expected {place.centroids.shape[1]} as the pack has")

    def usual(spread: Spread) -> Spread:
        known = spread.quantiles[spread.quantiles.any(axis=1)]
        row = known.mean(axis=0) if len(known) else np.zeros(LEVELS, np.float32)
        return Spread(np.vstack([spread.quantiles, row]).astype(np.float32))

    info = {**place.info, SHARES: [*place.info.get(SHARES, [0.0] * len(place.centroids)), 0.0]}
    blank = [] if not len(place.pictures) else [_blank(place.pictures[0])]
    return replace(
        place,
        centroids=np.vstack([place.centroids, anchor]).astype(np.float32),
        spread=usual(place.spread),
        tokens=np.vstack([place.tokens, np.zeros_like(place.tokens[:1])]),
        token_spread=usual(place.token_spread),
        classes=(*place.classes, name),
        class_of=np.append(place.class_of, len(place.classes)),
        pictures=[*place.pictures, *blank],
        info=info,
    )


def _blank(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A white JPEG file of the size of another."""
    shape = np.asarray(cv2.imdecode(picture, cv2.IMREAD_COLOR)).shape
    return np.asarray(cv2.imencode(".jpg", np.full(shape, 255, np.uint8))[1].ravel(), np.uint8)
