"""GeoFree-CoSeg's graph and attention in closed form: nothing is trained, points and patches are comparable because both are tokens of one
backbone (virtual views of proposals, photographs).

References, proposals, null items and decisions are those of the contrast; only the evidence of a token differs. So the rows say what the
sparse graph is worth as a way of comparing, next to "the few nearest of the own minus the few nearest of the rest".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch

from benchmarks.baselines.concept import learn_concept
from geoseg_ros.backbones.tokens import Domain
from geoseg_ros.evaluate.items import CosegSet, NamedMethod, Prediction, Predictions
from geoseg_ros.evaluate.methods import Tools
from geoseg_ros.evaluate.trivial import PerCloud, geometry
from geoseg_ros.geometry.analysis import SceneGeometry
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.base import Material
from geoseg_ros.methods.contrast.evidence import cloud_evidence
from geoseg_ros.methods.contrast.pack import Concept
from geoseg_ros.methods.contrast.references import Contrast, References, null_scores
from geoseg_ros.methods.geofree.config import GcsfConfig
from geoseg_ros.methods.geofree.fusion import log_association
from geoseg_ros.methods.geofree.mgcm import squash
from geoseg_ros.packs.calibration import p_value, step_down
from geoseg_ros.projection.proposal_views import ProposalViews, look_at_proposals

Weights = Literal["graph", "attention", "both"]
CHUNK = 2048  # rows whose edges are held at once


class GraphContrast(Contrast):
    """Evidence of a token t of a view, 0 .. 1: the share of its weights that falls on the concept's foreground tokens.

    ``graph``: Z = softmax((S + log M) / tau_z), M = 1 on the K strongest edges and epsilon on the others; ``attention``:
    A = softmax(sqrt(D) S), which scaled dot products of unit features, normalised to length sqrt(D), are; ``both``: softmax(sqrt(D) S +
    log Z), the corrected attention with alpha = 1. The columns are the foreground prototypes of all concepts and the background's.
    """

    def __init__(self, concepts: Sequence[References], weights: Weights, config: GcsfConfig) -> None:
        super().__init__(concepts, neighbours=1)
        self.weights: Weights = weights
        self.config = config

    def drawn(self, tokens: torch.Tensor, domain: Domain, halves: Sequence[int] = (0, 1)) -> torch.Tensor:
        """Evidence [C, ...] of tokens [..., D]; halves as in :class:`Contrast`, each by itself: more columns would take more weight."""
        evidence = []
        for i, concept in enumerate(self.concepts):
            rivals = [c.foreground for j, c in enumerate(self.concepts) if j != i]
            filled = [half for half in halves if len(concept.background[half])] or [1 - halves[0]]
            shares = [self._share(tokens, concept.foreground, torch.cat([*rivals, concept.background[half]])) for half in filled]
            evidence.append(torch.stack(shares).mean(0))
        return torch.stack(evidence)

    def _share(self, tokens: torch.Tensor, own: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
        columns = torch.cat([own, rest])
        parts = []
        for rows in tokens.reshape(-1, tokens.shape[-1]).split(CHUNK):
            scores = rows @ columns.T
            logits = math.sqrt(tokens.shape[-1]) * scores if self.weights != "graph" else torch.zeros_like(scores)
            if self.weights != "attention":
                logits = logits + log_association(scores[None], 1, self.config)[0]
            parts.append(torch.softmax(logits, dim=1)[:, : len(own)].sum(1))
        return torch.cat(parts).reshape(tokens.shape[:-1])


class Graphs:
    """The closed forms as methods; packs of pictures, and drawings of clouds (``look``), are shared by them."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._packs: dict[int, tuple[Material, Concept]] = {}  # the concept is kept so that its id stays taken
        self.look = PerCloud(self._look_at)

    def methods(self) -> list[NamedMethod]:
        """Attention alone, the graph alone, both, the graph as its formula is printed; and without a presence test, so that something is
        marked in every cloud as by the networks: the graph, and the contrast itself."""
        printed = GcsfConfig(mask_mode="paper", tau_z=1.0)
        ways: tuple[tuple[str, Weights | None, GcsfConfig, bool], ...] = (
            ("attention on views, untrained", "attention", GcsfConfig(), False),
            ("graph on views, untrained", "graph", GcsfConfig(), False),
            ("graph and attention on views, untrained", "both", GcsfConfig(), False),
            ("graph on views, as printed", "graph", printed, False),
            ("graph on views, forced", "graph", GcsfConfig(), True),
            ("contrast of pictures, forced", None, GcsfConfig(), True),
        )
        return [NamedMethod(name, partial(self._answers, weights, config, forced), backbone=True) for name, weights, config, forced in ways]

    def _look_at(self, cloud: Cloud) -> tuple[SceneGeometry, ProposalViews | None]:
        scene, tools = geometry(cloud), self._tools
        with torch.inference_mode():
            views = look_at_proposals(cloud, scene, tools.backbone, tools.config.views)
            return scene, None if views is None else views.unit(tools.bank.mean)

    def pack(self, concept: Material) -> Concept:
        """Of the concept's pictures alone."""
        if id(concept) not in self._packs:
            tools = self._tools
            made = learn_concept(tools, Material(concept.name, concept.images, (), concept.without_images))
            self._packs[id(concept)] = concept, made
        return self._packs[id(concept)][1]

    def _answers(self, weights: Weights | None, config: GcsfConfig, forced: bool, items: CosegSet, seed: int) -> Predictions:
        """Clouds by pictures alone; a cloud given to learn from is not used."""
        if not items.own.images or not items.clouds:
            return Predictions()
        packs = [self.pack(concept) for concept in (items.own, *items.rivals) if concept.images]
        references = [pack.references for pack in packs]
        coseg = self._tools.config.coseg
        graph = Contrast(references, coseg.neighbours) if weights is None else GraphContrast(references, weights, config)
        if forced:
            return Predictions(clouds=[self._forced(item.data, graph) for item in items.clouds])
        nulls: dict[Domain, list[np.ndarray]] = {}
        return Predictions(clouds=[self._answer(item.data, graph, packs, nulls) for item in items.clouds])

    @torch.inference_mode()
    def _forced(self, cloud: Cloud, graph: Contrast) -> Prediction:
        """The voxels of proposals whose evidence, squashed as the masks of images are, is above one half."""
        scene, views = self.look(cloud)
        if views is None:
            return Prediction(np.zeros(len(cloud), bool))
        evidence = torch.from_numpy(cloud_evidence(scene, views, graph).voxel[0])
        inside = torch.isfinite(evidence)
        mine = np.zeros(len(evidence), bool)
        mine[inside.numpy()] = (squash(evidence[inside][None])[0] > 0.5).numpy()
        return Prediction(np.asarray(scene.point_values(mine), bool))

    @torch.inference_mode()
    def _answer(self, cloud: Cloud, graph: Contrast, packs: Sequence[Concept], nulls: dict[Domain, list[np.ndarray]]) -> Prediction:
        scene, views = self.look(cloud)
        if views is None:
            return Prediction(np.zeros(len(cloud), bool), -1.0, 0.0)
        if views.domain not in nulls:
            nulls[views.domain] = [_null(graph, pack, views.domain)[i] for i, pack in enumerate(packs)]
        evidence = cloud_evidence(scene, views, graph)
        voxel_p, present = [], []
        for i, null in enumerate(nulls[views.domain]):
            proposal_p = p_value(evidence.proposal[i], null)
            candidates = proposal_p[evidence.distinct[i]]
            present.append(float(step_down(proposal_p.min(), candidates, evidence.tries)))
            voxel_p.append(step_down(p_value(evidence.voxel[i], null), candidates, evidence.tries))
        mine = (evidence.voxel.argmax(0) == 0) & (voxel_p[0] < self._tools.config.coseg.p_max)
        return Prediction(np.asarray(scene.point_values(mine), bool), -present[0], 1 - present[0])


def _null(graph: Contrast, pack: Concept, domain: Domain) -> np.ndarray:
    """Scores [C, n] of the pack's proposals that are no concept."""
    rows = pack.null_views[domain]
    return null_scores(lambda halves: graph.view(rows.tokens, domain, halves).mean(2)).numpy()
