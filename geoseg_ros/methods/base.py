"""The interface of a method: it learns packs from material, and opens packs as a segmenter of scenes.

A new method is a folder beside this file, or a package that names its class in the entry point group ``geoseg.methods``
(see ``examples/own_method.py``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
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
from geoseg_ros.results import Evidence, PartPoint, Presence
from geoseg_ros.settings import Settings

if TYPE_CHECKING:
    from geoseg_ros.learning.taught import Taught
    from geoseg_ros.packs.bank import BackgroundBank
    from geoseg_ros.projection.lifted_scene import LiftedScene


@dataclass(frozen=True)
class Material:
    """The items that a target is learnt from, without labels, masks, pairing or calibration.

    Attributes:
        name: of the target.
        images, clouds: items that (mostly) show it: uint8 RGB [H, W, 3], and clouds.
        without_images, without_clouds: items that do not show it.
        scenes: rooms with tokens, which the classes of a place are learnt from; ``images`` are then some frames of them.
        taught: what a vision-language teacher says of the scenes, for methods that learn named classes.
    """

    name: str
    images: Collection[NDArray[np.uint8]] = ()
    clouds: Collection[Cloud] = ()
    without_images: Collection[NDArray[np.uint8]] = ()
    without_clouds: Collection[Cloud] = ()
    scenes: Collection[LiftedScene] = ()
    taught: Taught | None = None


@dataclass(frozen=True)
class Context:
    """The backbone and the settings that methods work with.

    Attributes:
        backbone: the image backbone.
        bank: its background bank; None where nothing is learnt.
        scene: settings of scenes.
        settings: settings of the method; None: its defaults.
        device: of trainings; ``auto``, ``cpu`` or ``cuda``.
        progress: reports long work.
        remember: caches the results for an item, see :data:`geoseg_ros.projection.scene.Remember`.
        resume: folder for the state of a training, from which it resumes; None: it is not kept.
    """

    backbone: ImageBackbone
    bank: BackgroundBank | None = None
    scene: SceneConfig = field(default_factory=SceneConfig)
    settings: Any = None
    device: str = "auto"
    progress: Progress = silent
    remember: Remember = uncached
    resume: str | None = None


class Segmenter(Protocol):
    """Opened packs of one method; one call per scene gives the evidence for all of them.

    Attributes:
        labels: names, in the order of the packs.
        dense: True where every pixel or voxel gets a label (a scene pack); targets take precedence over it.
        config: the method's settings; a new value is used from the next scene on.
    """

    labels: tuple[str, ...]
    dense: bool
    config: Any

    def image(self, scene: ImageScene, known: Collection[str] = ()) -> Evidence | None:
        """Segment one image.

        Args:
            scene: the image.
            known: labels that the image is known to show.

        Returns:
            The evidence; None if the method does not segment images.
        """
        ...

    def cloud(self, scene: CloudScene, known: Collection[str] = ()) -> Evidence | None:
        """Segment one cloud; arguments and result as of :meth:`image`."""
        ...


@dataclass(frozen=True)
class SetOptions:
    """How a set of items is learnt from and judged.

    Attributes:
        outliers: True: some items may not show the target. False: every item is known to show it.
        folds: folds of cross-fitting; 1: no cross-fitting, every item is judged by a pack learnt from all items.
        seconds: approximate time for reading the items; an evenly spread subset is used where the time is too short. None: no limit.
        rivals: packs of other targets, opened together with that of the set.
        keep_pack: make a pack learnt from all items.
    """

    outliers: bool = True
    folds: int = 5
    seconds: float | None = None
    rivals: Sequence[Pack] = ()
    keep_pack: bool = False


@dataclass(frozen=True)
class Verdict:
    """Which items of a set show its target.

    Attributes:
        common: whether anything is common to the items; True for too few items, or where it is known.
        p_value: probability that unrelated items would be as similar; None for too few items.
        images, clouds: bool [n], the items that show the target; none where nothing is common.
    """

    common: bool
    p_value: float | None
    images: NDArray[np.bool_]
    clouds: NDArray[np.bool_]


class SetModel:
    """The result of learning from a set, with which its items are judged. This class judges all of them by one pack.

    Attributes:
        pack: learnt from all items; None if it was not requested.
        folds: cross-fitting folds of images and of clouds.
        used: number of images and of clouds that were learnt from.
    """

    def __init__(self, segmenter: Segmenter, pack: Pack, used: tuple[int, int], outliers: bool = True) -> None:
        self.pack: Pack | None = pack
        self.folds, self.used = (1, 1), used
        self._segmenter, self._version, self._outliers = segmenter, pack.version, outliers

    def image_judge(self, number: int) -> tuple[Segmenter, str]:
        """The segmenter for image ``number``, and a text that changes whenever its results may change (for caches)."""
        return self._segmenter, self._version

    def cloud_judge(self, number: int) -> tuple[Segmenter, str]:
        """The same for a cloud."""
        return self._segmenter, self._version

    def with_outliers(self, outliers: bool) -> SetModel:
        """A copy of the model with another value of :attr:`SetOptions.outliers`."""
        other = copy(self)
        other._outliers = outliers
        return other

    def decide(self, images: Sequence[Presence], clouds: Sequence[Presence]) -> Verdict:
        """Decide which items show the target, from the presence found in each."""
        flags = [np.array([p.present or not self._outliers for p in found], bool) for found in (images, clouds)]
        return Verdict(True, None, *flags)


class Method(ABC):
    """A way to learn targets and to find them.

    Attributes:
        name: of the method; stored in its packs.
        settings: type of its settings (:class:`~geoseg_ros.settings.Settings`); None where it has none.
        presets: settings by name, for methods that learn the classes of places (:attr:`Material.scenes`).
    """

    name: str
    settings: type[Settings] | None = None
    presets: Mapping[str, Settings] = {}

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
        """Check a pack without opening it.

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


