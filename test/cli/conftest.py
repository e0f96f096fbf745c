"""What the tests of ``geoseg train``, ``coseg`` and ``bank`` share."""

import pytest

from geoseg_ros import api
from geoseg_ros.backbones import registry as backbones
from geoseg_ros.io.cloud_files import write_ply
from geoseg_ros.io.folders import write_image
from geoseg_ros.runtime import pipeline
from geoseg_ros.runtime.pipeline import PipelineConfig
from geoseg_ros.simulation import bank as background
from support.fake_world import CONFIG, picture, table
from support.learning_cases import CLOUD_THINGS


@pytest.fixture
def fake(monkeypatch, fake_backbone, fake_bank):
    """Commands open the backbone that sees colours only, and its bank, and look at small pictures."""
    monkeypatch.setattr(backbones, "open_backbone", lambda spec, device="cpu": fake_backbone)
    monkeypatch.setattr(background, "find_bank", lambda backbone: fake_bank)
    monkeypatch.setattr(api, "open_bank", lambda backbone, progress=None: fake_bank)
    for module in (api, pipeline):
        monkeypatch.setattr(module, "PipelineConfig", lambda *given: PipelineConfig(*given or (CONFIG.coseg,)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders ``images``, ``clouds``, ``without`` (both kinds): red objects; image 5 does not show it."""
    root = tmp_path_factory.mktemp("sets")
    for k in range(6):
        objects = ("green", "yellow") if k == 5 else ("red", "green", "yellow")[: 1 + k % 3]
        write_image(root / "images" / f"photo{k}.png", picture(k, objects, (90 + k, 120))[0])
    for k in range(3):
        write_ply(root / "clouds" / f"scan{k}.ply", table(k, CLOUD_THINGS[k])[0])
        write_image(root / "without" / f"{k}.png", picture(50 + k, ("green",))[0])
    write_ply(root / "without" / "empty.ply", table(50, ("green", "cyan"))[0])
    return root
