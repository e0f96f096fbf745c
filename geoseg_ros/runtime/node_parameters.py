"""The parameters of ``coseg_node``, without ROS: the live node declares them, and ``geoseg replay`` reads the same YAML."""

from __future__ import annotations

from dataclasses import dataclass

from geoseg_ros.errors import InputError
from geoseg_ros.io.messages import MAX_PIXELS, MAX_POINTS
from geoseg_ros.runtime.engines.options import EngineOptions
from geoseg_ros.runtime.label_map import MapConfig
from geoseg_ros.runtime.pipeline import PipelineConfig
from geoseg_ros.runtime.tracking import TrackingConfig
from geoseg_ros.settings import Settings, mirrored, section, setting


@dataclass(frozen=True)
class NodeParameters(Settings):
    """All parameters of ``coseg_node``; the ROS name of a nested one is dotted, such as ``pipeline.views.size``."""

    autostart: bool = setting(True, "configure and activate at start, and end if that fails; false: wait for a life cycle manager")
    packs: tuple[str, ...] = setting(
        (), "concept packs, and part packs of their objects: names of packs that ship, or paths", live=True, path=True
    )
    backbone: str = setting("", "image backbone, such as geoseg_tiny or onnx:FILE; empty: the one that the packs were made with")
    encoder: str = setting(
        "",
        "encoder of clouds (geoseg adapt-encoder); empty: the one that ships, where it fits the image backbone",
        path=True,
    )
    device: str = mirrored(EngineOptions, "device")
    backend: str = mirrored(EngineOptions, "backend")
    backend_strict: bool = mirrored(EngineOptions, "strict")
    engine_precision: str = mirrored(EngineOptions, "precision")
    engine_cache: str = setting("", "folder of built engines; empty: geoseg_ros/engines in $XDG_CACHE_HOME or ~/.cache", path=True)
    build_only: bool = setting(False, "open the packs, build the engine that they need, and end")
    threads: int = setting(0, "CPU threads of the networks; 0: half of the cores, at least two where there are two", range=(0, 256))
    cloud_source: str = setting(
        "points", "clouds come from ~/points, or from ~/depth with ~/camera_info (and ~/color)", choices=("points", "depth", "none")
    )
    image_transport: str = setting(
        "raw", "images come from ~/image, or as JPEG or PNG from ~/image/compressed", choices=("raw", "compressed", "none")
    )
    color_max_age: float = setting(
        0.1,
        "largest difference between the stamps of a depth image and its colour (cloud_source depth)",
        unit="s",
        range=(0.0, 10.0),
        live=True,
    )
    wanted_labels: tuple[str, ...] = setting((), "concepts whose points go to ~/points_obstacles, by name; empty: all", live=True)
    target_frame: str = setting("", "frame of obstacles, objects and tracks (needs tf2_ros), such as odom; empty: that of the sensor")
    max_points: int = setting(MAX_POINTS, "clouds with more points are rejected", unit="points", range=(1, 100_000_000), live=True)
    max_image_pixels: int = setting(MAX_PIXELS, "images with more pixels are rejected", unit="pixels", range=(1, 1_000_000_000), live=True)
    status_period: float = setting(1.0, "time between two messages on ~/status and /diagnostics", unit="s", range=(0.1, 60.0))
    input_timeout: float = setting(2.0, "time without input after which a stream is reported", unit="s", range=(0.1, 3600.0), live=True)
    snapshot_dir: str = setting(
        "", "folder that ~/snapshot writes to; empty: geoseg_snapshots in $ROS_HOME or ~/.ros", live=True, path=True
    )
    snapshot_keep: int = setting(10, "snapshots kept there; older ones of this node are removed", range=(1, 1000), live=True)
    learn_folder: str = setting(
        "", "folder of the packs that ~/learn/finish makes; empty: geoseg_packs in $ROS_HOME or ~/.ros", live=True, path=True
    )
    tracking: TrackingConfig = section(TrackingConfig, "how objects of successive clouds become tracks")
    map: MapConfig = section(MapConfig, "labels fused over time")
    pipeline: PipelineConfig = section(PipelineConfig, "how concepts are found in clouds and images")

    def __post_init__(self) -> None:
        """Raises InputError: parameters that do not go together."""
        super().__post_init__()
        if self.map.enabled and not self.target_frame:
            raise InputError("map.enabled: needs target_frame, a frame that stands still, such as odom or map")
