"""Sessions: PyTorch and onnxruntime on the processor; captured work with a stream that is none; TensorRT around a false module.

No GPU takes part: what is tested of the GPU halves is which shapes, buffers, contexts and copies there are.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from geoseg_ros.backbones.base import TokenModule
from geoseg_ros.errors import InputError
from geoseg_ros.runtime.engines.sessions import GRAPHS, EngineError, OnnxRuntimeSession, PlanError, TensorRTSession, TorchSession, bucket
from geoseg_ros.runtime.engines.spec import IMAGES, OUTPUTS, EngineSpec, ShapeRange
from support.fake_tensorrt import PlainStream, module

ALONE = ShapeRange((1, 8), (1, 16), (1, 64))
TOGETHER = ShapeRange((1, 8), (4, 8), (6, 16))


def spec(onnx="none.onnx"):
    return EngineSpec(Path(onnx), (ALONE, TOGETHER), "fp32", "double")


class Double(TokenModule):
    """tokens = weight x, global_vector = x, rows do not meet; ``calls`` are the shapes it was called with."""

    def __init__(self):
        super().__init__(nn.Identity())
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.calls = []

    def forward(self, x):
        self.calls.append(tuple(x.shape))
        if x.isnan().any():
            raise RuntimeError("the device\nis gone")
        return self.weight * x, x.clone()


def values(*shape):
    return torch.arange(float(np.prod(shape))).view(shape) + 1


def test_torch_runs_the_module_as_it_is() -> None:
    original = Double()
    session = TorchSession(spec(), original)
    given = values(3, 8)
    answer = session.run(given)[0]
    assert session.backend == "torch-cpu" and torch.equal(answer, 2 * given)
    assert original.weight.requires_grad and not original.calls  # a copy ran
    with pytest.raises(InputError, match="got torch.float32 3x64"):
        session.run(values(3, 64))
    with pytest.raises(EngineError, match="^torch-cpu: the device$"):
        session.run(torch.full((1, 8), torch.nan))
    session.close()
    session.close()  # once more does nothing


def test_float32_is_captured_without_tf32() -> None:
    seen = []

    class Watch(Double):
        def forward(self, x):
            seen.append(torch.backends.cudnn.allow_tf32)
            return super().forward(x)

    before = torch.backends.cudnn.allow_tf32
    TorchSession(spec(), Watch(), stream=PlainStream()).run(values(1, 8))
    assert seen[0] is False and torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize(("count", "most", "expected"), [(1, 8, 1), (2, 8, 2), (3, 8, 4), (5, 8, 8), (5, 6, 6), (1, 1, 1), (8, 8, 8)])
def test_buckets_are_powers_of_two(count, most, expected) -> None:
    assert bucket(count, most) == expected


def captured(stream):
    return TorchSession(spec(), Double(), stream=stream)


def test_captured_work_answers_like_plain_work() -> None:
    stream = PlainStream()
    session, plain = captured(stream), TorchSession(spec(), Double())
    answers = []
    for shape in ((3, 8), (4, 8), (1, 64), (2, 16), (3, 8), (6, 8), (5, 8)):
        given = torch.randn(shape)
        answers += zip(session.run(given), plain.run(given), strict=True)
    for answer, expected in answers:  # looked at in the end: a later run must not write into an earlier answer
        assert torch.equal(answer, expected)
    # 3 and 4 share one capture, and so do 5 and 6, the largest number; what is captured never has another number
    assert stream.captures == 4 and set(session._module.calls) == {(4, 8), (1, 64), (2, 16), (6, 8)}


def test_the_least_recently_used_capture_is_forgotten() -> None:
    stream = PlainStream()
    session = captured(stream)
    widths = range(8, 8 + GRAPHS)
    for width in widths:
        session.run(values(1, width))
    session.run(values(1, 8))  # used again
    session.run(values(1, 60))  # one too many
    assert stream.captures == GRAPHS + 1 and len(session._graphs) == GRAPHS
    session.run(values(1, 8))
    assert stream.captures == GRAPHS + 1
    session.run(values(1, 9))  # this one was forgotten
    assert stream.captures == GRAPHS + 2
    session.close()
    assert len(session._graphs) == 0


@pytest.fixture
def double_onnx(tmp_path):
    onnx = pytest.importorskip("onnx", reason="the package onnx, which writes the test's files, is not installed")
    pytest.importorskip("onnxruntime", reason="the optional package onnxruntime is not installed")
    helper = onnx.helper
    tensors = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["v", "n"]) for name in (IMAGES, *OUTPUTS)]
    nodes = [
        helper.make_node("Reshape", [IMAGES, "shape"], ["z"]),
        helper.make_node("Add", [IMAGES, "z"], [OUTPUTS[0]]),
        helper.make_node("Identity", [IMAGES], [OUTPUTS[1]]),
    ]
    # Reshape to the very shape, which only holds when the number of elements is a multiple of 8
    shape = helper.make_tensor("shape", onnx.TensorProto.INT64, [2], [0, -1])
    graph = helper.make_graph(nodes, "double", tensors[:1], tensors[1:], [shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, tmp_path / "double.onnx")
    return tmp_path / "double.onnx"


def test_onnxruntime_answers_for_every_shape_and_layout(double_onnx) -> None:
    session = OnnxRuntimeSession(spec(double_onnx))
    answers = []
    for shape in ((3, 8), (3, 8), (1, 64), (3, 8)):
        given = torch.randn(shape).t().contiguous().t()  # not contiguous
        answers.append((session.run(given)[0], 2 * given))
    assert session.backend == "onnxruntime-cpu"
    for answer, expected in answers:
        assert torch.equal(answer, expected)
    with pytest.raises(InputError, match="got torch.float32 3x64"):
        session.run(values(3, 64))
    session.close()


def test_onnxruntime_tells_what_it_cannot_do(double_onnx, tmp_path) -> None:
    import onnxruntime

    other = EngineSpec(double_onnx, (ShapeRange((1,), (1,), (8,)),), "fp32", "another rank")
    with pytest.raises(EngineError, match="onnxruntime-cpu: "):
        OnnxRuntimeSession(other).run(values(8))
    noise = tmp_path / "noise.onnx"
    noise.write_bytes(b"no model")
    with pytest.raises(InputError, match=f"{noise}: not a readable ONNX file"):
        OnnxRuntimeSession(spec(noise))
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(InputError, match="no CUDAExecutionProvider"):
            OnnxRuntimeSession(spec(double_onnx), "cuda")


def plan(*changes):
    """Of the two profiles of :func:`spec`."""
    profiles = [{IMAGES: (r.minimum, r.optimum, r.maximum)} for r in (ALONE, TOGETHER)]
    return pickle.dumps([profiles, *changes])


@pytest.fixture
def tensorrt(tmp_path, monkeypatch):
    """From a plan to a session of a false TensorRT, its module, and its stream."""

    def opened(content=None):
        (tmp_path / "engine.plan").write_bytes(content or plan())
        fake, stream = module(), PlainStream()
        monkeypatch.setattr("geoseg_ros.runtime.engines.sessions.load_tensorrt", lambda flavour: fake)
        return TensorRTSession(tmp_path / "engine.plan", spec(), "tensorrt", "cpu", stream), fake, stream

    return opened


def test_tensorrt_has_a_context_for_every_shape(tensorrt) -> None:
    session, fake, stream = tensorrt()
    answers = []
    for shape in ((3, 8), (1, 64), (4, 8), (1, 8), (3, 8)):
        given = torch.randn(shape)
        answers.append((session.run(given)[0], 2 * given))
    for answer, expected in answers:
        assert torch.equal(answer, expected)
    contexts = fake.engines[0].contexts
    assert [(c.shapes[IMAGES], c.profile) for c in contexts] == [((4, 8), 1), ((1, 64), 0), ((1, 8), 0)]
    assert stream.captures == 3 and session.backend == "tensorrt"
    with pytest.raises(InputError, match="got torch.float32 2x64"):
        session.run(values(2, 64))
    session.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no plan", "cannot use the engine on this GPU"),
        (plan((IMAGES, "z")), "another network"),
        (plan((IMAGES,), ("w",)), "another network"),
        (pickle.dumps([[{IMAGES: ((1, 8),) * 3}]]), "another network"),
    ],
)
def test_tensorrt_refuses_foreign_plans(content, words, tensorrt) -> None:
    with pytest.raises(PlanError, match=words) as caught:
        tensorrt(content)
    assert "\n" not in str(caught.value)


def test_tensorrt_failures_are_engine_errors(tensorrt) -> None:
    session, fake, _ = tensorrt()
    engine = fake.engines[0]
    engine.broken = True
    with pytest.raises(EngineError, match="tensorrt: refused the work"):
        session.run(values(1, 8))
    engine.broken = False
    assert torch.equal(session.run(values(1, 8))[0], 2 * values(1, 8))  # nothing half-made was kept
    engine.create_execution_context = lambda: None
    with pytest.raises(EngineError, match="no execution context"):
        session.run(values(1, 16))
