"""Tracking of objects over successive clouds. Deterministic: time is taken from the stamps alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from geoseg_ros.results import CloudResult, ObjectInstance
from geoseg_ros.settings import Settings, setting

_FIRST_SPEED = 1.0  # m/s, standard deviation of the velocity of an object after its first detection
_MOST_EVIDENCE = 5.0  # of one detection, natural log-odds: smaller p-values than .007 count no more


@dataclass(frozen=True)
class TrackingConfig(Settings):
    """How objects become tracks."""

    enabled: bool = setting(True, "give objects a track_id that stays the same from cloud to cloud")
    confirm: int = setting(2, "an object gets its track_id when this many clouds in a row have held it", unit="clouds", range=(1, 100))
    forget: int = setting(5, "a track ends when more clouds in a row than this lack its object", unit="clouds", range=(0, 1000))
    max_seconds: float = setting(5.0, "a track ends when no cloud has held its object for this long", unit="s", range=(0.0, 3600.0))
    max_distance: float = setting(0.5, "largest distance of an object from where its track expects it", unit="m", range=(0.001, 100.0))
    label_cost: float = setting(
        0.5, "an object of another concept than its track counts as farther by this share of max_distance", range=(0.0, 1.0)
    )
    label_memory: float = setting(0.9, "share of a track's evidence for its concept that is kept from cloud to cloud", range=(0.0, 1.0))
    position_noise: float = setting(0.05, "standard deviation of the measured centre of an object", unit="m", range=(0.0001, 10.0))
    acceleration: float = setting(
        1.0, "standard deviation of the acceleration of objects (or of the sensor)", unit="m/s^2", range=(0.0, 100.0)
    )


class _Track:
    """One object over time: a Kalman filter of constant velocity. The axes share one covariance, because their noise is the same.

    Attributes:
        position, velocity: float64 [3], m and m/s.
        evidence: label -> log-odds of it.
        hits: detections so far.
        misses: stream that has seen it -> its clouds in a row without it.
        updated: time of the newest detection, s.
        number: the track id, 0 until it is confirmed.
    """

    def __init__(self, detection: ObjectInstance, stamp: float, config: TrackingConfig, stream: str) -> None:
        self._config = config
        self.position = np.array(detection.center, np.float64)
        self.velocity = np.zeros(3)
        self._covariance = np.diag([config.position_noise**2, _FIRST_SPEED**2])
        self.evidence: dict[int, float] = {}
        self.misses: dict[str, int] = {}
        self.number, self.hits, self.updated = 0, 0, stamp
        self._count(detection, stamp, stream)

    @property
    def label(self) -> int:
        """The concept with the most evidence; the smaller label where two are equal."""
        return max(sorted(self.evidence), key=lambda label: self.evidence[label])

    def predict(self, seconds: float) -> None:
        """Move on by a time step."""
        step = np.array([[1.0, seconds], [0.0, 1.0]])
        push = np.array([0.5 * seconds**2, seconds]) * self._config.acceleration
        self.position = self.position + seconds * self.velocity
        self._covariance = step @ self._covariance @ step.T + np.outer(push, push)

    def correct(self, detection: ObjectInstance, stamp: float, stream: str) -> None:
        """Take a detection into account."""
        gain = self._covariance[:, 0] / (self._covariance[0, 0] + self._config.position_noise**2)
        error = detection.center - self.position
        self.position = self.position + gain[0] * error
        self.velocity = self.velocity + gain[1] * error
        self._covariance = self._covariance - np.outer(gain, self._covariance[0])
        self._count(detection, stamp, stream)

    def _count(self, detection: ObjectInstance, stamp: float, stream: str) -> None:
        p = detection.p_value
        odds = math.log((1 - p) / p) if 0 < p < 1 else _MOST_EVIDENCE * (p <= 0)
        self.evidence = {label: value * self._config.label_memory for label, value in self.evidence.items()}
        self.evidence[detection.label] = self.evidence.get(detection.label, 0.0) + min(max(odds, 0.0), _MOST_EVIDENCE)
        self.hits, self.misses[stream], self.updated = self.hits + 1, 0, max(self.updated, stamp)


class Tracker:
    """Joins objects to tracks by the assignment of least total cost (Hungarian algorithm); the cost is the distance of an object from where
    the track's velocity puts it.

    Centres must be in one frame that stands still, or moves slowly beside ``max_distance``. Numbers are never used twice.

    Several sensors may share a tracker: an object that two of them see has one track, which ends when all that have seen it miss it. A
    cloud that is older than one of another sensor counts as of the same time.

    Attributes:
        resets: how often all tracks were given up because time went backwards or the frame changed.
    """

    def __init__(self, config: TrackingConfig | None = None) -> None:
        self.config = config or TrackingConfig()
        self.resets = 0
        self._tracks: list[_Track] = []
        self._stamps: dict[str, float] = {}  # of each stream's newest cloud
        self._frame = ""
        self._last_number = 0
        self._names: dict[int, str] = {}

    def reset(self) -> None:
        """End all tracks, for instance because labels mean something else from now on."""
        self._tracks, self._names, self._stamps = [], {}, {}

    def follow(self, stamp: float, result: CloudResult, frame: str = "", stream: str = "") -> CloudResult:
        """``update`` for a whole result: where a track changes the concept of an object, its points change too."""
        objects = self.update(stamp, result.objects, frame, stream)
        label = result.label
        if any(new.label != old.label for new, old in zip(objects, result.objects, strict=True)):
            table = np.zeros(1 + max(entry.instance for entry in objects), np.uint32)
            table[[entry.instance for entry in objects]] = [entry.label for entry in objects]
            label = table[result.instance]
        return replace(result, label=label, objects=objects)

    def update(self, stamp: float, objects: Sequence[ObjectInstance], frame: str = "", stream: str = "") -> list[ObjectInstance]:
        """Join the objects of one cloud to tracks.

        Args:
            stamp: time of the cloud, s. An earlier one than the last of its stream (a recording that starts again), or earlier by more than
                ``max_seconds`` than the last of any, ends all tracks.
            objects: of the cloud.
            frame: of the centres. Another one than before ends all tracks.
            stream: that the cloud is of.

        Returns:
            The objects in their order, with ``track`` set, and with the concept that their track has the most evidence for.
        """
        if not self.config.enabled:
            return list(objects)
        newest = max(self._stamps.values(), default=stamp)
        if stamp < self._stamps.get(stream, stamp) or stamp < newest - self.config.max_seconds or (self._stamps and frame != self._frame):
            self.resets += bool(self._tracks)
            self._tracks, self._stamps = [], {}
        for track in self._tracks:
            track.predict(max(0.0, stamp - newest))
        self._stamps[stream], self._frame = stamp, frame
        self._tracks = [t for t in self._tracks if stamp - t.updated <= self.config.max_seconds]
        found: list[_Track | None] = [None] * len(objects)
        for i, j in self._assign(objects):
            found[j] = self._tracks[i]
            self._tracks[i].correct(objects[j], stamp, stream)
        matched = {id(track) for track in found if track is not None}
        for track in self._tracks:
            if stream in track.misses and id(track) not in matched:  # others may look elsewhere
                track.misses[stream] += 1
        # a track without a number must be detected in every cloud
        self._tracks = [t for t in self._tracks if min(t.misses.values()) <= (self.config.forget if t.number else 0)]
        for j, detection in enumerate(objects):
            if found[j] is None:
                found[j] = track = _Track(detection, stamp, self.config, stream)
                self._tracks.append(track)
        self._names |= {detection.label: detection.name for detection in objects}
        return [self._named(detection, track) for detection, track in zip(objects, found, strict=True) if track is not None]

    def _assign(self, objects: Sequence[ObjectInstance]) -> list[tuple[int, int]]:
        """Pairs (track, object) within reach."""
        if not self._tracks or not objects:
            return []
        expected: NDArray[np.float64] = np.stack([t.position for t in self._tracks])
        centers = np.stack([o.center for o in objects])
        distance = np.linalg.norm(expected[:, None] - centers[None], axis=2) / self.config.max_distance
        other = np.array([[t.label != o.label for o in objects] for t in self._tracks])
        # a pair out of reach costs more than any number of pairs within
        cost = np.where(distance <= 1, distance + self.config.label_cost * other, 10.0 * (1 + len(objects)))
        return [(int(i), int(j)) for i, j in zip(*linear_sum_assignment(cost), strict=True) if distance[i, j] <= 1]

    def _named(self, detection: ObjectInstance, track: _Track) -> ObjectInstance:
        if track.hits >= self.config.confirm and not track.number:
            self._last_number += 1
            track.number = self._last_number
        return replace(detection, track=track.number, label=track.label, name=self._names[track.label])
