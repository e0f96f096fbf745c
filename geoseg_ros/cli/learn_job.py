"""The child process that builds a pack for a node that learns (:mod:`geoseg_ros.runtime.teaching` is the parent)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geoseg_ros.errors import GeosegError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.processes import serve_job
from geoseg_ros.progress import Progress
from geoseg_ros.runtime.teaching import KINDS


def examples(folder: Path) -> dict[str, list[Any]]:
    """The examples of a lesson by their kinds, in the order in which they were given."""
    found: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for file in sorted(folder.glob("*.npz")):
        with np.load(file, allow_pickle=False) as arrays:
            item = arrays["image"] if "image" in arrays else Cloud(arrays["xyz"], arrays.get("rgb"))
        found[file.stem.partition("_")[2]].append(item)
    return found


def work(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Learn from the examples in the job's folder, and write the pack into it."""
    from geoseg_ros.api import PipelineConfig, learn_concept
    from geoseg_ros.backbones.registry import open_backbone
    from geoseg_ros.runtime.engines.backbone import with_engine
    from geoseg_ros.runtime.engines.options import EngineOptions
    from geoseg_ros.settings import with_values

    progress("backbone", 0, 0)
    config, folder = with_values(PipelineConfig(), job["config"]), Path(job["folder"])
    options = EngineOptions(job["backend"], False, job["device"], job["precision"], job["cache"])
    backbone = with_engine(open_backbone(job["backbone"], "cpu"), options, config.coseg.image_side)
    pack = learn_concept(job["name"], *examples(folder).values(), backbone=backbone, config=config, progress=progress)
    try:
        return {"version": pack.save(folder / "made.pack")}
    except OSError as error:
        raise GeosegError(f"{folder}: {error.strerror or error}") from None


if __name__ == "__main__":
    os._exit(serve_job(work))
