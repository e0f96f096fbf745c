"""What a method is: it learns packs from material, and opens packs as a segmenter that looks at scenes.

A new method is a folder beside this file, or a package that names its class in the entry point group ``geoseg.methods``
(see ``examples/own_method.py``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.backbones.base import ImageBackbone
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.packs.pack import Pack
from geoseg_ros.progress import Progress, silent
from geoseg_ros.projection.scene import CloudScene, ImageScene, Remember, SceneConfig, uncached
from geoseg_ros.results import Presence
from geoseg_ros.settings import Settings

if TYPE_CHECKING:
    from geoseg_ros.packs.bank import BackgroundBank


@dataclass(frozen=True)
class Material:
    """What a target is learnt from. No labels, no masks, no pairing, no calibration.

    Attributes:
        name: of the target.
        images, clouds: items that (mostly) show it: uint8 RGB [H, W, 3], and clouds.
        without_images, without_clouds: items that do not show it.
    """

    name: str
    images: Collection[NDArray[np.uint8]] = ()
    clouds: Collection[Cloud] = ()
    without_images: Collection[NDArray[np.uint8]] = ()
    without_clouds: Collection[Cloud] = ()


@dataclass(frozen=True)
class Context:
    """What methods see with.

    Attributes:
        backbone: the image backbone.
        bank: its background bank; None where nothing is learnt.
        scene: how scenes are worked out.
        settings: the method's own settings; None: its defaults.
        device: of trainings; ``auto``, ``cpu`` or ``cuda``.
        progress: told about long work.
        remember: keeps what was worked out for an item, see :data:`geoseg_ros.projection.scene.Remember`.
    """

    backbone: ImageBackbone
    bank: BackgroundBank | None = None
    scene: SceneConfig = field(default_factory=SceneConfig)
    settings: Any = None
    device: str = "auto"
    progress: Progress = silent
    remember: Remember = uncached


@dataclass(frozen=True)
class Evidence:
    """What a segmenter finds in one scene, for its C labels.

    Attributes:
        score: float [C], larger means more like the label.
        p_value: float [C], share of scenes without the label that would score as high.
        present: bool [C].
        label: 1 + the place of the label, 0 = none: uint8 [H, W] of an image, int [M] per voxel of a cloud (``scene.geometry``).
        label_p: float, the shape of ``label``, p-value of what each place is labelled; None: that of its label.
        instances: voxels of each instance; None: the connected parts of a label are its instances.
    """

    score: NDArray[np.floating]
    p_value: NDArray[np.floating]
    present: NDArray[np.bool_]
    label: NDArray[np.integer]
    label_p: NDArray[np.floating] | None = None
    instances: Sequence[NDArray[np.int64]] | None = None


class Segmenter(Protocol):
    """Opened packs of one method, which is asked once per scene for all of them.

    Attributes:
        labels: names, in the order of the packs.
        dense: True where every place gets a label (a scene pack); a target beats it.
        config: the method's settings; what is set is used from the next scene on.
    """

    labels: tuple[str, ...]
    dense: bool
    config: Any

    def image(self, scene: ImageScene, known: Collection[str] = ()) -> Evidence | None:
        """What one image shows. ``known``: labels that it is known to show. None: the method does not look at images."""
        ...

    def cloud(self, scene: CloudScene, known: Collection[str] = ()) -> Evidence | None:
        """The same of one cloud."""
        ...


@dataclass(frozen=True)
class SetOptions:
    """How a set of items is learnt from and judged.

    Attributes:
        outliers: some items may not show the target; False: every item is known to show it.
        folds: of cross-fitting; 1: every item is judged by what was learnt from it, too.
        seconds: about how long the items may be looked at, which are then chosen evenly; None: all of them are.
        rivals: packs of other targets, opened beside the set's own.
        keep_pack: make a pack of everything that was learnt.
    """

    outliers: bool = True
    folds: int = 5
    seconds: float | None = None
    rivals: Sequence[Pack] = ()
    keep_pack: bool = False


@dataclass(frozen=True)
class Verdict:
    """What the items of a set say together.

    Attributes:
        common: whether anything is common to the items; True where they are too few to say, or where it is known.
        p_value: the chance that unrelated items would be as alike; None where they are too few to say.
        images, clouds: bool [n], which items show the target; none where nothing is common.
    """

    common: bool
    p_value: float | None
    images: NDArray[np.bool_]
    clouds: NDArray[np.bool_]


class SetModel:
    """What was learnt from a set, ready to judge its items. This one judges all of them by one pack.

    Attributes:
        pack: of everything that was learnt; None where it was not asked for.
        folds: cross-fitting folds of images and of clouds.
        used: how many images and clouds were learnt from.
    """

    def __init__(self, segmenter: Segmenter, pack: Pack, used: tuple[int, int], outliers: bool = True) -> None:
        self.pack: Pack | None = pack
        self.folds, self.used = (1, 1), used
        self._segmenter, self._version, self._outliers = segmenter, pack.version, outliers

    def image_judge(self, number: int) -> tuple[Segmenter, str]:
        """The segmenter that judges this image, and a text that changes when what it finds may change."""
        return self._segmenter, self._version

    def cloud_judge(self, number: int) -> tuple[Segmenter, str]:
        """The same for a cloud."""
        return self._segmenter, self._version

    def with_outliers(self, outliers: bool) -> SetModel:
        """The same model, which may or may not refuse items."""
        other = copy(self)
        other._outliers = outliers
        return other

    def decide(self, images: Sequence[Presence], clouds: Sequence[Presence]) -> Verdict:
        """Which items show the target, from what was found in each."""
        flags = [np.array([p.present or not self._outliers for p in found], bool) for found in (images, clouds)]
        return Verdict(True, None, *flags)


class Method(ABC):
    """A way to learn targets and to find them.

    Attributes:
        name: packs carry it.
        settings: type of its settings (:class:`~geoseg_ros.settings.Settings`); None where it has none.
    """

    name: str
    settings: type[Settings] | None = None

    @abstractmethod
    def learn(self, material: Material, context: Context, seconds: float | None = None) -> Pack:
        """Learn a target.

        Args:
            seconds: about how long it may take; None: as long as it needs.

        Raises:
            InputError: nothing to learn from.
        """

    @abstractmethod
    def open(self, packs: Sequence[Pack], context: Context) -> Segmenter:
        """Open packs together: targets are each other's background.

        Raises:
            InputError: a pack is damaged, or not of this method.
        """

    def check(self, pack: Pack) -> None:
        """Look at a pack without opening it.

        Raises:
            InputError: it is damaged, or not of this method.
        """
        if pack.method != self.name:
            raise InputError(f"pack '{pack.name}': made by the method {pack.method}, not {self.name}")

    def learn_set(self, material: Material, context: Context, options: SetOptions) -> SetModel:
        """Learn what the items of a set have in common.

        Raises:
            InputError: nothing to learn from.
        """
        pack = self.learn(material, context, options.seconds)
        segmenter = self.open([pack, *options.rivals], context)
        return SetModel(segmenter, pack, (len(material.images), len(material.clouds)), options.outliers)
