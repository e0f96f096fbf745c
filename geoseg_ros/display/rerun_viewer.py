"""A rerun viewer as a process of its own: reachable from this machine only, and without its usage statistics."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

from geoseg_ros.display.rerun_stream import import_rerun
from geoseg_ros.errors import GeosegError

_START_VIEWER = "import sys; from rerun_cli.__main__ import main; sys.exit(main())"  # `-m rerun_cli` loses the exit code
_START = 30.0  # seconds that a viewer may take to listen
_WINDOW = 0.5  # seconds after which a window is open, or its viewer has ended
_END = 5.0  # ... and to end
_LINE = 200  # characters of the viewer's last line that are shown
_MEMORY = "2GB"  # rerun's own limit is 3/4 of the machine; the oldest data goes first


class RerunViewer:
    """Starts a viewer; a context manager that ends it.

    ``rerun.spawn`` listens on all interfaces, and usage statistics are on until the user's settings say otherwise. So the viewer is started
    here, with settings of its own that live as long as it does.

    Args:
        web: serve the viewer to a browser of this machine, instead of opening a window.

    Attributes:
        url: to send to.
        page: to open in a browser, or an empty string.

    Raises:
        InputError: rerun is not installed. GeosegError: the viewer does not start; the message holds its last line.
    """

    def __init__(self, web: bool = False) -> None:
        import_rerun()
        self._settings = tempfile.TemporaryDirectory(prefix="geoseg_rerun_")
        try:
            port, page = _free_port(), _free_port()
            self.url = f"rerun+http://127.0.0.1:{port}/proxy"
            self.page = f"http://127.0.0.1:{page}?url=rerun%2Bhttp%3A%2F%2F127.0.0.1%3A{port}%2Fproxy" if web else ""
            command = [sys.executable, "-c", _START_VIEWER]
            environment = {**os.environ, "XDG_CONFIG_HOME": self._settings.name, "XDG_DATA_HOME": self._settings.name, "NO_COLOR": "1"}
            subprocess.run([*command, "analytics", "disable"], env=environment, capture_output=True, check=True, timeout=_START)
            command += ["--bind", "127.0.0.1", "--port", str(port), "--memory-limit", _MEMORY, "--expect-data-soon"]
            command += ["--serve-web", "--web-viewer-port", str(page)] if web else ["--hide-welcome-screen"]
            self._log = Path(self._settings.name) / "viewer.log"
            with open(self._log, "wb") as log:
                # a session of its own: Ctrl-C is for us, and what rerun_cli starts can be ended with it
                self._process = subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            self._wait(port)
        except (OSError, subprocess.SubprocessError) as error:
            self.close()
            raise GeosegError(f"the rerun viewer cannot be started: {' '.join(str(error).split())}") from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RerunViewer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def open(self) -> bool:
        """Whether it still runs; a window that was closed does not.

        Raises:
            GeosegError: it has failed; the message holds its last line.
        """
        if self._process.poll():
            lines = self._log.read_text(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "no word from it")
            raise GeosegError(f"the rerun viewer has failed: {last[:_LINE]} (without a display: --web or --screenshot)")
        return self._process.returncode is None

    def close(self) -> None:
        """End the viewer."""
        process = getattr(self, "_process", None)
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(_END)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
