"""GeoFree-CoSeg as a method: a network is trained on unpaired clouds and images of a target, and finds the target in others.

Measurements (docs/methods/geofree.md): the trained network is not better than the untrained one, and neither is better than the contrast
method. Clouds and images are both needed. Presence can only be decided with items that do not show the target.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.backbones.tokens import unit
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.learning.photo_references import PhotoReferences, find_photo_references, photo_evidence
from geoseg_ros.methods.base import CloudScene, Context, Evidence, ImageScene, Material, Method, Pack, SetModel, SetOptions
from geoseg_ros.methods.geofree.config import GeoFreeConfig
from geoseg_ros.methods.geofree.inputs import ImageTokens, PreparedCloud, image_tokens, prepare_cloud, prepare_with_views
from geoseg_ros.methods.geofree.pack import METHOD, Target, load_extractor
from geoseg_ros.methods.geofree.predict import predict_clouds, predict_images
from geoseg_ros.methods.geofree.training import fit
from geoseg_ros.methods.geofree.training_sets import TrainingSet
from geoseg_ros.nets.dgcnn import Dgcnn
from geoseg_ros.packs.bank import BackgroundBank

CLASSES = 50  # of an extractor with random weights; its logits are not used


class GeoFreeMethod(Method):
    """See :mod:`geoseg_ros.methods.geofree`. Its settings are a :class:`GeoFreeConfig`."""

    name = METHOD
    settings = GeoFreeConfig

    def learn(self, material: Material, context: Context, seconds: float | None = None) -> Pack:
        """Train a network on the material; at least two clouds and one image are needed."""
        config, bank = _config(context), _bank(context)
        photos = _photo_references(material, context, config, bank)
        images = _tokens(material.images, context, config, bank.mean, photos)
        if images is None:
            raise InputError("geofree: expected at least one image")
        clouds = [c for c in _prepared(material.clouds, context, config, "clouds") if c is not None]
        if len(clouds) < 2:
            raise InputError(f"geofree: expected at least two clouds with {config.points} points, got {len(clouds)}")
        without_clouds = [c for c in _prepared(material.without_clouds, context, config, "clouds without") if c is not None]
        without_images = _tokens(material.without_images, context, config, bank.mean, photos)
        own = TrainingSet(material.name, clouds, images, without_clouds, without_images)

        def report(done: float) -> None:
            context.progress("training", round(100 * done), 100)

        fitted = fit([own], config.fit_config(), _extractor(config), seconds, context.device, report)
        info = {
            "created": time.strftime("%Y-%m-%d", time.gmtime()),
            "training": {
                **{"images": len(images), "clouds": len(clouds)},
                **{"without_images": len(without_images or ()), "without_clouds": len(without_clouds)},
                "background": bank.source,
                "supervision_of_backbone": context.backbone.supervision,
                **fitted.history.summary(),
            },
        }
        backbone = (context.backbone.name, context.backbone.hash)
        return Target(material.name, backbone, config, bank.mean, photos, fitted.network, fitted.banks[material.name], info).to_pack()

    def open(self, packs: Sequence[Pack], context: Context) -> GeoFreeSegmenter:
        """Open packs. Their networks are independent; where two of them label the same place, the higher score wins."""
        return GeoFreeSegmenter([Target.from_pack(pack) for pack in packs])

    def check(self, pack: Pack) -> None:
        """See :meth:`Method.check`."""
        super().check(pack)
        Target.from_pack(pack)

    def learn_set(self, material: Material, context: Context, options: SetOptions) -> SetModel:
        """Train on the set, and judge its items by the same network, as in the paper."""
        if options.outliers and not (len(material.without_images) and len(material.without_clouds)):
            raise InputError(
                "geofree: which items show the target can only be said with images and clouds that do not show it; "
                "give some, or say that every item shows it (--no-outliers, outliers=False)"
            )
        return super().learn_set(material, context, options)


class GeoFreeSegmenter:
    """Segmenter with one network per target.

    Attributes:
        labels: names of the targets.
        dense: False; most of a scene shows no target.
        config: None; each network keeps the settings of its training.
    """

    dense, config = False, None

    def __init__(self, targets: Sequence[Target]) -> None:
        self.labels = tuple(target.name for target in targets)
        self._targets = list(targets)

    def image(self, scene: ImageScene, known: Collection[str] = ()) -> Evidence:
        """Masks of one image, which is resized to a square for the network."""
        found = []
        for target in self._targets:
            side = target.config.patches * scene.backbone.stride
            tokens = _with_evidence(image_tokens(scene.backbone, [scene.image], side, mean=_mean(target)), target.photos, target.config)
            prediction = predict_images(target.network, tokens, target.bank)
            size = (scene.image.shape[1], scene.image.shape[0])
            mask = np.asarray(cv2.resize(prediction.mask[0], size, interpolation=cv2.INTER_LINEAR), np.float32)
            found.append((float(prediction.presence[0]), float(prediction.p[0]), mask - 0.5))
        return self._evidence(found, known)

    def cloud(self, scene: CloudScene, known: Collection[str] = ()) -> Evidence:
        """Labels of the voxels of one cloud. Clouds with too few points, or without proposals (preset ``views``), get none."""
        geometry, found = scene.geometry, []
        for target in self._targets:
            prepared = _prepare(scene, target.config, target.mean)
            voxel = np.full(len(geometry.xyz), -1.0)
            if prepared is None:
                found.append((-1.0, 1.0, voxel))
                continue
            prediction = predict_clouds(target.network, [prepared], target.bank)[0]
            inside = geometry.inverse >= 0
            total = np.bincount(geometry.inverse[inside], prediction.score[inside], len(voxel))
            found.append((prediction.presence, prediction.p, total / np.maximum(geometry.count, 1)))
        return self._evidence(found, known)

    def _evidence(self, found: Sequence[tuple[float, float, NDArray[np.floating]]], known: Collection[str]) -> Evidence:
        """Evidence from the presence score, p-value and scores (above 0 for the target) of each target."""
        score, p_value = np.array([f[0] for f in found]), np.array([f[1] for f in found])
        limits = np.array([target.config.p_max for target in self._targets])
        present = (p_value < limits) | np.array([name in known for name in self.labels])
        scores = np.stack([f[2] for f in found])
        scores[~present] = -np.inf
        label = np.where(scores.max(0) > 0, scores.argmax(0) + 1, 0)
        return Evidence(score, p_value, present, label)


def _config(context: Context) -> GeoFreeConfig:
    return context.settings if isinstance(context.settings, GeoFreeConfig) else GeoFreeConfig()


def _bank(context: Context) -> BackgroundBank:
    if context.bank is None:
        raise InputError("geofree: a background bank is needed to learn")
    return context.bank


def _extractor(config: GeoFreeConfig) -> Dgcnn:
    if config.extractor:
        return load_extractor(config.extractor)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return Dgcnn(CLASSES, source="random").eval()


def _mean(target: Target) -> torch.Tensor | None:
    return target.mean if target.config.preset == "views" else None


def _photo_references(material: Material, context: Context, config: GeoFreeConfig, bank: BackgroundBank) -> PhotoReferences:
    def look(stage: str, images: Iterable[NDArray[np.uint8]]) -> list[list[torch.Tensor]]:
        maps = []
        for number, image in enumerate(images):
            scene = ImageScene(image, context.backbone, context.scene)
            maps.append([unit(scene.at(scale)[0], bank.mean) for scale in config.foreground.scales])
            context.progress(stage, number + 1, len(material.images))
        return maps

    own, without = look("images", material.images), look("images without", material.without_images)
    return find_photo_references(own, without, bank.photos, config.neighbours, config.foreground)


def _tokens(
    images: Iterable[NDArray[np.uint8]], context: Context, config: GeoFreeConfig, mean: torch.Tensor, photos: PhotoReferences
) -> ImageTokens | None:
    """Tokens of pictures with their evidence; None without pictures."""
    pictures = list(images)
    if not pictures:
        return None
    side = config.patches * context.backbone.stride
    views = config.preset == "views"
    tokens = _with_evidence(image_tokens(context.backbone, pictures, side, mean=mean if views else None), photos, config)
    if not views:
        return tokens
    # patches that do not show the target become further columns of the graph
    against, patches = torch.cat(photos.background), tokens.tokens.shape[1]
    blocks = max(1, len(against) // patches)
    rows = torch.arange(blocks * patches) * len(against) // (blocks * patches)
    return replace(tokens, against=against[rows].unflatten(0, (blocks, -1)) * tokens.tokens.shape[2] ** 0.5)


def _with_evidence(tokens: ImageTokens, photos: PhotoReferences, config: GeoFreeConfig) -> ImageTokens:
    if config.preset != "views":
        return tokens
    width = tokens.tokens.shape[2] ** 0.5  # comparable tokens have mean square 1
    return replace(tokens, evidence=photo_evidence(tokens.tokens / width, [photos], config.neighbours)[0])


def _prepared(clouds: Iterable[Cloud], context: Context, config: GeoFreeConfig, stage: str) -> list[PreparedCloud | None]:
    result = []
    for number, cloud in enumerate(clouds):
        result.append(_prepare(CloudScene(cloud, context.backbone, context.scene), config, _bank(context).mean))
        context.progress(stage, number + 1, 0)
    return result


def _prepare(scene: CloudScene, config: GeoFreeConfig, mean: torch.Tensor) -> PreparedCloud | None:
    """A cloud as an input of the network; None if it has too few points."""
    try:
        if config.preset != "views":
            return prepare_cloud(scene.cloud.xyz, config.points)
        views = scene.views
        return prepare_with_views(scene.cloud, scene.geometry, None if views is None else views.unit(mean), config.points)
    except InputError:
        return None
