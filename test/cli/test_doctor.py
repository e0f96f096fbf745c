"""geoseg doctor: the page, and the problems that it must name."""

import json
import os

import pytest

from geoseg_ros import __version__
from geoseg_ros.cli.main import main
from geoseg_ros.runtime import installation
from geoseg_ros.runtime.installation import examine


def test_page_and_json(capsys):
    assert main(["doctor", "--no-run"]) == 0
    page = capsys.readouterr().out
    assert __version__ in page and "torch" in page and "stool" in page and "networks" not in page
    assert main(["doctor", "--no-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["packages"]["numpy"] and found["packs"]["stool"].startswith("contrast, backbone geoseg_tiny")
    assert isinstance(found["problems"], list)


def test_the_backbone_is_run(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    networks = examine().sections["networks"]
    assert networks["geoseg_tiny"].startswith(("onnxruntime", "torch", "tensorrt"))
    assert all(float(value.removesuffix(" ms")) > 0 for name, value in networks.items() if " of " in name)


def test_problems_are_named(monkeypatch, tmp_path):
    def without_ros(name, *args, **kwargs):
        if name.partition(".")[0] == "rclpy":
            raise ModuleNotFoundError("No module named 'rclpy'", name="rclpy")
        return real(name, *args, **kwargs)

    real = installation.importlib.import_module
    monkeypatch.setattr(installation.importlib, "import_module", without_ros)
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", str(tmp_path / "absent.xml"))
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(installation, "_available", lambda: 1 << 30)
    monkeypatch.setattr(installation, "_version", lambda name: None if name.startswith("onnx") else "1.0")
    problems = "\n".join(examine(run=False).problems)
    for part in (
        "rclpy is not found",
        "absent.xml is no file",
        "engines are built at every start",
        "only 1024 MiB",
        "onnxruntime is not installed",
    ):
        assert part in problems, problems


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    assert not installation._writable(tmp_path / "a" / "b")
