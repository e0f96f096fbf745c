"""Measure the cost of message handling: cloud message -> arrays -> labelled cloud message, and image message -> array -> mask message.

Three ways are compared in one run: the codec of this package; structured arrays as in sensor_msgs_py (a copy per field, a new message each
time); and one point or byte at a time. Nothing is sent and no network runs.

Then the node's work without the pipeline is measured: a live node takes a cloud of 120k points and a 2 megapixel image from bytes to
published results, with a subscriber to every output. Functions are listed below their callers.

With --pipeline the pipeline is measured instead: clouds of the given sizes, images, more concepts, with the packs that ship. Needs no ROS.

example:
  geoseg bench
  geoseg bench --pipeline --repeat 20
  geoseg bench --points 100000 --repeat 100 --json
"""

from __future__ import annotations

import argparse
import os

from geoseg_ros.errors import InputError

_IMAGE_SHAPE = (1080, 1920)
_NODE_POINTS, _NODE_REPEAT = 120_000, 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--points", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], metavar="N", help="cloud sizes")
    parser.add_argument("--pipeline", action="store_true", help="measure the pipeline instead of the messages")
    parser.add_argument("--repeat", type=int, default=30, metavar="N", help="runs per way; the median counts (default %(default)s)")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Measure, print a table, and return the rows.

    Raises:
        InputError: bad options, or (without --pipeline) ROS 2 is not installed.
        GeosegError: the ways do not agree on the result.
    """
    if options.repeat < 1 or any(not 1 <= n <= 5_000_000 for n in options.points):
        raise InputError("bench: expected --repeat of at least 1 and --points of 1 to 5000000")
    if options.pipeline:
        return _pipeline(options)
    from geoseg_ros.ros.live_run import need_ros

    need_ros("bench")
    from geoseg_ros.ros.bench_messages import measure_messages
    from geoseg_ros.ros.bench_node import as_json, measure_own_work

    rows = measure_messages(options.points, _IMAGE_SHAPE, options.repeat)
    own = measure_own_work(_NODE_POINTS, _IMAGE_SHAPE, max(options.repeat, _NODE_REPEAT))
    if not options.json:
        print(f"{'what':<28}{'way':<18}{'median ms':>10}{'slower than ours':>18}")
        for way in rows:
            print(f"{way['what']:<28}{way['way']:<18}{way['median_ms']:>10.3f}{way['times_ours']:>17.1f}x")
        print(f"\n{f'own work of the node, load {os.getloadavg()[0]:.1f}':<72}{'p50 ms':>10}{'p95 ms':>10}")
        for row in (row for part in own.values() for row in part):
            print(f"{'  ' * row.depth + row.name:<72.72}{row.p50:>10.3f}{row.p95:>10.3f}")
    return {"rows": rows, "own_work": as_json(own)}


def _pipeline(options: argparse.Namespace) -> dict[str, object]:
    from geoseg_ros.cli.bench_pipeline import measure_pipeline

    found = measure_pipeline(options.points, options.repeat)
    if not options.json:
        head = f"{found['backend']}, load {os.getloadavg()[0]:.1f}"
        print(f"{head:<40}{'p50 ms':>10}{'p95 ms':>10}{'processor ms':>14}")
        for row in found["rows"]:
            print(f"{row['what']:<30}{row['size']:>10}{row['p50']:>10.1f}{row['p95']:>10.1f}{row['processor']:>14.1f}")
        if found["exponent"] is not None:
            print(f"processor time grows with the points to the power of {found['exponent']:.2f}")
    return found
