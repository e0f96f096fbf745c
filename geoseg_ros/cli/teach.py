"""Teach a running coseg_node a target from a web page: click on it in what the node sees, reject what it is not, build, and see it found.

The page is served on this machine alone (127.0.0.1) and loads nothing from elsewhere; from another machine use a tunnel
(ssh -L 8765:localhost:8765 robot). The pack goes to the node's parameter learn_folder. Ctrl-C ends the page, not what is being learnt.

example:
  geoseg teach
  geoseg teach --node /robot1/coseg_node --port 8080
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from geoseg_ros.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PORT = 8765


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--node", default="/coseg_node", metavar="NAME", help="full name of the node (default %(default)s)")
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help="of the page, 0: any that is free (default %(default)s)")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Serve the page until SIGINT or SIGTERM."""
    if not 0 <= options.port < 65536:
        raise InputError(f"--port: expected 0 to 65535, got {options.port}")
    from geoseg_ros.ros.live_run import need_ros

    need_ros("teach")
    from geoseg_ros.cli.teach_page import Page
    from geoseg_ros.ros.teacher import Teacher

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    teacher = Teacher(options.node)
    try:
        page = Page(teacher, _Found(options.node, stop), options.port)
        serving = threading.Thread(target=page.serve_forever, daemon=True)
        serving.start()
        print(f"open {page.address}", file=sys.stderr, flush=True)
        stop.wait()
        page.shutdown()
        page.server_close()
        return {"address": page.address, **teacher.state()}
    finally:
        teacher.close()


class _Found:
    """The newest results of the node as a picture; it is asked for them from the first call on."""

    def __init__(self, node: str, stop: threading.Event) -> None:
        self._node, self._stop = node, stop
        self._newest: Any = None

    def __call__(self) -> NDArray[np.uint8] | None:
        from geoseg_ros.display.frame import Newest
        from geoseg_ros.display.screen import draw_frame
        from geoseg_ros.ros.viewer import follow

        if self._newest is None:
            self._newest = Newest()
            threading.Thread(target=follow, args=(self._node, self._newest, self._stop), daemon=True).start()
        frame = self._newest.frame
        return None if frame is None else draw_frame(frame)
