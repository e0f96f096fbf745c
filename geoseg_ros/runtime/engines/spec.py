"""What an engine is built from: an exported image backbone and the images that it is for. Imports no network library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg_ros.errors import InputError

if TYPE_CHECKING:
    import torch

IMAGES, OUTPUTS = "images", ("tokens", "global_vector")
"""The input float32 [V, H, W, 3], RGB 0..255, and the outputs float32 [V, h, w, D] and [V, D] of every exported backbone."""


@dataclass(frozen=True)
class ShapeRange:
    """Shapes that the input may have; axis 0 counts images. An axis on which all three agree is fixed."""

    minimum: tuple[int, ...]
    optimum: tuple[int, ...]
    maximum: tuple[int, ...]

    def __post_init__(self) -> None:
        sides = zip(self.minimum, self.optimum, self.maximum, strict=True)
        if any(not 1 <= low <= usual <= high for low, usual, high in sides):
            raise ValueError(f"expected 1 <= minimum <= optimum <= maximum, got {self}")

    def holds(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this ``shape`` is in range."""
        sides = zip(self.minimum, shape, self.maximum, strict=False)
        return len(shape) == len(self.minimum) and all(low <= side <= high for low, side, high in sides)

    def __str__(self) -> str:
        return " .. ".join("x".join(map(str, shape)) for shape in (self.minimum, self.optimum, self.maximum))


@dataclass(frozen=True)
class EngineSpec:
    """An exported network.

    Attributes:
        onnx: The file; all weights are inside.
        profiles: What an engine is built for, such as large images alone and small ones in batches.
        precision: Of the network inside, ``fp16`` or ``fp32``. ``fp32`` excludes TF32, whose 10 bits move masks as much as ``fp16`` does.
        source: Which backbone it is, for people.
    """

    onnx: Path
    profiles: tuple[ShapeRange, ...]
    precision: str
    source: str

    def profile_of(self, shape: Sequence[int]) -> int | None:
        """Number of the first profile that images of this shape are in, or None."""
        return next((number for number, profile in enumerate(self.profiles) if profile.holds(shape)), None)

    def check(self, images: torch.Tensor) -> int:
        """The profile of these images. Raises InputError for a type or a shape that the engine is not for."""
        profile = self.profile_of(images.shape)
        if profile is None or str(images.dtype) != "torch.float32":
            wanted = "; ".join(map(str, self.profiles))
            raise InputError(f"{IMAGES}: expected float32 {wanted}; got {images.dtype} {'x'.join(map(str, images.shape))}")
        return profile

    @property
    def inputs(self) -> tuple[Mapping[str, ShapeRange], ...]:
        """The profiles by the names of the inputs."""
        return tuple({IMAGES: profile} for profile in self.profiles)

    def as_json(self) -> dict[str, Any]:
        """As what JSON can hold; the inverse of :meth:`from_json`."""
        return asdict(self) | {"onnx": str(self.onnx)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> EngineSpec:
        """From :meth:`as_json`."""
        profiles = tuple(ShapeRange(*(tuple(p[k]) for k in ("minimum", "optimum", "maximum"))) for p in values["profiles"])
        return EngineSpec(Path(values["onnx"]), profiles, values["precision"], values["source"])


@dataclass(frozen=True)
class NamedSpec:
    """An exported network with several inputs. Attributes: as of :class:`EngineSpec`, the profiles by the names of the inputs."""

    onnx: Path
    inputs: tuple[Mapping[str, ShapeRange], ...]
    precision: str
    source: str


@dataclass(frozen=True)
class ImageShapes:
    """Images that an engine is built for: (smallest, usual, largest) of each number; sides are rounded to the backbone's stride.

    Large images come one at a time, small ones in batches, and memory is reserved for the larger of the two, not for batches of large
    images.

    Attributes:
        alone: Height and width of an image that comes alone, pixels.
        batch: Number V of images that come together.
        batch_side: Their height and width, pixels.
    """

    alone: tuple[tuple[int, int, int], tuple[int, int, int]] = ((128, 480, 640), (128, 640, 640))
    batch: tuple[int, int, int] = (1, 8, 8)
    batch_side: tuple[int, int, int] = (128, 128, 224)

    @staticmethod
    def up_to(side: int) -> ImageShapes:
        """For images whose longer side is ``side`` pixels in the network. Up to the usual size it is one and the same engine."""
        (low, height, _), (_, width, usual) = ImageShapes.alone
        return ImageShapes(((low, height, max(side, usual)), (low, width, max(side, usual))))


ANY_SHAPE = ImageShapes(((32, 480, 2048), (32, 640, 2048)), (1, 8, 32), (32, 128, 2048))
"""For backends that reserve nothing for the largest shape: onnxruntime and torch."""


def image_profiles(
    stride: int, shapes: ImageShapes, batch: int | None = None, sides: tuple[int | None, int | None] = (None, None)
) -> tuple[ShapeRange, ...]:
    """Ranges of the images float32 [V, H, W, 3] of a backbone.

    Args:
        stride: Of the backbone.
        shapes: Images to build for.
        batch, sides: What the network fixes: the number of images, height and width.
    """

    def profile(count: Sequence[int], *wanted: Sequence[int]) -> ShapeRange:
        rounded = [(s or max(1, round(v / stride)) * stride for v in side) for s, side in zip(sides, wanted, strict=True)]
        return ShapeRange(*((batch or v, h, w, 3) for v, h, w in zip(count, *rounded, strict=True)))

    alone, together = profile((1, 1, 1), *shapes.alone), profile(shapes.batch, shapes.batch_side, shapes.batch_side)
    for one, other in ((together, alone), (alone, together)):
        if one.holds(other.minimum) and one.holds(other.maximum):
            return (one,)
    return alone, together
