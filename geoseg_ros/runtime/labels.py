"""The label space: ids, names and colours of the loaded concepts."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelSpace:
    """Concept names in the order of their ids: ``names[i]`` has label ``i + 1``; label 0 means none of them."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.names) > 254:
            raise ValueError(f"a mono8 mask holds at most 254 concepts, got {len(self.names)}")

    def palette(self) -> NDArray[np.uint8]:
        """uint8 [len(names) + 1, 3] RGB. Row 0, the background, is mid grey. Colours do not depend on the other names' number."""
        rows = [(110, 110, 110)]
        for i in range(len(self.names)):
            # the golden ratio spreads hues evenly for any number of labels
            hue = (0.02 + 0.618033988749895 * i) % 1.0
            red, green, blue = (round(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.85, 1.0))
            rows.append((red, green, blue))
        return np.array(rows, np.uint8)
