"""What several rooms' tests share. Having this file also lets them import the helpers beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# The helpers that tests start as processes of their own import their neighbours too.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="session")
def fake_backbone():
    """A backbone that sees colours only."""
    from support.fake_world import FakeBackbone

    return FakeBackbone()


@pytest.fixture(scope="session")
def fake_bank(fake_backbone):
    """Its background bank: pictures and tables without red and blue objects."""
    from geoseg_ros.packs.bank import build_bank
    from support.fake_world import CONFIG, OTHERS, picture, table

    photos = [picture(1000 + k, OTHERS[: k % 4])[0] for k in range(24)]
    clouds = [table(1000 + k, (*OTHERS, "green"))[0] for k in range(6)]
    return build_bank(fake_backbone, photos, clouds, "coloured objects", CONFIG.scene)


@pytest.fixture(scope="session")
def fake_packs(fake_backbone, fake_bank):
    """Packs of the concepts red and blue, from eight pictures and four clouds each."""
    from geoseg_ros.methods.base import Context, Material
    from geoseg_ros.methods.registry import open_method
    from support.fake_world import CONFIG, picture, table

    packs, context = {}, Context(fake_backbone, fake_bank, CONFIG.scene, CONFIG)
    for start, name in ((0, "red"), (500, "blue")):
        images = [picture(start + k, (name, "green", "yellow")[: 1 + k % 3])[0] for k in range(8)]
        clouds = [table(start + k, (name, "green", "cyan"))[0] for k in range(4)]
        without = [picture(start + 100 + k, ("green", "yellow"))[0] for k in range(4)]
        packs[name] = open_method("contrast").learn(Material(name, images, clouds, without), context)
    return packs
