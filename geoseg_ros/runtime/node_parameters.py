"""The parameters of ``coseg_node``, without ROS: the live node declares them, and ``geoseg replay`` reads the same YAML."""

from __future__ import annotations

from dataclasses import dataclass

from geoseg_ros.errors import InputError
from geoseg_ros.io.messages import CLOUD_TYPE, COMPRESSED_TYPE, IMAGE_TYPE, MAX_PIXELS, MAX_POINTS
from geoseg_ros.runtime.engines.options import EngineOptions
from geoseg_ros.runtime.label_map import MapConfig
from geoseg_ros.runtime.pipeline import PipelineConfig
from geoseg_ros.runtime.tracking import TrackingConfig
from geoseg_ros.settings import Settings, mirrored, section, setting


@dataclass(frozen=True)
class Sensor:
    """An input that is worked on.

    Attributes:
        name: of its stream, in the mailbox and in /diagnostics.
        kind: ``cloud`` or ``image``.
        message_type: as ROS names it; of the depth images for a depth camera.
        topic: as it was given.
        camera_info, color: topics that go with depth images; empty: none.
        prefix: before the names of its outputs: ``<name>/``, or empty for the input that is the only one of its kind.
    """

    name: str
    kind: str
    message_type: str
    topic: str
    camera_info: str = ""
    color: str = ""
    prefix: str = ""


def _listed(kind: str, message_type: str, topic: str, camera_info: str = "", color: str = "") -> Sensor:
    name = topic.removeprefix("~").strip("/").replace("/", "_")
    return Sensor(name, kind, message_type, topic, camera_info, "" if color == "none" else color, f"{name}/")


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
    point_topics: tuple[str, ...] = setting((), "several clouds: topics of PointCloud2, in place of ~/points")
    depth_topics: tuple[str, ...] = setting((), "several depth cameras: topics of their depth images, in place of ~/depth")
    camera_info_topics: tuple[str, ...] = setting((), "calibrations of depth_topics, one for each; empty: camera_info beside each")
    color_topics: tuple[str, ...] = setting((), "colours of depth_topics, one for each or none; empty: no colour")
    image_topics: tuple[str, ...] = setting(
        (),
        "several images: topics, in place of ~/image; JPEG or PNG where they end in /compressed, or with image_transport compressed",
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
        self._check_topics()

    def sensors(self) -> list[Sensor]:
        """The inputs that are worked on, clouds first: those of the lists, and of a kind without a list the only one."""
        found = [_listed("cloud", CLOUD_TYPE, topic) for topic in self.point_topics]
        infos = self.camera_info_topics or [f"{topic[: topic.rfind('/') + 1]}camera_info" for topic in self.depth_topics]
        colors = self.color_topics or [""] * len(self.depth_topics)
        found += [_listed("cloud", IMAGE_TYPE, *topics) for topics in zip(self.depth_topics, infos, colors, strict=True)]
        if not found and self.cloud_source == "points":
            found.append(Sensor("cloud", "cloud", CLOUD_TYPE, "~/points"))
        elif not found and self.cloud_source == "depth":
            found.append(Sensor("cloud", "cloud", IMAGE_TYPE, "~/depth", "~/camera_info", "~/color"))
        packed = [self.image_transport == "compressed" or topic.endswith("/compressed") for topic in self.image_topics]
        images = zip(packed, self.image_topics, strict=True)
        found += [_listed("image", COMPRESSED_TYPE if jpeg else IMAGE_TYPE, topic) for jpeg, topic in images]
        if not self.image_topics and self.image_transport == "raw":
            found.append(Sensor("image", "image", IMAGE_TYPE, "~/image"))
        elif not self.image_topics and self.image_transport == "compressed":
            found.append(Sensor("image", "image", COMPRESSED_TYPE, "~/image/compressed"))
        return found

    def _check_topics(self) -> None:
        for name in ("camera_info_topics", "color_topics"):
            if (count := len(getattr(self, name))) not in (0, len(self.depth_topics)):
                raise InputError(f"{name}: {count} for {len(self.depth_topics)} depth_topics, expected one for each, or an empty list")
        if self.cloud_source == "none" and (self.point_topics or self.depth_topics):
            raise InputError("cloud_source: none, but point_topics or depth_topics name some")
        if self.image_transport == "none" and self.image_topics:
            raise InputError("image_transport: none, but image_topics name some")
        topics = {"pipeline": "a part of /diagnostics", "learn": "a part of /diagnostics"}
        for sensor in self.sensors():
            if (other := topics.get(sensor.name)) is not None:
                wrong = "twice" if other == sensor.topic else f"its stream would have the name {sensor.name}, as {other} has"
                raise InputError(f"point_topics, depth_topics and image_topics: {sensor.topic}: {wrong}")
            topics[sensor.name] = sensor.topic
            topics |= {f"{sensor.prefix}{part}": f"a part of {sensor.topic}" for part in ("camera_info", "color") if sensor.camera_info}
