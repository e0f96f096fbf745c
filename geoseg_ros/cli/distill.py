"""Train geoseg_tiny, the small image backbone, from any teacher on folders of images. No labels are needed.

At the end teacher and student are compared: milliseconds per image, and the share of positions in held-out images that each matches after
changes of colour, contrast and sharpness. After an interruption the same command resumes; the state is kept beside --out until it is done.

example:
  geoseg distill --teacher geoseg_base --images photos/ --minutes 60 --out student.safetensors
  torchrun --nproc-per-node 4 -m geoseg_ros.cli distill --device cuda --teacher ...
  geoseg coseg --backbone geoseg_tiny:student.safetensors ...
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from geoseg_ros.cli.setting_options import settings_from_options
from geoseg_ros.errors import InputError
from geoseg_ros.files import check_output

if TYPE_CHECKING:
    from geoseg_ros.evaluate.backbones import BackboneScore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--teacher", required=True, metavar="BACKBONE", help="an ONNX file, or any backbone name, e.g. dino_vits8")
    parser.add_argument("--images", required=True, nargs="+", action="extend", metavar="DIR", help="folders, searched recursively")
    parser.add_argument("--out", required=True, metavar="FILE", help="weights to write (.safetensors)")
    parser.add_argument("--epochs", type=float, metavar="N", help="stop after this many passes over the images")
    parser.add_argument("--minutes", type=float, metavar="N", help="stop after this many minutes of steps; give this, --epochs, or both")
    parser.add_argument("--start", metavar="FILE", help="begin with these weights of an earlier run")
    parser.add_argument("--batch", type=int, metavar="N", help="images per step")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of everything random")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="processor threads (default 2)")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or cuda:N, of the student (default %(default)s)")
    parser.add_argument("--bfloat16", action="store_true", default=None, help="mixed precision, where the processor has it")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Train, write, compare teacher and student, and return the summary."""
    import torch
    from tqdm import tqdm

    from geoseg_ros.backbones.registry import open_backbone
    from geoseg_ros.backbones.tiny import TinyBackbone, is_tiny
    from geoseg_ros.evaluate.backbones import score
    from geoseg_ros.learning.distillation import DistillConfig, distill
    from geoseg_ros.learning.fabric import first_process
    from geoseg_ros.learning.image_views import list_images, load_image

    if options.threads < 1:
        raise InputError(f"--threads: expected at least 1, got {options.threads}")
    given = [name for name in ("epochs", "minutes", "batch", "seed", "bfloat16") if getattr(options, name) is not None]
    config = settings_from_options(DistillConfig(), options, *given)
    if options.epochs is None and options.minutes is None:
        raise InputError("expected --epochs or --minutes")
    if not options.out.endswith(".safetensors"):
        raise InputError(f"--out: expected a .safetensors file, got '{options.out}'")
    teacher_file = options.teacher.partition(":")[2].partition("?")[0] or options.teacher
    check_output(options.out, "--out", [*options.images, options.start, teacher_file], is_tiny, "a geoseg_tiny backbone")
    paths = list_images(options.images)
    torch.set_num_threads(options.threads)
    spec = f"onnx:{options.teacher}" if ".onnx" in options.teacher and not options.teacher.startswith("onnx:") else options.teacher
    teacher = open_backbone(spec)
    quiet = options.json or not first_process()
    with tqdm(total=100.0, unit="%", disable=quiet, bar_format="{l_bar}{bar}| {elapsed}<{remaining} {postfix}") as bar:

        def report(progress: float, figures: dict[str, float]) -> None:
            bar.set_postfix(figures, refresh=False)
            bar.update(100 * progress - bar.n)

        summary = distill(teacher, paths, options.out, config, options.start, report, options.device)
    if not first_process():
        return {}
    scores = f"cosine to the teacher {summary['cosine']}, shared neighbours {summary['neighbour_agreement']}"
    stream = sys.stderr if options.json else sys.stdout
    print(f"{options.out}: {scores} on {summary['held_out_images']} held-out images", file=stream)
    held = [load_image(path, config.max_side) for path in paths[:: config.held_out]]
    student = TinyBackbone(options.out, f"geoseg_tiny:{options.out}")
    compared = {kind: score(backbone, held) for kind, backbone in (("teacher", teacher), ("student", student))}
    print("\n".join(side_by_side(compared)), file=stream)
    return {**summary, "side_by_side": {kind: asdict(found) for kind, found in compared.items()}}


def side_by_side(compared: Mapping[str, BackboneScore]) -> list[str]:
    """Lines of a table, for people."""
    from geoseg_ros.evaluate.backbones import SPEEDS

    sizes = [f"{count} x {side}x{side}" for count, side in SPEEDS]
    lines = [
        f"{'':<9}{'stride':>7}{'width':>7}" + "".join(f"{f'ms/picture, {size}':>26}" for size in sizes) + f"{'places known again':>20}"
    ]
    for kind, found in compared.items():
        times = "".join(f"{value:>26.2f}" for value in found.milliseconds)
        lines.append(f"{kind:<9}{found.stride:>7}{found.dim:>7}{times}{found.known_again:>20.3f}")
    return lines
