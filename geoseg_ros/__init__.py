"""Label-free, calibration-free perception for robots: co-segmentation of point clouds and images."""

import os
from pkgutil import extend_path

# The generated messages (geoseg_ros.msg) may live in another folder of sys.path than this source tree.
__path__ = extend_path(__path__, __name__)
__version__ = "0.2.0"

# onnxruntime, from 1.29 on, tells its makers what it runs; not from a robot whose owner has not asked for it
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
