"""Networks as ONNX files that every backend can build: opset 18, one file, the same bytes for the same weights.

Needs the packages onnx and onnxscript, which are optional.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import itertools
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from geoseg_ros.backbones.base import ImageBackbone, TorchBackbone
from geoseg_ros.backbones.onnx import OnnxBackbone
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.files import write_bytes
from geoseg_ros.runtime.engines.spec import (
    IMAGE_INPUT,
    IMAGE_OUTPUTS,
    PRECISIONS,
    EngineSpec,
    ImageShapes,
    TensorRange,
    image_ranges,
)

OPSET = 18  # the newest that TensorRT 10.3 is known to read whole, the oldest of PyTorch's exporter


def need_packages(*names: str) -> None:
    """Raise InputError where one of these optional packages is absent."""
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    if absent:
        raise InputError(f"exporting a network needs the Python package {absent[0]}, which is not installed")


def export_image(backbone: ImageBackbone, folder: str | Path, precision: str = "fp32", shapes: ImageShapes | None = None) -> EngineSpec:
    """Write ``image-<precision>.onnx``: ``images`` float32 [V, H, W, 3], RGB 0..255 -> ``tokens`` float32 [V, h, w, D] and
    ``global_vector`` float32 [V, D], as :meth:`ImageBackbone.tokens`.

    Normalisation and layout of the pixels are in the graph and in float32. With ``fp16`` the network is in half precision except its
    normalisations and means over pixels.

    Args:
        backbone: A torch module, or an ONNX file, whose nodes keep their own precision.
        folder: Made where it is absent.
        precision: ``fp16`` or ``fp32``.
        shapes: What the engine is built for (:class:`ImageShapes` by default). The file itself takes any, unless the network does not.

    Raises:
        InputError: Absent packages, a backbone of another kind, or a precision that it does not have.
        GeosegError: The network cannot be exported.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision: expected one of {', '.join(PRECISIONS)}, got '{precision}'")
    need_packages("onnx")
    path, ranges = Path(folder) / f"image-{precision}.onnx", image_ranges(backbone, shapes or ImageShapes())
    if isinstance(backbone, OnnxBackbone):
        if precision != "fp32":
            raise InputError(f"backbone '{backbone.name}': an ONNX file has a precision of its own; expected fp32, got {precision}")
        data = _clean(_surround(backbone))
    elif isinstance(backbone, TorchBackbone):
        module = copy.deepcopy(backbone.module).cpu()
        if precision == "fp16":
            module.network.half()
        data = export_module(module, (_widest(ranges),), IMAGE_OUTPUTS, {1: backbone.stride, 2: backbone.stride})
    else:
        raise InputError(f"backbone '{backbone.name}': expected a torch module or an ONNX file; a {type(backbone).__name__} has no engine")
    write_bytes(path, data)
    return EngineSpec("image", path, ranges, IMAGE_OUTPUTS, precision, f"{backbone.name} {backbone.hash[:12]}")


