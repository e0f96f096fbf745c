"""The cost of the node without its pipeline, and the command that tells it."""

import json
import sys

import pytest

pytest.importorskip("rclpy")

from geoseg_ros.cli.main import main
from geoseg_ros.ros.bench_node import measure_own_work
from support import dds_environment  # noqa: F401

CALLS_ARE_LOST = sys.version_info >= (3, 12)


def named(function):
    """As in the rows; Python 3.10 does not tell the class."""
    module, *_, name = function.split(".")
    return function if sys.version_info >= (3, 11) else f"{module}.{name}"


@pytest.mark.skipif(CALLS_ARE_LOST, reason="cProfile loses calls since Python 3.12")
def test_every_step_is_told_below_its_caller():
    own = measure_own_work(60_000, (480, 640), 12)
    assert list(own) == ["both", "cloud", "image"] and [row.name for row in own["both"]] == ["both", "both, processor time"]
    for name, functions in (
        ("cloud", ("clouds.labelled_cloud_message", "objects.marker_array", "tracking.Tracker.follow")),
        ("image", ("images.overlay_message", "publisher.Publisher.publish")),
    ):
        head, *below = own[name]
        assert (head.depth, head.name) == (0, name) and 0 < head.p50 <= head.p95
        assert {named(function) for function in functions} <= {row.name for row in below}
        depth = 0
        for row in below:
            assert 1 <= row.depth <= depth + 1, "a function stands right below the one that calls it, or beside it"
            depth = row.depth
        (handler,) = (row for row in below if row.depth == 1 and row.name == named("worker.Worker.process"))
        assert handler.p50 >= max(row.p50 for row in below if row.depth > 1)
    wall, processor = own["both"]
    assert wall.p50 > max(own["cloud"][0].p50, own["image"][0].p50)
    assert 0 < processor.p50 < 1.05 * wall.p50, "of one thread"


def test_command(capsys, monkeypatch):
    monkeypatch.setattr("geoseg_ros.cli.bench._IMAGE_SHAPE", (24, 32))
    monkeypatch.setattr("geoseg_ros.cli.bench._NODE_REPEAT", 5)
    assert main(["bench", "--points", "300", "--repeat", "2"]) == 0
    text = capsys.readouterr().out
    assert "cloud, 300 points" in text and "own work of the node" in text
    assert CALLS_ARE_LOST or f"\n  {named('worker.Worker.process')}" in text
    assert main(["bench", "--points", "300", "--repeat", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {row["way"] for row in report["rows"]} >= {"ours", "point by point", "byte by byte"}
    assert report["own_work"]["both"][0]["p95"] > 0
