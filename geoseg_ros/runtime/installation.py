"""What is installed on this machine, what will run the networks, and what will hinder the node: the content of ``geoseg doctor``."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from geoseg_ros import __version__
from geoseg_ros.errors import GeosegError, InputError

SHARED_MEMORY = 192 << 20  # bytes: a node and two drivers with the segments of config/fastdds_shm.xml
_LEAST_MEMORY = 2 << 30
REQUIRED = (
    "numpy",
    "torch",
    "scipy",
    "numba",
    "opencv-python-headless",
    "open3d-cpu",
    "open3d",
    "safetensors",
    "rosbags",
    "lightning-fabric",
)
OPTIONAL = ("onnx", "onnxruntime", "onnxruntime-gpu", "onnxscript", "tensorrt", "tensorrt_rtx", "transformers", "rerun-sdk", "h5py")
ROS_VARIABLES = (
    "ROS_DISTRO", "RMW_IMPLEMENTATION", "ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_STATIC_PEERS", "ROS_LOCALHOST_ONLY",
    "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "CYCLONEDDS_URI",
)  # fmt: skip


@dataclass
class Report:
    """What was found.

    Attributes:
        sections: title -> name -> value, in the order in which they are printed.
        problems: one line each: what hinders the node, and what helps.
    """

    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def examine(run: bool = True) -> Report:
    """Examine this installation.

    Args:
        run: also run the default backbone for a moment; an engine that is missing is built or exported first.
    """
    report = Report()
    for title, look in (("system", _system), ("packages", _packages), ("ROS 2", _ros), ("memory", _memory), ("caches", _caches)):
        report.sections[title] = look(report.problems)
    if run:
        report.sections["networks"] = _networks(report.problems)
    report.sections["packs"] = _packs()
    return report


def _system(problems: list[str]) -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2:
        problems.append("one processor core: clouds and images will share it; give the container or the node two")
    return {
        "geoseg_ros": f"{__version__}, {Path(__file__).parents[1]}",
        "python": f"{platform.python_version()}, {sys.executable}",
        "machine": f"{platform.machine()}, {platform.platform()}",
        "cores": cores,
        "graphics": _graphics(problems),
    }


def _graphics(problems: list[str]) -> str:
    import torch

    if torch.cuda.is_available():
        about = torch.cuda.get_device_properties(0)
        return f"{about.name}, {about.total_memory >> 20} MiB, CUDA {torch.version.cuda}, compute capability {about.major}.{about.minor}"
    if shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists() or Path("/etc/nv_tegra_release").exists():
        problems.append(
            f"an NVIDIA device is here, but PyTorch {torch.__version__} does not find it: install the build for its CUDA version"
        )
        return "NVIDIA, not found by PyTorch"
    return "none"


def _packages(problems: list[str]) -> dict[str, Any]:
    found = {name: version for name in (*REQUIRED, *OPTIONAL) if (version := _version(name))}
    if "onnxruntime" not in found and "onnxruntime-gpu" not in found:
        problems.append(
            "onnxruntime is not installed: on a processor PyTorch runs the networks more slowly; pip install onnx onnxruntime onnxscript"
        )
    absent = [name for name in OPTIONAL if name not in found]
    return found | ({"not installed, optional": ", ".join(absent)} if absent else {})


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _ros(problems: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module, what in (
        ("rclpy", "the node and geoseg play cannot run; source the setup.bash of ROS 2"),
        ("geoseg_ros.msg", "build the package with colcon, or pip install it, in the environment of ROS 2"),
    ):
        try:
            importlib.import_module(module)
            found[module] = "found"
        except (ImportError, OSError) as error:
            found[module] = f"not found ({_line(error)})"
            problems.append(f"{module} is not found: {what}")
    found |= {name: os.environ[name] for name in ROS_VARIABLES if os.environ.get(name)}
    for package in ("cv_bridge", "message_filters", "tf2_ros", "vision_msgs", "launch_ros"):
        found[package] = "found" if importlib.util.find_spec(package) else "not found, the node works without"
    profile = os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE", "")
    if profile and not Path(profile).is_file():
        problems.append(f"FASTDDS_DEFAULT_PROFILES_FILE: {profile} is no file; large clouds may be lost")
    if os.environ.get("ROS_LOCALHOST_ONLY") == "1" and os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE"):
        problems.append("ROS_LOCALHOST_ONLY=1 overrides ROS_AUTOMATIC_DISCOVERY_RANGE: unset one of them")
    return found


def _memory(problems: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if (free := _available()) is not None:
        found["available"] = f"{free >> 20} MiB"
        if free < _LEAST_MEMORY:
            problems.append(f"only {free >> 20} MiB of memory are available: the system may end the node")
    try:
        about = os.statvfs("/dev/shm")
    except OSError:
        return found | {"/dev/shm": "absent"}
    size, left = about.f_frsize * about.f_blocks, about.f_frsize * about.f_bavail
    found["/dev/shm"] = f"{left >> 20} of {size >> 20} MiB free"
    if left < SHARED_MEMORY:
        problems.append(
            f"/dev/shm has {left >> 20} MiB free: large messages go through the network stack and may be lost; in Docker, --shm-size 1g"
        )
    return found


def _available() -> int | None:
    """Bytes that can be used without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return None


