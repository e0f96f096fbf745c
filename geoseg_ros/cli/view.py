"""Show the results of a coseg_node without RViz: labelled cloud, boxes with names and tracks, and the image beside its labels.

Live, or of a recording of the node's outputs (`geoseg replay`, `geoseg demo`, a snapshot, `ros2 bag record`). A window of rerun opens
(pip install rerun-sdk) that listens on this machine only; --screenshot draws one picture instead, without rerun and without a display.

example:
  geoseg view
  geoseg view --node /robot1/coseg_node --screenshot now.png
  geoseg view OUT.mcap --inputs drive/ --at 12 --screenshot frame.png
  geoseg view OUT.mcap --inputs drive/ --save drive.rrd
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.files import check_output

if TYPE_CHECKING:
    from geoseg_ros.display.frame import LabelledFrame, Sink
    from geoseg_ros.display.rerun_stream import RerunStream
    from geoseg_ros.display.rerun_viewer import RerunViewer

_PICTURES = (".png", ".jpg", ".jpeg")
_SETTLE = 3.0  # seconds that a live picture waits for the other sensor
_PATIENCE = 30.0  # seconds that a live picture waits for the first result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bag", nargs="?", metavar="BAG", help="recording of the node's outputs (default: live)")
    parser.add_argument("--inputs", metavar="BAG", help="recording that was played: images under the masks, colours of the clouds")
    parser.add_argument("--points", metavar="TOPIC", help="cloud topic of the inputs (default: the only one)")
    parser.add_argument("--image", metavar="TOPIC", help="image topic of the inputs (default: the only one)")
    parser.add_argument("--node", metavar="NAME", help="full name of the node (default: /coseg_node; of a recording the only one)")
    parser.add_argument("--at", type=float, metavar="S", help="picture of a recording: so long after its start (default: its end)")
    parser.add_argument("--seconds", type=float, metavar="S", help="live: end after this (default: Ctrl-C; --screenshot waits 30 s)")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--screenshot", metavar="FILE", help="draw one picture (.png, .jpg); needs no rerun")
    way.add_argument("--save", metavar="FILE.rrd", help="write a rerun file instead of opening a window")
    way.add_argument("--web", action="store_true", help="show it in a browser of this machine instead of a window")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Show it, and return the counts."""
    _check(options)
    stop = threading.Event()
    with _signals(stop):
        if options.bag is None:
            return _live_picture(options, stop) if options.screenshot else _live_stream(options, stop)
        from geoseg_ros.display.recorded_results import RecordedResults
        from geoseg_ros.io.recordings import Recording

        with ExitStack() as stack:
            recording = stack.enter_context(Recording(options.bag))
            inputs = stack.enter_context(Recording(options.inputs)) if options.inputs else recording
            results = RecordedResults(recording, inputs, options.node, options.points, options.image)
            return _picture(options, results) if options.screenshot else _stream(options, results, stop)


def _check(options: argparse.Namespace) -> None:
    """Raise InputError for options that cannot be combined."""
    if options.screenshot and Path(options.screenshot).suffix.lower() not in _PICTURES:
        raise InputError(f"--screenshot: expected a file with one of {', '.join(_PICTURES)}, got {options.screenshot}")
    if options.save and Path(options.save).suffix != ".rrd":
        raise InputError(f"--save: expected a file with .rrd, got {options.save}")
    for name in ("screenshot", "save"):
        if getattr(options, name) and os.path.isdir(getattr(options, name)):
            raise InputError(f"--{name}: {getattr(options, name)} is a folder")
        if getattr(options, name):
            check_output(getattr(options, name), f"--{name}", [options.bag, options.inputs])
    if options.bag is None:
        for name in ("inputs", "points", "image", "at"):
            if getattr(options, name) is not None:
                raise InputError(f"--{name} is for recordings, expected one as BAG")
    elif options.seconds is not None:
        raise InputError("--seconds is for live views; a picture of a recording takes --at")
    elif options.at is not None and not options.screenshot:
        raise InputError("--at is for --screenshot")
    for name in ("at", "seconds"):
        value = getattr(options, name)
        if value is not None and not 0 <= value < 1e9:
            raise InputError(f"--{name}: expected 0 or more seconds, got {value}")


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM are the usual end of a view."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


# ---- pictures


def _picture(options: argparse.Namespace, results: Any) -> dict[str, object]:
    return _write(options, results.frame(options.at))


