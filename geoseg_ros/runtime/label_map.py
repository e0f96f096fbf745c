"""A map of labels that stays: what successive clouds say about each place is fused in a frame that stands still.

Every occupied voxel that was ever labelled holds the log-odds of each label, clamped so that the map can change its mind (OctoMap, Hornung
et al. 2013). A cloud adds to the label that most of its points in the voxel have, and takes from the others; where the cloud sees through a
voxel, it takes from all. Without new observations log-odds halve every ``half_life``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from scipy.spatial import cKDTree

from geoseg_ros.errors import InputError
from geoseg_ros.files import check_output, expanded, write_bytes
from geoseg_ros.packs.pack import holds
from geoseg_ros.results import MOST_LABELS
from geoseg_ros.settings import Settings, setting

_KEY = "geoseg_map"
_FORMAT = 1
_BITS, _HALF = 21, 1 << 20  # of a voxel's number on each axis; numbers are shifted to be positive
_MOST_RAYS = 20_000  # of a cloud that are looked at to see through voxels
_NEAREST, _NARROW = 4, 0.01  # rays beside a voxel that must all end behind it; radians from its direction, at least
_LARGEST = 2**31  # bytes of a file
_LATE = 5.0  # seconds; a stamp that is older than the newest by more comes from a recording that starts again


@dataclass(frozen=True)
class MapConfig(Settings):
    """How labels of successive clouds become a map."""

    enabled: bool = setting(False, "fuse labels to a map in target_frame, published on ~/map_labeled")
    file: str = setting("", "map to begin with, where the file exists, and file that ~/save_map writes", path=True)
    voxel: float = setting(0.1, "edge of a voxel", unit="m", range=(0.005, 10.0))
    hit: float = setting(0.85, "log-odds that a cloud adds to the label it gives a voxel (OctoMap)", range=(0.0, 10.0))
    miss: float = setting(
        0.4, "log-odds that it takes from the other labels, and from all where it sees through the voxel", range=(0.0, 10.0)
    )
    most: float = setting(3.5, "largest log-odds of a label; the smallest is -2", range=(0.0, 100.0))
    half_life: float = setting(0.0, "time after which log-odds are half of what they were; 0: they stay", unit="s", range=(0.0, 1e9))
    max_voxels: int = setting(200_000, "more voxels are not kept; those with the least log-odds go first", range=(1, 50_000_000))
    period: float = setting(1.0, "least time between two messages", unit="s", range=(0.0, 3600.0))


_LEAST = -2.0


class LabelMap:
    """The map. One thread uses it.

    Args:
        names: of the labels 1, 2, ...
        config: settings.

    Attributes:
        names: as given.
        frame: that the voxels are in, empty before the first cloud.
        stamp_ns: of the newest cloud; 0 before the first.
    """

    def __init__(self, names: Sequence[str], config: MapConfig) -> None:
        self.names, self.config = tuple(names), config
        self.frame, self.stamp_ns = "", 0
        self._key = np.zeros(0, np.int64)  # sorted
        self._odds = np.zeros((0, len(self.names)), np.float32)

    def __len__(self) -> int:
        return len(self._key)

    def rename(self, names: Sequence[str]) -> None:
        """Use other labels: those of a known name keep what is known, the others begin anew."""
        if tuple(names) == self.names:
            return
        odds = np.zeros((len(self._key), len(names)), np.float32)
        for column, name in enumerate(names):
            if name in self.names:
                odds[:, column] = self._odds[:, self.names.index(name)]
        self.names = tuple(names)
        self._keep(self._key, odds)

    def update(
        self, xyz: NDArray[np.floating], label: NDArray[np.integer], frame: str, stamp_ns: int, origin: NDArray[np.floating] | None = None
    ) -> None:
        """Fuse a cloud.

        Args:
            xyz: [N, 3], metres, in ``frame``; points that are not finite are left out.
            label: int [N], 0 = none.
            frame: the same for all clouds; the map begins anew in another one.
            stamp_ns: of the cloud.
            origin: [3], where the sensor was; None: at the origin of the frame.
        """
        if frame != self.frame:
            self._keep(self._key[:0], self._odds[:0])
        self._decay(stamp_ns)
        self.frame = frame
        key, inside = _keys(xyz, self.config.voxel)
        key, number = np.unique(key[inside], return_inverse=True)
        labels = len(self.names) + 1
        votes = np.bincount(number * labels + np.asarray(label, np.int64)[inside], minlength=len(key) * labels)
        winner = votes.reshape(-1, labels).argmax(axis=1)

        new = np.setdiff1d(key[winner > 0], self._key, assume_unique=True)
        at = np.searchsorted(self._key, new)
        self._key, self._odds = np.insert(self._key, at, new), np.insert(self._odds, at, 0.0, axis=0)
        row, known = self._rows(key)
        self._odds[row[known]] -= self.config.miss
        named = known & (winner > 0)
        self._odds[row[named], winner[named] - 1] += self.config.miss + self.config.hit

        unseen = np.ones(len(self._key), bool)
        unseen[row[known]] = False
        self._odds[unseen & self._seen_through(np.asarray(xyz)[inside], np.zeros(3) if origin is None else origin)] -= self.config.miss
        np.clip(self._odds, _LEAST, self.config.most, out=self._odds)
        self._keep(self._key, self._odds)

    def labelled(self) -> tuple[NDArray[np.float32], NDArray[np.uint32], NDArray[np.float32]]:
        """The voxels that have a label: centres float32 [V, 3], metres; labels uint32 [V]; probabilities float32 [V], .5 to 1."""
        label, odds = self._labels()
        use = label > 0
        centre = (_cells(self._key[use]) + 0.5) * self.config.voxel
        return centre.astype(np.float32), label[use], (1 / (1 + np.exp(-odds[use]))).astype(np.float32)

    def label_of(self, xyz: NDArray[np.floating]) -> NDArray[np.uint32]:
        """The label of the voxel of each point [N, 3], uint32 [N]; 0 where there is none."""
        key, inside = _keys(xyz, self.config.voxel)
        row, known = self._rows(key)
        known &= inside
        found = np.zeros(len(key), np.uint32)
        found[known] = self._labels()[0][row[known]]
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the map atomically.

        Raises:
            InputError: there is something else, or the place cannot be written.
        """
        target = Path(expanded(os.fspath(path)))
        check_output(target, "map", (), is_map, "a map")
        about = {"format": _FORMAT, "names": list(self.names), "voxel": self.config.voxel, "frame": self.frame, "stamp_ns": self.stamp_ns}
        write_bytes(target, save({"key": self._key, "odds": self._odds}, {_KEY: json.dumps(about)}))

    @classmethod
    def load(cls, path: str | os.PathLike[str], config: MapConfig) -> LabelMap:
        """Read a map.

        Raises:
            InputError: absent, damaged, no map, or with voxels of another size.
        """
        source = Path(expanded(os.fspath(path)))
        try:
            if source.stat().st_size > _LARGEST:
                raise InputError(f"{source}: larger than {_LARGEST >> 20} MiB, expected a map")
            with safe_open(source, "np") as file:
                about = json.loads((file.metadata() or {})[_KEY])
                key, odds = file.get_tensor("key"), file.get_tensor("odds")
            names, frame, stamp, voxel = (about[name] for name in ("names", "frame", "stamp_ns", "voxel"))
            right = about["format"] == _FORMAT and isinstance(frame, str) and isinstance(stamp, int) and len(names) <= MOST_LABELS
            right &= all(isinstance(name, str) for name in names) and key.dtype == np.int64 and odds.dtype == np.float32
            right &= odds.shape == (*key.shape, len(names)) and bool((np.diff(key) > 0).all() and np.isfinite(odds).all())
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{source}: not a map, or a damaged one ({type(error).__name__}: {error})") from None
        if not right or not (key >= 0).all():
            raise InputError(f"{source}: a damaged map, or one of a newer version")
        if voxel != config.voxel:
            raise InputError(f"{source}: its voxels are {voxel} m, map.voxel is {config.voxel} m")
        made = cls(names, config)
        made.frame, made.stamp_ns = frame, stamp
        made._keep(key, np.clip(odds, _LEAST, config.most))
        return made

    def _decay(self, stamp_ns: int) -> None:
        seconds = (stamp_ns - self.stamp_ns) * 1e-9
        if self.config.half_life and self.stamp_ns and seconds > 0:
            self._odds *= 0.5 ** (seconds / self.config.half_life)
        if not -_LATE < seconds <= 0:  # a cloud of another sensor may be a little older
            self.stamp_ns = stamp_ns

    def _rows(self, key: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Row of each key, and whether the map has it."""
        row = np.searchsorted(self._key, key)
        known = row < len(self._key)
        known[known] = self._key[row[known]] == key[known]
        return row, known

    def _labels(self) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        if not self.names or not len(self._key):
            return np.zeros(len(self._key), np.uint32), np.zeros(len(self._key), np.float32)
        best = self._odds.argmax(axis=1)
        odds = self._odds[np.arange(len(best)), best]
        return np.where(odds > 0, best + 1, 0).astype(np.uint32), odds

    def _seen_through(self, xyz: NDArray[np.floating], origin: NDArray[np.floating]) -> NDArray[np.bool_]:
        """bool [V], the voxels that may have a label, and behind which all of the nearest rays of the cloud end."""
        found = np.zeros(len(self._key), bool)
        offset, reach = _rays(xyz[:: -(-len(xyz) // _MOST_RAYS) or 1] - origin)
        asked = np.flatnonzero((self._odds > _LEAST).any(axis=1))
        if not len(reach) or not len(asked):
            return found
        way, distance = _rays((_cells(self._key[asked]) + 0.5) * self.config.voxel - origin)
        apart, ray = cKDTree(offset).query(way, k=min(_NEAREST, len(reach)))
        apart, ray = apart.reshape(len(way), -1), ray.reshape(len(way), -1)
        beside = apart <= np.maximum(_NARROW, 0.5 * self.config.voxel / np.maximum(distance, 1e-9))[:, None]
        behind = reach[ray] > distance[:, None] + 2 * self.config.voxel
        found[asked] = beside[:, 0] & (behind | ~beside).all(axis=1)
        return found

    def _keep(self, key: NDArray[np.int64], odds: NDArray[np.float32]) -> None:
        """Hold these voxels; beyond the limit, those with the most log-odds."""
        if len(key) > self.config.max_voxels:
            strength = odds.max(axis=1, initial=_LEAST)
            use = np.sort(np.argsort(-strength, kind="stable")[: self.config.max_voxels])
            key, odds = key[use], odds[use]
        self._key, self._odds = key, odds


def is_map(path: Path) -> bool:
    """Whether a file is a map."""
    return holds(path, _KEY)


def _keys(xyz: NDArray[np.floating], voxel: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Number of the voxel of each point, and whether it has one: finite, and within a million voxels of the origin."""
    with np.errstate(invalid="ignore"):
        cell = np.floor(np.asarray(xyz, np.float64) / voxel)
        inside = np.asarray((np.abs(cell) < _HALF).all(axis=1))
    cell = np.where(inside[:, None], cell, 0).astype(np.int64) + _HALF
    return (cell[:, 0] << 2 * _BITS) | (cell[:, 1] << _BITS) | cell[:, 2], inside


def _cells(key: NDArray[np.int64]) -> NDArray[np.int64]:
    """The three numbers of voxels, int64 [V, 3]."""
    mask = (1 << _BITS) - 1
    return np.stack([key >> 2 * _BITS, (key >> _BITS) & mask, key & mask], axis=1) - _HALF


def _rays(offset: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit directions [n, 3] and lengths [n] of offsets from the sensor."""
    offset = np.asarray(offset, np.float64)
    length = np.linalg.norm(offset, axis=1)
    return offset / np.maximum(length, 1e-9)[:, None], length


def open_map(config: MapConfig, warn: Callable[[str], object]) -> LabelMap | None:
    """The map of a node: from ``config.file`` where that exists, else an empty one; None where it is switched off.

    Raises:
        InputError: the file is there, and cannot be used.
    """
    if not config.enabled:
        return None
    if config.file and not os.path.lexists(expanded(config.file)):
        warn(f"map.file: {config.file} does not exist yet, the map begins empty")
    elif config.file:
        return LabelMap.load(config.file, config)
    return LabelMap((), config)
