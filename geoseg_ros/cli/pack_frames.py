"""Put cloud and image files into a rosbag2 recording (MCAP), each stream at its own rate.

The result is a recording of re-encoded frames: files carry no times, so the stamps are made up and clouds and images are unpaired.

example:
  geoseg pack-frames --clouds scans/ --images photos/ --out frames --cloud-rate 5 --image-rate 15
  geoseg play frames
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from geoseg_ros.io.pack_frames import FrameTiming


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    default = FrameTiming()
    parser.add_argument("--clouds", metavar="DIR", help="folder of cloud files (pcd, ply, npy, npz, bin)")
    parser.add_argument("--images", metavar="DIR", help="folder of images")
    parser.add_argument("--out", required=True, metavar="BAG", help="folder to make, or a bare .mcap file")
    parser.add_argument(
        "--cloud-rate", type=float, default=default.cloud_rate, metavar="HZ", help="clouds per second (default %(default)s)"
    )
    parser.add_argument(
        "--image-rate", type=float, default=default.image_rate, metavar="HZ", help="images per second (default %(default)s)"
    )
    parser.add_argument("--seconds", type=float, metavar="S", help="repeat or cut the files to this length (default: each file once)")
    parser.add_argument("--frame", default=default.cloud_frame, help="frame_id of the clouds (default %(default)s)")
    parser.add_argument("--image-frame", default=default.image_frame, help="frame_id of the images (default %(default)s)")
    parser.add_argument("--points-topic", default=default.cloud_topic, metavar="TOPIC", help="default %(default)s")
    parser.add_argument("--image-topic", default=default.image_topic, metavar="TOPIC", help="default %(default)s")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Write the recording and return its counts."""
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.io.pack_frames import pack_frames

    timing = FrameTiming(
        cloud_rate=options.cloud_rate,
        image_rate=options.image_rate,
        seconds=options.seconds,
        cloud_frame=options.frame,
        image_frame=options.image_frame,
        cloud_topic=options.points_topic,
        image_topic=options.image_topic,
    )
    with Stages("message", options.json) as stages:
        result = pack_frames(options.clouds, options.images, options.out, timing, partial(stages, "packing"))
    for line in result["skipped"]:
        print(f"skipped {line}", file=sys.stderr)
    if not options.json:
        print(f"{options.out}: {result['clouds']} clouds, {result['images']} images, {result['seconds']:.1f} s")
    return {"out": options.out, **result}
