"""Publish a recording over DDS with its own timing (rosbag2 folder, .mcap, .db3, or ROS 1 .bag). Ctrl-C ends it.

example:
  geoseg play recording/ --rate 2 --clock
  geoseg play old.bag --topics /camera/depth/points --remap /camera/depth/points:=/points --loop
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from geoseg_ros.cli.setting_options import add_setting, settings_from_options
from geoseg_ros.errors import InputError
from geoseg_ros.io.recordings import PlayConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bag", metavar="BAG", help="recording to play")
    add_setting(parser, PlayConfig, "rate", metavar="R")
    add_setting(parser, PlayConfig, "loop")
    add_setting(parser, PlayConfig, "clock")
    add_setting(parser, PlayConfig, "topics", metavar="TOPIC")
    parser.add_argument("--remap", nargs="+", default=[], metavar="A:=B", help="publish topic A as B")
    add_setting(parser, PlayConfig, "wait", metavar="N")
    add_setting(parser, PlayConfig, "wait_seconds", metavar="S")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Play and return the counts."""
    try:
        from geoseg_ros.ros.player import PlayReport, play
    except ModuleNotFoundError as error:
        raise InputError(f"playing needs ROS 2 (rclpy), which is not installed here: {error}") from None

    config = PlayConfig(remap=dict(_pair(text) for text in options.remap))
    config = settings_from_options(config, options, "rate", "loop", "clock", "topics", "wait", "wait_seconds")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())

    def started(report: PlayReport) -> None:
        for line in report.skipped:
            print(f"skipped {line}", file=sys.stderr)
        print(f"playing {', '.join(report.published)}", file=sys.stderr, flush=True)

    try:
        report = play(options.bag, config, stop, started)
    finally:  # a second signal must not break the end of the interpreter, which takes handlers away
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    if not options.json:
        for name, count in report.published.items():
            print(f"{name}: {count} messages")
        late = f", at most {report.latest * 1e3:.0f} ms late" if report.latest > 0.001 else ""
        print(f"{'stopped after' if report.stopped else 'played in'} {report.seconds:.1f} s{late}")
    return {
        "published": report.published,
        "seconds": report.seconds,
        "latest": report.latest,
        "skipped": report.skipped,
        "stopped": report.stopped,
    }


def _pair(text: str) -> tuple[str, str]:
    old, separator, new = text.partition(":=")
    if not (separator and old.startswith("/") and new.startswith("/")):
        raise InputError(f"--remap: expected /old:=/new, got {text}")
    return old, new
