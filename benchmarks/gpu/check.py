"""What an accelerator does with this package: equal results, latency and memory, and one training of GeoFree-CoSeg. As Markdown.

Without CUDA it prints "no GPU" and exits with code 0, so that it can be part of a script; --device cpu runs all of its parts here.

example:
  make gpu-check                                            # full size; the training with the epochs of the preset
  python -m benchmarks.gpu.check --budget 70 --out gpu.md
  python -m benchmarks.gpu.check --device cpu --parts backends --runs 20
  python -m benchmarks.gpu.check --device cpu --size small --points 10000 --runs 3 --budget 3 --items 2
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu.measure import WARM_UP, Row, latency, peak_memory, settle, table
from geoseg_ros.errors import GeosegError, InputError

SIDES = (480, 640)  # of the pictures
BATCHES = (1, 4, 8)
CONCEPTS = ("stool", "lamp")
PACKS = tuple(f"geoseg_tiny/{name}" for name in CONCEPTS)
PARTS = ("parity", "backends", "latency", "training")
TOLERANCE = 1e-2
"""Largest relative difference between the devices that passes. TF32 convolutions, PyTorch's default on newer GPUs, keep 10 bits."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "cpu"), help="auto: cuda, or nothing is done (default)")
    parser.add_argument("--size", default="full", choices=("full", "small"), help="of the trained network (default %(default)s)")
    parser.add_argument("--budget", type=int, metavar="EPOCHS", help="of the training (default: the preset's)")
    parser.add_argument("--items", type=int, default=40, metavar="N", help="clouds and pictures of each family (default %(default)s)")
    parser.add_argument(
        "--points", type=int, nargs="+", default=[10_000, 30_000, 100_000, 300_000, 1_000_000], metavar="N", help="sizes of clouds"
    )
    parser.add_argument("--runs", type=int, default=50, metavar="N", help="timed runs of each kind (default %(default)s)")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="what is done (default: all)")
    parser.add_argument("--out", metavar="FILE", help="also write the Markdown to FILE")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Check, print, write.

    Returns:
        ``device``, ``parity`` (relative differences) and ``training``.

    Raises:
        InputError: Bad options.
        GeosegError: The devices do not agree; the report is printed and written before.
    """
    from benchmarks.baselines.geofree import SIZES
    from benchmarks.gpu.backends import backends_report
    from geoseg_ros.files import write_text
    from geoseg_ros.methods.geofree.config import preset, with_budget

    if options.runs < 1 or options.items < 2 or any(not 1000 <= count <= 5_000_000 for count in options.points):
        raise InputError("gpu-check: expected --runs of at least 1, --items of at least 2, --points of 1000 to 5000000")
    with_budget(preset("paper"), options.budget)
    if options.device != "cpu" and not torch.cuda.is_available():
        if options.device == "cuda":
            raise InputError("--device cuda: PyTorch finds no CUDA device")
        print("no GPU")
        return {"device": None}
    device = torch.device("cpu" if options.device == "cpu" else "cuda")
    versions = f"PyTorch {torch.__version__}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}."
    lines = [f"## {device_name(device)}", "", versions]
    differences: list[Difference] = []
    different: list[str] = []
    trained: dict[str, Any] = {}
    if "parity" in options.parts:
        differences = [tokens_parity(device), *network_parity(device, SIZES[options.size])]
        head = ["what", "largest difference, relative to the largest value", ""]
        lines += ["", "### Parity with the processor", "", *table(head, [d.row() for d in differences])]
    if "backends" in options.parts:
        backends, different = backends_report(device, PACKS, options.runs)
        lines += ["", *backends]
    if "latency" in options.parts:
        lines += ["", "### Latency and memory", ""]
        lines += [f"Milliseconds of {options.runs} runs after {WARM_UP} for warm-up; eager.", ""]
        head = ["what", "p50", "p95", "p99", "peak device memory, MB"]
        lines += table(head, [*image_rows(device, options.runs), *cloud_rows(device, options.points, options.runs)])
    if "training" in options.parts:
        trained, text = training(device, options)
        lines += ["", "### Training", "", *text]
    markdown = "\n".join(lines) + "\n"
    print(markdown)
    if options.out:
        write_text(options.out, markdown)
    wrong = [d.what for d in differences if not d.passes] + [f"masks or labels of {name}" for name in different]
    if wrong:
        raise GeosegError(f"gpu-check: {', '.join(wrong)} differ from the processor by more than is allowed")
    return {"device": device_name(device), "parity": {d.what: d.value for d in differences}, "training": trained}


def device_name(device: torch.device) -> str:
    """Name that its maker gives it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"processor ({platform.machine()}, {torch.get_num_threads()} threads)"


