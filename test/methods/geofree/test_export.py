"""The sparse form of the cloud branch: the network's own answers, less memory."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.methods.geofree.config import NetworkConfig, preset
from geoseg_ros.methods.geofree.decode import competitive
from geoseg_ros.methods.geofree.export import INPUT, OUTPUTS, PARTS, CloudGraph, exportable, left_out
from geoseg_ros.methods.geofree.inputs import PreparedCloud
from geoseg_ros.methods.geofree.predict import predict_clouds
from geoseg_ros.methods.geofree.samplers import matched
from geoseg_ros.runtime.engines.export import export_module
from geoseg_ros.runtime.engines.sessions import OnnxRuntimeSession, check_inputs
from geoseg_ros.runtime.engines.spec import EngineSpec, TensorRange
from geoseg_ros.runtime.engines.trt import build_plan, load_tensorrt
from support.cloud_networks import SMALL, a_bank, awake, sphere


@pytest.mark.parametrize(
    ("gcsf", "sfe"),
    [({}, {}), ({"k_per_image": False}, {}), ({"centre": True}, {"attention": "cosine"}), ({}, {"residual": "standardised", "alpha": 2.0})],
)
@torch.no_grad()
def test_the_sparse_form_is_the_network(gcsf, sfe) -> None:
    network = awake(replace(SMALL, sfe=replace(SMALL.sfe, **sfe)), **gcsf)
    bank = a_bank(network)
    points = sphere(64, 2)
    assert left_out(CloudGraph(network, bank, parts=4), bank, points)[0] < 1e-4
    silent = CloudGraph(network, replace(bank, patches=torch.zeros_like(bank.patches)), parts=4)  # the images matter
    assert left_out(silent, bank, points)[0] > 1e-2


@torch.no_grad()
def test_outputs_are_those_of_the_prediction() -> None:
    network = awake()
    bank = a_bank(network)
    points = sphere(64, 3)
    graph = CloudGraph(network, bank)
    foreground, background, presence = graph(points)
    rows = np.arange(64)
    clouds = [PreparedCloud(p.numpy(), rows, p.numpy(), rows, 64) for p in points]
    expected = predict_clouds(network, clouds, bank)
    assert presence[:, 0].numpy() == pytest.approx([p.presence for p in expected], abs=1e-4)
    for k in range(3):
        near = [points[k][matched(q[k : k + 1], points[k : k + 1])[0]] for q in (foreground, background)]
        assert competitive(clouds[k].whole, *(n.numpy() for n in near)) == pytest.approx(expected[k].score, abs=1e-4)


def test_edges_that_matter_are_not_left_out_unnoticed() -> None:
    """With a weak prior what the graph discards keeps its weight in the attention: refused."""
    weak = awake(replace(SMALL, sfe=replace(SMALL.sfe, alpha=0.01)))
    with pytest.raises(GeosegError, match="sparse form of the fusion differs from the network by"):
        exportable(weak, a_bank(weak))


def test_settings_that_are_not_sparse_are_refused() -> None:
    paper = awake(replace(preset("paper"), sampler=SMALL.sampler, contrast=8, gcsf=replace(preset("paper").gcsf, width=16)))
    network = awake()
    bank = a_bank(network)
    cases = [
        (paper, bank, "gcsf.mask_mode: an engine of the cloud branch needs additive, got paper"),
        (network, replace(bank, patches=bank.patches[:0]), "bank: .* needs images and clouds"),
        (awake(k=2000), bank, "gcsf.k: 6000 edges per point are more than the 3840"),
    ]
    for made, kept, words in cases:
        with pytest.raises(InputError, match=words):
            exportable(made, kept)
    odd = TensorRange(INPUT, (1, 1004, 3), (1, 2048, 3), (1, 4096, 3))
    with pytest.raises(InputError, match="points: expected multiples of 8 on axis 1, got 1004"):
        export_module(CloudGraph(network, bank), (odd,), OUTPUTS, {1: PARTS})


def test_the_exported_cloud_branch_answers_alike(tmp_path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"the optional package {name} is not installed")
    network = awake()
    bank = a_bank(network)
    shapes, graph = TensorRange(INPUT, (1, 64, 3), (1, 128, 3), (2, 256, 3)), exportable(network, bank)
    spec = EngineSpec("cloud", tmp_path / "cloud.onnx", (shapes,), OUTPUTS, "fp32", "GeoFree network")
    spec.onnx.write_bytes(export_module(graph, spec.inputs, spec.outputs, {1: PARTS}))
    session = OnnxRuntimeSession(spec, threads=1)
    for count, clouds in ((64, 1), (160, 2), (256, 1)):
        points = sphere(count, clouds)
        check_inputs(spec, {"points": points})
        with torch.no_grad():
            expected = dict(zip(OUTPUTS, graph(points), strict=True))
        for name, found in session.run({"points": points}).items():
            assert found.shape == expected[name].shape and torch.allclose(found, expected[name], atol=1e-4)


class DenseGraph(CloudGraph):
    """The same with all pairs: the fusion as the network writes it, but for the fused attention, which cannot be exported."""

    def features(self, points):
        network, attention, config = self.network, self.network.to_points, self.network.config
        clouds = network.clouds(points, self._partners(points.shape[0]))
        scores = (F.normalize(clouds.projected, dim=2) @ self.columns).unflatten(2, (self.blocks if config.gcsf.k_per_image else 1, -1))
        kept = scores >= scores.topk(config.gcsf.k, dim=3).values[..., -1:]
        log_z = torch.log_softmax(torch.where(kept, scores, scores + math.log(config.gcsf.epsilon)).flatten(2) / config.gcsf.tau_z, 2)
        query, keys, values = (
            x.unflatten(1, (config.sfe.heads, -1)).transpose(0, 1) for x in (attention.query(clouds.projected)[0], self.keys, self.values)
        )
        weight = torch.softmax(query @ keys.transpose(1, 2) * self.scale + attention.alpha * log_z, dim=2)
        taken = (weight @ values).permute(1, 0, 2).flatten(1)[None]
        return network.enhance_points(clouds.foreground, attention.combine(clouds.projected, taken)), clouds.background


def test_the_sparse_form_needs_a_fifth_of_the_memory(tmp_path) -> None:
    """Up to 4096 points against 8 images of 784 patches, 20 edges to each; compiled for four desktop GPUs without one."""
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name, reason=f"the optional package {name} is not installed")
    try:
        load_tensorrt("tensorrt_rtx")
    except InputError as error:
        pytest.skip(str(error))
    network = awake(NetworkConfig(), 128, 20)
    bank = a_bank(network, images=8, patches=784)
    points, memory = TensorRange("points", (1, 1024, 3), (1, 2048, 3), (1, 4096, 3)), {}
    with torch.no_grad():
        probe = sphere(1024)
        assert torch.allclose(DenseGraph(network, bank).features(probe)[0], CloudGraph(network, bank).features(probe)[0], atol=1e-3)
    for kind in (DenseGraph, CloudGraph):
        path = tmp_path / f"{kind.__name__}.onnx"
        path.write_bytes(export_module(kind(network, bank), (points,), OUTPUTS, {1: PARTS}))
        built = build_plan(EngineSpec("cloud", path, (points,), OUTPUTS, "fp32", ""), "tensorrt_rtx", (80, 86, 89, 120))
        memory[kind] = built.activation_bytes
        print(f"{kind.__name__}: {built.activation_bytes / 1e6:.0f} MB, {built.seconds:.1f} s, {len(built.plan) / 1e6:.1f} MB in all")
    assert memory[DenseGraph] >= 5 * memory[CloudGraph]
