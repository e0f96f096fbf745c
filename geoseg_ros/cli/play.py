"""Publish a recording over DDS with its own timing (rosbag2 folder, .mcap, .db3, or ROS 1 .bag). Ctrl-C ends it.

example:
  geoseg play recording/ --rate 2 --clock
  geoseg play watercan.bag --topics /points_in --remap /points_in:=/points --loop
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from geoseg_ros.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bag", metavar="BAG", help="recording to play")
    parser.add_argument("--rate", type=float, default=1.0, metavar="R", help="bag seconds per second (default %(default)s)")
    parser.add_argument("--loop", action="store_true", help="start again at the end")
    parser.add_argument("--clock", action="store_true", help="publish the bag time on /clock")
    parser.add_argument("--topics", nargs="+", metavar="TOPIC", help="play only these")
    parser.add_argument("--remap", nargs="+", default=[], metavar="A:=B", help="publish topic A as B")
    parser.add_argument("--wait", type=int, default=0, metavar="N", help="first wait until every topic has N subscribers (default 0)")
    parser.add_argument("--wait-seconds", type=float, default=60.0, metavar="S", help="give up waiting after this (default %(default)s)")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Play and return the counts."""
    try:
        from geoseg_ros.ros.player import PlayConfig, PlayReport, play
    except ModuleNotFoundError as error:
        raise InputError(f"playing needs ROS 2 (rclpy), which is not installed here: {error}") from None

    remap = dict(_pair(text) for text in options.remap)
    topics = None if options.topics is None else tuple(options.topics)
    config = PlayConfig(options.rate, options.loop, options.clock, topics, remap, options.wait, options.wait_seconds)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())

    def started(report: PlayReport) -> None:
        for line in report.skipped:
            print(f"skipped {line}", file=sys.stderr)
        print(f"playing {', '.join(report.published)}", file=sys.stderr, flush=True)

    report = play(options.bag, config, stop, started)
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
