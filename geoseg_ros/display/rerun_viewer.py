"""A rerun viewer as a process of its own: reachable from this machine only, and without its usage statistics."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from geoseg_ros.display.rerun_stream import import_rerun
from geoseg_ros.errors import GeosegError
from geoseg_ros.processes import Child

_START = 30.0  # seconds that a viewer may take to listen
_WINDOW = 0.5  # seconds after which a window is open, or its viewer has ended
_END = 5.0  # seconds that it may take to end
_LINE = 200  # characters of the viewer's last line that are shown
_MEMORY = "2GB"  # rerun's own limit is 3/4 of the machine; the oldest data goes first


class RerunViewer:
    """Starts a viewer; a context manager that ends it.

    ``rerun.spawn`` listens on all interfaces, and usage statistics are on until the user's settings say otherwise. So the viewer is started
    here, with settings of its own that live as long as it does.

    Args:
        web: Serve the viewer to a browser of this machine, instead of opening a window.

    Attributes:
        url: Address to send data to.
        page: Address to open in a browser, or an empty string.

    Raises:
        InputError: rerun is not installed.
        GeosegError: The viewer does not start; the message holds its last line.
    """

    def __init__(self, web: bool = False) -> None:
        import_rerun()
        self._settings = tempfile.TemporaryDirectory(prefix="geoseg_rerun_")
        self._child: Child | None = None
        try:
            port, page = _free_port(), _free_port()
            self.url = f"rerun+http://127.0.0.1:{port}/proxy"
            self.page = f"http://127.0.0.1:{page}?url=rerun%2Bhttp%3A%2F%2F127.0.0.1%3A{port}%2Fproxy" if web else ""
            program = _program()
            environment = {**os.environ, "XDG_CONFIG_HOME": self._settings.name, "XDG_DATA_HOME": self._settings.name, "NO_COLOR": "1"}
            subprocess.run([program, "analytics", "disable"], env=environment, capture_output=True, check=True, timeout=_START)
            command = [program, "--bind", "127.0.0.1", "--port", str(port), "--memory-limit", _MEMORY, "--expect-data-soon"]
            command += ["--serve-web", "--web-viewer-port", str(page)] if web else ["--hide-welcome-screen"]
            self._child = Child("rerun viewer", command, environment=environment, grace=_END)
            self._wait(port)
        except (OSError, subprocess.SubprocessError) as error:
            self.close()
            raise GeosegError(f"the rerun viewer cannot be started: {' '.join(str(error).split())}") from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RerunViewer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> bool:
        """Whether the viewer still runs; one whose window was closed does not.

        Raises:
            GeosegError: It has failed; the message holds its last line.
        """
        assert self._child is not None, "not started"
        if self._child.code:
            last = self._child.last_line()[:_LINE]
            raise GeosegError(f"the rerun viewer has failed: {last} (without a display: --web or --screenshot)")
        return self._child.code is None

    def close(self) -> None:
        """End the viewer."""
        if self._child is not None:
            self._child.end()
        self._settings.cleanup()

    def _wait(self, port: int) -> None:
        end = time.monotonic() + _START
        while time.monotonic() < end and self.open():
            with socket.socket() as probe:
                probe.settimeout(0.2)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    # it listens before it opens its window; one that cannot has ended by then
                    time.sleep(_WINDOW)
                    self.open()
                    return
            time.sleep(0.05)
        raise GeosegError(f"the rerun viewer does not listen after {_START:.0f} s")


def _program() -> str:
    """The viewer's own program: a Python process around it, as ``python -m rerun_cli``, would leave it behind when it is killed."""
    import rerun_cli

    return os.environ.get("RERUN_CLI_PATH") or str(Path(rerun_cli.__file__).with_name("rerun"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
