"""The ``geoseg`` command. Each subcommand is a module of ``geoseg_ros.cli`` with ``add_arguments`` and ``run``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from geoseg_ros import __version__
from geoseg_ros.errors import GeosegError, InputError

# name -> (module, one line of help); modules are imported only when asked for, so that `geoseg --help` is quick
COMMANDS: dict[str, tuple[str, str]] = {
    "coseg": ("coseg", "segment what folders of clouds and images have in common"),
    "train": ("train", "make a concept pack from clouds and images of one target"),
    "discover": ("discover", "make a scene pack: the classes of a place, learnt from recordings of it"),
    "name": ("name", "name and merge the classes of a scene pack"),
    "label": ("label", "give every point of clouds a class of a scene pack"),
    "parts": ("parts", "make a part pack: a part that is marked once is found on other objects of its kind"),
    "where": ("where", "find the parts of a part pack in clouds and images"),
    "bank": ("bank", "make the background bank of an image backbone"),
    "evaluate": ("evaluate", "measure on labelled data"),
    "distill": ("distill", "train a small image backbone from a teacher"),
    "adapt-encoder": ("adapt_encoder", "go on with the training of the encoder of clouds on recordings"),
    "record-demo": ("record_demo", "write a procedural recording with ground truth"),
    "pack-frames": ("pack_frames", "put cloud and image files into a rosbag2 recording"),
    "play": ("play", "publish a recording over DDS"),
    "replay": ("replay", "run the pipeline over a recording without DDS"),
    "export": ("export", "make training data of results: COCO, YOLO, KITTI, SemanticKITTI, PNG"),
    "view": ("view", "show what the node finds, live or of a recording, or draw it"),
    "teach": ("teach", "teach a running node a target by clicks on a web page"),
    "demo": ("demo", "record, play, segment and report"),
    "build-engine": ("build_engine", "build the engine of a concept pack ahead of time"),
    "doctor": ("doctor", "examine this installation, for reports of bugs"),
    "bench": ("bench", "measure the cost of message handling"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns 0 (ok), 1 (failed) or 2 (bad input)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names of files that the terminal cannot show must not end the command
            stream.reconfigure(errors="backslashreplace")
    try:
        return _main(argv)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        print(
            f"geoseg: needs the Python package {package}, which is not installed: pip install {PIP.get(package, package)}", file=sys.stderr
        )
        return 1
    except KeyboardInterrupt:  # while a command was being imported
        return 130


def _main(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="geoseg", description="Label-free, calibration-free perception for robots.")
    parser.add_argument("--version", action="version", version=f"geoseg {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    wanted = next((a for a in arguments if not a.startswith("-")), None)
    modules = {}
    for name, (module, text) in COMMANDS.items():
        if wanted == name:
            modules[name] = importlib.import_module(f"geoseg_ros.cli.{module}")
            layout = argparse.RawDescriptionHelpFormatter
            sub = commands.add_parser(name, help=text, description=modules[name].__doc__, formatter_class=layout)
            modules[name].add_arguments(sub)
            sub.add_argument("--json", action="store_true", help="print the result as one JSON object")
        else:
            commands.add_parser(name, help=text)
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 2
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _tell  # type: ignore[assignment]
            result = modules[options.command].run(options)
    except (InputError, GeosegError) as error:
        line = " ".join(str(error).split())
        print(json.dumps({"error": line}) if options.json else f"geoseg {options.command}: {line}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"geoseg {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"geoseg {options.command}: interrupted", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(result, default=float))
    return 0


PIP = {"cv2": "opencv-python-headless", "yaml": "PyYAML", "rerun": "rerun-sdk", "PIL": "pillow", "backports": "backports.zstd"}


def _tell(message: Warning | str, *_: Any) -> None:
    """A warning about an input, as one line."""
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def quiet_imports() -> None:
    """SIGINT and SIGTERM end the process at once and without a traceback, until the node has handlers of its own."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))


def coseg_node() -> int:
    """Entry point of the node as installed by pip; without ROS 2 it prints one line and returns 2."""
    quiet_imports()
    try:
        node = importlib.import_module("geoseg_ros.ros.coseg_node")
    except ModuleNotFoundError as error:
        print(f"coseg_node: expected ROS 2, which is not installed here ({error}); the command geoseg works without", file=sys.stderr)
        return 2
    return int(node.main())


if __name__ == "__main__":
    sys.exit(main())
