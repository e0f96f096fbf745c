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

from geoseg_ros.errors import InputError
from geoseg_ros.runtime.engines.graphs import GRAPHS, bucket
from geoseg_ros.runtime.engines.sessions import EngineError, OnnxRuntimeSession, PlanError, TensorRTSession, TorchSession
from geoseg_ros.runtime.engines.spec import EngineSpec, TensorRange
from support.fake_tensorrt import PlainStream, module

ALONE = TensorRange("x", (1, 8), (1, 16), (1, 64))
TOGETHER = TensorRange("x", (1, 8), (4, 8), (6, 16))


def spec(onnx="none.onnx"):
    return EngineSpec("image", Path(onnx), (ALONE, TOGETHER), ("y",), "fp32", "double")


class Double(nn.Module):
    """y = weight x, rows do not meet; ``calls`` are the shapes it was called with."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.calls = []

    def forward(self, x):
        self.calls.append(tuple(x.shape))
        if x.isnan().any():
            raise RuntimeError("the device\nis gone")
        return (self.weight * x,)


def values(*shape):
    return torch.arange(float(np.prod(shape))).view(shape) + 1


def test_torch_runs_the_module_as_it_is() -> None:
    original = Double()
    session = TorchSession(spec(), original)
    given = values(3, 8)
    answer = session.run({"x": given})["y"]
    assert session.backend == "torch-cpu" and torch.equal(answer, 2 * given)
    assert original.weight.requires_grad and not original.calls  # a copy ran
    with pytest.raises(InputError, match="got x 3x64"):
        session.run({"x": values(3, 64)})
    with pytest.raises(EngineError, match="^torch-cpu: the device$"):
        session.run({"x": torch.full((1, 8), torch.nan)})
    session.close()
    session.close()  # once more does nothing


def test_float32_is_captured_without_tf32() -> None:
    seen = []

    class Watch(Double):
        def forward(self, x):
            seen.append(torch.backends.cudnn.allow_tf32)
            return super().forward(x)

    before = torch.backends.cudnn.allow_tf32
    TorchSession(spec(), Watch(), stream=PlainStream()).run({"x": values(1, 8)})
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
        given = {"x": torch.randn(shape)}
        answers.append((session.run(given)["y"], plain.run(given)["y"]))
    for answer, expected in answers:  # looked at in the end: a later run must not write into an earlier answer
        assert torch.equal(answer, expected)
    # 3 and 4 share one capture, and so do 5 and 6, the largest number; what is captured never has another number
    assert stream.captures == 4 and set(session._module.calls) == {(4, 8), (1, 64), (2, 16), (6, 8)}


def test_the_least_recently_used_capture_is_forgotten() -> None:
    stream = PlainStream()
    session = captured(stream)
    widths = range(8, 8 + GRAPHS)
    for width in widths:
        session.run({"x": values(1, width)})
    session.run({"x": values(1, 8)})  # used again
    session.run({"x": values(1, 60)})  # one too many
    assert stream.captures == GRAPHS + 1 and len(session._graphs) == GRAPHS
    session.run({"x": values(1, 8)})
    assert stream.captures == GRAPHS + 1
    session.run({"x": values(1, 9)})  # this one was forgotten
    assert stream.captures == GRAPHS + 2
    session.close()
    assert len(session._graphs) == 0


@pytest.fixture
def double_onnx(tmp_path):
    onnx = pytest.importorskip("onnx", reason="the package onnx, which writes the test's files, is not installed")
    pytest.importorskip("onnxruntime", reason="the optional package onnxruntime is not installed")
    helper = onnx.helper
    tensors = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["v", "n"]) for name in "xy"]
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["z"]), helper.make_node("Add", ["x", "z"], ["y"])]
    # Reshape to the very shape, which only holds when the number of elements is a multiple of 8
    shape = helper.make_tensor("shape", onnx.TensorProto.INT64, [2], [0, -1])
    graph = helper.make_graph(nodes, "double", tensors[:1], tensors[1:], [shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, tmp_path / "double.onnx")
    return tmp_path / "double.onnx"


def test_onnxruntime_answers_by_address(double_onnx) -> None:
    session = OnnxRuntimeSession(spec(double_onnx), threads=1)
    answers = []
    for shape in ((3, 8), (3, 8), (1, 64), (3, 8)):
        given = torch.randn(shape).t().contiguous().t()  # not contiguous
        answers.append((session.run({"x": given})["y"], 2 * given))
    assert session.backend == "onnxruntime-cpu"
    for answer, expected in answers:
        assert torch.equal(answer, expected)
    with pytest.raises(InputError, match="got x 3x64"):
        session.run({"x": values(3, 64)})
    session.close()


def test_onnxruntime_tells_what_it_cannot_do(double_onnx, tmp_path) -> None:
    import onnxruntime

    other = EngineSpec("image", double_onnx, (ALONE,), ("elsewhere",), "fp32", "wrong names")
    with pytest.raises(EngineError, match="onnxruntime-cpu: "):
        OnnxRuntimeSession(other).run({"x": values(1, 8)})
    noise = tmp_path / "noise.onnx"
    noise.write_bytes(b"no model")
    with pytest.raises(InputError, match=f"{noise}: not a readable ONNX file"):
        OnnxRuntimeSession(spec(noise))
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(InputError, match="no CUDAExecutionProvider"):
            OnnxRuntimeSession(spec(double_onnx), "cuda")


def plan(*changes):
    """Of the two profiles of :func:`spec`."""
    profiles = [{r.name: (r.minimum, r.optimum, r.maximum)} for r in (ALONE, TOGETHER)]
    return pickle.dumps([profiles, *changes])


def tensorrt(content=None, fake=None):
    fake = fake or module()
    stream = PlainStream()
    return TensorRTSession(content or plan(), spec(), "tensorrt", "cpu", stream, fake), fake, stream


def test_tensorrt_has_a_context_for_every_shape(tmp_path) -> None:
    (tmp_path / "engine.plan").write_bytes(plan())
    session, fake, stream = tensorrt(tmp_path / "engine.plan")
    answers = []
    for shape in ((3, 8), (1, 64), (4, 8), (1, 8), (3, 8)):
        given = torch.randn(shape)
        answers.append((session.run({"x": given})["y"], 2 * given))
    for answer, expected in answers:
        assert torch.equal(answer, expected)
    contexts = fake.engines[0].contexts
    assert [(c.shapes["x"], c.profile) for c in contexts] == [((4, 8), 1), ((1, 64), 0), ((1, 8), 0)]
    assert stream.captures == 3 and session.backend == "tensorrt" and session.precision == "fp32"
    with pytest.raises(InputError, match="got x 2x64"):
        session.run({"x": values(2, 64)})
    session.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no plan", "cannot use it on this GPU"),
        (plan(("x", "z")), "another network"),
        (plan(("x",), ("w",)), "another network"),
        (plan(("x",), ("y",), "float16"), "other shapes or types"),
        (pickle.dumps([[{"x": ((1, 8),) * 3}]]), "other shapes or types"),
    ],
)
def test_tensorrt_refuses_foreign_plans(content, words) -> None:
    with pytest.raises(PlanError, match=words) as caught:
        tensorrt(content)
    assert "\n" not in str(caught.value)


def test_tensorrt_failures_are_engine_errors() -> None:
    session, fake, _ = tensorrt()
    engine = fake.engines[0]
    engine.broken = True
    with pytest.raises(EngineError, match="tensorrt: refused the work"):
        session.run({"x": values(1, 8)})
    engine.broken = False
    assert torch.equal(session.run({"x": values(1, 8)})["y"], 2 * values(1, 8))  # nothing half-made was kept
    engine.create_execution_context = lambda: None
    with pytest.raises(EngineError, match="no execution context"):
        session.run({"x": values(1, 16)})
