"""The shipped packs answer alike on PyTorch and on onnxruntime, in both precisions: on real photographs and Kinect clouds, and on rooms of
the simulated world.

Presence is decided as usual on the simulated items, which show the concepts; the real ones do not, and there everything is taken as
present (``p_max`` 1), or empty masks would agree with empty masks. In half precision masks are held to less: see ``LEAST_HALF``.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from benchmarks.gpu.parity import LEAST, Agreement, compare, overlap
from geoseg_ros.backbones.registry import open_backbone
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.io.cloud_files import read_cloud_fields
from geoseg_ros.packs.pack import Pack
from geoseg_ros.runtime.engines.backbone import EngineBackbone
from geoseg_ros.runtime.engines.export import export_image
from geoseg_ros.runtime.engines.sessions import OnnxRuntimeSession
from geoseg_ros.runtime.engines.spec import ANY_SHAPE
from geoseg_ros.runtime.pipeline import Pipeline, PipelineConfig
from geoseg_ros.simulation.rooms import SeedSource
from geoseg_ros.simulation.sets import make_cloud, make_image, make_set_config
from support.paths import SHARED

pytestmark = pytest.mark.slow

SHARED = SHARED / "data"
PACKS = ("stool", "lamp")


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    """From "torch", "fp32", "fp16" and p_max to a pipeline with the shipped packs."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"the optional package {name} is not installed")
    inner, packs = open_backbone("geoseg_tiny"), [Pack.load(f"geoseg_tiny/{name}") for name in PACKS]
    folder = tmp_path_factory.mktemp("exported")
    backbones = {"torch": inner}
    for precision in ("fp32", "fp16"):
        session = OnnxRuntimeSession(export_image(inner, folder, precision, ANY_SHAPE))
        backbones[precision] = EngineBackbone(inner, session, "", strict=True)
    usual = PipelineConfig()

    def opened(kind, p_max):
        return Pipeline(backbones[kind], packs, replace(usual, coseg=replace(usual.coseg, p_max=p_max)))

    return opened


def real_items():
    """25 MSRC photographs and two Kinect clouds; of few photographs one on the threshold would decide."""
    if not SHARED.is_dir():
        pytest.skip("the real photographs and clouds are not on this machine")
    paths = sorted((SHARED / "images" / "msrc" / "images").iterdir())
    images = [np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1]) for path in paths[::12]]
    clouds = []
    for number in (3, 36):
        cloud, _ = read_cloud_fields(SHARED / "clouds" / "mosd" / f"learn{number}.pcd")
        clouds.append(Cloud(cloud.xyz[::8], None if cloud.rgb is None else cloud.rgb[::8]))
    return images, clouds


def rooms():
    """Six pictures of stools and six of lamps, for the same reason, and a cloud with a stool."""
    set_config, images, clouds = make_set_config("easy"), [], []
    for number, concept in enumerate(PACKS):
        sources = [SeedSource(900 + number + 10 * k, "parity") for k in range(6)]
        images += [make_image(source, concept, (), set_config).rgb for source in sources]
    clouds.append(make_cloud(SeedSource(900, "parity"), "stool", (), set_config, "depth").cloud)
    return images, clouds


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(("items", "p_max"), [(real_items, 1.0), (rooms, PipelineConfig().coseg.p_max)])
def test_backends_answer_alike(pipelines, precision, items, p_max) -> None:
    images, clouds = items()
    found = compare(pipelines("torch", p_max), pipelines(precision, p_max), images, clouds)
    print(f"{items.__name__}, {precision}: J {found.masks}, labels {found.labels}")
    assert found.passes(precision)
    assert found.marked >= 1 and found.labelled >= 1  # emptiness proves nothing


def test_overlap_counts_what_both_call_the_same() -> None:
    first = np.array([[0, 1, 1, 2]])
    assert overlap(first, first) == 1 and overlap(first * 0, first * 0) == 1 and overlap(first, first * 0) == 0
    assert overlap(first, np.array([[1, 1, 2, 2]])) == pytest.approx(2 / 4)


def test_averages_decide() -> None:
    assert Agreement((1.0, 0.99), 2, (), 0).passes("fp32") and not Agreement((1.0, 0.98), 2, (1.0,), 1).passes("fp32")
    assert Agreement((1.0, 0.98), 2, (1.0,), 1).passes("fp16") and not Agreement((1.0, 0.78), 2, (1.0,), 1).passes("fp16")
    for precision in ("fp32", "fp16"):
        assert not Agreement((1.0,), 1, (LEAST - 0.001,), 1).passes(precision)


def test_another_network_does_not_pass(fake_backbone, fake_packs, monkeypatch) -> None:
    from support.fake_world import CONFIG, FakeBackbone, picture, table

    class Different(FakeBackbone):
        def tokens(self, images):
            return super().tokens(np.ascontiguousarray(images[..., ::-1]))  # red for blue

    config = PipelineConfig(coseg=CONFIG.coseg)
    packs = [fake_packs["red"], fake_packs["blue"]]
    right, wrong = (Pipeline(backbone, packs, config) for backbone in (fake_backbone, Different()))
    images, clouds = [picture(70, ("red", "green"))[0]], [table(70, ("red", "green"))[0]]
    same, other = compare(right, right, images, clouds), compare(right, wrong, images, clouds)
    assert same.passes("fp32") and same.marked == same.labelled == 1
    assert not other.passes("fp16")
