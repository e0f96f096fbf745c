"""Settings of finding marked parts; the live node has them too."""

from __future__ import annotations

from dataclasses import dataclass

from geoseg_ros.settings import Settings, setting


@dataclass(frozen=True)
class PartsConfig(Settings):
    """How marked parts are found, and when a point is given."""

    most_objects: int = setting(8, "objects of a cloud that parts are looked for on, the largest first", range=(1, 1000), live=True)
    cycle: float = setting(0.05, "largest distance to where the way back ends", unit="share of the diagonal", range=(0.0, 1.0), live=True)
    geodesic: float = setting(0.05, "largest bicyclic geodesic error", unit="share of the diagonal", range=(0.0, 1.0), live=True)
    fit: float = setting(
        0.065, "what an object may differ from the template once placed over it", unit="share of the diagonal", range=(0.0, 1.0), live=True
    )
    rival: float = setting(
        1.1, "a turn that fits at most so many times worse, and puts the part elsewhere, makes its place ambiguous", range=(1.0, 100.0),
        live=True,
    )  # fmt: skip
    hidden: bool = setting(True, "also give points on the hidden side of an object, inferred from the template's pose", live=True)
    similarity: float = setting(
        0.35, "least cosine between the token of a part marked on a photograph and the pixel it is found at", range=(-1.0, 1.0), live=True
    )