def _live_picture(options: argparse.Namespace, stop: threading.Event) -> dict[str, object]:
    from geoseg_ros.display.frame import Newest

    newest, first = Newest(), [float("inf")]

    def finished(report: Any) -> bool:
        if report.clouds or report.images:
            first[0] = min(first[0], time.monotonic())
        return bool(report.clouds and report.images) or time.monotonic() - first[0] > _SETTLE

    seconds = _PATIENCE if options.seconds is None else options.seconds
    _follow(options, newest, stop, finished, seconds)
    if newest.frame is None:
        raise GeosegError(f"no result of {_node(options)}" + ("" if stop.is_set() else f" within {seconds:g} s"))
    return _write(options, newest.frame)


def _write(options: argparse.Namespace, frame: LabelledFrame) -> dict[str, object]:
    from geoseg_ros.display.screen import draw_frame
    from geoseg_ros.io.folders import write_image

    write_image(options.screenshot, draw_frame(frame))
    objects = [] if frame.cloud is None else [entry.name for entry in frame.cloud.objects]
    if not options.json:
        parts = [] if frame.cloud is None else [f"cloud with {len(objects)} object{'s' * (len(objects) != 1)}"]
        parts += [] if frame.image is None else ["image"]
        print(f"{options.screenshot}: {' and '.join(parts)}")
    return {"screenshot": options.screenshot, "objects": objects, "cloud": frame.cloud is not None, "image": frame.image is not None}


# ---- rerun


def _stream(options: argparse.Namespace, results: Any, stop: threading.Event) -> dict[str, object]:
    from geoseg_ros.display.frame import LabelledCloud

    clouds = images = 0
    with _rerun(options) as (sink, viewer):
        sink.labels(results.labels)
        for item in results.items():
            if stop.is_set() or not (viewer is None or viewer.open()):
                break
            sink.add(item)
            clouds, images = clouds + isinstance(item, LabelledCloud), images + (not isinstance(item, LabelledCloud))
        _flush(sink, viewer)
        while viewer is not None and viewer.open() and not stop.wait(0.2):
            pass
    return _counts(options, clouds, images)


def _live_stream(options: argparse.Namespace, stop: threading.Event) -> dict[str, object]:
    with _rerun(options) as (sink, viewer):
        report = _follow(options, sink, stop, lambda _: viewer is not None and not viewer.open(), options.seconds)
        _flush(sink, viewer)
    return _counts(options, report.clouds, report.images)


@contextmanager
def _rerun(options: argparse.Namespace) -> Iterator[tuple[RerunStream, RerunViewer | None]]:
    """A stream to a file, or to a viewer that was started for it."""
    from geoseg_ros.display.rerun_stream import RerunStream
    from geoseg_ros.display.rerun_viewer import RerunViewer

    if not options.save:
        os.environ.setdefault("RUST_LOG", "off")  # rerun's own lines about a viewer that was closed; read when it is imported
    with ExitStack() as stack:
        viewer = None if options.save else stack.enter_context(RerunViewer(options.web))
        if viewer is not None and viewer.page:
            print(f"open {viewer.page}", file=sys.stderr, flush=True)
        yield stack.enter_context(RerunStream(options.save, None if viewer is None else viewer.url)), viewer


def _flush(sink: RerunStream, viewer: RerunViewer | None) -> None:
    """Wait until everything is written, unless the viewer was closed."""
    try:
        sink.flush()
    except GeosegError:
        if viewer is None or viewer.open():
            raise


def _follow(options: argparse.Namespace, sink: Sink, stop: threading.Event, finished: Callable[[Any], bool], seconds: float | None) -> Any:
    """Show the results of the live node, and print a line for each that could not be read."""
    try:
        from geoseg_ros.ros.viewer import follow
    except ModuleNotFoundError as error:
        raise InputError(f"a live view needs ROS 2 (rclpy), which is not installed here: {error}") from None

    report = follow(_node(options), sink, stop, finished, seconds, lambda line: print(line, file=sys.stderr, flush=True))
    for line in report.rejected[:3]:
        print(f"rejected {line}", file=sys.stderr)
    return report


def _node(options: argparse.Namespace) -> str:
    return "/" + (options.node or "coseg_node").strip("/")


def _counts(options: argparse.Namespace, clouds: int, images: int) -> dict[str, object]:
    if not options.json:
        print(f"{options.save or 'shown'}: {clouds} clouds, {images} images")
    return {"save": options.save, "clouds": clouds, "images": images}
