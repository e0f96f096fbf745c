"""Label-free, calibration-free perception for robots: co-segmentation of point clouds and images."""

from pkgutil import extend_path

# The generated messages (geoseg_ros.msg) may live in another folder of sys.path than this source tree.
__path__ = extend_path(__path__, __name__)
__version__ = "0.1.0"
