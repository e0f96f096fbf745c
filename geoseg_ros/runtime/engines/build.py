"""Exporting networks and building engines: in a child process, so that it can be cancelled at once, and through the cache.

The parent's side is :func:`exported_backbone` and :func:`built_engine`; ``python -m geoseg_ros.runtime.engines.build`` is the child.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.processes import run_job, serve_job
from geoseg_ros.progress import Progress
from geoseg_ros.runtime.engines import trt
from geoseg_ros.runtime.engines.cache import CacheEntry, EngineCache, EngineKey, engine_key
from geoseg_ros.runtime.engines.options import EngineOptions
from geoseg_ros.runtime.engines.spec import EngineSpec, ImageShapes

if TYPE_CHECKING:
    from geoseg_ros.backbones.base import ImageBackbone

PLAN = "engine.plan"
NAME = "engine build"  # in error messages


def exported_backbone(backbone: ImageBackbone, key: EngineKey, precision: str, shapes: ImageShapes, options: EngineOptions) -> CacheEntry:
    """The ONNX file of a backbone from the cache; a child process exports it where it is not there.

    Args:
        backbone: Opened again in the child by its name.
        key: Of the cache entry.
        precision: ``fp16`` or ``fp32``.
        shapes: Images that the engine is for.
        options: Cache, progress and cancel.

    Raises:
        InputError: A package is absent, or the backbone changed while it was in use.
        GeosegError: The export failed.
        Cancelled: ``options.cancel`` was set.
    """
    job = {"work": "export", "backbone": backbone.name, "hash": backbone.hash, "precision": precision, "shapes": asdict(shapes)}
    return _through_cache(key, job, options)


def built_engine(
    spec: EngineSpec, flavour: str, options: EngineOptions, capabilities: Sequence[int] = (), rejected: str = ""
) -> CacheEntry:
    """The TensorRT engine of ``spec`` from the cache; a child process builds it where it is not there.

    Args:
        spec: The exported network.
        flavour: ``tensorrt``: for the GPU that is here. ``tensorrt_rtx``: for ``capabilities``; needs no GPU.
        options: Cache, progress and cancel.
        capabilities: CUDA compute capabilities, such as (86, 89).
        rejected: Id of a build that cannot be loaded.

    Raises:
        InputError: TensorRT is absent, too old, or cannot build for these.
        GeosegError: The build failed.
        Cancelled: ``options.cancel`` was set.
    """
    version = trt.load_tensorrt(flavour).__version__
    gpu, wanted = (gpu_here(), ()) if flavour == "tensorrt" else (None, tuple(capabilities))
    key = engine_key(spec, flavour, version, gpu, wanted)
    job = {
        "work": "plan",
        "spec": spec.as_json() | {"onnx": str(spec.onnx.absolute())},
        "flavour": flavour,
        "capabilities": key.capabilities,
    }
    return _through_cache(key, job, options, {"source": spec.source, **_driver()}, rejected)


def _through_cache(
    key: EngineKey, job: Mapping[str, Any], options: EngineOptions, notes: Mapping[str, Any] | None = None, rejected: str = ""
) -> CacheEntry:
    def build(folder: Path) -> Mapping[str, Any]:
        return {**(notes or {}), **run_job(NAME, __name__, {**job, "folder": str(folder)}, options.progress, options.cancel)}

    cache = options.cache or EngineCache(log=options.log)
    return cache.get_or_build(key, build, options.progress, options.cancel, rejected)


def gpu_here() -> tuple[str, int]:
    """Name and compute capability (such as 87) of the GPU that PyTorch uses.

    Raises:
        InputError: There is none.
    """
    import torch

    if not torch.cuda.is_available():
        raise InputError("PyTorch finds no CUDA device")
    major, minor = torch.cuda.get_device_capability()
    return torch.cuda.get_device_name(), 10 * major + minor


def _driver() -> dict[str, str]:
    """First line of the NVIDIA driver's own description, if there is one."""
    try:
        return {"driver": Path("/proc/driver/nvidia/version").read_text().splitlines()[0]}
    except (OSError, IndexError):
        return {}


def spec_in(entry: CacheEntry) -> EngineSpec:
    """The spec of an exported network; it names the file alone, since the folder is renamed."""
    return EngineSpec.from_json({**entry.notes["spec"], "onnx": entry.folder / entry.notes["spec"]["onnx"]})


def work(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """The child's work: write files into the job's folder and return notes about them."""
    folder = Path(job["folder"])
    try:
        return (_export if job["work"] == "export" else _build_plan)(job, folder, progress)
    except OSError as error:  # a full disk, most likely: the folder that matters is the cache, not this entry in the making
        raise GeosegError(f"{folder.parent}: {error.strerror or error}") from None


def _export(job: Mapping[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    from geoseg_ros.backbones.registry import open_backbone
    from geoseg_ros.runtime.engines.export import export_image

    progress("exporting", 0, 0)
    backbone = open_backbone(job["backbone"])
    if backbone.hash != job["hash"]:
        raise InputError(f"backbone '{job['backbone']}': changed while it was in use")
    shapes = ImageShapes(**{name: tuple(numbers) for name, numbers in job["shapes"].items()})
    spec = export_image(backbone, folder, job["precision"], shapes)
    return {"spec": spec.as_json() | {"onnx": spec.onnx.name}}


def _build_plan(job: Mapping[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    built = trt.build_plan(EngineSpec.from_json(job["spec"]), job["flavour"], tuple(job["capabilities"]), progress)
    (folder / PLAN).write_bytes(built.plan)
    return {"seconds": round(built.seconds, 2), "activation_bytes": built.activation_bytes}


if __name__ == "__main__":
    # without the clean-up of the interpreter, which may wait for threads of libraries
    os._exit(serve_job(work))
