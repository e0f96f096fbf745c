"""Build the engine that a concept pack runs on, ahead of time: for a Docker image, a fleet, or for a quick first start of the node.

The engine is written to the engine cache, which the node and the other commands use, or to the folder --out, which can be the node's
parameter engine_cache. An existing engine is not built again.

  onnxruntime   the exported network, an ONNX file
  tensorrt      for the GPU of this machine, and no other: on a Jetson build on the Jetson
  tensorrt_rtx  for GPUs of the compute capabilities named; needs no GPU here

example:
  geoseg build-engine --pack mug.pack --backend tensorrt
  geoseg build-engine --pack mug.pack --backend tensorrt_rtx --compute-capability 86 89 120 --out engines/
  geoseg build-engine --check engines/image-tensorrt_rtx-72414d3f1b1d2a2e4536-86.89.120/
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.runtime.engines.options import ORDER, PRECISIONS, TENSORRT, EngineOptions

if TYPE_CHECKING:
    from geoseg_ros.runtime.engines.cache import CacheEntry

BUILT = ORDER[:-1]  # PyTorch runs the network as it is
CAPABILITIES = (80, 86, 89, 120)  # of tensorrt_rtx where none is named and no GPU is here


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--pack", metavar="PACK", help="concept pack: a file, or the name of one that ships")
    what.add_argument("--check", metavar="FILE", help="check a built engine: one of its files, or its folder")
    parser.add_argument("--backend", choices=BUILT, help="what to build for")
    parser.add_argument("--precision", choices=PRECISIONS, help=f"of TensorRT engines (default {EngineOptions.precision})")
    known = " ".join(map(str, CAPABILITIES))
    parser.add_argument(
        "--compute-capability", nargs="+", type=int, metavar="N", help=f"of tensorrt_rtx, such as 86 (default: of the GPU here, or {known})"
    )
    parser.add_argument("--side", type=int, metavar="PIXELS", help="longest side of pictures (default: that of the node's default)")
    parser.add_argument("--out", metavar="DIR", help="folder to build into (default: the user's engine cache)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Build or check, and return the facts about the engine."""
    if options.check:
        others = ("backend", "precision", "compute_capability", "side", "out")
        unused = [f"--{name.replace('_', '-')}" for name in others if getattr(options, name)]
        if unused:
            raise InputError(f"{unused[0]}: not used with --check")
        return _check(Path(options.check), quiet=options.json)
    if options.backend is None:
        raise InputError(f"--backend: expected one of {', '.join(BUILT)}")
    if options.compute_capability and options.backend != "tensorrt_rtx":
        raise InputError(f"--compute-capability: only of tensorrt_rtx; {options.backend} needs none")
    if options.precision and options.backend not in TENSORRT:
        raise InputError(f"--precision: only of TensorRT; {options.backend} has the network's own")
    return _build(options)


def _build(options: argparse.Namespace) -> dict[str, Any]:
    from geoseg_ros.backbones.registry import open_backbone
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.methods.contrast.config import CosegConfig
    from geoseg_ros.packs.pack import Pack
    from geoseg_ros.runtime.engines import build, trt
    from geoseg_ros.runtime.engines.choose import ImageSource

    side = CosegConfig().image_side if options.side is None else options.side
    if not 128 <= side <= 2048:
        raise InputError(f"--side: expected 128 to 2048 pixels, got {side}")
    unknown = set(options.compute_capability or ()) - set(trt.RTX_CAPABILITIES)
    if unknown:
        known = " ".join(map(str, trt.RTX_CAPABILITIES))
        raise InputError(f"--compute-capability: tensorrt_rtx builds for {known}, not for {unknown.pop()}")
    pack = Pack.load(options.pack)
    backbone = open_backbone(pack.backbone)
    pack.check_backbone(backbone.name, backbone.hash)
    with Stages("%", options.json) as stages:
        engine = EngineOptions(
            options.backend,
            strict=True,
            precision=options.precision or EngineOptions.precision,
            cache=options.out,
            progress=stages,
            log=lambda line: print(line, file=sys.stderr),
        )
        source = ImageSource(backbone, engine, side)
        if options.backend == "onnxruntime":
            entry, _ = source.exported(options.backend)
        else:
            trt.load_tensorrt(options.backend)  # before the export, which takes longer
            if options.backend == "tensorrt":
                capabilities: tuple[int, ...] = (build.gpu_here()[1],)
            else:
                capabilities = tuple(options.compute_capability or ((build.gpu_here()[1],) if engine.on_gpu() else CAPABILITIES))
            entry = source.engine(source.exported(options.backend)[1], options.backend, capabilities)
    return _describe(entry, options.json)


def _check(path: Path, quiet: bool) -> dict[str, Any]:
    from geoseg_ros.runtime.engines.cache import ENTRY, check_entry

    if not any((folder / ENTRY).is_file() for folder in (path, path.parent)):
        raise InputError(f"{path}: expected an engine of the cache, a folder with {ENTRY}")
    try:
        entry = check_entry(path)
    except InputError as error:
        raise GeosegError(str(error)) from None
    result = _describe(entry, quiet)
    if refusal := _refusal(entry):
        raise GeosegError(f"{entry.folder}: {refusal}; here it would be rebuilt")
    return result


def _refusal(entry: CacheEntry) -> str:
    """Why the node would not use an engine on this machine, as far as is known here; or an empty string."""
    import torch

    from geoseg_ros.runtime.engines import build, trt

    flavour, fields = entry.key.flavour, entry.key.fields
    if flavour not in TENSORRT:
        return ""
    try:
        version = trt.load_tensorrt(flavour).__version__
    except InputError:
        return ""  # not a machine that runs engines
    if version != fields.get("version"):
        return f"made by {flavour} {fields.get('version')}, here is {version}"
    if not torch.cuda.is_available():
        return ""
    name, capability = build.gpu_here()
    if entry.key.capabilities and capability not in entry.key.capabilities:
        return f"made for compute capabilities {', '.join(map(str, entry.key.capabilities))}, here is {capability}"
    if not entry.key.capabilities and fields.get("gpu") != {"name": name, "capability": capability}:
        return f"made for another GPU, here is {name}"
    return ""


def _describe(entry: CacheEntry, quiet: bool) -> dict[str, Any]:
    """Print the facts about an entry, and return them."""
    fields = entry.key.fields
    facts = {
        "folder": str(entry.folder),
        "files": sorted(p.name for p in entry.folder.iterdir()),
        "backend": entry.key.flavour,
        "version": fields.get("version"),
        "precision": fields.get("precision"),
        "capabilities": list(entry.key.capabilities),
        "gpu": fields.get("gpu"),
        "bytes": entry.bytes,
        **entry.notes,
    }
    if not quiet:
        made_for = f"GPUs {', '.join(map(str, entry.key.capabilities))}" if entry.key.capabilities else ""
        gpu = fields.get("gpu")
        made_for = made_for or (f"{gpu['name']} ({gpu['capability']})" if gpu else "any processor")
        version = f" {fields['version']}" if fields.get("version") else ""
        print(f"{entry.folder}")
        print(f"image for {entry.key.flavour}{version}, {fields.get('precision')}, {entry.bytes / 1e6:.1f} MB, {made_for}")
        details = [f"built {facts['built']}"]
        if facts.get("seconds") is not None:
            details.append(f"in {facts['seconds']:.1f} s")
        if facts.get("activation_bytes") is not None:
            details.append(f"{facts['activation_bytes'] / 1e6:.0f} MB of activations")
        print(", ".join(details))
    return facts
