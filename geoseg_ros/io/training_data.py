"""Results as training data: writers of the layouts that detectors and segmenters are trained from.

Every writer makes one data set in a folder. Files are written when an item is added, lists and indexes by :meth:`DatasetWriter.close`,
also ``stamps.txt``: name and stamp of each item, by which :mod:`geoseg_ros.io.truth_labels` finds its message again.

============== ==========================================================================================================
coco           ``images/``, ``annotations.json`` (COCO 2014 instances; masks as uncompressed run lengths, with their holes)
yolo           ``images/``, ``labels/`` (class and normalised polygon per line, without holes), ``data.yaml``
png            ``images/``, ``labels/`` (8-bit label ids), ``labels.txt`` (line k: name of label k; line 0: none)
semantickitti  ``sequences/00/velodyne/*.bin``, ``labels/*.label`` (uint32: instance << 16 | label), ``times.txt``, ``labels.yaml``
kitti          ``training/velodyne/*.bin``, ``label_2/*.txt`` (upright boxes in the camera frame of ``calib/*.txt``)
============== ==========================================================================================================
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.files import write_bytes, write_text
from geoseg_ros.results import LabelSpace, ObjectInstance

_MOST_INSTANCE = 0xFFFF  # SemanticKITTI has 16 bits for it
_TO_CAMERA = {  # rotation from the frame of the cloud to KITTI's camera: x right, y down, z forward
    "body": np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]]),
    "optical": np.eye(3),
}


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One image. Attributes: rgb: uint8 [H, W, 3]; mask: uint8 [H, W] of label ids, 0 = none; stamp_ns: time of the measurement."""

    rgb: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    stamp_ns: int


@dataclass(frozen=True, eq=False)
class LabelledSweep:
    """One cloud of N points in the sensor's frame.

    Attributes:
        xyz: float32 [N, 3], metres; not finite where nothing was measured.
        intensity: float32 [N], or None.
        label, instance: uint32 [N], 0 = none.
        objects: with their boxes.
        frame: ``body`` (x forward, z up) or ``optical`` (x right, z forward), REP 103.
        stamp_ns: time of the measurement.
    """

    xyz: NDArray[np.float32]
    intensity: NDArray[np.float32] | None
    label: NDArray[np.uint32]
    instance: NDArray[np.uint32]
    objects: tuple[ObjectInstance, ...]
    frame: str
    stamp_ns: int


class DatasetWriter(ABC):
    """One data set in the making.

    Args:
        root: folder; it exists.
        labels: names of the label ids from 1 on.
        least: pixels of the smallest part of a mask that counts as an instance.

    Attributes:
        items: number of items so far.
        instances: number of their instances.
    """

    def __init__(self, root: Path, labels: LabelSpace, least: int = 16) -> None:
        self.root, self.labels, self.least = root, labels, least
        self.items = self.instances = 0
        self._stamps: list[int] = []

    def add(self, item: Any) -> None:
        """Write a :class:`LabelledImage` or a :class:`LabelledSweep`."""
        self._write(item, f"{self.items:06d}")
        self._stamps.append(item.stamp_ns)
        self.items += 1

    def close(self) -> None:
        """Write what lists the items."""
        write_text(self.root / "stamps.txt", "".join(f"{k:06d} {stamp}\n" for k, stamp in enumerate(self._stamps)))
        self._list()

    @abstractmethod
    def _list(self) -> None:
        """Write what lists the items in this layout."""

    @abstractmethod
    def _write(self, item: Any, name: str) -> None:
        """Write the files of one item; ``name``: its number."""


