"""``geoseg evaluate`` with what the package's methods are compared with: baselines of the papers, GeoFree-CoSeg, controls.

Further tables: `mixed`, clouds composed of one real box and one real cylinder on one real table, and folders of which some scenes hold only
the other kind (--root as for tabletop). `world` and `mixed` also have concepts that are given by clouds alone and measured in pictures.
The -coseg tables also have the published figures. --pictures DIR draws the best and the worst items of each row.

Groups of --methods beside `own` and `baselines`, together `all`; only where named: `networks` (GeoFree-CoSeg, Yang et al. and controls,
trained for every set and seed: hours without a GPU unless --size small and --budget say otherwise), `views` (GeoFree-CoSeg on tokens of
virtual views, and its controls), `gated` (the same where the contrast marks something),
`graphs` (its graph in closed form), `heads` (learnt on photo tokens). The other options are those of `geoseg evaluate`.

example, from the root of the checkout:
  python -m benchmarks.evaluate --table msrc --root msrc/ --split development --methods baselines --seeds 0 1 2
  python -m benchmarks.evaluate --table world --preset easy --families stool lamp --items 6 --methods networks --size small --budget 20
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.baselines import baselines
from benchmarks.baselines.geofree import Networks, steering
from benchmarks.baselines.heads_photo import heads
from benchmarks.baselines.variants import SIZES
from benchmarks.tables import published
from benchmarks.tables.best_and_worst import Extremes
from benchmarks.tables.cross_modal import mixed_crossing, world_crossing
from benchmarks.tables.mixed import mixed_sets
from geoseg_ros.cli import evaluate
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.evaluate.items import CosegSet, NamedMethod
from geoseg_ros.evaluate.methods import Tools
from geoseg_ros.evaluate.run import COSEG_TABLES, Request, Sets, Suite


class Baselines(Suite):
    """The package's tables and methods and those of this folder, as the options want them."""

    program = ("python", "-m", "benchmarks.evaluate")
    tables: Mapping[str, Sets] = {**Suite.tables, "mixed": lambda request, log: mixed_sets(request.folder, request.split)}

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._networks: Networks | None = None
        self.extremes = Extremes()
        if options.pictures:
            self.look = self.extremes.look

    def groups(self, tools: Tools) -> dict[str, list[NamedMethod]]:
        """See :class:`~geoseg_ros.evaluate.run.Suite`."""
        options = self._options
        extractor = None if options.extractor is None else Path(options.extractor)
        states = None if options.states is None else Path(options.states)
        self._networks = networks = Networks(tools, SIZES[options.size], options.budget, weights=extractor, states=states)
        return {"baselines": baselines(tools), **networks.groups(), "graphs": networks.graphs.methods(), "heads": heads(tools)}

    def prepare(self, request: Request, sets: list[CosegSet]) -> list[CosegSet]:
        """With the sets that cross modalities. One without rivals takes another concept's pictures, for a control, from those beside it."""
        crossing: list[CosegSet] = []
        if request.protocols != "paper":
            if request.table == "mixed":
                crossing = mixed_crossing(request.folder, request.split)
            elif request.table == "world":
                crossing = world_crossing([items for items in sets if items.protocol == "robot"])
        if self._networks is not None:
            self._networks.beside = [*sets, *crossing]
        return [*sets, *crossing]

    def report(self, request: Request, result: dict[str, Any]) -> str:
        """Whether images steer the masks of the networks; or the published figures."""
        if request.table not in COSEG_TABLES:
            return steering(result["rows"])
        differences = published.differences(request.table, request.images is not None, request.items)
        result |= {"published": [asdict(row) for row in published.PUBLISHED[request.table]], "differences": differences}
        own = published.ours(result["summary"], result["backbone"], result["supervision"])
        return published.beside(request.table, own, differences)

    def words(self) -> list[str]:
        """What repeats the measurement, but for the options of ``geoseg evaluate``."""
        options = self._options
        words = [] if options.size == "full" else ["--size", options.size]
        return words + ([] if options.budget is None else ["--budget", str(options.budget)])


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``python -m``. Returns 0 (ok), 1 (failed) or 2 (bad input)."""
    parser = argparse.ArgumentParser(prog="benchmarks.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    evaluate.add_arguments(parser, (*evaluate.TABLES, "mixed"))
    parser.add_argument("--pictures", metavar="DIR", help="draw the three best and the three worst items of each row into DIR")
    networks = parser.add_argument_group("networks")
    networks.add_argument("--budget", type=int, metavar="EPOCHS", help="of each training (default: the preset's)")
    networks.add_argument("--size", default="full", choices=("full", "small"), help="as in the papers, or small")
    networks.add_argument("--extractor", metavar="FILE", help="point feature extractor: read, or trained and written")
    networks.add_argument("--states", metavar="DIR", help="trainings keep their states here: a killed run goes on where it was")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    options = parser.parse_args(argv)
    options.command = "evaluate"
    try:
        suite = Baselines(options)
        result = evaluate.run(options, suite)
        for path in suite.extremes.write(Path(options.pictures)) if options.pictures else ():
            print(path, file=sys.stderr)
    except (InputError, GeosegError) as error:
        print(f"benchmarks.evaluate: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    if options.json:
        print(json.dumps(result, default=float))
    return 0


if __name__ == "__main__":
    sys.exit(main())
