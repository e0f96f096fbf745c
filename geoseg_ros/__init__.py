"""Label-free, calibration-free perception for robots: co-segmentation of point clouds and images."""

import os
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoseg_ros.api import (
        Cloud,
        Pack,
        Pipeline,
        PipelineConfig,
        SetResult,
        cosegment,
        discover,
        learn_concept,
        learn_parts,
        open_pipeline,
    )

__all__ = [
    "Cloud",
    "Pack",
    "Pipeline",
    "PipelineConfig",
    "SetResult",
    "__version__",
    "cosegment",
    "discover",
    "learn_concept",
    "learn_parts",
    "open_pipeline",
]

# The generated messages (geoseg_ros.msg) may live in another folder of sys.path than this source tree.
__path__ = extend_path(__path__, __name__)
__version__ = "0.2.0"

# onnxruntime, from 1.29 on, reports usage to its makers; not from a robot whose owner has not asked for it
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    """The Python API, loaded when it is first used: the node needs only a part of the package."""
    if name not in __all__:
        raise AttributeError(f"module 'geoseg_ros' has no attribute '{name}'")
    from geoseg_ros import api

    return getattr(api, name)