@dataclass(frozen=True)
class Difference:
    """Difference of a tensor between two devices.

    Attributes:
        what: What was compared.
        value: Largest absolute difference over the largest absolute value.
    """

    what: str
    value: float

    @property
    def passes(self) -> bool:
        """Whether it is within ``TOLERANCE``; NaN is not."""
        return self.value <= TOLERANCE

    def row(self) -> Row:
        """Row of the table."""
        return [self.what, f"{self.value:.2e}", "same" if self.passes else f"DIFFERS (more than {TOLERANCE:g})"]


def difference(what: str, ours: torch.Tensor, reference: torch.Tensor) -> Difference:
    """Difference of a tensor on some device from the same one on the processor."""
    return Difference(what, float((ours.cpu().double() - reference.double()).abs().max() / reference.double().abs().max()))


def pictures(count: int) -> NDArray[np.uint8]:
    """uint8 [count, *SIDES, 3], smooth, with edges and noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, SIDES[0] // 40, SIDES[1] // 40, 3)).repeat(40, axis=1).repeat(40, axis=2)
    return np.clip(coarse + rng.normal(0, 8, coarse.shape), 0, 255).astype(np.uint8)


def tokens_parity(device: torch.device) -> Difference:
    """Tokens of the shipped backbone."""
    from geoseg_ros.backbones.registry import open_backbone

    images = pictures(2)
    reference, found = (open_backbone("geoseg_tiny", kind).tokens(images)[0] for kind in ("cpu", str(device)))
    return difference("tokens of geoseg_tiny", found, reference)


@torch.inference_mode()
def network_parity(device: torch.device, size: Any) -> list[Difference]:
    """Both branches, the fusion in both directions and the generated points of a GeoFree network with random weights."""
    from geoseg_ros.methods.geofree.config import preset
    from geoseg_ros.methods.geofree.model import CosegNetwork, patch_columns
    from geoseg_ros.nets.dgcnn import Dgcnn

    config = size.of(preset("paper").network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = CosegNetwork(128, config, Dgcnn(2)).eval()
        for parameter in network.parameters():
            if not parameter.any():  # layers that start at zero would hide what is before them
                torch.nn.init.normal_(parameter, std=0.1)
        tokens, points = torch.randn(2, 196, 128), torch.nn.functional.normalize(torch.randn(2, config.sampler.points, 3), dim=2)

    def forward(kind: torch.device) -> tuple[torch.Tensor, ...]:
        there = network.to(kind)
        images = there.images(tokens.to(kind), tokens.mean(1).to(kind))
        clouds = there.clouds(points.to(kind))
        foreground = there.fused_clouds(clouds, patch_columns(images, torch.tensor([[0, 1], [1, 0]], device=kind)))
        enhanced = there.enhanced_images(images, clouds.projected, 1)
        samples = there.samples(foreground, clouds.background, clouds.points)
        return images.mask, foreground.features, enhanced, samples.projected_o

    reference, found = (forward(kind) for kind in (torch.device("cpu"), device))
    names = ("GeoFree: coarse mask", "GeoFree: points after the fusion", "GeoFree: patches after the fusion", "GeoFree: projected samples")
    return [difference(name, ours, cpu) for name, ours, cpu in zip(names, found, reference, strict=True)]


def image_rows(device: torch.device, runs: int) -> list[Row]:
    """Tokens of batches in fp32 and, on CUDA, in fp16; and one picture through the whole pipeline."""
    from geoseg_ros.backbones.registry import open_backbone
    from geoseg_ros.runtime.pipeline import open_pipeline

    backbone = open_backbone("geoseg_tiny", str(device))
    rows = []
    for precision in ("fp32", "fp16") if device.type == "cuda" else ("fp32",):
        with torch.autocast(device.type, torch.float16) if precision == "fp16" else contextlib.nullcontext():
            for batch in BATCHES:
                images = pictures(batch)
                rows.append(latency(f"tokens of {batch} x 640x480, {precision}", partial(backbone.tokens, images), device, runs))
    pipeline = open_pipeline(PACKS, device=device.type, opened=backbone)
    return [*rows, latency("picture 640x480 through the pipeline", partial(pipeline.process_image, pictures(1)[0]), device, runs)]


def cloud_rows(device: torch.device, counts: Sequence[int], runs: int) -> list[Row]:
    """Clouds of some sizes through the whole pipeline; geometry and drawing are the processor's."""
    from geoseg_ros.runtime.pipeline import open_pipeline

    pipeline = open_pipeline(PACKS, device=device.type)
    return [
        latency(f"cloud of {count} points through the pipeline", partial(pipeline.process_cloud, room(count)), device, runs)
        for count in counts
    ]


