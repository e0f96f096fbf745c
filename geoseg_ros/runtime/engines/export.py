"""Image backbones as ONNX files that every backend can build: opset 18, one file, the same bytes for the same weights.

Needs the packages onnx and onnxscript, which are optional.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geoseg_ros.backbones.base import ImageBackbone, TokenModule, TorchBackbone
from geoseg_ros.backbones.onnx import OnnxBackbone
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.files import write_bytes
from geoseg_ros.runtime.engines.spec import IMAGES, OUTPUTS, EngineSpec, ImageShapes, ShapeRange, image_profiles

OPSET = 18  # the newest that TensorRT 10.3 is known to read whole, the oldest of PyTorch's exporter


def need_packages(*names: str) -> None:
    """Raise InputError where one of these optional packages is absent."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise InputError(f"exporting a network needs the Python package {name}, which is not installed")


def spec_of(backbone: ImageBackbone, onnx: Path, precision: str, shapes: ImageShapes) -> EngineSpec:
    """What describes the exported file of a backbone. What an ONNX backbone fixes (its ``batch`` and ``sides``) stays fixed."""
    fixed = (backbone.batch, backbone.sides) if isinstance(backbone, OnnxBackbone) else ()
    return EngineSpec(onnx, image_profiles(backbone.stride, shapes, *fixed), precision, f"{backbone.name} {backbone.hash[:12]}")


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
    need_packages("onnx")
    spec = spec_of(backbone, Path(folder) / f"image-{precision}.onnx", precision, shapes or ImageShapes())
    if isinstance(backbone, OnnxBackbone):
        if precision != "fp32":
            raise InputError(f"backbone '{backbone.name}': an ONNX file has a precision of its own; expected fp32, got {precision}")
        model = _surround(backbone)
    elif isinstance(backbone, TorchBackbone):
        need_packages("onnxscript")
        module = copy.deepcopy(backbone.module).cpu()
        if precision == "fp16":
            module.network.half()
        model = _export(module, spec.profiles, backbone.stride)
    else:
        raise InputError(f"backbone '{backbone.name}': expected a torch module or an ONNX file; a {type(backbone).__name__} has no engine")
    write_bytes(spec.onnx, clean(model))
    return spec


def _export(module: TokenModule, profiles: Sequence[ShapeRange], stride: int) -> Any:
    """A torch module as an ONNX model; axes whose bounds differ are dynamic."""
    units, dynamic, example = (1, stride, stride), {}, [0, 0, 0, 3]
    for axis, unit in enumerate(units):
        low, high = min(p.minimum[axis] for p in profiles), max(p.maximum[axis] for p in profiles)
        dynamic[axis] = torch.export.Dim.STATIC
        if low < high:
            size = torch.export.Dim(f"axis{axis}", min=low // unit, max=high // unit)
            dynamic[axis] = unit * size if unit > 1 else size
        # sizes that differ from each other and from 1, so that the tracer takes none of them for another
        example[axis] = min(high, (max(low // unit, 2) + axis) * unit)
    return exported_program(module, (torch.zeros(example),), (IMAGES,), OUTPUTS, (dynamic,))


def exported_program(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], names: Sequence[str], outputs: Sequence[str], dynamic: tuple[Any, ...]
) -> Any:
    """A torch module as an ONNX model, from example ``inputs`` and the dynamic axes of each.

    Raises:
        GeosegError: The module cannot be exported.
    """
    with _quiet(), torch.inference_mode():
        try:
            program = torch.onnx.export(
                module,
                inputs,
                input_names=list(names),
                output_names=list(outputs),
                opset_version=OPSET,
                dynamic_shapes=dynamic,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
            raise GeosegError(f"{type(module).__name__} cannot be exported ({str(error).strip().splitlines()[0]})") from error
    assert program is not None
    return program.model_proto


def clean(model: Any) -> bytes:
    """The bytes of an ONNX model without what its results do not depend on (paths and lines of source code, names of types): the same
    network gives the same bytes on every machine."""
    model.ClearField("doc_string")
    model.ClearField("producer_version")
    model.producer_name = model.graph.name = "geoseg_ros"
    graph = model.graph
    del graph.value_info[:], graph.metadata_props[:]
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
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
    from onnx import compose, numpy_helper
    from onnx.helper import make_node, make_tensor_value_info

    model = onnx.load(backbone.path)
    graph = compose.add_prefix_graph(model.graph, "file/")
    to_first, to_last = ([0, 3, 1, 2], [0, 2, 3, 1]) if backbone.channels_first else ([0, 1, 2, 3], [0, 1, 2, 3])
    nodes = [
        make_node("Sub", [IMAGES, "mean"], ["centred"]),
        make_node("Div", ["centred", "deviation"], ["scaled"]),
        make_node("Transpose", ["scaled"], [f"file/{backbone.input_name}"], perm=to_first),
        *graph.node,
        make_node("Concat", [f"file/{name}" for name in backbone.output_names], ["maps"], axis=1 if backbone.channels_first else 3),
        make_node("Transpose", ["maps"], [OUTPUTS[0]], perm=to_last),
        make_node("Transpose", [OUTPUTS[0]], ["features"], perm=[0, 3, 1, 2]),
        make_node("GlobalAveragePool", ["features"], ["pooled"]),
        make_node("Flatten", ["pooled"], [OUTPUTS[1]]),
    ]
    height, width = (fixed or axis for fixed, axis in zip(backbone.sides, ("height", "width"), strict=True))
    rows, columns = (side // backbone.stride if isinstance(side, int) else f"{side}_tokens" for side in (height, width))
    batch = backbone.batch or "batch"
    for name, value in (("mean", backbone.mean), ("deviation", backbone.deviation)):
        graph.initializer.append(numpy_helper.from_array(value, name))
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.append(make_tensor_value_info(IMAGES, onnx.TensorProto.FLOAT, (batch, height, width, 3)))
    graph.output.append(make_tensor_value_info(OUTPUTS[0], onnx.TensorProto.FLOAT, (batch, rows, columns, backbone.dim)))
    graph.output.append(make_tensor_value_info(OUTPUTS[1], onnx.TensorProto.FLOAT, (batch, backbone.dim)))
    model.graph.CopyFrom(graph)
    return model


def export_adapter(adapter: nn.Module, dims: Sequence[int], path: str | Path) -> None:
    """Write an adapter of tokens: ``tokens0``, ``tokens1`` ... float32 [B, D, h, w] of its levels -> ``features`` float32 [B, E, h, w].

    Args:
        adapter: in evaluation mode, takes the levels as arguments.
        dims: width of the tokens of each level.
        path: of the file. Batch and grid are free, up to 64 and 256.

    Raises:
        InputError: absent packages. GeosegError: the network cannot be exported.
    """
    need_packages("onnx", "onnxscript")
    sizes = {
        axis: torch.export.Dim(name, min=1, max=most) for axis, name, most in ((0, "batch", 64), (2, "rows", 256), (3, "columns", 256))
    }
    inputs = tuple(torch.zeros(2, dim, 5, 7) for dim in dims)
    names = [f"tokens{k}" for k in range(len(dims))]
    model = exported_program(copy.deepcopy(adapter).cpu().eval(), inputs, names, ("features",), (tuple(sizes for _ in dims),))
    write_bytes(Path(path), clean(model))
