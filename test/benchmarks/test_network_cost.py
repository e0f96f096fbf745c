"""What the network costs."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.baselines import network_cost
from benchmarks.baselines.network_cost import random_images, report, seconds, set_rows
from benchmarks.baselines.variants import SIZES, NetworkSize
from geoseg_ros.methods.geofree.config import GcsfConfig, MgcmConfig, NetworkConfig, SamplerConfig


def test_seconds_are_those_of_the_work() -> None:
    def work(count: int) -> None:
        sum(k * k for k in range(count))

    assert seconds(lambda: work(400_000), 3) > 5 * seconds(lambda: work(20_000), 3) > 0


def test_an_image_costs_the_same_whatever_the_set() -> None:
    """The mean over a set is one vector: what a bank keeps for an image's coarse mask does not grow with its patches."""
    config = NetworkConfig(
        sampler=SamplerConfig(points=64, samples=12, partners=2, key_points=16, choose="pool"),
        gcsf=GcsfConfig(width=16, points="coordinates"),
        mgcm=MgcmConfig(signal="correlation"),
    )
    ratios = []
    for _ in range(4):  # another process may take a core for a while, but not always at the same place
        rows = set_rows(config, (2, 16), 5)
        assert [row[0] for row in rows] == [2, 16]
        ratios.append(rows[1][1] / rows[0][1])
        if ratios[-1] < 1.5:
            break
    assert min(ratios) < 1.5, ratios


def test_the_report_names_its_sizes(monkeypatch) -> None:
    tiny = NetworkSize(64, 12, 16, SIZES["small"].extractor, SIZES["small"].shapes)
    monkeypatch.setitem(SIZES, "tiny", tiny)
    few = replace(network_cost.preset("paper"), batch=2, images=2, group=2)
    monkeypatch.setattr(network_cost, "preset", lambda name: few)
    text = report("tiny", 1, 5, (2, 3))
    assert "| 2 | " in text and "| 3 | " in text and "size `tiny`" in text and "150 + 200 epochs" in text and "2 clouds, 2 images" in text
    assert random_images(3).tokens.shape == (3, 784, 128)