def room(count: int) -> Any:
    """A LiDAR cloud of a procedural room with ``count`` points: its own points, thinned out, or repeated within a millimetre."""
    from geoseg_ros.geometry.cloud import Cloud
    from geoseg_ros.simulation.rooms import SeedSource
    from geoseg_ros.simulation.sets import make_cloud, make_set_config

    cloud = make_cloud(SeedSource(0, "gpu-check"), "stool", (), make_set_config("easy"), "lidar").cloud
    rng = np.random.default_rng(0)
    xyz = cloud.xyz[cloud.valid()]
    chosen = xyz[rng.choice(len(xyz), count, replace=count > len(xyz))]
    return Cloud((chosen + rng.normal(0, 1e-3, chosen.shape)).astype(np.float32))


def training(device: torch.device, options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """GeoFree with the paper's preset on crops of the world ``easy``, beside a baseline that needs no learning; figures and Markdown."""
    from benchmarks.baselines.geofree import SIZES, Networks, steering
    from geoseg_ros.backbones.registry import open_backbone
    from geoseg_ros.evaluate.items import paper_protocol
    from geoseg_ros.evaluate.methods import Tools
    from geoseg_ros.evaluate.table import measure
    from geoseg_ros.evaluate.trivial import TRIVIAL
    from geoseg_ros.evaluate.world import world_sets
    from geoseg_ros.runtime.pipeline import PipelineConfig
    from geoseg_ros.simulation.bank import open_bank

    backbone = open_backbone("geoseg_tiny", str(device))
    networks = Networks(Tools(backbone, open_bank(backbone), PipelineConfig()), SIZES[options.size], options.budget, device=str(device))
    worlds = world_sets("easy", CONCEPTS, [0], options.items)
    given = [s for s in worlds if s.own.clouds and s.images]
    sets = [paper_protocol(s) for s in given]
    networks.beside = sets
    method = next(m for m in networks.methods() if m.name == "GeoFree, paper preset")
    settle(device)
    start = time.perf_counter()
    source = networks.extractor.source
    extracted = time.perf_counter() - start
    rows = measure(sets, [TRIVIAL[0], method], [0])
    held = peak_memory(device)
    head = ["set", "method", "modality", "micro IoU", "mean IoU", "epochs by stage", "seconds of training"]
    cells = []
    for row in rows:
        done = row.get("notes", {}).get("training", {})
        figures = [f"{row['micro_iou']:.3f}", f"{row['iou']:.3f}"]
        cells.append([row["set"], row["method"], row["modality"], *figures, str(done.get("epochs", "-")), str(done.get("seconds", "-"))])
    text = [f"World `easy`, {options.items} clouds and pictures per family, protocol `paper`, network size `{options.size}`, one seed."]
    text += [f"Extractor: {source}, {extracted:.0f} s. Peak device memory: {held} MB.", "", *table(head, cells)]
    return {"rows": rows, "extractor": source}, [*text, *steering(rows).splitlines()]


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``python -m``. Returns 0 (ok, or no GPU), 1 (failed) or 2 (bad input)."""
    parser = argparse.ArgumentParser(prog="gpu-check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    try:
        run(parser.parse_args(argv))
    except (InputError, GeosegError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
