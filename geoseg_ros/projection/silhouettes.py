"""Fit the pose of a mesh to the outline of the object in pictures: render and compare (3D-SC).

The silhouette is the sum of Gaussian spots of points of the surface, made soft by 1 - exp(-sum), in pure PyTorch, differentiable in size
and position. First a loss of distance transforms, which also draws shapes together that do not overlap; then the soft intersection over
union.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from geoseg_ros.errors import InputError
from geoseg_ros.projection.cameras import Camera, PerspectiveCamera
from geoseg_ros.settings import Settings, setting

Floats = NDArray[np.floating]
_OUTSIDE = 4.0  # lambda of the loss of distance transforms
_GAIN, _LAYERS = 2.0, 2.0  # how quickly spots become opaque; surfaces behind one another
_TURNS = (0, 90, 180, 270)


@dataclass(frozen=True)
class RefineConfig(Settings):
    """How the pose is fitted."""

    side: int = setting(96, "of the pictures that are compared", unit="pixels", range=(16, 1024))
    points: int = setting(3000, "of the surface, at most", range=(50, 100_000))
    steps: int = setting(100, "of each of the two losses", range=(1, 10_000))
    rate: float = setting(0.02, "learning rate, in sizes of the object", range=(1e-5, 1.0))
    overlap: float = setting(0.5, "intersection over union at which the second loss takes over", range=(0.0, 1.0))
    depth: bool = setting(True, "fit the distance too; in one picture it looks like a change of size, which is fitted instead then")


@dataclass(frozen=True)
class Refined:
    """A fitted pose: ``x -> scale * (x - middle) + middle + translation``, ``middle`` that of the given points' bounding box.

    Attributes:
        scale: factor. translation: float64 [3]. middle: float64 [3].
        before, after: intersection over union of outline and mask, mean over the pictures.
    """

    scale: float
    translation: NDArray[np.float64]
    middle: NDArray[np.float64]
    before: float
    after: float

    def apply(self, xyz: Floats) -> NDArray[np.float64]:
        """Points [N, 3] moved, float64."""
        return self.scale * (np.asarray(xyz, np.float64) - self.middle) + self.middle + self.translation


def refine_pose(xyz: Floats, views: Sequence[tuple[Camera, NDArray[np.bool_]]], config: RefineConfig | None = None) -> Refined:
    """Find the size and the position at which the outline of an object fits the masks in pictures.

    Args:
        xyz: [N, 3], points spread evenly over the surface, in the frame of the cameras' poses.
        views: perspective cameras and masks bool [H, W] of their pictures; one or more. With a single one the distance is kept.
        config: settings.

    Raises:
        InputError: an empty mask, or nothing of the object before a camera.
    """
    config = config or RefineConfig()
    points = np.asarray(xyz, np.float64)
    points = points[np.random.default_rng(0).permutation(len(points))[: config.points]]
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    size = float(np.linalg.norm(np.ptp(points, axis=0)))
    pictures = [_Picture(camera, mask, config.side) for camera, mask in views]
    model = _Model(points - middle, middle, size, pictures, free=config.depth and len(pictures) > 1)
    best, before = (-1.0, 1.0, np.zeros(3)), model.overlap()
    optimiser = torch.optim.Adam([model.log_scale, model.shift], lr=config.rate)
    for phase in ("distance", "overlap"):
        for step in range(config.steps):
            now = model.overlap()
            if now > best[0]:
                best = (now, *model.state())
            if phase == "distance" and now > config.overlap:
                break
            for group in optimiser.param_groups:
                group["lr"] = config.rate * (1 if phase == "distance" else 0.5 * (1 + np.cos(np.pi * step / config.steps)))
            optimiser.zero_grad()
            model.loss(phase).backward()
            optimiser.step()
    now = model.overlap()
    if now > best[0]:
        best = (now, *model.state())
    return Refined(best[1], best[2], middle, before, best[0])


def vote_yaw(
    estimate: Callable[[NDArray[np.uint8]], float], render: Callable[[float], NDArray[np.uint8]], views: int = 8
) -> tuple[int, float]:
    """The quarter turn by which an object's own front is off, by vote over pictures from known directions.

    Args:
        estimate: yaw (degrees) of the object in a picture, by any network or registration.
        render: picture of the object turned by so many degrees.
        views: pictures that vote, evenly turned.

    Returns:
        Degrees of 0, 90, 180, 270 to add to what is estimated, and the share of the pictures that voted for it.
    """
    votes = dict.fromkeys(_TURNS, 0)
    for k in range(views):
        known = 360.0 * k / views
        guess = estimate(render(known))
        votes[min(_TURNS, key=lambda turn: abs(wrapped(guess + turn - known)))] += 1
    best = max(_TURNS, key=lambda turn: votes[turn])
    return best, votes[best] / views


def wrapped(degrees: float) -> float:
    """The angle in -180 .. 180."""
    return (degrees + 180.0) % 360.0 - 180.0


class _Picture:
    """A mask, the camera, and the two distance fields (squared distances over the squared diagonal), all at the compared size."""

    def __init__(self, camera: Camera, mask: NDArray[np.bool_], side: int) -> None:
        if not isinstance(camera, PerspectiveCamera) or mask.shape != camera.size[::-1]:
            raise InputError(f"outline: expected a perspective camera and its mask, got {mask.shape} for {camera.size}")
        scale = side / max(mask.shape)
        width, height = (max(2, round(n * scale)) for n in camera.size)
        small = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        if not (small >= 0.5).any():
            raise InputError("outline: the mask is empty")
        self.mask = torch.from_numpy(small)
        diagonal = width**2 + height**2
        self.out, self.inside = (
            torch.from_numpy((distance_transform_edt(field) ** 2 / diagonal).astype(np.float32)) for field in (small < 0.5, small >= 0.5)
        )
        self.wide = self.mask
        self.rotation = torch.from_numpy(camera.rotation.copy()).float()
        self.origin = torch.from_numpy(camera.position.copy()).float()
        self.focal = torch.tensor(
            [camera.intrinsics[0, 0] * width / camera.size[0], camera.intrinsics[1, 1] * height / camera.size[1]]
        ).float()
        centre = (camera.intrinsics[:2, 2] + 0.5) * (width / camera.size[0], height / camera.size[1]) - 0.5
        self.centre = torch.from_numpy(centre).float()

    def silhouette(self, points: torch.Tensor, spacing: torch.Tensor) -> torch.Tensor:
        """Soft silhouette [H, W] of points [N, 3] of a surface whose neighbours are ``spacing`` apart."""
        local = (points - self.origin) @ self.rotation.T
        depth = local[:, 2].clamp_min(1e-3)
        at = local[:, :2] / depth[:, None] * self.focal + self.centre
        spread = (0.6 * spacing * self.focal.mean() / depth).clamp_min(0.6)[:, None]
        height, width = self.mask.shape
        across = torch.exp(-(((torch.arange(width) - at[:, :1]) / spread) ** 2) / 2)
        down = torch.exp(-(((torch.arange(height) - at[:, 1:]) / spread) ** 2) / 2)
        return 1 - torch.exp(-_GAIN * (down.T @ across))

    def swell(self, points: torch.Tensor, spacing: torch.Tensor) -> None:
        """Make the mask as wide as the spots make silhouettes, else the fitted object would be too small."""
        depth = ((points - self.origin) @ self.rotation.T)[:, 2].clamp_min(1e-3)
        spread = float((0.6 * spacing * self.focal.mean() / depth).clamp_min(0.6).mean())
        inside = (self.mask >= 0.5).float().numpy()
        wide = cv2.GaussianBlur(inside, (0, 0), spread)
        each = _LAYERS * 2 * np.pi * 0.6**2  # sum of the spots of both sides in the middle of the object
        self.wide = torch.from_numpy(1 - np.exp(-_GAIN * each * wide))


class _Model:
    """Size and position of the points, as the optimiser changes them."""

    def __init__(self, points: Floats, middle: Floats, size: float, pictures: Sequence[_Picture], free: bool) -> None:
        self.points, self.middle = torch.from_numpy(points).float(), torch.from_numpy(middle).float()
        self.size, self.pictures = size, pictures
        self.log_scale = torch.zeros((), requires_grad=True)
        self.shift = torch.zeros(3, requires_grad=True)  # in sizes of the object
        self.level = torch.eye(3)
        if not free:
            forward = pictures[0].rotation[2]
            self.level = torch.eye(3) - forward[:, None] * forward
        area = 0.35 * size**2  # of the surface; only the width of the spots depends on it
        self.spacing = torch.tensor((area / len(points)) ** 0.5).float()
        if not ((self.placed().detach() - pictures[0].origin) @ pictures[0].rotation.T)[:, 2].gt(1e-3).any():
            raise InputError("outline: nothing of the object is before the camera")
        for picture in pictures:
            picture.swell(self.placed().detach(), self.spacing)

    def placed(self) -> torch.Tensor:
        return self.points * self.log_scale.exp() + self.middle + self.size * (self.level @ self.shift)

    def silhouettes(self) -> list[torch.Tensor]:
        placed, spacing = self.placed(), self.spacing * self.log_scale.exp()
        return [picture.silhouette(placed, spacing) for picture in self.pictures]

    def loss(self, phase: str) -> torch.Tensor:
        losses = []
        for picture, drawn in zip(self.pictures, self.silhouettes(), strict=True):
            if phase == "distance":
                losses.append((drawn * picture.out + picture.inside * (1 - _OUTSIDE * drawn)).mean() * 100)
            else:
                both = (drawn * picture.wide).sum()
                losses.append(1 - both / (drawn + picture.wide - drawn * picture.wide).sum())
        return torch.stack(losses).mean()

    def overlap(self) -> float:
        with torch.no_grad():
            shares = []
            for picture, drawn in zip(self.pictures, self.silhouettes(), strict=True):
                shown, wanted = drawn >= 0.5, picture.wide >= 0.5
                shares.append(float((shown & wanted).sum() / (shown | wanted).sum().clamp_min(1)))
        return float(np.mean(shares))

    def state(self) -> tuple[float, NDArray[np.float64]]:
        shift = self.size * (self.level @ self.shift)
        return float(self.log_scale.exp().detach()), shift.detach().double().numpy()
