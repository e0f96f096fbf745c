"""Heads for photographs, learnt on the frozen tokens, and the contrast with plainer masks: what the contrast has to be better than."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from geoseg_ros.backbones.tokens import photo_tokens, unit
from geoseg_ros.evaluate.items import CosegSet, NamedMethod, Prediction, Predictions
from geoseg_ros.evaluate.methods import PackMethod, Tools
from geoseg_ros.learning.affinity import affinity, evenly, prototypes
from geoseg_ros.learning.foreground import find_foreground
from geoseg_ros.methods.base import Material
from geoseg_ros.methods.contrast.learning import learn
from geoseg_ros.methods.contrast.masks import label_mask
from geoseg_ros.methods.contrast.method import build_config
from geoseg_ros.methods.contrast.observations import observe
from geoseg_ros.methods.contrast.references import image_score
from geoseg_ros.packs.calibration import p_value

STEPS, RATE, DECAY = 200, 0.02, 1e-3
SHARPNESS = 10.0  # tokens have length 1: without it no logit could be large
COSINE = 0.03  # of a logit: decisions are made with the margins of the contrast
MOST = 4000  # tokens of each kind


@dataclass(frozen=True)
class Head:
    """Attributes: halves, one network fitted with each half of the background; null [n], scores of photographs without the target, each by
    the network that was fitted with the other half."""

    halves: tuple[torch.nn.Module, torch.nn.Module]
    null: NDArray[np.float32]

    def evidence(self, tokens: torch.Tensor) -> torch.Tensor:
        """[...] of unit tokens [..., D], in the place of a cosine: the mean of both halves."""
        return torch.stack([_evidence(half, tokens) for half in self.halves]).mean(0)


def _evidence(head: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    return COSINE * head(SHARPNESS * tokens)[..., 0]


def fit_tokens(positive: torch.Tensor, negative: Sequence[torch.Tensor], hidden: int, seed: int) -> torch.nn.Module:
    """Logistic regression on tokens [n, D], or a network with one hidden layer; both sides weigh the same, and so do the kinds of
    ``negative``."""
    dim = positive.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [torch.nn.Linear(dim, hidden), torch.nn.GELU(), torch.nn.Linear(hidden, 1)] if hidden else [torch.nn.Linear(dim, 1)]
    head = torch.nn.Sequential(*layers)
    kinds = [positive, *(kind for kind in negative if len(kind))]
    weight = torch.cat([torch.full((len(kind),), 0.5 / len(kind) / (1 if k == 0 else len(kinds) - 1)) for k, kind in enumerate(kinds)])
    tokens, target = SHARPNESS * torch.cat(kinds), (torch.arange(len(weight)) < len(positive)).float()
    optimiser = torch.optim.Adam(head.parameters(), lr=RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        loss = (weight * F.binary_cross_entropy_with_logits(head(tokens)[:, 0], target, reduction="none")).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return head.eval()


def fit_head(tools: Tools, concept: Material, hidden: int, seed: int) -> Head:
    """Positives are the tokens that the contrast takes for the foreground of the photographs; negatives, in equal parts, are the rest of
    the photographs, the bank but for what looks like the positives, and the photographs without the target.

    A null photograph is scored by the network that did not see it.
    """
    config, bank, dim = build_config(tools.context), tools.bank, tools.backbone.dim
    seen = observe(concept.images, (), concept.without_images, (), tools.backbone, bank, config)
    background = torch.cat(learn(concept.name, seen, tools.backbone, bank, config).references.background)
    front, rest = [], []
    for scale in range(len(config.train.scales)):
        maps = [photograph[scale] for photograph in seen.images]
        chosen, _ = find_foreground(maps, background, config.coseg.neighbours, config.train)
        front += [tokens[mask] for tokens, mask in zip(maps, chosen, strict=True)]
        rest += [tokens[~mask] for tokens, mask in zip(maps, chosen, strict=True)]
    positive = _some(torch.cat(front))
    few = prototypes(positive, config.train.foreground_tokens)
    typical = affinity(positive, few, config.coseg.neighbours).quantile(0.25)
    absent = [photograph[0].reshape(-1, dim) for photograph in seen.without_images]
    halves, held_out = [], []
    for half in (0, 1):
        general = bank.photos[half::2]
        place = absent[: (len(absent) + 1) // 2] if half == 0 else absent[(len(absent) + 1) // 2 :]
        unlike = general[affinity(general, few, config.coseg.neighbours) < typical]
        negative = [_some(torch.cat(rest)), _some(unlike), _some(torch.cat([torch.zeros(0, dim), *place]))]
        halves.append(fit_tokens(positive, negative, hidden, seed))
        held_out.append([*general, *place])
    with torch.inference_mode():
        scores = [image_score(_evidence(halves[1 - h], t)[None], config.coseg.top_share) for h in (0, 1) for t in held_out[h]]
    return Head((halves[0], halves[1]), torch.cat(scores).numpy())


def _some(tokens: torch.Tensor) -> torch.Tensor:
    return tokens[evenly(range(len(tokens)), MOST)]


def dense_head(tools: Tools, hidden: int = 0) -> NamedMethod:
    """A logistic head, or one with a hidden layer, on photo tokens; presence and masks are decided as the contrast decides them."""
    name = "dense head, hidden layer" if hidden else "dense head, logistic"
    return NamedMethod(name, partial(_answers, tools, hidden), random=bool(hidden), backbone=True)


def _answers(tools: Tools, hidden: int, items: CosegSet, seed: int) -> Predictions:
    concepts = [concept for concept in (items.own, *items.rivals) if concept.images]
    if not items.own.images or not items.images:
        return Predictions()
    heads = [fit_head(tools, concept, hidden, seed) for concept in concepts]
    config, predictions = tools.config.coseg, []
    for item in items.images:
        with torch.inference_mode():
            tokens, small = photo_tokens(tools.backbone, item.data, config.image_side)
            evidence = torch.stack([head.evidence(unit(tokens, tools.bank.mean)) for head in heads])
            scores = image_score(evidence.flatten(1), config.top_share).numpy()
        p = np.array([float(p_value(score, head.null)) for score, head in zip(scores, heads, strict=True)])
        mask = label_mask(evidence.numpy(), p < config.p_max, small, (item.data.shape[0], item.data.shape[1]), config)
        predictions.append(Prediction(mask == 1, -p[0], 1 - p[0]))
    return Predictions(images=predictions)


def plain_masks(tools: Tools) -> NamedMethod:
    """The contrast, its masks smoothed along edges but not cut."""
    config = replace(tools.config, coseg=replace(tools.config.coseg, cut_rounds=0))
    return NamedMethod("contrast, masks not cut", PackMethod(replace(tools, config=config)), backbone=True)


def heads(tools: Tools) -> list[NamedMethod]:
    """All of this module."""
    return [plain_masks(tools), dense_head(tools), dense_head(tools, hidden=64)]
