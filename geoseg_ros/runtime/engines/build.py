"""The child process that exports networks and builds engines: it can be cancelled at once, and takes its memory with it.

:mod:`geoseg_ros.runtime.engines.choose` is the parent. Building a TensorRT engine does not import PyTorch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.processes import serve_job
from geoseg_ros.progress import Progress
from geoseg_ros.runtime.engines import trt
from geoseg_ros.runtime.engines.cache import EngineKey, digest
from geoseg_ros.runtime.engines.spec import EngineSpec, ImageShapes

PLAN = "engine.plan"


def engine_key(
    spec: EngineSpec, flavour: str, version: str, gpu: tuple[str, int] | None = None, capabilities: tuple[int, ...] = ()
) -> EngineKey:
    """The key of a TensorRT engine.

    Args:
        spec: The exported network; the bytes of its file count, not its path.
        flavour: ``tensorrt`` or ``tensorrt_rtx``.
        version: Exact version of that library.
        gpu: Name and compute capability of the GPU that a ``tensorrt`` engine is for; such an engine runs on no other.
        capabilities: What a ``tensorrt_rtx`` engine is for.
    """
    fields = {
        "onnx": digest(spec.onnx),
        "version": version,
        "precision": spec.precision,
        "profiles": spec.as_json()["profiles"],
        "gpu": gpu and {"name": gpu[0], "capability": gpu[1]},
    }
    return EngineKey(flavour, fields, capabilities)


def gpu_here() -> tuple[str, int]:
    """Name and compute capability (such as 87) of the GPU that PyTorch uses. Raises InputError where there is none."""
    import torch

    if not torch.cuda.is_available():
        raise InputError("PyTorch finds no CUDA device")
    major, minor = torch.cuda.get_device_capability()
    return torch.cuda.get_device_name(), 10 * major + minor


def work(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """The child's work: write files into the job's folder and return notes about them."""
    folder = Path(job["folder"])
    try:
        if "backbone" in job:
            return _export(job, folder, progress)
        plan, notes = trt.build_plan(EngineSpec.from_json(job["spec"]), job["flavour"], tuple(job["capabilities"]), progress)
        (folder / PLAN).write_bytes(plan)
        return notes
    except OSError as error:  # a full disk, most likely: the folder that matters is the cache, not this entry in the making
        raise GeosegError(f"{folder.parent}: {error.strerror or error}") from None


def _export(job: Mapping[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    from geoseg_ros.backbones.registry import open_backbone
    from geoseg_ros.runtime.engines.export import export_image

    progress("exporting", 0, 0)
    backbone = open_backbone(job["backbone"])
    if backbone.hash != job["hash"]:
        raise InputError(f"backbone '{job['backbone']}': changed while it was in use")
    export_image(backbone, folder, job["precision"], ImageShapes(**job["shapes"]))
    return {}


if __name__ == "__main__":
    # without the clean-up of the interpreter, which may wait for threads of libraries
    os._exit(serve_job(work))
