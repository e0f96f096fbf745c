"""``python real_builder.py FOLDER SPEC``: get an engine of TensorRT for RTX from the cache in FOLDER; SPEC (JSON) names the network."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from geoseg_ros.backbones.registry import open_backbone
from geoseg_ros.errors import GeosegError
from geoseg_ros.runtime.engines.build import engine_key
from geoseg_ros.runtime.engines.cache import EngineKey
from geoseg_ros.runtime.engines.choose import ImageSource
from geoseg_ros.runtime.engines.options import EngineOptions
from geoseg_ros.runtime.engines.spec import EngineSpec
from geoseg_ros.runtime.engines.trt import load_tensorrt

FLAVOUR, CAPABILITIES = "tensorrt_rtx", (86,)


def read_spec(path: str) -> EngineSpec:
    return EngineSpec.from_json(json.loads(Path(path).read_text()))


def real_key(path: str) -> EngineKey:
    """What it asks for."""
    return engine_key(read_spec(path), FLAVOUR, load_tensorrt(FLAVOUR).__version__, capabilities=CAPABILITIES)


if __name__ == "__main__":
    try:
        source = ImageSource(open_backbone("geoseg_tiny"), EngineOptions(cache=sys.argv[1]))
        source.engine(read_spec(sys.argv[2]), FLAVOUR, CAPABILITIES)
    except GeosegError as error:  # its child was killed
        print("failed", error)
        sys.exit(1)
    print("whole")