class CocoWriter(DatasetWriter):
    """COCO instances: every connected part of a mask is one."""

    def __init__(self, root: Path, labels: LabelSpace, least: int = 16) -> None:
        super().__init__(root, labels, least)
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def _write(self, item: LabelledImage, name: str) -> None:
        file = _write_png(self.root / "images" / f"{name}.png", item.rgb)
        height, width = item.mask.shape
        entry = {"id": self.items + 1, "file_name": file.name, "height": height, "width": width}
        self._images.append({**entry, "stamp_ns": item.stamp_ns})
        for label, part in mask_parts(item.mask, self.least):
            self.instances += 1
            x, y, w, h = cv2.boundingRect(part)
            about = {"id": self.instances, "image_id": entry["id"], "category_id": label, "iscrowd": 0}
            shape = {"size": [height, width], "counts": run_lengths(part)}
            self._annotations.append({**about, "bbox": [x, y, w, h], "area": int(part.sum()), "segmentation": shape})

    def _list(self) -> None:
        categories = [{"id": label, "name": name} for label, name in enumerate(self.labels.names, 1)]
        text = {
            "info": {"description": "geoseg export"},
            "images": self._images,
            "annotations": self._annotations,
            "categories": categories,
        }
        write_text(self.root / "annotations.json", json.dumps(text))


class YoloWriter(DatasetWriter):
    """YOLO segmentation, which detection is trained from as well: the outline of every connected part, without its holes."""

    def _write(self, item: LabelledImage, name: str) -> None:
        _write_png(self.root / "images" / f"{name}.png", item.rgb)
        height, width = item.mask.shape
        lines = []
        for label, part in mask_parts(item.mask, self.least):
            outline = max(cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0], key=cv2.contourArea).reshape(-1, 2)
            if len(outline) < 3:  # a line of pixels has no area
                continue
            self.instances += 1
            places = (outline + 0.5) / (width, height)
            lines.append(f"{label - 1} " + " ".join(f"{value:.6f}" for value in places.ravel()))
        write_text(self.root / "labels" / f"{name}.txt", "".join(f"{line}\n" for line in lines))

    def _list(self) -> None:
        about = {"path": ".", "train": "images", "val": "images", "names": dict(enumerate(self.labels.names))}
        write_text(self.root / "data.yaml", yaml.safe_dump(about, sort_keys=False, allow_unicode=True))


class PngWriter(DatasetWriter):
    """Semantic masks as images of label ids."""

    def _write(self, item: LabelledImage, name: str) -> None:
        _write_png(self.root / "images" / f"{name}.png", item.rgb)
        _write_png(self.root / "labels" / f"{name}.png", item.mask)
        self.instances += len(mask_parts(item.mask, self.least))

    def _list(self) -> None:
        write_text(self.root / "labels.txt", "".join(f"{name}\n" for name in ("none", *self.labels.names)))


class SemanticKittiWriter(DatasetWriter):
    """A SemanticKITTI sequence, one label and instance per measured point."""

    def _write(self, item: LabelledSweep, name: str) -> None:
        folder = self.root / "sequences" / "00"
        use = _write_velodyne(folder / "velodyne" / f"{name}.bin", item)
        if item.instance.max(initial=0) > _MOST_INSTANCE:
            raise InputError(f"cloud {name}: more than {_MOST_INSTANCE} instances, SemanticKITTI has no room for them")
        word = (item.instance[use] << 16 | item.label[use]).astype("<u4")
        write_bytes(folder / "labels" / f"{name}.label", word.tobytes())
        self.instances += len(np.unique(item.instance[item.instance > 0]))

    def _list(self) -> None:
        folder = self.root / "sequences" / "00"
        start = self._stamps[0] if self._stamps else 0
        write_text(folder / "times.txt", "".join(f"{(stamp - start) * 1e-9:.6f}\n" for stamp in self._stamps))
        names, palette = ("unlabeled", *self.labels.names), self.labels.palette().tolist()
        about = {
            "labels": dict(enumerate(names)),
            "color_map": {k: palette[k][::-1] for k in range(len(names))},  # b, g, r, as there
            "learning_map": {k: k for k in range(len(names))},
            "learning_map_inv": {k: k for k in range(len(names))},
            "learning_ignore": {k: k == 0 for k in range(len(names))},
            "split": {"train": [0], "valid": [0], "test": []},
        }
        write_text(self.root / "labels.yaml", yaml.safe_dump(about, sort_keys=False, allow_unicode=True))