def export_module(
    module: nn.Module, inputs: Sequence[TensorRange], outputs: Sequence[str], multiples: Mapping[int, int] | None = None
) -> bytes:
    """A torch module as the bytes of an ONNX file.

    Args:
        module: Float32 tensors in, a tuple of float32 tensors out; in evaluation mode and on the processor.
        inputs: Axes whose bounds differ are dynamic; axes of one number and one range are one variable for all inputs.
        outputs: Names of the outputs.
        multiples: Axis -> what its size is always a multiple of.

    Raises:
        InputError: onnx or onnxscript is not installed, or a declared size is not such a multiple.
        GeosegError: The network cannot be exported.
    """
    need_packages("onnx", "onnxscript")
    units = multiples or {}
    for r, (k, unit) in itertools.product(inputs, units.items()):
        if sizes := [str(shape[k]) for shape in (r.minimum, r.optimum, r.maximum) if shape[k] % unit]:
            raise InputError(f"{r.name}: expected multiples of {unit} on axis {k}, got {', '.join(sizes)}")
    variables: dict[tuple[int, int, int], Any] = {}

    def axis(number: int, low: int, high: int) -> Any:
        if low == high:
            return torch.export.Dim.STATIC
        unit = units.get(number, 1)
        variable = variables.setdefault((number, low, high), torch.export.Dim(f"axis{number}", min=low // unit, max=high // unit))
        return unit * variable if unit > 1 else variable

    dynamic = tuple({k: axis(k, low, high) for k, (low, high) in enumerate(zip(r.minimum, r.maximum, strict=True))} for r in inputs)
    with _quiet(), torch.inference_mode():
        try:
            program = torch.onnx.export(
                module,
                tuple(torch.zeros(_example(r, units)) for r in inputs),
                input_names=[r.name for r in inputs],
                output_names=list(outputs),
                opset_version=OPSET,
                dynamic_shapes=dynamic,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
            raise GeosegError(f"{type(module).__name__} cannot be exported ({str(error).strip().splitlines()[0]})") from error
    return _clean(program.model_proto)  # type: ignore[union-attr]


def _widest(ranges: Sequence[TensorRange]) -> TensorRange:
    """One range that holds all, of one name."""
    low = tuple(min(sides) for sides in zip(*(r.minimum for r in ranges), strict=True))
    high = tuple(max(sides) for sides in zip(*(r.maximum for r in ranges), strict=True))
    return TensorRange(ranges[0].name, low, low, high)


def _example(tensor: TensorRange, units: Mapping[int, int]) -> tuple[int, ...]:
    """Sizes that differ from each other and from 1, so that the tracer takes none of them for another."""
    bounds = enumerate(zip(tensor.minimum, tensor.maximum, strict=True))
    return tuple(min(high, (max(low // units.get(k, 1), 2) + k) * units.get(k, 1)) for k, (low, high) in bounds)


def _clean(model: Any) -> bytes:
    """The bytes of an ONNX model without what its results do not depend on (paths and lines of source code, names of types): the same
    network gives the same bytes on every machine."""
    for name in ("doc_string", "producer_version"):
        model.ClearField(name)
    model.producer_name = "geoseg_ros"
    graph = model.graph
    graph.ClearField("doc_string")
    graph.name = "geoseg_ros"
    del graph.value_info[:], graph.metadata_props[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("doc_string")
        del part.metadata_props[:]
    return bytes(model.SerializeToString(deterministic=True))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's messages on absent packages and its own deprecations."""
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in ("torch.onnx", "onnxscript")}
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def _surround(backbone: OnnxBackbone) -> Any:
    """An ONNX backbone's own model with layout and normalisation of the pixels in front, and its maps as tokens and their mean behind.

    The file's own names get a prefix, so that none can clash.
    """
    import onnx
    from onnx import compose, helper, numpy_helper

    model = onnx.load(backbone.path)
    graph = compose.add_prefix_graph(model.graph, "file/")
    file_input, maps = f"file/{backbone.input_name}", [f"file/{name}" for name in backbone.output_names]
    constants = [
        numpy_helper.from_array(np.asarray(value, np.float32), name)
        for name, value in (("mean", backbone.mean), ("deviation", backbone.deviation))
    ]
    front = [helper.make_node("Sub", [IMAGE_INPUT, "mean"], ["centred"])]
    back = []
    if backbone.channels_first:
        front += [
            helper.make_node("Div", ["centred", "deviation"], ["scaled"]),
            helper.make_node("Transpose", ["scaled"], [file_input], perm=[0, 3, 1, 2]),
        ]
    else:
        front.append(helper.make_node("Div", ["centred", "deviation"], [file_input]))
        back = [helper.make_node("Transpose", [name], [f"{name}/first"], perm=[0, 3, 1, 2]) for name in maps]
        maps = [f"{name}/first" for name in maps]
    back += [
        helper.make_node("Concat", maps, ["features"], axis=1),
        helper.make_node("Transpose", ["features"], [IMAGE_OUTPUTS[0]], perm=[0, 2, 3, 1]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], [IMAGE_OUTPUTS[1]]),
    ]
    height, width = (fixed or axis for fixed, axis in zip(backbone.sides, ("height", "width"), strict=True))
    rows, columns = (side // backbone.stride if isinstance(side, int) else f"{side}_tokens" for side in (height, width))
    batch = backbone.batch or "batch"

    def tensor(name: str, *shape: int | str) -> Any:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    joined = helper.make_graph(
        [*front, *graph.node, *back],
        "geoseg_ros",
        [tensor(IMAGE_INPUT, batch, height, width, 3)],
        [tensor(IMAGE_OUTPUTS[0], batch, rows, columns, backbone.dim), tensor(IMAGE_OUTPUTS[1], batch, backbone.dim)],
        [*graph.initializer, *constants],
        sparse_initializer=graph.sparse_initializer,
    )
    result = helper.make_model(joined, opset_imports=model.opset_import, functions=model.functions)
    result.ir_version = model.ir_version
    return result
