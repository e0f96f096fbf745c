"""The web page of ``geoseg teach``: served on the loopback interface, to pages of its own alone."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from geoseg_ros.errors import GeosegError, InputError

HOST = "127.0.0.1"
_BODY = 1 << 14  # bytes of a request
_SECONDS = 30.0  # that a connection may stand still
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'",
}


class Node(Protocol):
    """What the page needs of a node that learns; see :class:`geoseg_ros.ros.teacher.Teacher`."""

    def state(self) -> dict[str, Any]: ...

    def picture(self, stream: str) -> tuple[NDArray[np.uint8], int]: ...

    def start(self, name: str) -> tuple[bool, str]: ...

    def add(self, stream: str, stamp: int, positive: bool, click: list[float], box: list[float]) -> tuple[bool, str, list[float]]: ...

    def trigger(self, what: str) -> tuple[bool, str]: ...


class Page(ThreadingHTTPServer):
    """Serves the page until ``shutdown``.

    Args:
        node: that learns.
        found: newest picture of what is found, or None where there is none.
        port: 0: any that is free.

    Raises:
        InputError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, node: Node, found: Callable[[], NDArray[np.uint8] | None], port: int) -> None:
        self.node, self.found, self.busy = node, found, threading.Lock()
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise InputError(f"--port: {port} cannot be used: {error}") from None
        self.hosts = {f"{host}:{self.server_port}" for host in (HOST, "localhost")}

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle is no news."""


class _Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: Page
    timeout = _SECONDS
    server_version, sys_version = "geoseg", ""

    def do_GET(self) -> None:
        self._guarded(self._get)

    def do_POST(self) -> None:
        self._guarded(self._post)

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            self._check_origin()
            work()
        except _Refused as refused:
            self._json({"success": False, "message": str(refused)}, refused.status)
        except (InputError, GeosegError) as error:
            self._json({"success": False, "message": " ".join(str(error).split())})

    def _check_origin(self) -> None:
        """Other sites, and names that were made to point here, get nothing."""
        if self.headers.get("Host") not in self.server.hosts:
            raise _Refused(403, "expected this machine's loopback address as host")
        origin = self.headers.get("Origin")
        if origin is not None and origin.removeprefix("http://") not in self.server.hosts:
            raise _Refused(403, "not from another site")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise _Refused(403, "not from another site")

    def _get(self) -> None:
        if self.path == "/":
            self._send(Path(__file__).with_name("teach.html").read_bytes(), "text/html; charset=utf-8")
        elif self.path == "/state":
            self._json(self.server.node.state())
        elif self.path == "/found":
            self._image(self.server.found(), 0)
        elif re.fullmatch(r"/picture/\w+", self.path):
            self._image(*self.server.node.picture(self.path.removeprefix("/picture/")))
        else:
            raise _Refused(404, "no such page")

    def _post(self) -> None:
        what, node = self.path[1:], self.server.node
        if what not in ("start", "add", "finish", "cancel"):
            raise _Refused(404, "no such page")
        body = self._body()
        with self.server.busy:
            if what == "start":
                success, message = node.start(_typed(body, "name", str))
                self._json({"success": success, "message": message})
            elif what == "add":
                self._json(self._added(body))
            else:
                success, message = node.trigger(what)
                self._json({"success": success, "message": message})

    def _added(self, body: dict[str, Any]) -> dict[str, Any]:
        stamp = _typed(body, "stamp", str)
        if not (stamp.isascii() and stamp.isdigit() and int(stamp) < 2**31 * 10**9):
            raise _Refused(400, "stamp: expected nanoseconds")
        click, box = ([_number(value) for value in body.get(key, [])] for key in ("click", "box"))
        where = _typed(body, "stream", str), int(stamp), _typed(body, "positive", bool)
        success, message, taken = self.server.node.add(*where, click, box)
        return {"success": success, "message": message, "taken": taken}

    def _body(self) -> dict[str, Any]:
        if self.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":  # what no form of another site can send
            raise _Refused(415, "expected application/json")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise _Refused(411, "expected a Content-Length")
        if len(length) > 9 or int(length) > _BODY:
            self.close_connection = True
            raise _Refused(413, f"expected at most {_BODY} bytes")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise _Refused(400, "expected JSON") from None
        if not isinstance(body, dict) or not all(isinstance(body.get(key, []), list) for key in ("click", "box")):
            raise _Refused(400, "expected a JSON object")
        return body

    def _image(self, image: NDArray[np.uint8] | None, stamp: int) -> None:
        if image is None:
            raise _Refused(404, "nothing yet")
        data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
        self._send(data, "image/jpeg", stamp=stamp)

    def _json(self, content: dict[str, Any], status: int = 200) -> None:
        self._send(json.dumps(content).encode(), "application/json", status)

    def _send(self, data: bytes, kind: str, status: int = 200, stamp: int = 0) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(data)), "X-Stamp": str(stamp)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _typed(body: dict[str, Any], key: str, kind: type) -> Any:
    if not isinstance(body.get(key), kind):
        raise _Refused(400, f"{key}: expected {kind.__name__}")
    return body[key]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e9:
        raise _Refused(400, "expected numbers")
    return float(value)
