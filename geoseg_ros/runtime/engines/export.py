"""Networks as ONNX files that every backend can build: opset 18, one file, the same bytes for the same weights.

Needs the packages onnx and onnxscript, which are optional.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geoseg_ros.backbones.base import ImageBackbone, TorchBackbone
from geoseg_ros.backbones.onnx import OnnxBackbone
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.files import write_bytes
from geoseg_ros.methods.geofree.bank import Bank
from geoseg_ros.methods.geofree.model import CosegNetwork
from geoseg_ros.runtime.engines.spec import PRECISIONS, EngineSpec, TensorRange

OPSET = 18  # the newest that TensorRT 10.3 is known to read whole, the oldest of PyTorch's exporter
CLOUD_OUTPUTS = ("foreground", "background", "presence")
CLOUD_TOLERANCE = 1e-3  # of the features, relative
IMAGE_INPUT, IMAGE_OUTPUTS = "images", ("tokens", "global_vector")


@dataclass(frozen=True)
class ImageShapes:
    """Pictures that an image engine is built for: (least, usual, largest) of each number; sides are rounded to the backbone's stride.

    Large pictures come one at a time, small ones in batches, and memory is set aside for the larger of the two, not for batches of large
    ones.

    Attributes:
        height, width: pixels of a picture that comes alone.
        batch, batch_side: number V of pictures that come together, and their sides, pixels.
    """

    height: tuple[int, int, int] = (128, 480, 640)
    width: tuple[int, int, int] = (128, 640, 640)
    batch: tuple[int, int, int] = (1, 8, 8)
    batch_side: tuple[int, int, int] = (128, 128, 224)


ANY_SHAPE = ImageShapes((32, 480, 2048), (32, 640, 2048), (1, 8, 32), (32, 128, 2048))
"""For backends that set nothing aside for the largest shape: onnxruntime and torch."""


def export_image(backbone: ImageBackbone, folder: str | Path, precision: str = "fp32", shapes: ImageShapes | None = None) -> EngineSpec:
    """Write ``image-<precision>.onnx``: ``images`` float32 [V, H, W, 3], RGB 0..255 -> ``tokens`` float32 [V, h, w, D] and
    ``global_vector`` float32 [V, D], as :meth:`ImageBackbone.tokens`.

    Normalisation and layout of the pixels are in the graph and in float32. With ``fp16`` the network is in half precision but for its
    normalisations and means over pixels.

    Args:
        backbone: any that is a torch module, or an ONNX file; its nodes are taken as they are, in their own precision, and what is
            around them is added.
        folder: is made where it is absent.
        shapes: what the engine is built for (:class:`ImageShapes` by default). The file itself takes any, unless the network does not.

    Raises:
        InputError: absent packages, a backbone of another kind, or a precision that it does not have.
        GeosegError: the network cannot be exported.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision: expected one of {', '.join(PRECISIONS)}, got '{precision}'")
    need_packages("onnx")
    path = Path(folder) / f"image-{precision}.onnx"
    ranges = image_ranges(backbone, shapes or ImageShapes())
    if isinstance(backbone, OnnxBackbone):
        from geoseg_ros.runtime.engines.onnx_backbone import surround

        if precision != "fp32":
            raise InputError(f"backbone '{backbone.name}': an ONNX file has a precision of its own; expected fp32, got {precision}")
        write_bytes(path, clean(surround(backbone, IMAGE_INPUT, IMAGE_OUTPUTS)))
    elif isinstance(backbone, TorchBackbone):
        module = copy.deepcopy(backbone.module).cpu()
        if precision == "fp16":
            module.network.half()
        write_bytes(path, export_module(module, (_widest(ranges),), IMAGE_OUTPUTS, {1: backbone.stride, 2: backbone.stride}))
    else:
        raise InputError(f"backbone '{backbone.name}': expected a torch module or an ONNX file; a {type(backbone).__name__} has no engine")
    return EngineSpec("image", path, ranges, IMAGE_OUTPUTS, precision, f"{backbone.name} {backbone.hash[:12]}")


def image_ranges(backbone: ImageBackbone, shapes: ImageShapes) -> tuple[TensorRange, ...]:
    """Of the input of :func:`export_image`; what an ONNX file fixes stays fixed."""
    batch: int | None = None
    fixed: tuple[int | None, int | None] = (None, None)
    if isinstance(backbone, OnnxBackbone):
        batch, fixed = backbone.batch, backbone.sides

    def profile(count: Sequence[int], *sides: Sequence[int]) -> TensorRange:
        rounded = [(s or max(1, round(v / stride)) * stride for v in side) for s, side in zip(fixed, sides, strict=True)]
        counts = [batch or c for c in count]
        return TensorRange(IMAGE_INPUT, *((v, h, w, 3) for v, h, w in zip(counts, *rounded, strict=True)))

    stride = backbone.stride
    alone, together = profile((1, 1, 1), shapes.height, shapes.width), profile(shapes.batch, shapes.batch_side, shapes.batch_side)
    for one, other in ((together, alone), (alone, together)):
        if one.holds(other.minimum) and one.holds(other.maximum):
            return (one,)
    return alone, together