def _caches(problems: list[str]) -> dict[str, Any]:
    from geoseg_ros.compiled import kernel_folder
    from geoseg_ros.runtime.engines.cache import EngineCache

    folder = EngineCache().folder
    entries = [path.parent for path in folder.glob("*/entry.json")]
    size = sum(file.stat().st_size for entry in entries for file in entry.rglob("*") if file.is_file())
    if not _writable(folder):
        problems.append(f"{folder} cannot be written: engines are built at every start; set XDG_CACHE_HOME, or the parameter engine.cache")
    kernels = kernel_folder()
    if not kernels:
        problems.append("compiled kernels cannot be kept: every start compiles anew; set NUMBA_CACHE_DIR to a folder that can be written")
    return {"engines": f"{folder}, {len(entries)} of {size >> 20} MiB", "kernels": kernels or "not kept"}


def _writable(folder: Path) -> bool:
    """Whether files can be made in ``folder``, or in the nearest folder above it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _networks(problems: list[str]) -> dict[str, Any]:
    """What runs the default backbone, and how fast."""
    from geoseg_ros.backbones.default import DEFAULT
    from geoseg_ros.backbones.registry import open_backbone
    from geoseg_ros.runtime.engines.backbone import with_engine
    from geoseg_ros.runtime.engines.options import EngineOptions

    try:
        backbone = with_engine(open_backbone(DEFAULT), EngineOptions())
        views, photo = np.zeros((16, 128, 128, 3), np.uint8), np.zeros((1, 480, 640, 3), np.uint8)
        times = [_milliseconds(partial(backbone.tokens, images)) for images in (views, photo)]
    except (GeosegError, RuntimeError) as error:
        problems.append(f"backbone {DEFAULT} does not run: {_line(error)}")
        return {DEFAULT: "does not run"}
    if backbone.backend.startswith("torch-cpu"):
        problems.append(f"backbone {DEFAULT} runs in PyTorch on the processor ({backbone.reason}): ONNX Runtime is faster")
    return {DEFAULT: backbone.reason, "16 views of 128 x 128": f"{times[0]:.0f} ms", "an image of 640 x 480": f"{times[1]:.0f} ms"}


def _milliseconds(work: Callable[[], object], repeat: int = 5) -> float:
    """Median of some runs after one that does not count."""
    work()
    taken = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return 1000 * float(np.median(taken))


def _packs() -> dict[str, Any]:
    from geoseg_ros.packs.pack import Pack, shipped_packs

    found: dict[str, Any] = {}
    for name in shipped_packs():
        try:
            pack = Pack.load(name)
            found[name] = f"{pack.method}, backbone {pack.backbone}, version {pack.version}"
        except InputError as error:
            found[name] = _line(error)
    return found


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
