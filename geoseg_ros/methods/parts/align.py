"""Alignment of an object to the template of its kind: a turn about the vertical axis, a shift, and a stretch along and across it.

Gravity is known, so turns about the vertical axis are tried, each is refined by iterated closest points both ways (Besl and McKay 1992,
trimmed as by Chetverikov et al. 2002), and the one that leaves least over is taken. Objects of a kind differ in proportion, therefore
height and width are fitted apart, within limits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.methods.parts.shape import Shape

TURNS = 24
_COARSE, _FINE = (120, 6), (400, 12)  # points of each shape, iterations
_KEPT = 5  # starts that are refined finely
_NORMAL_WEIGHT = 0.12  # of a normal, in diagonals of the template
_STRETCH = 1.35  # most by which height or width leave their first guess
_SAME_TURN = np.pi / 6  # radians: nearer turns are one
_TRIM = 0.7  # share of the template that a partly seen object must cover


@dataclass(frozen=True)
class Alignment:
    """An object placed over the template.

    Attributes:
        matrix: float64 [4, 4], from the frame of the object to that of the template.
        cost: what is left over, in diagonals of the template; smaller is better.
        turn: radians about the vertical axis.
    """

    matrix: NDArray[np.float64]
    cost: float
    turn: float

    def apply(self, xyz: NDArray[np.floating]) -> NDArray[np.float64]:
        """Points [n, 3] of the object in the frame of the template."""
        return np.asarray(xyz, np.float64) @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def back(self, xyz: NDArray[np.floating]) -> NDArray[np.float64]:
        """Points [n, 3] of the template in the frame of the object."""
        return (np.asarray(xyz, np.float64) - self.matrix[:3, 3]) @ np.linalg.inv(self.matrix[:3, :3]).T


def align(template: Shape, obj: Shape, turns: int = TURNS) -> list[Alignment]:
    """The best alignments, the best first; of turns that end at the same place only one is kept.

    Args:
        turns: about the vertical axis that are tried.
    """
    height = float(np.ptp(template.xyz[:, 2]) / max(np.ptp(obj.xyz[:, 2]), 1e-6))
    width = _radius(template) / max(_radius(obj), 1e-6)
    height, width = float(np.clip(height, 0.2, 5)), float(np.clip(width, 0.2, 5))
    angle = np.arange(turns) * 2 * np.pi / turns
    same = 1 / 1.2 < height / width < 1.2
    guesses = [(a, s, height) for s in ({height} if same else {height, width}) for a in angle]
    state = _State(template, obj, np.array(guesses))
    state.iterate(*_COARSE)
    state.keep(_KEPT)
    state.iterate(*_FINE)
    return state.results(template.diagonal)


def _radius(shape: Shape) -> float:
    return float(np.quantile(np.linalg.norm(shape.xyz[:, :2], axis=1), 0.95))


class _State:
    """Several placements of an object at once. Attributes: turn complex [b], with the horizontal stretch; shift [b, 2]; rise [b, 2],
    stretch and shift along the vertical axis; cost [b]."""

    def __init__(self, template: Shape, obj: Shape, guesses: NDArray[np.float64]) -> None:
        self._diagonal = template.diagonal
        self._template = [_spread(template, count) for count, _ in (_COARSE, _FINE)]
        self._object = [_spread(obj, count) for count, _ in (_COARSE, _FINE)]
        self._level = 0
        self.turn = guesses[:, 1] * np.exp(1j * guesses[:, 0])
        self._first = guesses[:, 1:].copy()
        self.shift = np.zeros((len(guesses), 2))
        self.rise = np.stack([guesses[:, 2], np.zeros(len(guesses))], axis=1)
        self.cost = np.full(len(guesses), np.inf)

    def iterate(self, points: int, times: int) -> None:
        for _ in range(times):
            self._step()
        self._step(last=True)
        self._level = 1

    def keep(self, count: int) -> None:
        """Only the best of each turn, so that rivals are refined too."""
        best: list[int] = []
        for k in np.argsort(self.cost, kind="stable"):
            if len(best) < count and all(_between(self.turn[k], self.turn[other]) > _SAME_TURN for other in best):
                best.append(int(k))
        for name in ("turn", "shift", "rise", "cost", "_first"):
            setattr(self, name, getattr(self, name)[best])

    def results(self, diagonal: float) -> list[Alignment]:
        found: list[Alignment] = []
        for k in np.argsort(self.cost, kind="stable"):
            matrix = np.eye(4)
            real, imaginary = self.turn[k].real, self.turn[k].imag
            matrix[:2, :2] = [[real, -imaginary], [imaginary, real]]
            matrix[2, 2], matrix[2, 3] = self.rise[k]
            matrix[:2, 3] = self.shift[k]
            if all(_between(self.turn[k], np.exp(1j * other.turn)) > _SAME_TURN for other in found):
                found.append(Alignment(matrix, float(self.cost[k]), float(np.angle(self.turn[k]))))
        return found

    def _step(self, last: bool = False) -> None:
        """One iteration of closest points both ways; ``last``: only the cost."""
        goal, goal_normal = self._template[self._level]
        own, own_normal = self._object[self._level]
        flat = own[:, 0] + 1j * own[:, 1]
        placed = self.turn[:, None] * flat + (self.shift[:, 0] + 1j * self.shift[:, 1])[:, None]
        z = self.rise[:, :1] * own[None, :, 2] + self.rise[:, 1:]
        spin = np.exp(1j * np.angle(self.turn))[:, None]
        turned = spin * (own_normal[:, 0] + 1j * own_normal[:, 1])
        moved = _features(
            np.stack([placed.real, placed.imag, z], axis=2),
            np.stack([turned.real, turned.imag, np.broadcast_to(own_normal[:, 2], z.shape)], axis=2),
            self._diagonal,
        )
        aim = _features(goal[None], goal_normal[None], self._diagonal).expand(len(moved), -1, -1)
        distance = torch.cdist(moved, aim, compute_mode="use_mm_for_euclid_dist")
        there, there_row = distance.min(2)
        back, back_row = distance.min(1)
        limit = 0.15  # of a diagonal: farther points count no more
        trimmed = torch.quantile(back, _TRIM, dim=1, keepdim=True)
        near = back <= trimmed
        self.cost = (there.clamp(max=limit).mean(1) + (back.clamp(max=limit) * near).sum(1) / near.sum(1)).numpy() / 2
        if last:
            return
        weight = 1 / (1 + (there / 0.05) ** 2)
        weight_back = near / (1 + (back / 0.05) ** 2)
        rows, rows_back = there_row.numpy(), back_row.numpy()
        source = np.concatenate([np.broadcast_to(flat, rows.shape), flat[rows_back]], axis=1)
        aims = goal[:, 0] + 1j * goal[:, 1]
        target = np.concatenate([aims[rows], np.broadcast_to(aims, rows_back.shape)], axis=1)
        w = torch.cat([weight / weight.shape[1], weight_back / weight_back.shape[1]], 1).numpy().astype(np.float64)
        w /= w.sum(axis=1, keepdims=True)
        mean, mean_target = (w * source).sum(1), (w * target).sum(1)
        a, b = source - mean[:, None], target - mean_target[:, None]
        fit = (w * a.conj() * b).sum(1) / np.maximum((w * np.abs(a) ** 2).sum(1), 1e-12)
        fit = np.where(np.abs(fit) > 1e-9, fit, self.turn)
        size = np.clip(np.abs(fit), self._first[:, 0] / _STRETCH, self._first[:, 0] * _STRETCH)
        self.turn = fit / np.abs(fit) * size
        shift = mean_target - self.turn * mean
        self.shift = np.stack([shift.real, shift.imag], axis=1)
        low = np.concatenate([np.broadcast_to(own[:, 2], rows.shape), own[:, 2][rows_back]], axis=1)
        high = np.concatenate([goal[:, 2][rows], np.broadcast_to(goal[:, 2], rows_back.shape)], axis=1)
        mean_low, mean_high = (w * low).sum(1), (w * high).sum(1)
        slope = (w * (low - mean_low[:, None]) * (high - mean_high[:, None])).sum(1)
        slope /= np.maximum((w * (low - mean_low[:, None]) ** 2).sum(1), 1e-12)
        slope = np.clip(slope, self._first[:, 1] / _STRETCH, self._first[:, 1] * _STRETCH)
        self.rise = np.stack([slope, mean_high - slope * mean_low], axis=1)


def _between(first: complex, second: complex) -> float:
    """Angle between two turns, radians."""
    return abs(float(np.angle(first / second)))


def _spread(shape: Shape, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most ``count`` points and normals, spread by their order, which follows the grid."""
    rows = np.unique(np.linspace(0, len(shape.xyz) - 1, min(count, len(shape.xyz))).round().astype(np.int64))
    return shape.xyz[rows].astype(np.float64), shape.normal[rows].astype(np.float64)


def _features(xyz: NDArray[np.float64], normal: NDArray[np.float64], diagonal: float) -> torch.Tensor:
    """Place and slope, so that Euclidean distance compares both: [b, n, 9], in diagonals. A normal counts by n n^T, whatever its sign."""
    x, y, z = (normal[..., k] for k in range(3))
    root = np.sqrt(2)
    outer = np.stack([x * x, y * y, z * z, root * x * y, root * x * z, root * y * z], axis=-1)
    return torch.from_numpy(np.concatenate([xyz / diagonal, _NORMAL_WEIGHT / root * outer], axis=-1).astype(np.float32))
