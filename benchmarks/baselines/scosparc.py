"""SCoSPARC (ECCV 2024): image co-segmentation by self-supervised cross-attention, then filtering of regions. Own implementation after the
paper, with an explicit sign rule, because its loss does not know which side is the foreground.

What differs from the paper: the tokens are those of the package's backbone with the bank's mean removed (paper: DINO ViT-B/8), their
saliency is how unlike the frame of the picture they are (paper: class attention), the last step is a guided filter (paper: dense CRF).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.baselines.tokens import full_size, resize_map
from geoseg_ros.backbones.tokens import unit
from geoseg_ros.evaluate.items import CosegSet, Image, Mask, Method, Prediction, Predictions
from geoseg_ros.evaluate.methods import Tools
from geoseg_ros.methods.contrast.masks import guided_filter
from geoseg_ros.methods.geofree.inputs import ImageTokens, image_tokens
from geoseg_ros.methods.geofree.losses import cooccurrence_loss, saliency_loss
from geoseg_ros.methods.geofree.mgcm import MASK_CENTRE, MASK_WIDTH

GRID = 28  # tokens per side, as in the paper
LAMBDA_SAL = 0.3
EPOCHS, GROUP = 150, 24
THRESHOLD, SLOPE, CENTRE = 0.505, 1.0, 0.48  # th = .505 + ((1 - c) - .48), c the mean confident map value
CONFIDENT = 0.15
KEEP = 0.77  # of the best region's score
GUIDE_RADIUS = 6


class CrossAttention(nn.Module):
    """Stage 1: x' = x + W x; q, k = W_q x', W_k x'; the score of a patch is the mean of q . k / sqrt(D) over all patches of all *other*
    images. The mean is linear in k, so one vector per image stands for its patches. Three D x D matrices (1 x 1 convolutions)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.residual, self.query, self.key = (nn.Linear(dim, dim) for _ in range(3))

    def keys(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mean key [V, D] of each image's tokens [V, Np, D]."""
        mean = tokens.mean(1)
        return self.key(mean + self.residual(mean))

    def score(self, tokens: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """rep [V, Np] from tokens [V, Np, D] and for each image the mean key [V, D] of the others.

        q . k is linear in the token too, so the key is carried back through the layers instead of every token forward.
        """
        back = keys @ self.query.weight
        constant = (back * self.residual.bias).sum(1) + keys @ self.query.bias
        back = back + back @ self.residual.weight
        return ((tokens @ back[:, :, None])[:, :, 0] + constant[:, None]) / tokens.shape[2] ** 0.5

    def among(self, tokens: torch.Tensor) -> torch.Tensor:
        """rep [V, Np] of a set, V >= 2."""
        keys = self.keys(tokens)
        return self.score(tokens, (keys.sum(0) - keys) / (len(keys) - 1))


def squash(score: torch.Tensor) -> torch.Tensor:
    """M = sigmoid((min-max of the score per image - .65) / .15), [V, Np]."""
    low, high = score.amin(1, keepdim=True), score.amax(1, keepdim=True)
    return torch.sigmoid(((score - low) / (high - low).clamp_min(1e-6) - MASK_CENTRE) / MASK_WIDTH)


@dataclass(frozen=True)
class Trained:
    """Attributes: network; sign: -1 where the trained mask is the background; keys: [D], mean key of the set."""

    network: CrossAttention
    sign: float
    keys: torch.Tensor

    def masks(self, tokens: torch.Tensor, own: bool) -> torch.Tensor:
        """M [V, Np]. ``own``: the images are the training set, each meets the others only; else they meet the whole set."""
        with torch.inference_mode():
            score = self.network.among(tokens) if own else self.network.score(tokens, self.keys.expand(len(tokens), -1))
            return squash(self.sign * score)


def train(tokens: torch.Tensor, saliency: torch.Tensor, seed: int, epochs: int = EPOCHS) -> Trained:
    """Stage 1 on tokens [V, Np, D] with saliency [V, Np], V >= 2. Deterministic by ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CrossAttention(tokens.shape[2])
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=1e-4, betas=(0.9, 0.99))
    for _ in range(epochs):
        order = torch.randperm(len(tokens), generator=generator)
        for rows in order.tensor_split(-(-len(tokens) // GROUP)):
            if len(rows) < 2:
                continue
            mask = squash(network.among(tokens[rows]))
            loss = cooccurrence_loss(tokens[rows], mask) + LAMBDA_SAL * saliency_loss(saliency[rows], mask, "mean")
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.inference_mode():
        score = network.among(tokens)
        per_area = [float((saliency * m).sum() / m.sum()) for m in (squash(score), squash(-score))]
        return Trained(network.eval(), 1.0 if per_area[0] >= per_area[1] else -1.0, network.keys(tokens).mean(0))


def threshold(maps: torch.Tensor) -> float:
    """Stage 2's threshold from the maps M [V, Np] of the set."""
    confident = [float(m[m >= CONFIDENT].mean()) for m in maps if (m >= CONFIDENT).any()]
    return THRESHOLD + SLOPE * ((1 - float(np.mean(confident))) - CENTRE) if confident else THRESHOLD


def regions(fine: NDArray[np.float32], tokens: NDArray[np.float32], foreground: NDArray[np.float32], cut: float) -> Mask:
    """Stage 2: the connected regions of a map above ``cut`` that look like the foreground of the set.

    Args:
        fine: the map, float32 [S, S]. tokens: float32 [h, w, D]. foreground: [D], mean foreground token of the set.

    Returns:
        bool [S, S]: regions whose cosine with ``foreground`` is at least ``KEEP`` of the best one's.
    """
    count, part = cv2.connectedComponents((fine >= cut).astype(np.uint8), connectivity=8)
    if count < 2:
        return np.zeros(fine.shape, bool)
    grid = tokens.shape[:2]
    weights = [cv2.resize((part == i).astype(np.float32), grid[::-1], interpolation=cv2.INTER_AREA) for i in range(1, count)]
    features = np.stack([(tokens * w[..., None]).sum((0, 1)) for w in weights])
    length = np.linalg.norm(features, axis=1) * np.linalg.norm(foreground)
    score = features @ foreground / np.maximum(length, 1e-9)
    best = score.max()
    kept = score / best >= KEEP if best > 0 else score == best
    return np.concatenate([[False], kept])[part]


class Scosparc:
    """Stages 1 and 2 on sets. What was trained on some pictures is kept until others come: stages and sets share it."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._images: Collection[Image] = ()
        self._own: ImageTokens | None = None
        self._trained: dict[int, Trained] = {}

    def stage(self, last: int) -> Method:
        """The method that ends after stage 1 or 2. It needs two pictures of the target; sets without give no prediction."""

        def run(items: CosegSet, seed: int) -> Predictions:
            if len(items.own.images) < 2 or not items.images:
                return Predictions()
            own, trained = self._train(items.own.images, seed)
            measured = [item.data for item in items.images]
            same = _same(measured, items.own.images)
            found = own if same else _tokens(self._tools, measured)
            maps = trained.masks(found.tokens, own=same)
            if last == 1:
                return Predictions(images=[Prediction(full_size(_grid(m), i.truth.shape)) for m, i in zip(maps, items.images, strict=True)])
            reference = maps if same else trained.masks(own.tokens, own=True)
            foreground = (own.tokens * reference[:, :, None]).mean((0, 1)).numpy()
            cut = threshold(reference)
            predictions = []
            for item, one, tokens in zip(items.images, maps, found.tokens, strict=True):
                fine = resize_map(_grid(one), (8 * GRID, 8 * GRID))
                kept = regions(fine, tokens.reshape(GRID, GRID, -1).numpy(), foreground, cut)
                predictions.append(Prediction(refine(kept, item.data)))
            return Predictions(images=predictions)

        return run

    def _train(self, images: Collection[Image], seed: int) -> tuple[ImageTokens, Trained]:
        if self._own is None or not _same(images, self._images):
            self._images, self._own, self._trained = images, _tokens(self._tools, list(images)), {}
        if seed not in self._trained:
            self._trained[seed] = train(self._own.tokens, self._own.saliency, seed)
        return self._own, self._trained[seed]


def _same(first: Collection[Image], second: Collection[Image]) -> bool:
    return len(first) == len(second) and all(a is b for a, b in zip(first, second, strict=True))


def refine(mask: Mask, image: Image) -> Mask:
    """The mask [S, S] at the size of the image [H, W, 3], snapped to its edges."""
    height, width = image.shape[:2]
    return guided_filter(image.astype(np.float32) / np.float32(255), resize_map(mask, (height, width)), GUIDE_RADIUS) > 0.5


def _tokens(tools: Tools, images: Sequence[Image]) -> ImageTokens:
    with torch.inference_mode():
        found = image_tokens(tools.backbone, images, GRID * tools.backbone.stride)
    tokens = unit(found.tokens, tools.bank.mean).clone()
    return ImageTokens(tokens, found.cls.clone(), found.saliency.clone(), found.grid)


def _grid(one: torch.Tensor) -> NDArray[np.float32]:
    return one.reshape(GRID, GRID).numpy()
