"""What happened in a training of the co-segmentation network."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from geoseg_ros.methods.geofree.collapse_checks import Check


@dataclass
class History:
    """What happened.

    Attributes:
        epochs: per epoch: ``stage``, ``epoch``, ``seconds`` since the start, ``total`` loss, and the mean of each named loss.
        checks: stage, epoch, set and :class:`Check` of each collapse check.
        flipped: whether the masks were inverted, before and after stage 1.
        kept: (stage, epoch) of the weights that were kept.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    checks: list[tuple[int, int, str, Check]] = field(default_factory=list)
    flipped: tuple[bool, bool] = (False, False)
    kept: tuple[int, int] = (0, 0)

    def warnings(self) -> list[str]:
        """Collapse warnings of the last check of each set."""
        last = {name: check for _, _, name, check in self.checks}
        return [f"{name}: {text}" for name, check in last.items() for text in check.warnings()]

    def plain(self) -> dict[str, Any]:
        """As JSON values; see :meth:`of`."""
        checks = [[stage, epoch, name, asdict(check)] for stage, epoch, name, check in self.checks]
        return {"epochs": self.epochs, "checks": checks, "flipped": list(self.flipped), "kept": list(self.kept)}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> History:
        """The inverse of :meth:`plain`."""
        checks = [(int(stage), int(epoch), str(name), Check(**check)) for stage, epoch, name, check in plain["checks"]]
        first, second = plain["flipped"]
        stage, epoch = plain["kept"]
        return cls(list(plain["epochs"]), checks, (bool(first), bool(second)), (int(stage), int(epoch)))

    def summary(self) -> dict[str, object]:
        """For manifests: plain numbers only."""
        last = {name: asdict(check) | {"criterion": check.criterion} for _, _, name, check in self.checks}
        stages = sorted({int(e["stage"]) for e in self.epochs})
        return {
            "epochs": {str(s): sum(e["stage"] == s for e in self.epochs) for s in stages},
            "seconds": round(self.epochs[-1]["seconds"], 1) if self.epochs else 0.0,
            "last": {k: round(v, 5) for k, v in self.epochs[-1].items()} if self.epochs else {},
            "checks": last,
            "warnings": self.warnings(),
            "flipped": list(self.flipped),
            "kept": list(self.kept),
        }
