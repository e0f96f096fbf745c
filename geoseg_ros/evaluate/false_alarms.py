"""False alarms: how often concept packs report their target in procedural rooms without it, compared with ``p_max``.

Every item is from another room, so the items are independent, unlike the frames of a walk.

A p-value is exact only for items like the null items. So there are two kinds of rooms: such as those of the background bank, and rooms with
families that the bank does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg_ros.results import Presence
from geoseg_ros.runtime.pipeline import Pipeline
from geoseg_ros.simulation.background import BackgroundConfig
from geoseg_ros.simulation.families import NAMES
from geoseg_ros.simulation.rooms import SeedSource
from geoseg_ros.simulation.sets import make_cloud, make_image, make_set_config, parallel

KINDS = ("depth", "lidar", "image")
ROOMS = {"as the bank's": BackgroundConfig().absent, "with new families": ()}
"""Families that no room of this sort holds."""
LEVELS = (0.01, 0.05, 0.1, 0.2)


def false_alarms(
    pipeline: Pipeline, rooms: int, seed: int, preset: str = "standard", log: Callable[[str], object] = lambda text: None
) -> dict[str, Any]:
    """Run the packs of ``pipeline`` on ``rooms`` rooms of each kind that hold no family of a pack's name.

    Returns:
        per sort of ``ROOMS``, kind (clouds of a depth camera, of a LiDAR; pictures) and concept: "marked", the share of the rooms in which
        anything got the concept's label; "below", the share with a p-value below each of ``LEVELS``.
    """
    named, set_config = set(pipeline.labels.names) & set(NAMES), make_set_config(preset)
    figures: dict[str, Any] = {}
    for sort, absent in ROOMS.items():
        avoid = named | set(absent)
        for kind in KINDS:
            log(f"{kind}: {rooms} rooms {sort}")

            def item(k: int, kind: str = kind, avoid: set[str] = avoid) -> Any:
                source = SeedSource(seed, f"false alarms/{kind}/{k}")
                return (
                    make_image(source, None, avoid, set_config).rgb
                    if kind == "image"
                    else make_cloud(source, None, avoid, set_config, kind).cloud
                )

            figures.setdefault(sort, {})[kind] = _shares(pipeline, parallel(item, range(rooms)), kind, rooms)
    return {"rooms": rooms, "seed": seed, "p_max": pipeline.config.coseg.p_max, "figures": figures}


def _shares(pipeline: Pipeline, items: Iterable[Any], kind: str, rooms: int) -> dict[str, Any]:
    names = pipeline.labels.names
    marked, p = np.zeros(len(names)), []
    for made in items:
        prediction: tuple[NDArray[np.integer], Sequence[Presence]]
        if kind == "image":
            seen = pipeline.process_image(made)
            prediction = seen.mask, seen.presence
        else:
            found = pipeline.process_cloud(made)
            prediction = found.label, found.presence
        marked += [bool((prediction[0] == i + 1).any()) for i in range(len(names))]
        p.append([presence.p_value for presence in prediction[1]])
    below = {f"{level:g}": (np.array(p) < level).mean(0) for level in LEVELS}
    return {
        name: {"marked": float(marked[i] / rooms), "below": {level: float(share[i]) for level, share in below.items()}}
        for i, name in enumerate(names)
    }


def markdown(result: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    heads = [f"p < {level:g}" for level in LEVELS]
    lines = [f"| rooms without it, {result['rooms']} of each kind | | concept | marked (p_max {result['p_max']:g}) | {' | '.join(heads)} |"]
    lines.append("|---" * (4 + len(heads)) + "|")
    for sort, kinds in result["figures"].items():
        for kind, concepts in kinds.items():
            for name, row in concepts.items():
                below = " | ".join(f"{share:.0%}" for share in row["below"].values())
                lines.append(f"| {sort} | {kind} | {name} | {row['marked']:.0%} | {below} |")
    return "\n".join([*lines, ""])
