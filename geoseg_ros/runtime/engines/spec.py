"""What an engine is built from: an ONNX file, and the shapes that it is built for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PRECISIONS = ("fp16", "fp32")


@dataclass(frozen=True)
class TensorRange:
    """Shapes that an input may have; axis 0 counts items that do not depend on each other.

    Attributes:
        name: of the input.
        minimum, optimum, maximum: shapes; the engine is tuned for the second. Where all three agree the axis is fixed.
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
    """A network to be built.

    Attributes:
        name: ``image`` or ``cloud``.
        onnx: the file; all weights are inside.
        inputs: in the order of the network; all are float32. An input may come again: the first ranges of all inputs are the first profile
            that the engine is built for, the second ones another, such as large pictures alone and small ones together.
        outputs: names, in the order of the network; all are float32.
        precision: of the network inside, ``fp16`` or ``fp32``. ``fp32`` is no TF32, whose 10 bits move masks as much as ``fp16`` does.
        source: which backbone or network it is, for people.
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
        names = tuple(dict.fromkeys(r.name for r in self.inputs))
        ranges = [[r for r in self.inputs if r.name == name] for name in names]
        return tuple(zip(*ranges, strict=True))

    def profile_of(self, shapes: Mapping[str, Sequence[int]]) -> int | None:
        """Number of the first profile that inputs of these shapes are in, or None."""
        for number, ranges in enumerate(self.profiles):
            if set(shapes) == {r.name for r in ranges} and all(r.holds(shapes[r.name]) for r in ranges):
                return number
        return None

    def holds(self, shapes: Mapping[str, Sequence[int]]) -> bool:
        """Whether inputs of these shapes are in range."""
        return self.profile_of(shapes) is not None

    def as_json(self) -> dict[str, Any]:
        """As what JSON can hold; the inverse of :meth:`from_json`."""
        return asdict(self) | {"onnx": str(self.onnx)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> EngineSpec:
        """From :meth:`as_json`. Raises KeyError, TypeError or ValueError for anything else."""
        inputs = tuple(
            TensorRange(r["name"], *(tuple(int(side) for side in r[k]) for k in ("minimum", "optimum", "maximum")))
            for r in values["inputs"]
        )
        texts = (str(values[key]) for key in ("precision", "source"))
        return EngineSpec(str(values["name"]), Path(values["onnx"]), inputs, tuple(values["outputs"]), *texts)
