"""What the items of a set say about each other: whether anything is common to them at all, and which of them show it.

Null items are from elsewhere. They tell a thing from things in general; only the rest of the set tells it from another thing of the same
place. What is decided here rests on cross-fitted p-values (:mod:`geoseg_ros.methods.contrast.cross_fitting`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.backbones.tokens import Domain, unit
from geoseg_ros.methods.base import Verdict
from geoseg_ros.methods.contrast.config import CosegConfig
from geoseg_ros.methods.contrast.cross_fitting import CrossFit
from geoseg_ros.methods.contrast.observations import Observations, Proposals
from geoseg_ros.methods.contrast.references import References, strongest

SET_P_MAX = 0.01  # items are taken for unrelated unless their combined p-value is below this
ITEM_P_MAX = 0.1  # of an item of a set that has something in common
LOUDEST = 0.05  # p-value below which an item speaks no louder for the set
USUAL_SHARE = 0.5
SMALLEST_P = 1e-6  # what is below is the tail of a fit to a few hundred null items; 1e-20 says no more than this


def decide(
    fitted: CrossFit, seen: Observations, image_p: Sequence[float], cloud_p: Sequence[float], config: CosegConfig, outliers: bool = True
) -> Verdict:
    """Judge a set by the p-values of its items.

    Something is common if the items of one modality say so together: :func:`combined`, corrected for the number of modalities.

    Then most items show it, and an item does if its p-value is below ``ITEM_P_MAX`` (of what does show the thing, half is above the
    ``p_max`` of items of which nothing is known), and as much as ``USUAL_SHARE`` of what speaks for the middling item speaks for it:
    the logarithm of the p-value, bounded at ``SMALLEST_P``, times the likeness (:func:`likeness`).

    A modality with too few items to leave some out has judged itself: ``p_max`` decides, and it says nothing about the set.

    Args:
        fitted, seen: who has judged, and what that was learnt from.
        image_p, cloud_p: p-value of each item by the pack that judges it, with the settings of :func:`judging`.
        outliers: False: every item is known to show the thing. Then only the p-value of the set is worked out.
    """
    tests, shown = [], []
    for p_values, folds, likeness_of in ((image_p, fitted.image_folds, like_images), (cloud_p, fitted.cloud_folds, like_clouds)):
        p = np.asarray(p_values, np.float64)
        if folds == 1:
            shown.append(p < config.p_max)
            continue
        tests.append(combined(p))
        support = -np.log(np.maximum(p, SMALLEST_P)) * likeness_of(fitted, seen, config, len(p))
        shown.append((p < judging(config, folds).p_max) & (support >= USUAL_SHARE * np.median(support)))
    p_value = min(1.0, len(tests) * min(tests)) if tests else None
    common = not outliers or p_value is None or p_value < SET_P_MAX
    return Verdict(common, p_value, *((flags | (not outliers)) & common for flags in shown))


def judging(config: CosegConfig, folds: int) -> CosegConfig:
    """The settings with which the items of a modality with so many folds are to be judged for :func:`decide`."""
    return replace(config, p_max=max(config.p_max, ITEM_P_MAX)) if folds > 1 else config


def combined(p: Sequence[float] | NDArray[np.floating]) -> float:
    """The chance that p-values of unrelated items, uniform and independent, are together as low as ``p`` [n], n > 0.

    Fisher's sum of logarithms, in its normal approximation, each bounded by that of ``LOUDEST``: two copies of one picture among ten others
    are no common thing, however sure each is of the other.
    """
    most = -math.log(LOUDEST)
    mean = 1 - LOUDEST  # of min(E, most) with E = -log p, exponential with mean 1
    variance = 2 * (1 - LOUDEST * (1 + most)) - mean**2
    speaks = np.minimum(-np.log(np.asarray(p, np.float64)), most)
    return 0.5 * math.erfc((float(speaks.mean()) - mean) / math.sqrt(2 * variance / len(speaks)))


def likeness(tokens: torch.Tensor, foreground: torch.Tensor) -> torch.Tensor:
    """Cosine [...] of unit tokens [..., D] with the mean of foreground tokens [F, D].

    Evidence subtracts what speaks against the concept. Another thing of the same place has that in its favour: nothing of its kind is in
    the background either. The mean is asked only whether it is the *same* thing.
    """
    return tokens @ unit(foreground.mean(0))


def like_images(fitted: CrossFit, seen: Observations, config: CosegConfig, count: int) -> NDArray[np.float64]:
    """:func:`likeness` [count] of the strongest tokens of each image with the foreground of the pack that judges it. Of images that were
    not seen it is that of the middling image."""
    known = {}
    for number, place in fitted.image_places.items():
        tokens = seen.images[place][0].flatten(0, 1)  # at the scale at which images are judged
        like = likeness(tokens, fitted.concepts[fitted.image(number)].references.foreground)
        known[number] = float(like.topk(strongest(len(like), config.top_share)).values.mean())
    return _filled(known, count)


def like_clouds(fitted: CrossFit, seen: Observations, config: CosegConfig, count: int) -> NDArray[np.float64]:
    """The same of clouds: the mean over the views of the proposal that is most like the foreground."""
    known = {}
    for number, place in fitted.cloud_places.items():
        if seen.clouds[place]:
            known[number] = float(_like_proposals(seen.clouds[place], fitted.concepts[fitted.cloud(number)].references).max())
    return _filled(known, count)


def _filled(known: Mapping[int, float], count: int) -> NDArray[np.float64]:
    usual = float(np.median(list(known.values()))) if known else 1.0
    return np.array([known.get(number, usual) for number in range(count)])


def _like_proposals(proposals: Proposals, references: References) -> torch.Tensor:
    """Likeness [P] with the photographs' foreground and, where the concept has clouds, with what was drawn in the same way."""
    ways = []
    domain = Domain.COLOUR if Domain.COLOUR in proposals else Domain.SHADED  # a coloured cloud is drawn in both ways
    tokens = proposals[domain].tokens
    for part, way in zip(tokens.chunk(2, 1), Domain, strict=True) if domain is Domain.COLOUR else ((tokens, domain),):
        foregrounds = [references.foreground, *([references.views[way].own] if way in references.views else [])]
        ways.append(torch.stack([likeness(part, foreground) for foreground in foregrounds]).mean((0, 2)))
    return torch.stack(ways).mean(0)
