"""Cross-fitting: each item of a set is judged by a pack that was learnt from the others.

A pack recognises the items that it was learnt from; without cross-fitting, an item without the target would be taken to show it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.methods.contrast.learning import learn
from geoseg_ros.methods.contrast.observations import BuildConfig, Observations
from geoseg_ros.methods.contrast.pack import Concept
from geoseg_ros.packs.bank import BackgroundBank

FOLDS = 5
LEAST_HELD_OUT = 4  # items of a modality


@dataclass(frozen=True)
class CrossFit:
    """The concepts of a cross-fitted set.

    Attributes:
        concepts: one per fold.
        image_folds, cloud_folds: number of folds of a modality; 1: no item is left out.
        image_places, cloud_places: item number -> position among the items that were learnt from. Other items belong to no fold, and any
            concept may judge them.
    """

    concepts: Sequence[Concept]
    image_folds: int
    cloud_folds: int
    image_places: Mapping[int, int] = field(default_factory=dict)
    cloud_places: Mapping[int, int] = field(default_factory=dict)

    def image(self, number: int) -> int:
        """Number of the concept that judges this image."""
        return self.image_places.get(number, number) % self.image_folds

    def cloud(self, number: int) -> int:
        """Number of the concept that judges this cloud."""
        return self.cloud_places.get(number, number) % self.cloud_folds


def folds_of(count: int, folds: int) -> int:
    """Number of folds for the ``count`` items of a modality, at most ``folds``; 1 where too few items would be left to learn from."""
    return min(folds, count) if count >= LEAST_HELD_OUT else 1


def cross_fit(
    name: str,
    seen: Observations,
    backbone: ImageBackbone,
    bank: BackgroundBank,
    config: BuildConfig,
    folds: int = FOLDS,
    step: Callable[[int, int], object] = lambda done, total: None,
) -> CrossFit:
    """Learn once per fold. The ``k``-th item seen of a modality with n folds is left out of fold ``k`` modulo n.

    Args:
        seen: the items; those without the target are in every fold.
        folds: largest number of folds; 1: nothing is left out.
        step: called with (done, total).

    Raises:
        InputError: nothing to learn from.
    """
    images, clouds = folds_of(len(seen.images), folds), folds_of(len(seen.clouds), folds)
    total, concepts = max(images, clouds), []
    for fold in range(total):
        some_images = range(fold, len(seen.images), images) if images > 1 else ()
        some_clouds = range(fold, len(seen.clouds), clouds) if clouds > 1 else ()
        concepts.append(learn(name, seen.leave_out(some_images, some_clouds), backbone, bank, config))
        step(fold + 1, total)
    places = [{number: place for place, number in enumerate(numbers)} for numbers in (seen.image_numbers, seen.cloud_numbers)]
    return CrossFit(concepts, images, clouds, *places)
