"""Scenes to rerun. Where it is not installed only the line that says so is tested."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from geoseg_ros.display import rerun_viewer
from geoseg_ros.display.frame import LabelledCloud, paint
from geoseg_ros.display.rerun_stream import RerunStream, import_rerun
from geoseg_ros.display.rerun_viewer import RerunViewer
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.results import LabelSpace, ObjectInstance

LABELS = LabelSpace(("mug", "can"))
needs_rerun = pytest.mark.skipif(importlib.util.find_spec("rerun_bindings") is None, reason="rerun-sdk is not installed")


def items(count: int = 3) -> list:
    """Clouds with and without objects, and images."""
    rng = np.random.default_rng(0)
    found: list = []
    for i in range(count):
        xyz = rng.random((50, 3), np.float32)
        xyz[7] = np.nan
        entry = ObjectInstance(2, "can", 1, 0.9, 0.01, np.array([0.5, 0.5, 0.5]), np.eye(3), np.array([0.1, 0.2, 0.3]), 20, track=4)
        objects = (entry,) if i else ()
        label = np.where(xyz[:, 2] > 0.5, 2, 0).astype(np.uint32)
        found.append(LabelledCloud(10**18 + i * 10**9, "lidar", Cloud(xyz), label, objects))
        found.append(paint(10**18 + i * 10**9 + 5, np.eye(32, dtype=np.uint8), None, LABELS))
    return found


def send(stream: RerunStream) -> None:
    with stream:
        stream.labels(LABELS)
        for item in items():
            stream.add(item)


def rerun(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The tool that comes with rerun."""
    code = "import sys; from rerun_cli.__main__ import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    for start in (import_rerun, lambda: RerunStream(tmp_path / "a.rrd"), RerunViewer):
        with pytest.raises(InputError, match=r"this needs rerun: pip install rerun-sdk .* --screenshot works without"):
            start()
    assert list(tmp_path.iterdir()) == []


def test_another_module_of_this_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", json)
    with pytest.raises(InputError, match="this needs rerun 0.24 or newer .* found"):
        import_rerun()


@needs_rerun
def test_a_file_holds_clouds_boxes_and_images(tmp_path: Path) -> None:
    file = tmp_path / "scene.rrd"
    stream = RerunStream(file)
    assert not file.exists()
    send(stream)
    assert file.exists() and list(tmp_path.iterdir()) == [file]
    assert rerun("rrd", "verify", str(file)).returncode == 0
    shown = rerun("rrd", "print", "-vv", str(file)).stdout
    for entity in ("/world/points", "/world/objects", "/image"):
        assert entity in shown
    assert "can 4" in shown or "can 4" in rerun("rrd", "print", "-vvv", str(file)).stdout, "the name and the track of the box"


@needs_rerun
def test_a_file_that_fails_is_not_left_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyError), RerunStream(tmp_path / "scene.rrd") as stream:
        stream.labels(LABELS)
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@needs_rerun
def test_a_file_that_cannot_be_begun_is_not_left_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such\nfile")

    monkeypatch.setattr(import_rerun().RecordingStream, "save", fail)
    with pytest.raises(GeosegError, match="rerun: no such file"):
        RerunStream(tmp_path / "scene.rrd")
    assert list(tmp_path.iterdir()) == []


def listening(pids: set[int]) -> set[str]:
    """Addresses on which these processes accept connections."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == "0A" and parts[9] in inodes:
                found.add(parts[1].split(":")[0])
    return found


def family(pid: int) -> set[int]:
    """A process and all below it."""
    found, waiting = set(), [pid]
    while waiting:
        found.add(current := waiting.pop())
        waiting += [int(child) for child in Path(f"/proc/{current}/task/{current}/children").read_text().split()]
    return found


@needs_rerun
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="looks into /proc")
def test_a_viewer_listens_here_only_and_tells_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with RerunViewer(web=True) as viewer:
        send(RerunStream(url=viewer.url))
        assert viewer.open() and viewer.page.startswith("http://127.0.0.1:")
        pids = family(viewer._child.pid)
        assert listening(pids) == {"0100007F"}, "127.0.0.1"
        settings = Path(viewer._settings.name)
        assert json.loads((settings / "rerun" / "analytics.json").read_text())["analytics_enabled"] is False
    assert not any(Path(f"/proc/{pid}").exists() and "rerun" in Path(f"/proc/{pid}/cmdline").read_text() for pid in pids)
    assert not settings.exists() and list(tmp_path.iterdir()) == [], "the user's own settings are not touched"


@needs_rerun
def test_a_viewer_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(GeosegError, match=r"the rerun viewer has failed: .* \(without a display: --web or --screenshot\)"):
        RerunViewer()


@needs_rerun
def test_a_viewer_that_was_ended_is_noticed() -> None:
    with RerunViewer(web=True) as viewer:
        os.killpg(viewer._child.pid, signal.SIGKILL)
        end = time.monotonic() + 10
        while viewer._child.code is None and time.monotonic() < end:
            time.sleep(0.01)
        with pytest.raises(GeosegError, match="the rerun viewer has failed"):
            viewer.open()


def test_free_ports_are_free() -> None:
    port = rerun_viewer._free_port()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
