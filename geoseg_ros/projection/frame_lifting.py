"""Tokens of posed frames, carried to the points that the frames show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.tokens import photo_tokens
from geoseg_ros.errors import InputError, warn
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.geometry.neighbours import graph_edges, knn
from geoseg_ros.geometry.normals import normals
from geoseg_ros.geometry.superpoints import SuperpointConfig, superpoints
from geoseg_ros.geometry.voxels import voxel_downsample
from geoseg_ros.io.posed_frames import PosedFrame, PosedFrames, evenly
from geoseg_ros.progress import Progress, silent
from geoseg_ros.projection.cameras import PerspectiveCamera
from geoseg_ros.projection.fusing import fuse_frames
from geoseg_ros.projection.lifted_scene import LiftedScene
from geoseg_ros.projection.scene import Remember, uncached
from geoseg_ros.projection.shots import Shot, take_shot
from geoseg_ros.settings import Settings, section, setting

COMBINE = ("mean", "max")
FEW = 5  # frames of which none need see what another does
SHARED = 0.1  # smallest share of what more frames measured that two of them did
CONTRADICTED, REFUSED = 0.15, 0.4  # share of the measured surface that another frame looks through: warned about, refused


@dataclass(frozen=True)
class LiftConfig(Settings):
    """How tokens of frames are carried to voxels."""

    voxel: float = setting(0.05, "voxel edge", unit="m", range=(0.001, 10.0))
    farthest: float = setting(6.0, "depth beyond which measurements are not used", unit="m", range=(0.1, 1000.0))
    least: int = setting(3, "measured points that a voxel of a room fused from frames must have", range=(1, 1_000_000))
    sides: tuple[int, ...] = setting(
        (640, 320),
        "longest sides to which a frame is resized for the backbone; the tokens of all are averaged",
        unit="pixels",
        range=(64, 4096),
    )
    combine: str = setting("mean", "what is made of the tokens of several views", choices=COMBINE)
    tolerance: float = setting(0.05, "share of the depth by which a point may lie behind what the frame measured", range=(0.0, 1.0))
    neighbours: int = setting(16, "voxels that a normal is fitted to", range=(4, 1000))
    graph_neighbours: int = setting(9, "neighbours of a voxel in the graph of super-voxels", range=(2, 1000))
    shots: int = setting(32, "frames of a room whose own points are kept, evenly spread", range=(0, 100_000))
    superpoints: SuperpointConfig = section(SuperpointConfig, "super-voxels (Felzenszwalb & Huttenlocher)")


def lift_frames(
    frames: PosedFrames,
    backbone: ImageBackbone,
    config: LiftConfig | None = None,
    points: Cloud | None = None,
    remember: Remember = uncached,
    progress: Progress = silent,
) -> LiftedScene:
    """A room with tokens from the frames that were taken in it.

    Every voxel is projected into every frame, z p = K T P. The frame shows it where the pixel has depth d and |z - d| is at most the voxel
    edge plus ``tolerance`` times d. Its token there is interpolated between the four nearest ones.

    Args:
        frames: iterated once or twice.
        backbone: gives the tokens.
        config: settings.
        points: the room's points in the world of the poses; None: the room is fused from the depth of the frames.
        remember: keeps the tokens of each frame, such as ``TokenCache.remember``.
        progress: called with ("fuse" or "lift", frames done, frames in all).

    Raises:
        InputError: no depth, frames that cannot be read, or that contradict one another: wrong poses, intrinsics or units.
    """
    config = config or LiftConfig()
    total = len(frames)
    rgb: NDArray[np.uint8] | None
    towards: NDArray[np.float32] | None
    if points is None:
        fused = fuse_frames(_counted(frames, "fuse", total, progress), config.voxel, config.farthest, config.least)
        xyz, rgb, inverse, towards = fused.xyz, fused.rgb, np.zeros(0, np.int64), fused.towards
        if total >= FEW and fused.shared < SHARED:
            raise InputError(
                f"{frames.name}: {fused.shared:.1%} of what the frames measured was measured by two of them, expected {SHARED:.0%}: "
                "they show different places, or the poses or the units of the depth are wrong"
            )
    else:
        grid = voxel_downsample(points.xyz, points.rgb, config.voxel)
        xyz, rgb, inverse, towards = grid.xyz, grid.rgb, grid.inverse, None
    lifted = _Sum(len(xyz), backbone.dim, config.combine)
    positions: list[NDArray[np.float64]] = []
    ups: list[NDArray[np.float64]] = []
    shots: list[Shot] = []
    shown = crossed = 0
    kept, tree = set(evenly(total, config.shots) if config.shots else ()), cKDTree(xyz)
    for number, frame in enumerate(_counted(frames, "lift", total, progress)):
        if number in kept:
            shots.append(take_shot(frame, tree, config.voxel, config.farthest, rgb is not None))
        row, pixel, through = seen(xyz, frame, config)
        shown, crossed = shown + len(row), crossed + through
        lifted.add(row, frame_tokens(backbone, frame.rgb, config.sides, remember), pixel, frame.depth.shape)
        positions.append(frame.pose[:3, 3])
        ups.append(-frame.pose[:3, 1])
    if points is None:
        _check_agreement(frames.name, crossed / max(shown + crossed, 1))
    if towards is None:
        towards = (np.mean(positions, axis=0) - xyz).astype(np.float32)
    normal, superpoint = surface(xyz, rgb, towards, config)
    tokens, views = lifted.result()
    up = _unit(np.mean(ups, axis=0))
    return LiftedScene(xyz, rgb, normal, tokens, views, superpoint, inverse, config.voxel, up, backbone.hash, frames.name, tuple(shots))


def _check_agreement(name: str, contradicted: float) -> None:
    """Warn about, or refuse, frames of which too much is ``contradicted``: a share of the surface that another frame looks through."""
    if contradicted > CONTRADICTED:
        text = (
            f"{name}: another frame looks through {contradicted:.0%} of what the frames measured, expected at most {CONTRADICTED:.0%}: "
            "the poses, the intrinsics or the units of the depth are wrong, or much has moved"
        )
        if contradicted > REFUSED:
            raise InputError(text)
        warn(text)


def seen(xyz: NDArray[np.float32], frame: PosedFrame, config: LiftConfig) -> tuple[NDArray[np.int64], NDArray[np.float64], int]:
    """The points that a frame shows.

    Returns:
        int64 [K], rows of ``xyz`` [M, 3], rising; float64 [K, 2], their pixels (u, v) in the frame; and the number of points that lie in
        front of what the frame measured, so that it should have seen them.
    """
    height, width = frame.depth.shape
    camera = PerspectiveCamera(frame.pose, frame.intrinsics, (width, height))
    pixels, depth = camera.project(xyz)
    row = np.flatnonzero(camera.contains(pixels) & (depth < config.farthest))
    u, v = np.rint(pixels[row]).astype(np.int64).T
    measured = frame.depth[np.clip(v, 0, height - 1), np.clip(u, 0, width - 1)].astype(np.float64)
    with np.errstate(invalid="ignore"):
        behind = depth[row] - measured
        tolerance = config.voxel + config.tolerance * measured
        shown, through = np.abs(behind) <= tolerance, behind < -tolerance
    return row[shown], pixels[row[shown]], int(through.sum())


def frame_tokens(
    backbone: ImageBackbone, rgb: NDArray[np.uint8], sides: tuple[int, ...], remember: Remember = uncached
) -> list[torch.Tensor]:
    """Tokens [h, w, D] of an image at several sizes of its longer side."""

    def work() -> dict[str, torch.Tensor]:
        return {str(side): _at_side(backbone, rgb, side).half() for side in sides}

    found = remember(f"frame tokens {backbone.hash} {sides}", rgb, work)
    return [found[str(side)].float() for side in sides]


def _at_side(backbone: ImageBackbone, rgb: NDArray[np.uint8], side: int) -> torch.Tensor:
    return photo_tokens(backbone, rgb, max(rgb.shape[:2]), side / max(rgb.shape[:2]))[0]


def surface(
    xyz: NDArray[np.float32], rgb: NDArray[np.uint8] | None, towards: NDArray[np.float32], config: LiftConfig
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Normals float32 [M, 3], turned along the directions ``towards`` [M, 3], and super-voxels int64 [M], 0 .. S - 1."""
    _, index = knn(xyz, config.neighbours)
    normal, _ = normals(xyz, index)
    normal[np.einsum("ij,ij->i", normal, towards) < 0] *= -1
    edges = graph_edges(index, config.graph_neighbours)
    return normal, superpoints(xyz, normal, rgb, np.full(len(xyz), -1, np.int64), edges, config.superpoints)


