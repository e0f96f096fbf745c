"""Commands in environments that lack something: a home, a terminal that shows all letters, a Python package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from geoseg_ros import files
from geoseg_ros.cli import main as command
from geoseg_ros.io.folders import write_image
from geoseg_ros.packs.pack import Pack, find_pack


def test_a_missing_package_is_one_line_with_its_pip_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing(options: object) -> None:
        raise ModuleNotFoundError("No module named 'cv2'", name="cv2")

    from geoseg_ros.cli import bank

    monkeypatch.setattr(bank, "run", missing)
    assert command.main(["bank"]) == 1
    assert capsys.readouterr().err == "geoseg: needs the Python package cv2, which is not installed: pip install opencv-python-headless\n"


def test_names_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    write_image(tmp_path / "bilder ä☃" / "ä☃.png", np.zeros((8, 8, 3), np.uint8))
    line = [
        sys.executable,
        "-m",
        "geoseg_ros.cli",
        "pack-frames",
        "--images",
        str(tmp_path / "bilder ä☃"),
        "--out",
        str(tmp_path / "ä☃.mcap"),
    ]
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONPATH": ":".join(sys.path), "PATH": ""}
    ended = subprocess.run(line, capture_output=True, text=True, timeout=120, env=environment)
    assert ended.returncode == 0 and "1 images" in ended.stdout and "Traceback" not in ended.stderr


def test_no_home_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from geoseg_ros.runtime.engines.cache import EngineCache

    def nobody(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(files.Path, "home", nobody)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(tmp_path))
    assert EngineCache().folder.is_relative_to(tmp_path)
    assert files.expanded("~/a.pack").startswith(str(tmp_path))


def test_home_and_folders_as_packs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mug.pack").write_bytes(find_pack("stool").read_bytes())
    assert Pack.load("~/mug.pack").name == "stool"
    with pytest.raises(files.InputError, match="is a folder, name a file of it: mug.pack"):
        Pack.load("~")


def test_a_warning_about_an_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scans").mkdir()
    np.save(tmp_path / "scans" / "scan.npy", np.c_[np.zeros((5, 3)), np.full((5, 3), -0.5)])
    assert command.main(["pack-frames", "--clouds", str(tmp_path / "scans"), "--out", str(tmp_path / "out" / "a.mcap")]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("warning: ") and "taken as normals" in lines[0]


def test_help_of_the_node(capsys: pytest.CaptureFixture[str]) -> None:
    node = pytest.importorskip("geoseg_ros.ros.coseg_node", reason="needs ROS 2")
    assert node.main(["--help"]) == 0
    assert "coseg.launch.py" in capsys.readouterr().out