def _widest(ranges: Sequence[TensorRange]) -> TensorRange:
    """One range that holds all, of one name."""
    low = tuple(min(sides) for sides in zip(*(r.minimum for r in ranges), strict=True))
    high = tuple(max(sides) for sides in zip(*(r.maximum for r in ranges), strict=True))
    return TensorRange(ranges[0].name, low, low, high)


def need_packages(*names: str) -> None:
    """Raise InputError where one of these optional packages is absent."""
    import importlib.util

    absent = [name for name in names if importlib.util.find_spec(name) is None]
    if absent:
        raise InputError(f"exporting a network needs the Python package {absent[0]}, which is not installed")


def export_module(module: nn.Module, inputs: tuple[TensorRange, ...], outputs: tuple[str, ...], multiples: dict[int, int]) -> bytes:
    """A module as the bytes of an ONNX file.

    Args:
        module: float32 tensors in, a tuple of float32 tensors out, in evaluation mode and on the processor.
        inputs: axes whose bounds differ are dynamic; axes of one number and one range are one variable for all inputs.
        outputs: names.
        multiples: axis -> what its size is always a multiple of.

    Raises:
        InputError: onnx or onnxscript is not installed. GeosegError: the network cannot be exported.
    """
    need_packages("onnx", "onnxscript")
    variables: dict[tuple[int, int, int], Any] = {}

    def axis(number: int, low: int, high: int) -> Any:
        if low == high:
            return torch.export.Dim.STATIC
        unit = multiples.get(number, 1)
        variable = variables.setdefault((number, low, high), torch.export.Dim(f"axis{number}", min=low // unit, max=high // unit))
        return unit * variable if unit > 1 else variable

    dynamic = tuple(
        {number: axis(number, low, high) for number, (low, high) in enumerate(zip(r.minimum, r.maximum, strict=True))} for r in inputs
    )
    # sizes that differ from each other and from 1, so that the tracer takes none of them for another
    examples = tuple(torch.zeros(_example(r, multiples)) for r in inputs)
    with _quiet(), torch.inference_mode():
        try:
            program = torch.onnx.export(
                module,
                examples,
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
    return clean(program.model_proto)  # type: ignore[union-attr]


def _example(tensor: TensorRange, multiples: dict[int, int]) -> tuple[int, ...]:
    shape = []
    for number, (low, high) in enumerate(zip(tensor.minimum, tensor.maximum, strict=True)):
        unit = multiples.get(number, 1)
        shape.append(min(high, (max(low // unit, 2) + number) * unit))
    return tuple(shape)


def clean(model: Any) -> bytes:
    """An ONNX model without what does not concern its answers (paths and lines of source code, names of types): the same network gives
    the same bytes on every machine."""
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
    """Without the exporter's chatter on absent packages and its own deprecations."""
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


@dataclass(frozen=True)
class CloudShapes:
    """Clouds that a cloud engine is built for: (least, usual, largest) number of points N, all of which are multiples of 8, and the largest
    number of clouds in one run."""

    points: tuple[int, int, int] = (1024, 2048, 4096)
    batch: int = 1


def export_cloud(network: CosegNetwork, bank: Bank, folder: str | Path, shapes: CloudShapes | None = None) -> EngineSpec:
    """Write ``cloud-fp32.onnx``: ``points`` float32 [B, N, 3] in the unit sphere -> ``foreground`` and ``background`` float32 [B, m, 3],
    the generated points, and ``presence`` float32 [B, 1] (:class:`~geoseg_ros.runtime.engines.cloud_graph.CloudGraph`). Always float32: in
    half precision nearest neighbours change.

    Args:
        network: on the processor. bank: of the concept, with images and clouds.

    Raises:
        InputError: settings that the sparse form is not for, absent packages.
        GeosegError: the sparse form differs from the network on clouds of the bank, or the network cannot be exported.
    """
    from geoseg_ros.runtime.engines.cloud_graph import PARTS, CloudGraph, left_out

    shapes = shapes or CloudShapes()
    if any(count % PARTS for count in shapes.points):
        raise InputError(f"points: expected multiples of {PARTS}, got {', '.join(map(str, shapes.points))}")
    graph = CloudGraph(copy.deepcopy(network).eval(), bank)
    generator = torch.Generator().manual_seed(0)
    probe = torch.nn.functional.normalize(torch.randn(1, shapes.points[0], 3, generator=generator), dim=2)
    difference, _ = left_out(graph, bank, probe)
    if difference > CLOUD_TOLERANCE:
        raise GeosegError(f"the sparse form of the fusion differs from the network by {difference:.1e}, more than {CLOUD_TOLERANCE:g}")
    points = TensorRange("points", *((b, n, 3) for b, n in zip((1, 1, shapes.batch), shapes.points, strict=True)))
    data = export_module(graph, (points,), CLOUD_OUTPUTS, {1: PARTS})
    path = Path(folder) / "cloud-fp32.onnx"
    write_bytes(path, data)
    digest = hashlib.sha256(data).hexdigest()[:12]
    return EngineSpec("cloud", path, (points,), CLOUD_OUTPUTS, "fp32", f"GeoFree network {digest}")