class KittiWriter(DatasetWriter):
    """KITTI's 3D objects. There is no camera: boxes in the image are -1, truncation and occlusion unknown (-1)."""

    def _write(self, item: LabelledSweep, name: str) -> None:
        folder = self.root / "training"
        _write_velodyne(folder / "velodyne" / f"{name}.bin", item)
        turn = _TO_CAMERA[item.frame]
        lines = [kitti_line(entry, turn) for entry in item.objects]
        self.instances += len(lines)
        write_text(folder / "label_2" / f"{name}.txt", "".join(f"{line}\n" for line in lines))
        write_text(folder / "calib" / f"{name}.txt", _calibration(turn))

    def _list(self) -> None:
        write_text(self.root / "ImageSets" / "train.txt", "".join(f"{k:06d}\n" for k in range(self.items)))


IMAGE_FORMATS: dict[str, type[DatasetWriter]] = {"coco": CocoWriter, "yolo": YoloWriter, "png": PngWriter}
CLOUD_FORMATS: dict[str, type[DatasetWriter]] = {"kitti": KittiWriter, "semantickitti": SemanticKittiWriter}


def mask_parts(mask: NDArray[np.uint8], least: int) -> list[tuple[int, NDArray[np.uint8]]]:
    """(label, uint8 [H, W] of 0 and 1) for every 8-connected part of at least ``least`` pixels, by label, then from the top."""
    found = []
    for label in np.unique(mask[mask > 0]).tolist():
        count, part, stats, _ = cv2.connectedComponentsWithStats((mask == label).astype(np.uint8), connectivity=8)
        found += [(label, (part == k).astype(np.uint8)) for k in range(1, count) if stats[k, cv2.CC_STAT_AREA] >= least]
    return found


def run_lengths(part: NDArray[np.uint8]) -> list[int]:
    """COCO's uncompressed run lengths of uint8 [H, W] of 0 and 1: down the columns, zeros first."""
    flat = part.ravel(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *ends.tolist(), len(flat)]).tolist()
    return [0, *runs] if flat[0] else runs


def kitti_line(entry: ObjectInstance, turn: NDArray[np.floating]) -> str:
    """A line of label_2: class, box in the camera frame. The box's most upright axis is its height, the longer of the others its length.

    Args:
        entry: in the frame of the cloud.
        turn: [3, 3], from there to the camera frame.
    """
    axes = turn @ entry.rotation  # columns: the box's axes in the camera frame
    tall = int(np.argmax(np.abs(axes[1])))
    flat = sorted((k for k in range(3) if k != tall), key=lambda k: -entry.size[k])
    along = axes[:, flat[0]]
    yaw = float(np.arctan2(-along[2], along[0]))
    height, length, width = (float(entry.size[k]) for k in (tall, *flat))
    x, y, z = turn @ entry.center
    name = "_".join(entry.name.split()) or "object"
    numbers = (height, width, length, x, y + height / 2, z, yaw)  # the place is the middle of the lower face
    return f"{name} -1 -1 -10 -1 -1 -1 -1 " + " ".join(f"{value:.4f}" for value in numbers)


def _calibration(turn: NDArray[np.floating]) -> str:
    rows = {f"P{k}": np.eye(3, 4) for k in range(4)}
    rows |= {"R0_rect": np.eye(3), "Tr_velo_to_cam": np.hstack([turn, np.zeros((3, 1))]), "Tr_imu_to_velo": np.eye(3, 4)}
    return "".join(f"{name}: {' '.join(f'{value:.6e}' for value in row.ravel())}\n" for name, row in rows.items())


def _write_velodyne(path: Path, item: LabelledSweep) -> NDArray[np.bool_]:
    """Write the measured points as float32 x, y, z, intensity (0 where there is none); returns which these are, bool [N]."""
    use = np.asarray(np.isfinite(item.xyz).all(axis=1))
    intensity = np.zeros(len(item.xyz), np.float32) if item.intensity is None else np.nan_to_num(item.intensity)
    write_bytes(path, np.column_stack([item.xyz, intensity])[use].astype("<f4").tobytes())
    return use


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> Path:
    done, data = cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    if not done:
        raise InputError(f"{path}: an image of {pixels.shape} cannot be written as PNG")
    write_bytes(path, data.tobytes())
    return path
