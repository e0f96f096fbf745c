"""Proposals as the backbone sees them, one vector each: what multiple-instance learning and prototypes work on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.baselines.concept import learn_concept
from benchmarks.baselines.tokens import away_from_border, full_size, groups
from geoseg_ros.backbones.tokens import Domain, photo_tokens, unit
from geoseg_ros.evaluate.items import CosegSet, Image, Mask, Method, Prediction, Predictions
from geoseg_ros.evaluate.methods import Tools
from geoseg_ros.evaluate.trivial import geometry, point_mask
from geoseg_ros.geometry.analysis import SceneGeometry
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.methods.base import Material
from geoseg_ros.projection.proposal_views import look_at_proposals

STEPS, RATE, DECAY = 300, 0.02, 1e-3
SHARPNESS = 10.0  # vectors have length 1: without it no logit could be large


@dataclass(frozen=True)
class Proposals:
    """Attributes: scene; vectors [P, D], mean token of each proposal's views, length 1."""

    scene: SceneGeometry
    vectors: torch.Tensor

    def mask(self, chosen: torch.Tensor) -> Mask:
        """bool [N]: the points of the proposals that are ``chosen``, bool [P]."""
        voxels = np.zeros(len(self.scene.xyz), bool)
        for members, wanted in zip(self.scene.proposals, chosen.tolist(), strict=True):
            if wanted:
                voxels[members] = True
        return point_mask(self.scene, voxels)


def look_with(tools: Tools, cloud: Cloud) -> Proposals:
    """The proposals of a cloud; of a coloured one what is drawn in colour."""
    scene = geometry(cloud)
    with torch.inference_mode():
        views = look_at_proposals(cloud, scene, tools.backbone, tools.config.views)
        if views is None:
            return Proposals(scene, torch.zeros(0, tools.backbone.dim))
        views = views.unit(tools.bank.mean)
        parts = 2 if views.domain is Domain.COLOUR else 1
        tokens, weight = views.tokens.chunk(parts, 1)[0], views.weight.chunk(parts, 1)[0]
        vectors = F.normalize((tokens * weight[:, :, None]).sum(1), dim=1)
    return Proposals(scene, vectors.clone())


def fit_bags(positive: Sequence[torch.Tensor], negative: Sequence[torch.Tensor], seed: int) -> torch.nn.Linear:
    """Multiple-instance logistic regression: the logit of a bag is that of its best instance; both sides weigh the same.

    Args:
        positive, negative: instances [n, D] of each bag, none of them empty.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = torch.nn.Linear(positive[0].shape[1], 1)
    bags = [*positive, *negative]
    owner = torch.repeat_interleave(torch.arange(len(bags)), torch.tensor([len(bag) for bag in bags]))
    instances = SHARPNESS * torch.cat(bags)
    target = (torch.arange(len(bags)) < len(positive)).float()
    weight = torch.where(target > 0, 0.5 / len(positive), 0.5 / len(negative))
    optimiser = torch.optim.Adam(head.parameters(), lr=RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        logit = head(instances)[:, 0]
        best = torch.full((len(bags),), -torch.inf).scatter_reduce(0, owner, logit, "amax")
        loss = (weight * F.binary_cross_entropy_with_logits(best, target, reduction="none")).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return head


def folder_mil(tools: Tools, look: Callable[[Cloud], Proposals]) -> Method:
    """Folder-level multiple-instance learning on clouds alone: which proposal separates the concept's folder from the folders without it.

    Negatives are the clouds without the concept and those of rivals, and every proposal of the background bank. No picture is used.
    """

    def run(items: CosegSet, seed: int) -> Predictions:
        if not items.own.clouds or not items.clouds:
            return Predictions()
        positive = [look(cloud).vectors for cloud in items.own.clouds]
        without = {id(c): c for c in (*items.own.without_clouds, *(c for rival in items.rivals for c in rival.clouds))}
        negative = [look(cloud).vectors for cloud in without.values()]
        domain = Domain.COLOUR if next(iter(items.own.clouds)).rgb is not None else Domain.SHADED
        bank = tools.bank.views(domain)[0].tokens
        negative += list(F.normalize(bank.tensor_split(2 if domain is Domain.COLOUR else 1, 1)[0].mean(1), dim=1)[:, None])
        positive, negative = ([bag for bag in bags if len(bag)] for bags in (positive, negative))
        if not positive or not negative:
            return Predictions()
        head = fit_bags(positive, negative, seed)
        predictions = []
        for item in items.clouds:
            found = look(item.data)
            with torch.inference_mode():
                logit = head(SHARPNESS * found.vectors)[:, 0]
            best = float(logit.max()) if len(logit) else -np.inf
            predictions.append(Prediction(found.mask(logit > 0), best, float(torch.sigmoid(torch.tensor(best)))))
        return Predictions(clouds=predictions)

    return run


Prototypes = Callable[[Collection[Image], int], tuple[torch.Tensor, torch.Tensor]]
"""From photographs and a seed to a foreground and a background vector [D], each of length 1."""


def pack_prototypes(tools: Tools, images: Collection[Image], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Means of the foreground and of the context that the contrast finds in the photographs; nothing is random."""
    references = learn_concept(tools, Material("concept", images)).references
    means = [tokens.mean(0) for tokens in (references.foreground, references.context)]
    front, back = F.normalize(torch.stack(means), dim=1)
    return front, back


def group_prototypes(tools: Tools, images: Collection[Image], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Means over all tokens of the two groups of token 2-means, per photograph separated by the border rule."""
    sums = torch.zeros(2, tools.backbone.dim)
    for image in images:
        tokens = _tokens(tools, image)
        flat = tokens.flatten(0, 1)
        member = groups(flat.numpy(), 2, seed).reshape(tokens.shape[:2]) == 1
        front = torch.from_numpy(member if away_from_border(member) else ~member).flatten()
        sums += torch.stack([flat[front].sum(0), flat[~front].sum(0)])
    front, back = F.normalize(sums, dim=1)
    return front, back


def late_fusion(tools: Tools, look: Callable[[Cloud], Proposals], prototypes: Prototypes) -> Method:
    """Each modality by itself, joined by prototypes only: a token, or a proposal, is the target if it is nearer to the foreground prototype
    of the photographs than to their background's and to every rival's foreground."""

    def run(items: CosegSet, seed: int) -> Predictions:
        if not items.own.images:
            return Predictions()
        front, back = prototypes(items.own.images, seed)
        rivals = [prototypes(rival.images, seed)[0] for rival in items.rivals if rival.images]
        against = torch.stack([back, *rivals])

        def margin(vectors: torch.Tensor) -> torch.Tensor:
            return vectors @ front - (vectors @ against.T).amax(-1)

        images = []
        for item in items.images:
            value = margin(_tokens(tools, item.data))
            top = value.flatten().topk(max(1, round(tools.config.coseg.top_share * value.numel()))).values
            images.append(Prediction(full_size((value > 0).numpy(), item.truth.shape), float(top.mean())))
        clouds = []
        for cloud in items.clouds:
            found = look(cloud.data)
            value = margin(found.vectors)
            clouds.append(Prediction(found.mask(value > 0), float(value.max()) if len(value) else -np.inf))
        return Predictions(images, clouds)

    return run


def _tokens(tools: Tools, image: Image) -> torch.Tensor:
    with torch.inference_mode():
        tokens = unit(photo_tokens(tools.backbone, image, tools.config.coseg.image_side)[0], tools.bank.mean)
    return tokens.clone()
