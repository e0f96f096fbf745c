"""The streaming pipeline: one image or one cloud in, labels out. No ROS, no state between calls: the reference bank is frozen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.backbones.registry import open_backbone
from geoseg_ros.backbones.tokens import Domain, photo_tokens, unit
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.analysis import GeometryConfig, SceneGeometry, analyse_cloud
from geoseg_ros.geometry.boxes import oriented_box
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.contrast.config import CosegConfig
from geoseg_ros.methods.contrast.evidence import cloud_evidence, instances
from geoseg_ros.methods.contrast.masks import label_mask
from geoseg_ros.methods.contrast.pack import ConceptPack, load_pack
from geoseg_ros.methods.contrast.references import Contrast, image_score, null_scores
from geoseg_ros.packs.calibration import p_value, step_down
from geoseg_ros.projection.proposal_views import DrawnProposals, look_at_proposals
from geoseg_ros.projection.views import ViewConfig
from geoseg_ros.results import CloudResult, ImageResult, LabelSpace, ObjectInstance, Presence
from geoseg_ros.runtime.engines.backbone import image_shapes, with_engine
from geoseg_ros.runtime.engines.options import EngineOptions
from geoseg_ros.settings import Settings, section
from geoseg_ros.stopwatch import Stopwatch

INSTANCE_GAP = 2.5  # voxels between two parts that are still one instance
LEAST_INSTANCE = 8  # voxels


@dataclass(frozen=True)
class PipelineConfig(Settings):
    """How concepts are found in images and clouds."""

    coseg: CosegConfig = section(CosegConfig, "evidence for concepts, and decisions")
    views: ViewConfig = section(ViewConfig, "how proposals are drawn for the image backbone")
    geometry: GeometryConfig = section(GeometryConfig, "voxels, planes, superpoints and proposals of a cloud")


class CosegPipeline:
    """Finds the loaded concepts in images and clouds. The packs are each other's background.

    Attributes:
        labels: pack ``i`` has label ``i + 1``.
        backbone_name, pack_versions: for status messages.
    """

    def __init__(self, backbone: ImageBackbone, packs: Sequence[ConceptPack], config: PipelineConfig | None = None) -> None:
        """Raises InputError: no pack, two packs of one name, or a pack of another backbone."""
        if not packs:
            raise InputError("packs: expected at least one concept pack")
        for pack in packs:
            pack.check_backbone(backbone.name, backbone.hash)
        names = tuple(pack.name for pack in packs)
        if len(set(names)) < len(names):
            raise InputError(f"packs: names must differ, got {', '.join(names)}")
        self.config = config or PipelineConfig()
        self.backbone = backbone
        self.labels = LabelSpace(names)
        self.backbone_name = backbone.name
        self.pack_versions = [pack.version for pack in packs]
        self._mean = packs[0].mean
        self._contrast = Contrast([pack.references for pack in packs], self.config.coseg.neighbours, self.config.coseg.size_weight)
        # null scores are taken with all packs loaded, because each pack changes the others' evidence
        self._null_photo = [self._null_pictures(pack.null_photos)[i] for i, pack in enumerate(packs)]
        self._null_view = {
            domain: [self._null_proposals(pack.null_views[domain], domain)[i] for i, pack in enumerate(packs)] for domain in Domain
        }

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
        """What has failed since and was replaced, in one line, or empty."""
        return getattr(self.backbone, "trouble", "")

    def _known(self, shown: Collection[str]) -> NDArray[np.bool_]:
        return np.array([name in shown for name in self.labels.names])

    def _null_pictures(self, tokens: torch.Tensor) -> NDArray[np.float32]:
        """Scores [C, n] of photographs that show no concept, from their tokens [n, t, D]."""
        return null_scores(lambda halves: self._contrast.photo(tokens, halves).mean(2)).numpy()

    def _null_proposals(self, rows: DrawnProposals, domain: Domain) -> NDArray[np.float32]:
        """Scores [C, n] of proposals that are no concept."""
        seen = null_scores(lambda halves: self._contrast.view(rows.tokens, domain, halves).mean(2))
        return (seen + self._contrast.size(rows.size)).numpy()

    def process_image(self, image: NDArray[np.uint8], shown: Collection[str] = ()) -> ImageResult:
        """Masks of one RGB image uint8 [H, W, 3].

        Args:
            shown: concepts that the image is known to show. They get their label whatever their p-value, where anything speaks for them.
        """
        config, clock = self.config.coseg, Stopwatch()
        with torch.inference_mode():
            tokens, small = photo_tokens(self.backbone, image, config.image_side)
            clock.stop("tokens")
            evidence = self._contrast.photo(unit(tokens, self._mean))  # [C, h, w]
            scores = image_score(evidence.flatten(1), config.top_share).numpy()
        p = np.array([float(p_value(score, null)) for score, null in zip(scores, self._null_photo, strict=True)])
        present = (p < config.p_max) | self._known(shown)
        clock.stop("evidence")
        mask = label_mask(evidence.numpy(), present, small, (image.shape[0], image.shape[1]), config)
        clock.stop("mask")
        share = [float(np.count_nonzero(mask == i + 1)) / mask.size for i in range(len(p))]
        # as for clouds: what has no pixel is not reported as there
        return ImageResult(mask, self._presence(scores, p, present & (np.array(share) > 0), share), clock.seconds)

    def process_cloud(self, cloud: Cloud, shown: Collection[str] = ()) -> CloudResult:
        """Labels, instances and objects of one cloud.

        Args:
            shown: concepts that the cloud is known to show. The proposal that speaks most for one gets its label whatever the p-value.
        """
        config, clock = self.config, Stopwatch()
        concepts = len(self.labels.names)
        scene = analyse_cloud(cloud, config.geometry)
        clock.stop("geometry")
        with torch.inference_mode():
            views = look_at_proposals(cloud, scene, self.backbone, config.views)
            clock.stop("views")
            if views is None:
                nothing = self._presence(np.full(concepts, -1.0), np.ones(concepts), np.zeros(concepts, bool), [0.0] * concepts)
                zeros = np.zeros(len(cloud), np.uint32)
                return CloudResult(zeros, zeros.copy(), np.zeros(len(cloud), np.float32), [], nothing, clock.seconds)
            evidence = cloud_evidence(scene, views.unit(self._mean), self._contrast)
        null = self._null_view[views.domain]
        best = evidence.proposal.max(1)
        p, voxel_p = np.ones(concepts), np.ones(evidence.voxel.shape)
        for i in range(concepts):
            proposal_p = p_value(evidence.proposal[i], null[i])
            candidates = proposal_p[evidence.distinct[i]]
            p[i] = step_down(proposal_p.min(), candidates, evidence.tries)
            voxel_p[i] = step_down(p_value(evidence.voxel[i], null[i]), candidates, evidence.tries)
        known = self._known(shown)
        present = (p < config.coseg.p_max) | known
        winner = evidence.voxel.argmax(0)
        won_p = np.take_along_axis(voxel_p, winner[None], 0)[0]
        likeliest = known[winner] & (evidence.voxel.max(0) >= best[winner])
        label = np.where((won_p < config.coseg.p_max) | likeliest, winner + 1, 0).astype(np.uint32)
        clock.stop("evidence")
        objects, instance, label = self._objects(scene, label, won_p)
        confidence = np.where(label > 0, 1 - won_p, 0).astype(np.float32)
        valid = max(int(np.count_nonzero(scene.inverse >= 0)), 1)
        points = scene.point_values(label)
        share = [float(np.count_nonzero(points == i + 1)) / valid for i in range(concepts)]
        result = CloudResult(
            points,
            scene.point_values(instance),
            scene.point_values(confidence),
            objects,
            self._presence(best, p, present & (np.array(share) > 0), share),
            clock.seconds,
        )
        clock.stop("objects")
        return result

    def _objects(
        self, scene: SceneGeometry, label: NDArray[np.uint32], p: NDArray[np.float64]
    ) -> tuple[list[ObjectInstance], NDArray[np.uint32], NDArray[np.uint32]]:
        up = scene.up
        objects: list[ObjectInstance] = []
        instance = np.zeros(len(label), np.uint32)
        for concept, name in enumerate(self.labels.names, 1):
            for members in instances(scene.xyz, np.flatnonzero(label == concept), INSTANCE_GAP * scene.voxel, LEAST_INSTANCE):
                number = len(objects) + 1
                instance[members] = number
                centre, rotation, size = oriented_box(scene.xyz[members], up)
                value = float(p[members].mean())
                objects.append(
                    ObjectInstance(concept, name, number, 1 - value, value, centre, rotation, size, int(scene.count[members].sum()))
                )
        return objects, instance, np.where(instance > 0, label, 0).astype(np.uint32)

    def _presence(self, scores: NDArray, p: NDArray, present: NDArray[np.bool_], share: Sequence[float]) -> list[Presence]:
        return [
            Presence(i + 1, name, float(scores[i]), float(p[i]), bool(present[i]), share[i]) for i, name in enumerate(self.labels.names)
        ]


def open_pipeline(
    packs: Sequence[str],
    backbone: str = "",
    device: str = "auto",
    config: PipelineConfig | None = None,
    opened: ImageBackbone | None = None,
    engines: EngineOptions | None = None,
) -> CosegPipeline:
    """Load packs and the backbone that they were made with (or ``backbone``).

    Args:
        packs: paths, or names of shipped packs. device: auto, cpu or cuda.
        opened: a backbone from before, taken if it is the one that the packs were made with.
        engines: how the backend of the backbone is chosen, and its device; None: PyTorch.

    Raises:
        InputError: a pack, the backbone or the backend cannot be used.
    """
    loaded = [load_pack(pack) for pack in packs]
    if not loaded:
        raise InputError("packs: expected at least one concept pack")
    config = config or PipelineConfig()
    if opened is None or opened.hash != loaded[0].backbone_hash:
        name = backbone or loaded[0].backbone
        if engines is not None:
            opened = with_engine(open_backbone(name, "cpu"), engines, image_shapes(config.coseg.image_side))
        else:
            opened = open_backbone(name, ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    return CosegPipeline(opened, loaded, config)
