"""The pipeline: one image or one cloud in, labels out. No ROS, no state between calls.

It makes one scene per item, runs the segmenter of every method on it, merges their evidence, and builds objects.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.registry import open_backbone
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.analysis import GeometryConfig, example_cloud
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.base import Context, Evidence, ObjectPoints, PartFinder, Segmenter
from geoseg_ros.methods.registry import LIVE_SETTINGS, CosegConfig, PartsConfig, open_method
from geoseg_ros.packs.pack import Pack
from geoseg_ros.projection.scene import CloudScene, ImageScene, PointFeatures, SceneConfig
from geoseg_ros.projection.views import ViewConfig
from geoseg_ros.results import MOST_LABELS, CloudResult, ImageResult, LabelSpace, Presence
from geoseg_ros.runtime.engines.backbone import with_engine
from geoseg_ros.runtime.engines.options import EngineOptions
from geoseg_ros.runtime.objects import build_objects
from geoseg_ros.runtime.parts import check_part_packs, cloud_parts, image_parts, is_part_pack, object_points, open_parts
from geoseg_ros.settings import Settings, section


@dataclass(frozen=True)
class PipelineConfig(Settings):
    """How concepts are found in images and clouds."""

    coseg: CosegConfig = section(CosegConfig, "evidence for concepts, and decisions")
    parts: PartsConfig = section(PartsConfig, "marked parts of objects, where a part pack is loaded")
    views: ViewConfig = section(ViewConfig, "how proposals are drawn for the image backbone")
    geometry: GeometryConfig = section(GeometryConfig, "voxels, planes, superpoints and proposals of a cloud")

    @property
    def scene(self) -> SceneConfig:
        """Settings of scenes."""
        return SceneConfig(self.coseg.image_side, self.views, self.geometry)


class Pipeline:
    """Finds what the loaded packs describe in images and clouds.

    Attributes:
        labels: ids in the order of the packs.
        encoder: of clouds, or None; at first the one that ships, where its features are tokens of the backbone.
        backbone_name, pack_versions: for status messages; the version of the pack of each label.
        find_parts: look for the parts of part packs; it takes time for each object.
    """

    def __init__(self, backbone: ImageBackbone, packs: Sequence[Pack], config: PipelineConfig | None = None) -> None:
        """Raises InputError: no pack, two labels of one name, a pack of another backbone or of an unknown method, or a part pack without
        the concept pack that it was made with."""
        for pack in packs:
            pack.check_backbone(backbone.name, backbone.hash)
        part_packs, packs = _apart(packs)
        if not packs:
            raise InputError("packs: expected at least one concept pack")
        names = tuple(name for pack in packs for name in pack.labels)
        _check_names(names)
        config = config or PipelineConfig()
        segmenters = {}
        for method in dict.fromkeys(pack.method for pack in packs):
            context = Context(backbone, scene=config.scene, settings=_settings(config, method))
            segmenters[method] = open_method(method).open([pack for pack in packs if pack.method == method], context)
        self._set_up(backbone, segmenters, names, config)
        if part_packs:
            self._parts += open_parts(part_packs, packs, config.parts)
        self.pack_versions = [pack.version for pack in packs for _ in pack.labels]

    @classmethod
    def of(cls, backbone: ImageBackbone, segmenter: Segmenter, config: PipelineConfig) -> Pipeline:
        """A pipeline around an opened segmenter."""
        pipeline = cls.__new__(cls)
        pipeline._set_up(backbone, {"": segmenter}, segmenter.labels, config)
        pipeline.pack_versions = []
        return pipeline

    def _set_up(self, backbone: ImageBackbone, segmenters: dict[str, Segmenter], names: tuple[str, ...], config: PipelineConfig) -> None:
        self.backbone, self._config, self._methods = backbone, config, segmenters
        self.encoder: PointFeatures | None = _shipped_encoder(backbone)
        self._parts: list[PartFinder] = []
        self.find_parts = True
        self.labels, self.backbone_name = LabelSpace(names), backbone.name
        ids = {name: number for number, name in enumerate(names, 1)}
        self._segmenters = [(s, np.array([0, *(ids[name] for name in s.labels)], np.uint32)) for s in segmenters.values()]

    @property
    def config(self) -> PipelineConfig:
        """Settings; a new value is used from the next item on."""
        return self._config

    @config.setter
    def config(self, config: PipelineConfig) -> None:
        self._config = config
        for method, segmenter in self._methods.items():
            if method in LIVE_SETTINGS:
                segmenter.config = _settings(config, method)
        for finder in self._parts:
            finder.config = config.parts

    @property
    def part_names(self) -> list[tuple[str, str]]:
        """(name of the concept, name of the part) of every part that is looked for."""
        return [(finder.target[0] if finder.target else "", name) for finder in self._parts for name in finder.names]

    @property
    def backend(self) -> str:
        """What runs the backbone now, such as ``onnxruntime-cpu``."""
        return getattr(self.backbone, "backend", "torch")

    @property
    def backend_reason(self) -> str:
        """Which backend was chosen and why, in one line."""
        return getattr(self.backbone, "reason", self.backend)

    @property
    def trouble(self) -> str:
        """One line about a backend that failed and was replaced, or empty."""
        return getattr(self.backbone, "trouble", "")

    def process_image(self, image: NDArray[np.uint8], shown: Collection[str] = ()) -> ImageResult:
        """Masks of one image.

        Args:
            image: uint8 RGB [H, W, 3].
            shown: labels that the image is known to show; they are given whatever their p-value, where there is evidence for them.
        """
        scene = ImageScene(image, self.backbone, self.config.scene)
        found = [(segmenter.image(scene, shown), segmenter.dense, ids) for segmenter, ids in self._segmenters]
        merged = _Merged(len(self.labels.names), found, image.shape[:2])
        mask = merged.label.astype(np.uint8)
        result = ImageResult(mask, self._presence(merged, mask, mask.size), scene.clock.seconds)
        if not self._parts or not self.find_parts:
            return result
        scene.clock.restart()
        parts = image_parts(self._parts, scene, mask, self.labels.names, self.config.parts.most_objects)
        scene.clock.stop("parts")
        return replace(result, parts=parts)

    def process_cloud(self, cloud: Cloud, shown: Collection[str] = ()) -> CloudResult:
        """Labels, instances and objects of one cloud.

        Args:
            shown: labels that the cloud is known to show; the best proposal for each gets it whatever the p-value.
        """
        return self._process(CloudScene(cloud, self.backbone, self.config.scene, self.encoder), shown)

    def objects(self, cloud: Cloud, name: str, known: bool = False) -> list[ObjectPoints]:
        """The objects of one label in a cloud, the largest first.

        Args:
            name: the label.
            known: the cloud is known to show it.
        """
        scene = CloudScene(cloud, self.backbone, self.config.scene, self.encoder)
        result = self._process(scene, (name,) if known else ())
        own = [entry for entry in result.objects if entry.name == name]
        return [object_points(scene, result.instance, entry) for entry in sorted(own, key=lambda entry: -entry.count)]

    def _process(self, scene: CloudScene, shown: Collection[str]) -> CloudResult:
        found = [(segmenter.cloud(scene, shown), segmenter.dense, ids) for segmenter, ids in self._segmenters]
        geometry = scene.geometry
        merged = _Merged(len(self.labels.names), found, (len(geometry.xyz),))
        scene.clock.restart()
        # scene classes make objects of what lies on no large plane: not of floor and walls
        solid = np.where(merged.by_dense & (geometry.plane >= 0), 0, merged.label)
        objects, instance = build_objects(geometry, solid, merged.p_value, self.labels.names, merged.instances)
        label = np.where((instance > 0) | merged.by_dense, merged.label, 0).astype(np.uint32)
        confidence = np.where(label > 0, 1 - merged.p_value, 0).astype(np.float32)
        points = geometry.point_values(label)
        valid = max(int(np.count_nonzero(geometry.inverse >= 0)), 1)
        result = CloudResult(
            points,
            geometry.point_values(instance),
            geometry.point_values(confidence),
            objects,
            self._presence(merged, points, valid),
            scene.clock.seconds,
        )
        scene.clock.stop("objects")
        if not self._parts or not self.find_parts:
            return result
        located = cloud_parts(self._parts, scene, result.instance, objects, self.config.parts.most_objects)
        scene.clock.stop("parts")
        return replace(result, parts=located.parts, where=located.where)

    def warm(self) -> None:
        """Process small clouds with and without colour, so that everything that is compiled or loaded at its first use is ready."""
        cloud = example_cloud()
        self.process_cloud(cloud)
        self.process_cloud(Cloud(cloud.xyz))

    def _presence(self, merged: _Merged, label: NDArray[np.integer], total: int) -> list[Presence]:
        """One entry per label. A label without a pixel or point is not reported as present."""
        counts = np.bincount(label.ravel(), minlength=len(self.labels.names) + 1)
        return [
            Presence(
                i, name, float(merged.score[i - 1]), float(merged.p[i - 1]), bool(merged.present[i - 1] and counts[i]), counts[i] / total
            )
            for i, name in enumerate(self.labels.names, 1)
        ]


class _Merged:
    """The merged evidence of several segmenters in one scene: targets take precedence over scene classes, then the smaller p-value wins."""

    def __init__(self, labels: int, found: Sequence[tuple[Evidence | None, bool, NDArray[np.uint32]]], shape: tuple[int, ...]) -> None:
        self.score, self.p, self.present = np.full(labels, -1.0), np.ones(labels), np.zeros(labels, bool)
        self.label, self.p_value = np.zeros(shape, np.uint32), np.ones(shape)
        asked = [(evidence, dense, ids) for evidence, dense, ids in found if evidence is not None]
        self.instances = asked[0][0].instances if len(asked) == 1 else None
        self.by_dense = np.zeros(shape, bool)
        for evidence, dense, ids in asked:
            own = ids[1:].astype(np.int64) - 1
            self.score[own], self.p[own], self.present[own] = evidence.score, evidence.p_value, evidence.present
            p_value = np.append(1.0, evidence.p_value)[evidence.label] if evidence.label_p is None else evidence.label_p
            better = (self.by_dense & (not dense)) | ((self.by_dense == dense) & (p_value < self.p_value))
            wins = (evidence.label > 0) & ((self.label == 0) | better)
            self.label = np.where(wins, ids[evidence.label], self.label)
            self.p_value = np.where(wins, p_value, self.p_value)
            self.by_dense = np.where(wins, dense, self.by_dense)


def open_pipeline(
    packs: Sequence[str | os.PathLike[str] | Pack],
    backbone: str = "",
    device: str = "auto",
    config: PipelineConfig | None = None,
    opened: ImageBackbone | None = None,
    engines: EngineOptions | None = None,
    encoder: str = "",
) -> Pipeline:
    """Load packs and the backbone that they were made with (or ``backbone``).

    Args:
        packs: paths, names of shipped packs, or packs; part packs among them find the parts of their concept's objects.
        device: auto, cpu or cuda.
        opened: a backbone from before, taken if it is the one that the packs were made with.
        engines: how the backend of the backbone is chosen, and its device; None: PyTorch.
        encoder: path of an encoder of clouds; empty: the one that ships, where its features are tokens of the backbone.

    Raises:
        InputError: a pack, the backbone or the backend cannot be used.
    """
    loaded = [pack if isinstance(pack, Pack) else Pack.load(pack) for pack in packs]
    if not loaded:
        raise InputError("packs: expected at least one concept pack")
    config = config or PipelineConfig()
    if opened is None or opened.hash != loaded[0].backbone_hash:
        name = backbone or loaded[0].backbone
        if engines is not None:
            opened = with_engine(open_backbone(name, "cpu"), engines, config.coseg.image_side)
        else:
            opened = open_backbone(name, ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    pipeline = Pipeline(opened, loaded, config)
    pipeline.encoder = _encoder(encoder, opened, engines)
    return pipeline


def _shipped_encoder(backbone: ImageBackbone) -> PointFeatures | None:
    from geoseg_ros.runtime.engines.points import shipped_features  # loads the network: not before it is needed

    return shipped_features(backbone.hash)


def _encoder(path: str, backbone: ImageBackbone, engines: EngineOptions | None) -> PointFeatures | None:
    from geoseg_ros.runtime.engines.points import open_point_features

    if not path and _shipped_encoder(backbone) is None:
        return None
    encoder = open_point_features(path, engines)
    if encoder.backbone != backbone.hash:
        raise InputError(f"encoder {path}: its features are tokens of another backbone than {backbone.name}")
    return encoder


def check_packs(packs: Sequence[str]) -> tuple[str, ...]:
    """Read packs without opening a backbone, and return their labels.

    Raises:
        InputError: none given, one cannot be read, two labels have one name, or they were made with different backbones.
    """
    loaded = [Pack.load(pack) for pack in packs]
    parts, loaded = _apart(loaded)
    if not loaded:
        raise InputError("expected at least one concept pack")
    names = tuple(name for pack in loaded for name in pack.labels)
    _check_names(names)
    for pack in loaded:
        open_method(pack.method).check(pack)
    for pack in (*loaded, *parts):
        pack.check_backbone(loaded[0].backbone, loaded[0].backbone_hash)
    check_part_packs(parts, loaded)
    return names


def _apart(packs: Sequence[Pack]) -> tuple[list[Pack], list[Pack]]:
    """Part packs, and the packs with labels."""
    return [pack for pack in packs if is_part_pack(pack)], [pack for pack in packs if not is_part_pack(pack)]


def _settings(config: PipelineConfig, method: str) -> Any:
    return getattr(config, LIVE_SETTINGS[method]) if method in LIVE_SETTINGS else None


def _check_names(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise InputError(f"packs: names must differ, got {', '.join(names)}")
    if len(names) > MOST_LABELS:
        raise InputError(f"packs: expected at most {MOST_LABELS} labels, got {len(names)}")