@dataclass(frozen=True)
class ObjectPoints:
    """One object of a cloud, or a whole cloud.

    Attributes:
        xyz: [n, 3], its points, finite, metres, frame of the cloud.
        up: float64 [3], unit, frame of the cloud.
        object: name of the concept; empty where a whole cloud is one object.
        label: id of the concept; 0 = none.
        instance: number in the cloud, 1 ..
        rows: int64 [n], which points of the cloud they are; None where it is not known.
    """

    xyz: NDArray[np.floating]
    up: NDArray[np.float64]
    object: str = ""
    label: int = 0
    instance: int = 1
    rows: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class MarkedPoint:
    """A part marked in a cloud. Attributes: name; point [3], metres, frame of the cloud; object: that it is on; source: for messages."""

    name: str
    point: NDArray[np.floating]
    object: ObjectPoints
    source: str


@dataclass(frozen=True)
class MarkedPixel:
    """A part marked on a photograph. Attributes: name; pixel x, y; image uint8 RGB [H, W, 3]; mask bool [H, W], the object that it is on;
    source: for messages. Marks on one photograph share its arrays."""

    name: str
    pixel: tuple[float, float]
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    source: str


@dataclass(frozen=True)
class PartMaterial:
    """What a part pack is made from.

    Attributes:
        name: of the pack.
        target: the concept pack whose objects have the parts; None: every cloud or picture is one object.
        points, pixels: the marks. The object of the first point becomes the template.
    """

    name: str
    target: Pack | None
    points: Sequence[MarkedPoint] = ()
    pixels: Sequence[MarkedPixel] = ()


class LocatedParts(Protocol):
    """The marked parts of the objects of one cloud, and where other points of the template are on them."""

    parts: list[PartPoint]

    def where(self, part: str, point: NDArray[np.floating]) -> list[PartPoint]:
        """One entry per object for a marked part, or, where ``part`` is empty, for a ``point`` [3] of the template, in its frame.

        Raises:
            InputError: no such part, or a point outside the template.
        """
        ...


class PartFinder(Protocol):
    """An opened part pack.

    Attributes:
        target: name and version of the concept pack whose objects it is for; None: every cloud or picture is one object.
        names: of the parts.
        config: settings; a new value is used from the next scene on.
    """

    target: tuple[str, str] | None
    names: tuple[str, ...]
    config: Any

    def cloud(self, objects: Sequence[ObjectPoints], scene: CloudScene | None = None) -> LocatedParts:
        """Find the parts on objects of one cloud; ``scene``: the cloud, for parts that were marked on photographs."""
        ...

    def image(self, scene: ImageScene, masks: Sequence[NDArray[np.bool_]]) -> list[PartPoint]:
        """Find the parts on objects of one picture, each given by its mask bool [H, W]."""
        ...


class PartMethod(ABC):
    """A way to find parts that were marked once. Attributes: name: stored in its packs."""

    name: str

    @abstractmethod
    def learn(self, material: PartMaterial, context: Context) -> Pack:
        """Make a part pack.

        Raises:
            InputError: no marks, a mark that is not on its object, or an object that cannot be used.
        """

    @abstractmethod
    def open(self, pack: Pack, settings: Any = None) -> PartFinder:
        """Open a part pack.

        Raises:
            InputError: it is damaged, or not of this method.
        """