class _Sum:
    """Tokens of M points, gathered frame by frame."""

    def __init__(self, count: int, dim: int, combine: str) -> None:
        self._maximum = combine == "max"
        self._total = torch.full((count, dim), -torch.inf if self._maximum else 0.0)
        self._views = torch.zeros(count, dtype=torch.int32)

    def add(self, row: NDArray[np.int64], tokens: list[torch.Tensor], pixel: NDArray[np.float64], shape: tuple[int, ...]) -> None:
        """Add the tokens of a frame of ``shape`` (height, width) at the pixels [K, 2] of the points ``row`` [K]."""
        if not len(row):
            return
        rows = torch.from_numpy(row)
        place = torch.from_numpy((pixel + 0.5) / (shape[1], shape[0]) * 2 - 1).float()  # borders of the image at -1 and 1
        found = torch.stack([_interpolated(grid, place) for grid in tokens]).mean(0)
        self._total[rows] = torch.maximum(self._total[rows], found) if self._maximum else self._total[rows] + found
        self._views[rows] += 1

    def result(self) -> tuple[NDArray[np.float16], NDArray[np.int32]]:
        """float16 [M, D], zeros where nothing was added; int32 [M], frames that show each point."""
        known = self._views > 0
        tokens = torch.where(known[:, None], self._total, 0.0)
        if not self._maximum:
            tokens /= self._views.clamp_min(1)[:, None]
        return tokens.half().numpy(), self._views.numpy()


def _interpolated(grid: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Tokens [K, D] of a grid [h, w, D] at places [K, 2]."""
    found = F.grid_sample(grid.permute(2, 0, 1)[None], place[None, None], align_corners=False, padding_mode="border")
    return found[0, :, 0].T


def _counted(frames: PosedFrames, stage: str, total: int, progress: Progress) -> Iterator[PosedFrame]:
    for done, frame in enumerate(frames, 1):
        yield frame
        progress(stage, done, total)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9))
