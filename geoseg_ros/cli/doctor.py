"""Examine this installation: versions, ROS 2, shared memory, caches, the packs that ship, and what runs the networks and how fast.

Below stand the problems that were found, with what helps. Paste the page into a report of a bug. The exit code is 0 also with problems.

example:
  geoseg doctor
  geoseg doctor --no-run --json
"""

from __future__ import annotations

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--no-run", action="store_true", help="do not run the backbone (nothing is exported or built)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Print the page and return its content."""
    from geoseg_ros.runtime.installation import examine

    report = examine(not options.no_run)
    if not options.json:
        for title, values in report.sections.items():
            print(title)
            for name, value in values.items():
                print(f"  {name:<26} {value}")
        print("problems" if report.problems else "no problems")
        for line in report.problems:
            print(f"  {line}")
    return {**report.sections, "problems": report.problems}
