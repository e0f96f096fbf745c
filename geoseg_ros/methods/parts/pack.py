"""Part packs: the object that was marked, its marks, and what a photograph's marks look like."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.errors import InputError
from geoseg_ros.methods.parts.locate import VERSION, Template
from geoseg_ros.methods.parts.shape import LEAST, Shape
from geoseg_ros.packs.pack import Pack

METHOD = "parts"
_MOST_MARKS = 64
_TARGET = "target"  # of the manifest: name and version of the concept pack, or null


@dataclass(frozen=True)
class Photo:
    """What a marked photograph shows of the object.

    Attributes:
        tokens: float32 [n, D], unit rows, the pack's mean subtracted.
        place: float32 [n, 2], x and y of their middles, pixels.
    """

    tokens: NDArray[np.float32]
    place: NDArray[np.float32]


@dataclass(frozen=True)
class Mark:
    """One marked part.

    Attributes:
        name: as the user calls it.
        point: float32 [3], on the template, in its frame; None where it was marked on a photograph alone.
        photo: number of the photograph, or -1.
        pixel: x and y there.
        token: float32 [D], unit, of that pixel; None without a photograph.
    """

    name: str
    point: NDArray[np.float32] | None = None
    photo: int = -1
    pixel: tuple[float, float] = (0.0, 0.0)
    token: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class PartPack:
    """A part pack in memory.

    Attributes:
        name: of the pack.
        target: name and version of the concept pack whose objects have the parts; None: every cloud or picture is one object.
        backbone, backbone_hash: whose tokens photographs have.
        marks: the parts.
        template: the marked object; None where only photographs were marked.
        mean: float32 [D], subtracted from tokens; empty without photographs.
        photos: the marked ones.
        pictures: JPEG files as uint8: the template with its parts first.
        info: further entries of the manifest.
    """

    name: str
    target: tuple[str, str] | None
    backbone: str
    backbone_hash: str
    marks: tuple[Mark, ...]
    template: Template | None
    mean: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    photos: tuple[Photo, ...] = ()
    pictures: tuple[NDArray[np.uint8], ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)

    def to_pack(self) -> Pack:
        """The pack as it is stored; descriptors and tokens in half precision."""
        tensors: dict[str, torch.Tensor] = {}
        if self.template is not None:
            shape = self.template.shape
            tensors |= {"xyz": torch.from_numpy(shape.xyz), "normal": torch.from_numpy(shape.normal)}
            tensors["descriptor"] = torch.from_numpy(self.template.descriptor).half()
        points = [np.full(3, np.nan, np.float32) if mark.point is None else mark.point for mark in self.marks]
        tensors["mark.point"] = torch.from_numpy(np.asarray(points, np.float32).reshape(-1, 3))
        tensors["mark.photo"] = torch.tensor([mark.photo for mark in self.marks], dtype=torch.int64)
        tensors["mark.pixel"] = torch.tensor([mark.pixel for mark in self.marks], dtype=torch.float32).reshape(-1, 2)
        if self.photos:
            empty = np.zeros(len(self.mean), np.float32)
            tensors["mean"] = torch.from_numpy(self.mean)
            tensors["mark.token"] = torch.from_numpy(np.stack([empty if m.token is None else m.token for m in self.marks])).half()
        for k, photo in enumerate(self.photos):
            tensors[f"photo.{k}.tokens"] = torch.from_numpy(photo.tokens).half()
            tensors[f"photo.{k}.place"] = torch.from_numpy(photo.place)
        tensors |= {f"picture.{k}": torch.from_numpy(picture.copy()) for k, picture in enumerate(self.pictures)}
        target = None if self.target is None else {"name": self.target[0], "version": self.target[1]}
        info = dict(self.info) | {"parts": [m.name for m in self.marks], _TARGET: target, "descriptors": VERSION}
        return Pack(self.name, METHOD, self.backbone, self.backbone_hash, tensors, info=info)

    @classmethod
    def from_pack(cls, pack: Pack) -> PartPack:
        """Read a pack.

        Raises:
            InputError: no part pack, one of other descriptors than this version has, or a damaged one.
        """
        where = pack.path or f"pack '{pack.name}'"
        if pack.method != METHOD:
            raise InputError(f"{where}: expected a part pack, as geoseg parts writes it, got one of the method {pack.method}")
        if (made := pack.info.get("descriptors")) != VERSION:
            raise InputError(
                f"{where}: made with other descriptors ({made}) than this version of geoseg_ros has ({VERSION}); make it again"
            )
        try:
            return cls._read(pack)
        except (KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
            raise InputError(
                f"{where}: damaged part pack ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
            ) from None

    @classmethod
    def _read(cls, pack: Pack) -> PartPack:
        tensors = {name: value.float().numpy() if value.is_floating_point() else value.numpy() for name, value in pack.tensors.items()}
        names, target = check_names(pack.info["parts"]), pack.info.get(_TARGET)
        count = len(names)
        template = None
        if "xyz" in tensors:
            xyz, normal, descriptor = tensors["xyz"], tensors["normal"], tensors["descriptor"]
            _check(xyz.ndim == 2 and xyz.shape[1] == 3 and len(xyz) >= LEAST and xyz.shape == normal.shape, "xyz")
            _check(descriptor.ndim == 2 and len(descriptor) == len(xyz), "descriptor")
            _check(all(np.isfinite(values).all() for values in (xyz, normal, descriptor)), "finite numbers")
            template = Template(Shape(xyz, normal, np.eye(4)), descriptor)
        points, photo, pixel = tensors["mark.point"], tensors["mark.photo"], tensors["mark.pixel"]
        _check(points.shape == (count, 3) and photo.shape == (count,) and pixel.shape == (count, 2), "marks")
        mean, token = tensors.get("mean", np.zeros(0, np.float32)), tensors.get("mark.token")
        photos = tuple(cls._photo(tensors, k, len(mean)) for k in range(int(photo.max(initial=-1)) + 1))
        marks = []
        for k, name in enumerate(names):
            known = bool(np.isfinite(points[k]).all())
            _check((known and template is not None) or photo[k] >= 0, f"mark {name}")
            own = None if token is None or photo[k] < 0 else token[k]
            marks.append(Mark(name, points[k] if known else None, int(photo[k]), (float(pixel[k, 0]), float(pixel[k, 1])), own))
        pictures = tuple(tensors[name] for name in sorted(t for t in tensors if t.startswith("picture.")))
        of = None if target is None else (str(target["name"]), str(target["version"]))
        return cls(pack.name, of, pack.backbone, pack.backbone_hash, tuple(marks), template, mean, photos, pictures, pack.info)

    @staticmethod
    def _photo(tensors: Mapping[str, NDArray[Any]], number: int, dimensions: int) -> Photo:
        tokens, place = tensors[f"photo.{number}.tokens"], tensors[f"photo.{number}.place"]
        fits = tokens.ndim == 2 and len(tokens) > 0 and tokens.shape[1] == dimensions and place.shape == (len(tokens), 2)
        _check(fits, f"photo {number}")
        _check(bool(np.isfinite(tokens).all() and np.isfinite(place).all()), f"photo {number}")
        return Photo(tokens, place)


def check_names(names: Sequence[str]) -> list[str]:
    """The names of parts as a list.

    Raises:
        InputError: none, too many, one that is no name, or one twice.
    """
    found = list(names)
    if not 1 <= len(found) <= _MOST_MARKS:
        raise InputError(f"marks: expected 1 to {_MOST_MARKS} parts, got {len(found)}")
    for name in found:
        if not isinstance(name, str) or not name.strip() or len(name) > 64 or not name.isprintable():
            raise InputError(f"mark {json.dumps(name)[:80]}: name: expected 1 to 64 printable characters")
        if found.count(name) > 1:
            raise InputError(f"mark {name}: named twice")
    return found


def _check(right: bool, what: str) -> None:
    if not right:
        raise ValueError(f"{what}: does not fit")
