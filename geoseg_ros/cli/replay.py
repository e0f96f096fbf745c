"""Run the pipeline over every cloud and image of a recording, without DDS. Equal input gives equal bytes (a recording holds its own name).

The output holds what the live node would have published: points_labeled, objects, mask and label_info.

example:
  geoseg replay drive/ --packs mug.pack --out OUT.mcap
  geoseg replay old.bag --packs mug.pack can.pack --points /camera/depth/points --out OUT.mcap
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

import numpy as np

from geoseg_ros.cli.inputs import add_backend, engine_options
from geoseg_ros.runtime.engines.options import DEVICES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bag", metavar="BAG", help="rosbag2 folder, .mcap, .db3, or ROS 1 .bag")
    parser.add_argument("--packs", required=True, nargs="+", metavar="PACK", help="concept packs: files, or names of shipped ones")
    parser.add_argument("--out", required=True, metavar="OUT", help="recording to write: an .mcap file or a folder")
    parser.add_argument("--points", metavar="TOPIC", help="cloud topic (default: the only one)")
    parser.add_argument("--image", metavar="TOPIC", help="image topic, raw or compressed (default: the only one)")
    parser.add_argument("--backbone", default="", metavar="NAME", help="image backbone (default: the one the packs were made with)")
    add_backend(parser)
    parser.add_argument("--device", default="auto", choices=DEVICES, help="default %(default)s")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Replay and return the counts."""
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.io.recordings import Recording
    from geoseg_ros.ros.replay import replay
    from geoseg_ros.runtime.pipeline import PipelineConfig, open_pipeline

    with Recording(options.bag) as recording:
        engines = engine_options(options, options.device)
        pipeline = open_pipeline(tuple(options.packs), options.backbone, options.device, PipelineConfig(), engines=engines)
        with Stages("message", options.json) as stages:
            report = replay(recording, pipeline, options.out, options.points, options.image, progress=partial(stages, "replay"))
    for line in report.rejected[:10]:
        print(f"rejected {line}", file=sys.stderr)
    if len(report.rejected) > 10:
        print(f"rejected {len(report.rejected) - 10} more", file=sys.stderr)
    medians = {
        "cloud_ms": 1e3 * float(np.median(report.cloud_seconds)) if report.cloud_seconds else None,
        "image_ms": 1e3 * float(np.median(report.image_seconds)) if report.image_seconds else None,
    }
    if not options.json:
        print(f"backend: {pipeline.backend_reason}")
        times = ", ".join(f"{name.removesuffix('_ms')} {value:.0f} ms" for name, value in medians.items() if value is not None)
        print(f"{options.out}: {report.clouds} clouds with {report.objects} objects, {report.images} masks; median {times or 'none'}")
    return {
        "out": options.out,
        "backend": pipeline.backend,
        "clouds": report.clouds,
        "images": report.images,
        "objects": report.objects,
        "rejected": report.rejected,
        **medians,
    }
