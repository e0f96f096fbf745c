"""The decision about a set: whether its items have anything in common, and which of them show it.

The p-value of an item compares it with null items, which come from other places. The decisions here also compare the items of the set with
each other, because another object of the same place may score as high. The p-values must be cross-fitted
(:mod:`geoseg_ros.methods.contrast.cross_fitting`).
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
COMBINED_P_MIN = 0.05  # p-values of items are bounded below by this in the combined p-value
USUAL_SHARE = 0.5  # of the median item's support, the least of an item that shows the target
SMALLEST_P = 1e-6  # p-values below are extrapolated from a few hundred null items, so 1e-20 means no more than this


def decide(
    fitted: CrossFit, seen: Observations, image_p: Sequence[float], cloud_p: Sequence[float], config: CosegConfig, outliers: bool = True
) -> Verdict:
    """Judge a set by the p-values of its items.

    The items have something in common if the combined p-value of one modality (:func:`combined`), corrected for the number of modalities,
    is below ``SET_P_MAX``.

    Then an item shows it if its p-value is below ``ITEM_P_MAX``, which is larger than ``p_max`` because most items show the target, and if
    its support is at least ``USUAL_SHARE`` of the median support. Support is the negative logarithm of the p-value, bounded at
    ``SMALLEST_P``, times the likeness (:func:`likeness`).

    A modality with too few items for cross-fitting is judged by ``p_max`` and does not contribute to the decision about the set.

    Args:
        fitted: the concepts that judged the items.
        seen: the items that these were learnt from.
        image_p, cloud_p: p-value of each item by the concept that judges it, with the settings of :func:`judging`.
        config: settings of evidence.
        outliers: False: every item is known to show the target, and only the p-value of the set is computed.
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
    """Settings for judging the items of a modality with ``folds`` folds, as :func:`decide` expects them."""
    return replace(config, p_max=max(config.p_max, ITEM_P_MAX)) if folds > 1 else config


def combined(p: Sequence[float] | NDArray[np.floating]) -> float:
    """Combined p-value of ``p`` [n], n > 0: probability that independent, uniform p-values are together as low.

    The normal approximation of Fisher's sum of logarithms, each bounded by that of ``COMBINED_P_MIN``, so that a few items with very small
    p-values (two copies of one image among ten others) do not decide alone.
    """
    most = -math.log(COMBINED_P_MIN)
    mean = 1 - COMBINED_P_MIN  # of min(E, most) with E = -log p, exponential with mean 1
    variance = 2 * (1 - COMBINED_P_MIN * (1 + most)) - mean**2
    terms = np.minimum(-np.log(np.asarray(p, np.float64)), most)
    return 0.5 * math.erfc((float(terms.mean()) - mean) / math.sqrt(2 * variance / len(terms)))


def likeness(tokens: torch.Tensor, foreground: torch.Tensor) -> torch.Tensor:
    """Cosine [...] of unit tokens [..., D] with the mean of foreground tokens [F, D].

    Evidence subtracts the similarity with the background, which may lack all objects of this place; the likeness compares with the target
    alone.
    """
    return tokens @ unit(foreground.mean(0))


def like_images(fitted: CrossFit, seen: Observations, config: CosegConfig, count: int) -> NDArray[np.float64]:
    """:func:`likeness` [count] of the strongest tokens of each image with the foreground of the concept that judges it. Images that were
    not learnt from get the median."""
    known = {}
    for number, place in fitted.image_places.items():
        tokens = seen.images[place][0].flatten(0, 1)  # at the scale at which images are judged
        like = likeness(tokens, fitted.concepts[fitted.image(number)].references.foreground)
        known[number] = float(like.topk(strongest(len(like), config.top_share)).values.mean())
    return _filled(known, count)


def like_clouds(fitted: CrossFit, seen: Observations, config: CosegConfig, count: int) -> NDArray[np.float64]:
    """:func:`likeness` [count] of each cloud: the largest of its proposals, averaged over views. Clouds that were not learnt from get the
    median."""
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
