"""Segmentation by opened concepts: evidence, p-values against null items, labels."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.backbones.tokens import Domain, unit
from geoseg_ros.methods.base import CloudScene, Evidence, ImageScene
from geoseg_ros.methods.contrast.config import CosegConfig
from geoseg_ros.methods.contrast.encoder import LEAST_NULL, EncoderEvidence, is_sweep
from geoseg_ros.methods.contrast.evidence import cloud_evidence, proposals_of_mask
from geoseg_ros.methods.contrast.masks import label_mask
from geoseg_ros.methods.contrast.pack import Concept
from geoseg_ros.methods.contrast.references import Contrast, image_score, null_scores
from geoseg_ros.packs.calibration import p_value, step_down
from geoseg_ros.projection.proposal_views import DrawnProposals

DRAWN_WEIGHT = 0.7  # of the drawings' p-value; the rest is that of the sensor's picture


class ContrastSegmenter:
    """A segmenter of concepts that are loaded together.

    Null scores are computed with all concepts loaded, because each concept changes the evidence of the others.

    Attributes:
        labels: names of the concepts.
        dense: False; most of a scene has no label.
        config: settings; a new value is used from the next scene on.
    """

    dense = False

    def __init__(self, concepts: Sequence[Concept], config: CosegConfig) -> None:
        self.labels = tuple(concept.name for concept in concepts)
        self.config = config
        self._mean = concepts[0].mean
        self._contrast = Contrast([concept.references for concept in concepts], config.neighbours, config.size_weight)
        self._by_encoder: dict[tuple[str, float], EncoderEvidence] = {}
        self._null_photo = [self._null_pictures(concept.null_photos)[i] for i, concept in enumerate(concepts)]
        pictures = [concept.null_pictures if len(concept.null_pictures) else concept.null_photos for concept in concepts]
        self._null_picture = [self._null_pictures(tokens)[i] for i, tokens in enumerate(pictures)]
        self._null_view = {
            domain: [self._null_proposals(concept.null_views[domain], domain)[i] for i, concept in enumerate(concepts)] for domain in Domain
        }

    def image(self, scene: ImageScene, known: Collection[str] = ()) -> Evidence:
        """Segment one image; see :meth:`Segmenter.image`. ``known`` labels count as present whatever their p-value."""
        return self._seen(scene, self._null_photo, known)

    def _seen(self, scene: ImageScene, null: Sequence[NDArray[np.float32]], known: Collection[str]) -> Evidence:
        """Segment a picture; ``null``: scores of such pictures without each concept."""
        config = self.config
        tokens, small = scene.at()
        scene.clock.restart()
        with torch.inference_mode():
            evidence = self._contrast.photo(unit(tokens, self._mean))  # [C, h, w]
            scores = image_score(evidence.flatten(1), config.top_share).numpy()
        p = np.array([float(p_value(score, null)) for score, null in zip(scores, null, strict=True)])
        present = (p < config.p_max) | self._known(known)
        scene.clock.stop("evidence")
        mask = label_mask(evidence.numpy(), present, small, (scene.image.shape[0], scene.image.shape[1]), config)
        scene.clock.stop("mask")
        return Evidence(scores, p, present, mask)

    def cloud(self, scene: CloudScene, known: Collection[str] = ()) -> Evidence:
        """Segment one cloud; see :meth:`Segmenter.cloud`. A ``known`` label is given whatever its p-value.

        An organised cloud with colour is searched twice: what the drawings of its proposals do not show to be there is searched for in
        the picture that the sensor sees, as in a photograph, but compared with such pictures of clouds. Its p-values are the weighted
        harmonic mean of both searches (Wilson, PNAS 2019), and a bound of it, that of the first over its weight, where there was no second.
        """
        drawn = self._drawn(scene, known)
        if scene.picture is None or drawn.label_p is None:
            return drawn
        is_known = self._known(known)
        p, label, label_p = np.minimum(1, drawn.p_value / DRAWN_WEIGHT), drawn.label.copy(), np.minimum(1, drawn.label_p / DRAWN_WEIGHT)
        missing = p >= self.config.p_max
        label[np.isin(label, np.flatnonzero(missing) + 1)] = 0
        scene.clock.restart()
        seen = self._seen(scene.picture, self._null_picture, known) if missing.any() else drawn
        for k in np.flatnonzero(missing):
            p[k] = 1 / (DRAWN_WEIGHT / drawn.p_value[k] + (1 - DRAWN_WEIGHT) / max(seen.p_value[k], np.finfo(float).tiny))
            if p[k] >= self.config.p_max and not is_known[k]:
                continue
            members = proposals_of_mask(scene.geometry, (seen.label == k + 1).ravel())
            if not members.any():
                members = drawn.label == k + 1
            members &= label == 0
            label[members], label_p[members] = k + 1, p[k]
        scene.clock.stop("sensor view")
        score = np.where(seen.p_value < drawn.p_value, seen.score, drawn.score)  # of the search that found more
        return Evidence(score, p, (p < self.config.p_max) | is_known, label, label_p)

    def _drawn(self, scene: CloudScene, known: Collection[str]) -> Evidence:
        """By the drawings of the proposals. A ``known`` label is given to its best proposal whatever the p-value."""
        config, count = self.config, len(self.labels)
        geometry, views = scene.geometry, scene.views
        if views is None:
            nothing = np.zeros(len(geometry.xyz), np.int64)
            return Evidence(np.full(count, -1.0), np.ones(count), np.zeros(count, bool), nothing)
        scene.clock.restart()
        null = self._null_view[views.domain]
        with torch.inference_mode():
            encoded = self._encoded(scene, null)
            further = None if encoded is None else encoded[1].of(encoded[0])
            scene.clock.restart()
            evidence = cloud_evidence(geometry, views.unit(self._mean), self._contrast, further)
        null = null if encoded is None else encoded[1].null
        best = evidence.proposal.max(1)
        p, voxel_p = np.ones(count), np.ones(evidence.voxel.shape)
        for i in range(count):
            level = self._contrast.concepts[i].level.get(views.domain, -np.inf)
            proposal_p = np.where(evidence.proposal[i] < level, 1.0, p_value(evidence.proposal[i], null[i]))
            candidates = proposal_p[evidence.distinct[i]]
            p[i] = step_down(proposal_p.min(), candidates, evidence.tries)
            of_voxel = np.where(evidence.voxel[i] < level, 1.0, p_value(evidence.voxel[i], null[i]))
            voxel_p[i] = step_down(of_voxel, candidates, evidence.tries)
        is_known = self._known(known)
        winner = evidence.voxel.argmax(0)
        won_p = np.take_along_axis(voxel_p, winner[None], 0)[0]
        likeliest = is_known[winner] & (evidence.voxel.max(0) >= best[winner])
        label = np.where((won_p < config.p_max) | likeliest, winner + 1, 0)
        scene.clock.stop("evidence")
        return Evidence(best, p, (p < config.p_max) | is_known, label, won_p)

    def _encoded(self, scene: CloudScene, null: Sequence[NDArray[np.float32]]) -> tuple[torch.Tensor, EncoderEvidence] | None:
        """Features of the proposals by the scene's encoder, and what judges them; None where it is not asked. ``null``: see there."""
        encoder, weight = scene.encoder, self.config.encoder_weight
        if encoder is None or not weight or all(concept.views for concept in self._contrast.concepts):
            return None
        if len(encoder.background) < LEAST_NULL or not is_sweep(scene):
            return None
        features = scene.proposal_features
        if features is None:
            return None
        key = (encoder.hash, weight)
        if key not in self._by_encoder:
            self._by_encoder = {key: EncoderEvidence(self._contrast, encoder.background, null, weight)}
        return features, self._by_encoder[key]

    def _known(self, names: Collection[str]) -> NDArray[np.bool_]:
        return np.array([name in names for name in self.labels])

    def _null_pictures(self, tokens: torch.Tensor) -> NDArray[np.float32]:
        """Scores [C, n] of photographs that show no concept, from their tokens [n, t, D]."""
        return null_scores(lambda halves: self._contrast.photo(tokens, halves).mean(2)).numpy()

    def _null_proposals(self, rows: DrawnProposals, domain: Domain) -> NDArray[np.float32]:
        """Scores [C, n] of proposals that are no concept."""
        viewed = null_scores(lambda halves: self._contrast.view(rows.tokens, domain, halves).mean(2))
        return (viewed + self._contrast.size(rows.size)).numpy()
