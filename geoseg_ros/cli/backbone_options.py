"""Options that several commands have: the image backbone and the backend that runs it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from geoseg_ros.backbones.default import DEFAULT
from geoseg_ros.runtime.engines.options import BACKENDS, EngineOptions

if TYPE_CHECKING:
    from geoseg_ros.runtime.engines.backbone import EngineBackbone


def add_backbone(parser: argparse._ActionsContainer) -> None:
    """Declare ``--backbone``."""
    parser.add_argument("--backbone", default=DEFAULT, metavar="NAME", help="image backbone (default %(default)s)")


def add_backend(parser: argparse._ActionsContainer) -> None:
    """Declare ``--backend``."""
    parser.add_argument("--backend", default="auto", choices=BACKENDS, help="what runs the image backbone (default %(default)s)")


def engine_options(options: argparse.Namespace, device: str = "auto") -> EngineOptions:
    """Engine options from ``--backend``. A backend that is named must work; lines for the user go to standard error."""
    begun = set[str]()

    def log(line: str) -> None:
        print(f"geoseg {options.command}: {line}", file=sys.stderr)

    def progress(phase: str, done: int, total: int) -> None:
        if phase not in begun:
            begun.add(phase)
            log(f"engine: {phase}; this takes a while, once")

    return EngineOptions(options.backend, options.backend != "auto", device, progress=progress, log=log)


def open_image_backbone(options: argparse.Namespace) -> EngineBackbone:
    """Open the backbone ``--backbone`` on the backend ``--backend``.

    Raises:
        InputError: one of them cannot be used here.
    """
    from geoseg_ros.backbones.registry import open_backbone
    from geoseg_ros.runtime.engines.backbone import with_engine

    return with_engine(open_backbone(options.backbone), engine_options(options))
