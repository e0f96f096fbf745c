"""How well the tokens of a backbone separate the classes of MSRC's photographs, by nearest neighbours; nothing is learnt.

A photograph is 320 x 224 or 224 x 320 pixels. A token has the class that covers more than 60 % of its cell; others, and unlabelled ones,
are left out. Photographs in the order of their file names are halved in turn, and every token of one half is given the most frequent class
among its 15 nearest tokens (cosine, mean removed) of the other half, both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.errors import InputError
from geoseg_ros.evaluate.items import Image
from geoseg_ros.evaluate.msrc import CLASSES, Photograph

NEIGHBOURS = 15
SIDES = (320, 224)  # pixels: longer and shorter side
CLEAR = 0.6  # share of a cell that its class must exceed

Tokens = Callable[[Image], torch.Tensor]  # uint8 RGB [H, W, 3] -> [h, w, D]


@dataclass(frozen=True)
class TokenScore:
    """Attributes:
    pixel: share of the tokens that are given their class. class_mean: the same, per class, then the mean.
    photographs, tokens: how many were taken.
    """

    pixel: float
    class_mean: float
    photographs: int
    tokens: int


def backbone_tokens(backbone: ImageBackbone) -> Tokens:
    """Tokens of one picture at a time."""
    return lambda image: backbone.tokens(image[None])[0][0].cpu()


def token_classes(tokens: Tokens, photographs: Sequence[Photograph], step: Callable[[], object] = lambda: None) -> TokenScore:
    """Score tokens. ``step`` is called after each photograph.

    Raises:
        InputError: fewer than two photographs.
    """
    if len(photographs) < 2:
        raise InputError(f"MSRC: expected at least 2 photographs, got {len(photographs)}")
    parts: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[], []]
    for number, photograph in enumerate(sorted(photographs, key=lambda p: p.name + ".")):  # as file names are sorted
        parts[number % 2].append(_labelled(tokens, photograph))
        step()
    values, labels = zip(*((torch.cat(v), torch.cat(c)) for v, c in (zip(*half, strict=True) for half in parts)), strict=True)
    mean = torch.cat(values).mean(0)
    units = [F.normalize(half - mean, dim=1) for half in values]
    hits = torch.cat([_vote(units[a], labels[a], units[1 - a]) == labels[1 - a] for a in (0, 1)]).float()
    truth = torch.cat([labels[1], labels[0]])
    by_class = [hits[truth == c].mean().item() for c in truth.unique()]
    return TokenScore(hits.mean().item(), float(np.mean(by_class)), len(photographs), len(truth))


def _labelled(tokens: Tokens, photograph: Photograph) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [n, D] of the clear cells of a photograph, and their classes [n]."""
    width, height = SIDES if photograph.label.shape[1] > photograph.label.shape[0] else SIDES[::-1]
    image = cv2.resize(photograph.rgb, (width, height), interpolation=cv2.INTER_AREA)
    label = cv2.resize(photograph.label, (width, height), interpolation=cv2.INTER_NEAREST)
    found = tokens(np.ascontiguousarray(image))
    grid = (found.shape[1], found.shape[0])
    share = np.stack([cv2.resize((label == c).astype(np.float32), grid, interpolation=cv2.INTER_AREA) for c in range(len(CLASSES))], -1)
    clear = torch.from_numpy((share.max(-1) > CLEAR) & (share.argmax(-1) > 0))
    return found[clear], torch.from_numpy(share.argmax(-1))[clear]


def _vote(bank: torch.Tensor, labels: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Most frequent class of the nearest unit tokens."""
    votes = []
    for part in queries.split(2048):
        near = (part @ bank.T).topk(min(NEIGHBOURS, len(bank))).indices
        votes.append(F.one_hot(labels[near], len(CLASSES)).sum(1).argmax(1))
    return torch.cat(votes)
