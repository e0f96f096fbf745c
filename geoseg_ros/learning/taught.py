"""What a vision-language teacher says of the frames of a scene, carried to the points that they show."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from geoseg_ros.backbones.teacher import VisionLanguageTeacher
from geoseg_ros.errors import InputError
from geoseg_ros.io.posed_frames import PosedFrame
from geoseg_ros.learning.foreground import ForegroundConfig, find_foreground
from geoseg_ros.projection.frame_lifting import LiftConfig, seen
from geoseg_ros.projection.lifted_scene import LiftedScene

MOST_PHOTOGRAPHS = 100
CORE = 0.05  # share of a photograph
NEIGHBOURS = 5  # nearest places of another photograph over which recurrence is averaged


@dataclass(frozen=True, eq=False)
class TaughtView:
    """One frame of a scene.

    Attributes:
        row: int64 [K], points of the scene that it shows.
        place: float32 [K, 2], where: x and y with the borders of the image at -1 and 1.
        distance: float32 [K], metres from the camera.
        features: float16 [h, w, D], of the teacher.
    """

    row: NDArray[np.int64]
    place: NDArray[np.float32]
    distance: NDArray[np.float32]
    features: torch.Tensor

    def at_points(self) -> torch.Tensor:
        """Features of the K points, interpolated, float32 [K, D], of unit length; zeros where nothing is said of a place."""
        grid = self.features.float().permute(2, 0, 1)[None]
        found = F.grid_sample(grid, torch.from_numpy(self.place)[None, None], align_corners=False, padding_mode="border")
        return F.normalize(found[0, :, 0].T, dim=1)


@dataclass(frozen=True, eq=False)
class Taught:
    """What a teacher says of scenes.

    Attributes:
        teacher: name and hash. supervision, licence: of it.
        scale: factor of the cosines before a softmax over classes.
        names: of the classes; none where the teacher has no text.
        anchors: float32 [C, D], unit embeddings of the names; [0, D] where there are none.
        views: of each scene.
    """

    teacher: tuple[str, str]
    supervision: str
    licence: str
    scale: float
    names: tuple[str, ...]
    anchors: NDArray[np.float32]
    views: Sequence[Sequence[TaughtView]]


def teach_scene(
    scene: LiftedScene, frames: Iterable[PosedFrame], teacher: VisionLanguageTeacher, config: LiftConfig | None = None
) -> list[TaughtView]:
    """The views of a scene from frames in its world; those that show none of its points are left out."""
    config, views = config or LiftConfig(voxel=scene.voxel), []
    for frame in frames:
        row, pixel, _ = seen(scene.xyz, frame, config)
        if not len(row):
            continue
        place = ((pixel + 0.5) / frame.depth.shape[::-1] * 2 - 1).astype(np.float32)
        distance = np.linalg.norm(scene.xyz[row] - frame.pose[:3, 3], axis=1).astype(np.float32)
        views.append(TaughtView(row, place, distance, teacher.encode_image(frame.rgb).half()))
    return views


def taught(teacher: VisionLanguageTeacher, names: Sequence[str], views: Sequence[Sequence[TaughtView]]) -> Taught:
    """What a teacher says of scenes, by the names of classes where it has text."""
    anchors = teacher.encode_text(names).numpy() if teacher.text else np.zeros((0, teacher.dim), np.float32)
    identity = (teacher.name, teacher.hash)
    own = tuple(names) if teacher.text else ()
    return Taught(identity, teacher.supervision, teacher.licence, teacher.scale, own, anchors.astype(np.float32), views)


def photographed_anchor(teacher: VisionLanguageTeacher, photographs: Collection[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """The anchor float32 [D], unit, of what a few photographs show, for a teacher without a word for it.

    It is the mean of what the teacher says of the core of their foreground: of what recurs in them and is not at their borders, the places
    that are surest. All of the foreground reaches far into what surrounds the object.

    Raises:
        InputError: fewer than two photographs, or very many.
    """
    if not 2 <= len(photographs) <= MOST_PHOTOGRAPHS:
        raise InputError(f"photographs: expected 2 to {MOST_PHOTOGRAPHS} of what is named, in several places, got {len(photographs)}")
    maps = [teacher.encode_image(photograph).float() for photograph in photographs]
    centred = [F.normalize(item - item.mean(dim=(0, 1)), dim=-1) for item in maps]  # what differs from the rest of its photograph
    chosen, scores = find_foreground(centred, maps[0].new_zeros(0, teacher.dim), NEIGHBOURS, ForegroundConfig())
    core = []
    for item, mask, score in zip(maps, chosen, scores, strict=True):
        most = min(int(mask.sum()), max(1, round(CORE * mask.numel())))
        core.append(item[mask][score[mask].topk(most).indices])
    shown = torch.cat(core)
    return F.normalize(shown.mean(dim=0), dim=0).cpu().numpy()
