"""The method: marks become a part pack, a part pack finds them again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.methods.base import CloudScene, Context, ImageScene, ObjectPoints, PartMaterial, PartMethod
from geoseg_ros.methods.parts.config import PartsConfig
from geoseg_ros.methods.parts.locate import Found, Placed
from geoseg_ros.methods.parts.marks import make_pack
from geoseg_ros.methods.parts.pack import METHOD, Mark, PartPack
from geoseg_ros.methods.parts.photos import find_pixels, masked_tokens
from geoseg_ros.methods.parts.shape import make_shape
from geoseg_ros.packs.pack import Pack
from geoseg_ros.results import PartPoint

_MOST_POINTS = 20_000  # of an object that are looked at
_OUTSIDE = 0.15  # of a diagonal: a point farther from the template is none of its


class PartsMethod(PartMethod):
    """3D-SC's correspondences as a product."""

    name = METHOD

    def learn(self, material: PartMaterial, context: Context) -> Pack:
        """See :meth:`PartMethod.learn`."""
        return make_pack(material, context).to_pack()

    def open(self, pack: Pack, settings: Any = None) -> PartsFinder:
        """See :meth:`PartMethod.open`."""
        return PartsFinder(PartPack.from_pack(pack), settings or PartsConfig())


class PartsFinder:
    """An opened part pack; see :class:`~geoseg_ros.methods.base.PartFinder`."""

    def __init__(self, pack: PartPack, config: PartsConfig) -> None:
        self.pack, self.config = pack, config
        self.target, self.names = pack.target, tuple(mark.name for mark in pack.marks)
        if pack.template is not None:
            # before the first message comes
            _ = pack.template.geodesics, pack.template.symmetric(0.0), pack.template.places

    def cloud(self, objects: Sequence[ObjectPoints], scene: CloudScene | None = None) -> CloudParts:
        """See :meth:`PartFinder.cloud`."""
        return CloudParts(self, objects, scene)

    def image(self, scene: ImageScene, masks: Sequence[NDArray[np.bool_]]) -> list[PartPoint]:
        """See :meth:`PartFinder.image`."""
        target = "" if self.target is None else self.target[0]
        parts = []
        for number, mask in enumerate(masks, 1):
            for mark, pixel, trust, reason in self._pixels(self.pack.marks, scene, mask):
                parts.append(PartPoint(target, mark.name, number, pixel=pixel, confidence=trust, seen=pixel is not None, reason=reason))
        return parts

    def _pixels(
        self, marks: Sequence[Mark], scene: ImageScene, mask: NDArray[np.bool_]
    ) -> list[tuple[Mark, tuple[float, float] | None, float, str]]:
        """Each mark, its pixel or None, the confidence, and why there is none."""
        usable = [mark for mark in marks if mark.token is not None]
        seen = masked_tokens(scene, mask, self.pack.mean) if usable else None
        if seen is None:
            why = "not seen: the object covers too little of the picture" if usable else "was not marked on a photograph"
            return [(mark, None, 0.0, why) for mark in marks]
        found = dict(zip((m.name for m in usable), find_pixels(usable, self.pack.photos, seen, self.config), strict=True))
        none: tuple[tuple[float, float] | None, float, str] = (None, 0.0, "was not marked on a photograph")
        return [(mark, *found.get(mark.name, none)) for mark in marks]


class CloudParts:
    """The parts of the objects of one cloud.

    Attributes:
        parts: of all objects, in their order.
    """

    def __init__(self, finder: PartsFinder, objects: Sequence[ObjectPoints], scene: CloudScene | None) -> None:
        self._finder = finder
        self._placed: list[tuple[ObjectPoints, Placed | str]] = []
        self.parts: list[PartPoint] = []
        marks = finder.pack.marks
        for obj in objects:
            placed = self._place(obj)
            self._placed.append((obj, placed))
            solid = [mark for mark in marks if mark.point is not None]
            found = dict(zip((m.name for m in solid), self._find(placed, [m.point for m in solid]), strict=True))
            flat = [mark for mark in marks if mark.point is None]
            found |= dict(zip((m.name for m in flat), self._on_picture(flat, obj, scene), strict=True)) if flat else {}
            self.parts += [_part(obj, mark.name, found[mark.name]) for mark in marks]

    def where(self, part: str, point: NDArray[np.floating]) -> list[PartPoint]:
        """See :meth:`LocatedParts.where`."""
        pack = self._finder.pack
        if part:
            if part not in self._finder.names:
                raise InputError(f"part {part!r}: unknown, expected one of {', '.join(self._finder.names)}")
            return [found for found in self.parts if found.name == part]
        if pack.template is None:
            raise InputError("the part pack has no template, only photographs: ask for a part by its name")
        if not np.isfinite(point).all():
            raise InputError("point: expected finite metres")
        away = float(pack.template.tree.query(point)[0])
        if away > _OUTSIDE * pack.template.shape.diagonal:
            raise InputError(f"point: {away:.3f} m from the template, expected a point on it")
        return [_part(obj, "", self._find(placed, [point])[0]) for obj, placed in self._placed]

    def _place(self, obj: ObjectPoints) -> Placed | str:
        """The object over the template, or why it cannot be placed."""
        template = self._finder.pack.template
        if template is None:
            return "was marked on photographs only: expected a coloured, organised cloud"
        points = obj.xyz[:: -(-len(obj.xyz) // _MOST_POINTS)] if len(obj.xyz) else obj.xyz
        try:
            return Placed(template, make_shape(points, obj.up), points)
        except InputError as error:
            return f"not seen: {error}"

    def _find(self, placed: Placed | str, points: Sequence[Any]) -> list[Found]:
        if isinstance(placed, str):
            return [Found(None, None, 0.0, False, reason=placed) for _ in points]
        return placed.find(np.asarray(points, np.float64).reshape(-1, 3), self._finder.config)

    def _on_picture(self, marks: Sequence[Mark], obj: ObjectPoints, scene: CloudScene | None) -> list[Found]:
        """Marks of photographs, looked for in the colours of an organised cloud, where pixel k is point k."""
        picture = None if scene is None or obj.rows is None else scene.picture
        if picture is None or scene is None or obj.rows is None:
            why = "was marked on photographs only: expected a coloured, organised cloud"
            return [Found(None, None, 0.0, False, reason=why) for _ in marks]
        height, width = picture.image.shape[:2]
        mask = np.zeros(height * width, bool)
        mask[obj.rows] = True
        found = []
        for _, pixel, trust, reason in self._finder._pixels(marks, picture, mask.reshape(height, width)):
            if pixel is None:
                found.append(Found(None, None, 0.0, False, reason=reason))
                continue
            x, y = obj.rows % width, obj.rows // width
            nearest = int(np.argmin((x - pixel[0]) ** 2 + (y - pixel[1]) ** 2))
            found.append(Found(np.asarray(obj.xyz[nearest], np.float64), None, trust, True))
        return found


def _part(obj: ObjectPoints, name: str, found: Found) -> PartPoint:
    return PartPoint(
        obj.object, name, obj.instance, found.point, found.normal, None, found.confidence, found.seen, found.symmetric, found.reason,
        obj.label,
    )  # fmt: skip
