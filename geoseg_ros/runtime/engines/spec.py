"""What an engine is built from: a network with declared inputs. Imports no network library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoseg_ros.backbones.base import ImageBackbone

PRECISIONS = ("fp16", "fp32")
IMAGE_INPUT, IMAGE_OUTPUTS = "images", ("tokens", "global_vector")


@dataclass(frozen=True)
class TensorRange:
    """Shapes that an input may have; axis 0 counts items that do not depend on each other.

    Attributes:
        name: Name of the input.
        minimum: Smallest shape.
        optimum: Shape that the engine is tuned for.
        maximum: Largest shape. An axis on which all three agree is fixed.
    """

    name: str
    minimum: tuple[int, ...]
    optimum: tuple[int, ...]
    maximum: tuple[int, ...]

    def __post_init__(self) -> None:
        ranks = {len(self.minimum), len(self.optimum), len(self.maximum)}
        if len(ranks) != 1 or any(not 1 <= a <= b <= c for a, b, c in zip(self.minimum, self.optimum, self.maximum, strict=False)):
            raise ValueError(f"{self.name}: expected 1 <= minimum <= optimum <= maximum of one rank, got {self}")

    def holds(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this ``shape`` is in range."""
        if len(shape) != len(self.minimum):
            return False
        return all(low <= side <= high for low, side, high in zip(self.minimum, shape, self.maximum, strict=True))

    def __str__(self) -> str:
        return f"{self.name} {' .. '.join('x'.join(map(str, shape)) for shape in (self.minimum, self.optimum, self.maximum))}"


@dataclass(frozen=True)
class EngineSpec:
    """An exported network.

    Attributes:
        name: Kind of network, such as ``image``.
        onnx: The file; all weights are inside.
        inputs: Float32 inputs in the order of the network. An input may come again: the first ranges of all inputs are the first profile
            that an engine is built for, the second ones the next, such as large images alone and small ones in batches.
        outputs: Names of the float32 outputs in the order of the network.
        precision: Of the network inside, ``fp16`` or ``fp32``. ``fp32`` excludes TF32, whose 10 bits move masks as much as ``fp16`` does.
        source: Which backbone or network it is, for people.
    """

    name: str
    onnx: Path
    inputs: tuple[TensorRange, ...]
    outputs: tuple[str, ...]
    precision: str
    source: str

    def __post_init__(self) -> None:
        if len({sum(r.name == other.name for other in self.inputs) for r in self.inputs}) != 1:
            raise ValueError("inputs: expected at least one, and every one in as many ranges as the others")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got '{self.precision}'")

    @property
    def profiles(self) -> tuple[tuple[TensorRange, ...], ...]:
        """The ranges of each profile, in the order of the network's inputs."""
        names = dict.fromkeys(r.name for r in self.inputs)
        return tuple(zip(*([r for r in self.inputs if r.name == name] for name in names), strict=True))

    def profile_of(self, shapes: Mapping[str, Sequence[int]]) -> int | None:
        """Number of the first profile that inputs of these shapes are in, or None."""
        for number, ranges in enumerate(self.profiles):
            if set(shapes) == {r.name for r in ranges} and all(r.holds(shapes[r.name]) for r in ranges):
                return number
        return None

    def as_json(self) -> dict[str, Any]:
        """As what JSON can hold; the inverse of :meth:`from_json`."""
        return asdict(self) | {"onnx": str(self.onnx)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> EngineSpec:
        """From :meth:`as_json`.

        Raises:
            KeyError, TypeError, ValueError: ``values`` is anything else.
        """
        inputs = tuple(
            TensorRange(r["name"], *(tuple(map(int, r[k])) for k in ("minimum", "optimum", "maximum"))) for r in values["inputs"]
        )
        texts = (str(values[key]) for key in ("precision", "source"))
        return EngineSpec(str(values["name"]), Path(values["onnx"]), inputs, tuple(values["outputs"]), *texts)


@dataclass(frozen=True)
class ImageShapes:
    """Images that an engine is built for: (smallest, usual, largest) of each number; sides are rounded to the backbone's stride.

    Large images come one at a time, small ones in batches, and memory is reserved for the larger of the two, not for batches of large
    images.

    Attributes:
        height: Pixels of an image that comes alone.
        width: Pixels of an image that comes alone.
        batch: Number V of images that come together.
        batch_side: Their height and width, pixels.
    """

    height: tuple[int, int, int] = (128, 480, 640)
    width: tuple[int, int, int] = (128, 640, 640)
    batch: tuple[int, int, int] = (1, 8, 8)
    batch_side: tuple[int, int, int] = (128, 128, 224)


ANY_SHAPE = ImageShapes((32, 480, 2048), (32, 640, 2048), (1, 8, 32), (32, 128, 2048))
"""For backends that reserve nothing for the largest shape: onnxruntime and torch."""


def image_ranges(backbone: ImageBackbone, shapes: ImageShapes) -> tuple[TensorRange, ...]:
    """Ranges of the input float32 [V, H, W, 3] of an exported backbone; one for each profile.

    Args:
        backbone: What an ONNX file fixes (its ``batch`` and ``sides``) stays fixed.
        shapes: Images to build for.
    """
    from geoseg_ros.backbones.onnx import OnnxBackbone

    stride = backbone.stride
    batch, fixed = (backbone.batch, backbone.sides) if isinstance(backbone, OnnxBackbone) else (None, (None, None))

    def profile(count: Sequence[int], *sides: Sequence[int]) -> TensorRange:
        rounded = [(s or max(1, round(v / stride)) * stride for v in side) for s, side in zip(fixed, sides, strict=True)]
        return TensorRange(IMAGE_INPUT, *((batch or v, h, w, 3) for v, h, w in zip(count, *rounded, strict=True)))

    alone, together = profile((1, 1, 1), shapes.height, shapes.width), profile(shapes.batch, shapes.batch_side, shapes.batch_side)
    for one, other in ((together, alone), (alone, together)):
        if one.holds(other.minimum) and one.holds(other.maximum):
            return (one,)
    return alone, together
