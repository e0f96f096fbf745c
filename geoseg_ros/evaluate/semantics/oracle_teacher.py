"""A teacher that knows the truth of simulated rooms and errs as often as it is set to: for tests and ladders, never for use."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.semantics.rooms import SemanticRoom
from geoseg_ros.settings import Settings, setting

CELL = 8  # pixels per side that share a label
KINDS = ("independent", "blobs", "views", "rooms")


@dataclass(frozen=True)
class NoiseConfig(Settings):
    """What the oracle does wrong. A wrong label is drawn from the row of the class in the confusion matrix."""

    accuracy: float = setting(0.65, "chance that a label is right", range=(0.0, 1.0))
    kind: str = setting(
        "independent",
        "right or wrong together: a cell of 8 pixels; blobs of about 5 cells; a class in a view; a class in all views of a room",
        choices=KINDS,
    )
    pairs: bool = setting(False, "a class is always taken for the same other one; else for any other")
    missing: float = setting(0.0, "share of the views of which nothing is said", range=(0.0, 1.0))
    spread: float = setting(0.3, "length of the random vector added to a unit feature", range=(0.0, 10.0))
    dim: int = setting(64, "width of features", range=(2, 4096))
    seed: int = setting(0, "of everything random", range=(0, 2**63 - 1))


class OracleTeacher:
    """A :class:`~geoseg_ros.backbones.teacher.VisionLanguageTeacher` for the frames of rooms that it was shown with their truth.

    Args:
        classes: names of the C classes.
        config: what it does wrong.
        confusion: [C, C], weights of the wrong classes of each; default: every other one, or with ``pairs`` one of them.
    """

    supervision, licence, text, scale = "the truth of the simulation, with noise", "none: not a network", True, 10.0

    def __init__(self, classes: Sequence[str], config: NoiseConfig, confusion: NDArray[np.floating] | None = None) -> None:
        count = len(classes)
        rng = np.random.default_rng([config.seed, 1])
        if confusion is None:
            confusion = 1.0 - np.eye(count)
            if config.pairs:
                ring = rng.permutation(count)
                confusion = np.zeros((count, count))
                confusion[ring, np.roll(ring, 1)] = 1
        self._wrong = confusion / confusion.sum(axis=1, keepdims=True)
        self.classes, self.config, self.dim = tuple(classes), config, config.dim
        self.anchors = np.linalg.qr(rng.normal(size=(max(config.dim, count), max(config.dim, count))))[0][:count, : config.dim]
        self.name = f"oracle, {config.kind}{', pairs' if config.pairs else ''}, {config.accuracy:g}"
        self.hash = hashlib.sha256(repr((self.classes, config, self._wrong.tolist())).encode()).hexdigest()
        self._seen: dict[bytes, tuple[NDArray[np.int64], tuple[int, int]]] = {}
        self._rooms = 0

    def show(self, room: SemanticRoom) -> None:
        """Learn the truth of the frames of a simulated room."""
        assert room.frames is not None
        for number, (frame, label) in enumerate(zip(room.frames, room.frame_labels, strict=True)):
            self._seen[_key(frame.rgb)] = label, (self._rooms, number)
        self._rooms += 1

    def encode_image(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """See the protocol; zeros where the pixels have no class.

        Raises:
            InputError: a frame that it was not shown.
        """
        if _key(image) not in self._seen:
            raise InputError("oracle: a frame that is not of the rooms that it knows")
        label, (room, view) = self._seen[_key(image)]
        cells = self.noisy(label[CELL // 2 :: CELL, CELL // 2 :: CELL], room, view)
        rng = np.random.default_rng([self.config.seed, 2, room, view])
        spread = rng.normal(size=(*cells.shape, self.dim)) * self.config.spread / np.sqrt(self.dim)
        features = F.normalize(torch.from_numpy(self.anchors[cells] + spread).float(), dim=-1)
        return features * torch.from_numpy(cells >= 0)[..., None]

    def noisy(self, label: NDArray[np.int64], room: int, view: int) -> NDArray[np.int64]:
        """The labels [h, w] that the oracle gives where ``label`` is true; -1 stays."""
        config, count = self.config, len(self.classes)
        rng = np.random.default_rng([config.seed, 3, room, view])
        if rng.random() < config.missing:
            return np.full_like(label, -1)
        if config.kind in ("views", "rooms"):
            own = rng if config.kind == "views" else np.random.default_rng([config.seed, 4, room])
            wrong = (own.random(count) >= config.accuracy)[label]
            other = np.array([own.choice(count, p=row) for row in self._wrong])[label]
        else:
            draw = rng.random(label.shape)
            if config.kind == "blobs":
                draw = _smooth(rng, label.shape)
            wrong = draw >= config.accuracy
            pick = rng.random(label.shape) if config.kind == "independent" else np.full(label.shape, rng.random())
            other = np.minimum((pick[..., None] >= np.cumsum(self._wrong, axis=1)[label]).sum(axis=-1), count - 1)
        return np.where((label >= 0) & wrong, other, label)

    def encode_text(self, names: Sequence[str]) -> torch.Tensor:
        """See the protocol."""
        unknown = [name for name in names if name not in self.classes]
        if unknown:
            raise InputError(f"oracle: knows {', '.join(self.classes)}, not '{unknown[0]}'")
        return F.normalize(torch.from_numpy(self.anchors[[self.classes.index(name) for name in names]]).float(), dim=1)


def _key(image: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()


def _smooth(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """A random field whose values are evenly spread over 0 .. 1, and alike over about 5 cells."""
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(rng.normal(size=shape), 2.0)
    rank = np.empty(field.size)
    rank[np.argsort(field, axis=None)] = (np.arange(field.size) + 0.5) / field.size
    return rank.reshape(shape)
