"""A wall with a coloured square, seen by a camera that walks past it, and its frames written in the layouts of data sets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from geoseg_ros.io.posed_frames import PosedFrame

WIDTH, HEIGHT, FOCAL = 64, 48, 60.0
INTRINSICS = np.array([[FOCAL, 0, 31.5], [0, FOCAL, 23.5], [0, 0, 1]])
WALL = 2.0  # metres in front of the first camera
SQUARE = 0.3  # half its side, metres; around x = y = 0


def wall_frame(x: float, name: str = "", turn: float = 0.0) -> PosedFrame:
    """The frame of a camera at (x, 0, 0) that looks along +z, turned by ``turn`` degrees about its y axis. The square is red, the wall
    grey."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("y", turn, degrees=True).as_matrix()
    pose[0, 3] = x
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH]
    rays = np.stack([(u - 31.5) / FOCAL, (v - 23.5) / FOCAL, np.ones(u.shape)], -1) @ pose[:3, :3].T
    depth = WALL / rays[..., 2]
    hit = rays * depth[..., None] + pose[:3, 3]
    rgb = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    rgb[(np.abs(hit[..., :2]) < SQUARE).all(-1)] = (200, 30, 30)
    return PosedFrame(rgb, depth.astype(np.float32), INTRINSICS, pose, name)


def walk(count: int = 6, step: float = 0.1) -> list[PosedFrame]:
    """Frames of a camera that walks along +x."""
    return [wall_frame(k * step, f"frame {k}") for k in range(count)]


def write_seven_scenes(root: Path, frames: list[PosedFrame], units: float = 1000.0) -> None:
    """The layout of 7-Scenes; ``units`` of the depth per metre."""
    root.mkdir(parents=True, exist_ok=True)
    np.savetxt(root / "camera-intrinsics.txt", frames[0].intrinsics)
    for k, frame in enumerate(frames):
        stem = root / f"frame-{k:06d}"
        cv2.imwrite(f"{stem}.color.png", frame.rgb[..., ::-1])
        cv2.imwrite(f"{stem}.depth.png", _stored(frame, units))
        np.savetxt(f"{stem}.pose.txt", frame.pose)


def write_scannet(root: Path, frames: list[PosedFrame], scale: int = 2) -> None:
    """ScanNet's exported frames; colour images are ``scale`` times as large as depth images."""
    for name in ("color", "depth", "pose", "intrinsic"):
        (root / name).mkdir(parents=True, exist_ok=True)
    depth, color = np.eye(4), np.eye(4)
    depth[:3, :3] = frames[0].intrinsics
    color[:3, :3] = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1]]) @ frames[0].intrinsics
    np.savetxt(root / "intrinsic" / "intrinsic_depth.txt", depth)
    np.savetxt(root / "intrinsic" / "intrinsic_color.txt", color)
    for k, frame in enumerate(frames):
        large = cv2.resize(frame.rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(root / "color" / f"{k}.jpg"), large[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
        cv2.imwrite(str(root / "depth" / f"{k}.png"), _stored(frame, 1000.0))
        np.savetxt(root / "pose" / f"{k}.txt", frame.pose)


def write_tum(root: Path, frames: list[PosedFrame]) -> None:
    """The layout of TUM RGB-D, 30 frames a second; colour and depth images have stamps of their own."""
    for name in ("rgb", "depth"):
        (root / name).mkdir(parents=True, exist_ok=True)
    np.savetxt(root / "camera-intrinsics.txt", frames[0].intrinsics)
    lines: dict[str, list[str]] = {name: ["# made by a test"] for name in ("rgb", "depth", "groundtruth")}
    for k, frame in enumerate(frames):
        stamp = 1000 + k / 30
        cv2.imwrite(str(root / "rgb" / f"{k}.png"), frame.rgb[..., ::-1])
        cv2.imwrite(str(root / "depth" / f"{k}.png"), _stored(frame, 5000.0))
        lines["rgb"].append(f"{stamp + 0.004:.6f} rgb/{k}.png")
        lines["depth"].append(f"{stamp:.6f} depth/{k}.png")
        numbers = [*frame.pose[:3, 3], *Rotation.from_matrix(frame.pose[:3, :3]).as_quat()]
        lines["groundtruth"].append(f"{stamp - 0.003:.6f} " + " ".join(f"{n:.6f}" for n in numbers))
    for name, rows in lines.items():
        (root / f"{name}.txt").write_text("\n".join(rows) + "\n")


def _stored(frame: PosedFrame, units: float) -> np.ndarray:
    return np.nan_to_num(np.rint(frame.depth * units), nan=0).astype(np.uint16)
