"""What several rooms' tests share. Having this file also lets them import the helpers beside it."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def fake_backbone():
    """A backbone that sees colours only."""
    from fake_world import FakeBackbone

    return FakeBackbone()


@pytest.fixture(scope="session")
def fake_bank(fake_backbone):
    """Its background bank: pictures and tables without red and blue things."""
    from fake_world import CONFIG, OTHERS, picture, table

    from geoseg_ros.concepts.bank import build_bank

    photos = [picture(1000 + k, OTHERS[: k % 4])[0] for k in range(24)]
    clouds = [table(1000 + k, (*OTHERS, "green"))[0] for k in range(6)]
    return build_bank(fake_backbone, photos, clouds, "coloured things", CONFIG.coseg, CONFIG.views, CONFIG.geometry)


@pytest.fixture(scope="session")
def fake_packs(fake_backbone, fake_bank):
    """Packs of the concepts red and blue, from eight pictures and four clouds each."""
    from fake_world import CONFIG, picture, table

    from geoseg_ros.concepts.build import build_pack

    packs = {}
    for start, name in ((0, "red"), (500, "blue")):
        images = [picture(start + k, (name, "green", "yellow")[: 1 + k % 3])[0] for k in range(8)]
        clouds = [table(start + k, (name, "green", "cyan"))[0] for k in range(4)]
        without = [picture(start + 100 + k, ("green", "yellow"))[0] for k in range(4)]
        packs[name] = build_pack(name, images, clouds, without, [], fake_backbone, fake_bank, CONFIG)
    return packs
