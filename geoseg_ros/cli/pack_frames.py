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

from geoseg_ros.cli.setting_options import add_setting, settings_from_options
from geoseg_ros.io.pack_frames import FrameTiming
from geoseg_ros.settings import list_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--clouds", metavar="DIR", help="folder of cloud files (pcd, ply, npy, npz, bin)")
    parser.add_argument("--images", metavar="DIR", help="folder of images")
    parser.add_argument("--out", required=True, metavar="BAG", help="folder to make, or a bare .mcap file")
    add_setting(parser, FrameTiming, "cloud_rate", metavar="HZ")
    add_setting(parser, FrameTiming, "image_rate", metavar="HZ")
    add_setting(parser, FrameTiming, "seconds", metavar="S")
    add_setting(parser, FrameTiming, "cloud_frame", "--frame", metavar="FRAME")
    add_setting(parser, FrameTiming, "image_frame", metavar="FRAME")
    add_setting(parser, FrameTiming, "cloud_topic", "--points-topic", metavar="TOPIC")
    add_setting(parser, FrameTiming, "image_topic", metavar="TOPIC")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Write the recording and return its counts."""
    from geoseg_ros.cli.progress import Stages
    from geoseg_ros.files import check_output
    from geoseg_ros.io.pack_frames import pack_frames
    from geoseg_ros.io.recordings import is_own_recording

    timing = settings_from_options(FrameTiming(), options, *(entry.name for entry in list_settings(FrameTiming())))
    check_output(options.out, "--out", [options.clouds, options.images], is_own_recording, "a recording made by geoseg")
    with Stages("message", options.json) as stages:
        result = pack_frames(options.clouds, options.images, options.out, timing, partial(stages, "packing"))
    for line in result["skipped"]:
        print(f"skipped {line}", file=sys.stderr)
    if not options.json:
        print(f"{options.out}: {result['clouds']} clouds, {result['images']} images, {result['seconds']:.1f} s")
    return {"out": options.out, **result}
