"""The engine cache: what a key says, one build for many, whole or not there, and what happens when it cannot be written."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.processes import Cancelled
from geoseg_ros.progress import silent
from geoseg_ros.runtime.engines.build import PLAN, engine_key, work
from geoseg_ros.runtime.engines.cache import ENTRY, LOCK, EngineCache, EngineKey, check_entry
from geoseg_ros.runtime.engines.spec import EngineSpec, ShapeRange
from support.kill_builds import kill_real_builds, kill_slow_builds, start
from support.paths import PYTHONPATH, ROOT
from support.slow_builder import KEY, PIECES, run_slow

SLOW = "slow_builder.py"


@pytest.fixture
def spec(tmp_path):
    file = tmp_path / "m.onnx"
    file.write_bytes(b"network")
    return EngineSpec(file, (ShapeRange((1, 32, 32, 3), (1, 64, 64, 3), (8, 64, 64, 3)),), "fp16", "a")


class Builder:
    """Writes ``size`` bytes; counts how often it was asked."""

    def __init__(self, size: int = 1000) -> None:
        self.size, self.calls = size, 0

    def __call__(self, folder: Path) -> dict[str, object]:
        self.calls += 1
        (folder / PLAN).write_bytes(os.urandom(self.size))
        return {"seconds": 1.5}


def rtx(version: str = "1.7", *capabilities: int) -> EngineKey:
    return EngineKey("tensorrt_rtx", {"version": version}, capabilities)


def test_everything_that_matters_changes_the_key_and_the_path_does_not(spec, tmp_path):
    gpu = ("Orin", 87)
    base = engine_key(spec, "tensorrt", "10.3.0", gpu)
    moved = tmp_path / "elsewhere" / "other.onnx"
    moved.parent.mkdir()
    moved.write_bytes(b"network")
    assert engine_key(dataclasses.replace(spec, onnx=moved, source="b"), "tensorrt", "10.3.0", gpu) == base
    wider = (dataclasses.replace(spec.profiles[0], maximum=(16, 64, 64, 3)),)
    other = [
        engine_key(spec, "tensorrt_rtx", "10.3.0", gpu),
        engine_key(spec, "tensorrt", "10.3.1", gpu),
        engine_key(spec, "tensorrt", "10.3.0", ("Orin Nano", 87)),
        engine_key(spec, "tensorrt", "10.3.0", ("Orin", 86)),
        engine_key(dataclasses.replace(spec, precision="fp32"), "tensorrt", "10.3.0", gpu),
        engine_key(dataclasses.replace(spec, profiles=wider), "tensorrt", "10.3.0", gpu),
        engine_key(spec, "tensorrt_rtx", "10.3.0", None, (86,)),
        engine_key(spec, "tensorrt_rtx", "10.3.0", None, (86, 89)),
    ]
    (tmp_path / "m.onnx").write_bytes(b"another pack's network")
    other.append(engine_key(spec, "tensorrt", "10.3.0", gpu))
    assert len({key.folder for key in [base, *other]}) == 1 + len(other)


def test_built_once_then_found_by_everybody(tmp_path):
    build, key = Builder(), rtx("1.7", 86)
    cache = EngineCache(tmp_path / "deep" / "cache")
    assert cache.find(key) is None
    entry = cache.get_or_build(key, build)
    assert entry.key == key and entry.bytes == 1000 and entry.notes["seconds"] == 1.5 and "built" in entry.notes
    assert EngineCache(cache.folder).get_or_build(key, build).id == entry.id and build.calls == 1
    assert check_entry(entry.folder / PLAN) == check_entry(entry.folder) == entry
    cache.get_or_build(rtx("1.8", 86), build)
    assert build.calls == 2, "another version of the library"


def test_an_engine_for_more_capabilities_serves_and_one_for_fewer_does_not(tmp_path):
    build, cache = Builder(), EngineCache(tmp_path)
    many = cache.get_or_build(rtx("1.7", 120, 86, 89), build)
    assert many.folder.name.endswith("-86.89.120")
    assert cache.get_or_build(rtx("1.7", 89), build).id == cache.get_or_build(rtx("1.7", 89, 120), build).id == many.id
    assert cache.get_or_build(rtx("1.7", 8), build).id != many.id, "capabilities are numbers, not pieces of text"
    assert cache.get_or_build(rtx("1.7", 80, 86), build).id != many.id and cache.find(rtx("1.9", 89)) is None and build.calls == 3


def truncated(folder: Path) -> None:
    os.truncate(folder / PLAN, 500)


def flipped(folder: Path) -> None:
    data = bytearray((folder / PLAN).read_bytes())
    data[300] ^= 1
    (folder / PLAN).write_bytes(data)


def without_plan(folder: Path) -> None:
    (folder / PLAN).unlink()


def without_sidecar(folder: Path) -> None:
    (folder / ENTRY).unlink()


def bad_sidecar(folder: Path) -> None:
    (folder / ENTRY).write_text("{")


def strange_sidecar(folder: Path) -> None:
    (folder / ENTRY).write_text("[1]")


def newer_format(folder: Path) -> None:
    (folder / ENTRY).write_text(json.dumps({**json.loads((folder / ENTRY).read_text()), "format": 99}))


def foreign_gpu(folder: Path) -> None:
    """The engine of another GPU, copied to this one's place."""
    content = json.loads((folder / ENTRY).read_text())
    content["key"]["fields"]["gpu"] = {"name": "another", "capability": 120}
    (folder / ENTRY).write_text(json.dumps(content))


def outside(folder: Path) -> None:
    """A sidecar that names a file elsewhere."""
    (folder / ENTRY).write_text((folder / ENTRY).read_text().replace(PLAN, f"../{PLAN}"))


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("not a folder")


DAMAGE = [truncated, flipped, without_plan, without_sidecar, bad_sidecar, strange_sidecar, newer_format, foreign_gpu, outside, a_file]


@pytest.mark.parametrize("harm", DAMAGE, ids=lambda harm: harm.__name__)
def test_what_is_damaged_or_foreign_is_rebuilt_once_and_said_once(harm, tmp_path):
    told: list[str] = []
    build, cache = Builder(), EngineCache(tmp_path, log=told.append)
    key = EngineKey("tensorrt", {"gpu": {"name": "Orin", "capability": 87}})
    before = cache.get_or_build(key, build)
    harm(before.folder)
    if harm is not foreign_gpu:  # whole, but not what its place says
        with pytest.raises(InputError):
            check_entry(before.folder)
    assert cache.find(key) is None
    after = cache.get_or_build(key, build)
    assert after.id != before.id and cache.get_or_build(key, build).id == after.id and build.calls == 2
    assert len(told) == 1 and told[0].endswith("; it is rebuilt") and "\n" not in told[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([key.folder, LOCK])


def test_a_build_that_could_not_be_loaded_is_replaced_once(tmp_path):
    told: list[str] = []
    build, cache = Builder(), EngineCache(tmp_path, log=told.append)
    bad = cache.get_or_build(rtx(), build)
    cache.reject(bad)
    good = cache.get_or_build(rtx(), build)
    assert good.id != bad.id and len(told) == 1 and "could not be loaded" in told[0]
    other = EngineCache(tmp_path)
    other.reject(bad)
    assert other.get_or_build(rtx(), build).id == good.id, "another process had replaced it already"
    assert build.calls == 2


def test_a_failing_build_leaves_nothing(tmp_path):
    cache = EngineCache(tmp_path)

    def build(folder: Path) -> dict[str, object]:
        (folder / PLAN).write_bytes(b"half")
        raise FileNotFoundError(2, "parser gone")

    with pytest.raises(GeosegError, match="parser gone"):
        cache.get_or_build(rtx(), build)
    assert cache.find(rtx()) is None and [p.name for p in tmp_path.iterdir()] == [LOCK]
    assert cache.get_or_build(rtx(), Builder()).bytes == 1000


def test_two_processes_that_ask_at_once_build_once(tmp_path):
    processes = [start(SLOW, tmp_path / "cache", tmp_path / "log") for _ in range(2)]
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == ["whole", "whole"]
    assert len((tmp_path / "log").read_text().split()) == 1


def test_killed_builds_leave_neither_damage_nor_locks(tmp_path):
    seen = kill_slow_builds(20, seed=1, folder=tmp_path)
    assert sum(n for what, n in seen.items() if "killed" in what or "failed" in what) >= 5, f"hardly any build was hit: {seen}"


def test_killed_builds_of_tensorrt_for_rtx_too(tmp_path):
    pytest.importorskip("onnxscript", reason="exporting needs onnxscript")
    if not any(importlib.util.find_spec(name) for name in ("tensorrt_rtx", "tensorrt_rtx_bindings")):
        pytest.skip("TensorRT for RTX is not installed")
    seen = kill_real_builds(3, seed=2, folder=tmp_path)
    assert seen["engine there"] + seen["no engine"] == 3


def test_cancel_ends_the_child_and_the_waiting(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    cancel, log, cache = threading.Event(), tmp_path / "log", EngineCache(tmp_path / "cache")
    seen: list[tuple[str, int]] = []

    def progress(stage: str, done: int, total: int) -> None:
        seen.append((stage, done))
        cancel.set()

    begin = time.monotonic()
    with pytest.raises(Cancelled):
        cache.get_or_build(KEY, lambda folder: run_slow(folder, log, progress, cancel))
    assert seen and seen[0][0] == "building" and time.monotonic() - begin < 10
    pid = int(log.read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert [p.name for p in cache.folder.iterdir()] == [LOCK]
    other = start(SLOW, cache.folder, log)  # holds the lock while it builds
    while len(log.read_text().split()) < 2:
        time.sleep(0.01)
    with pytest.raises(Cancelled, match="waiting for another process"):
        cache.get_or_build(KEY, Builder(), lambda *step: seen.append(step), cancel)
    assert seen[-1][0].startswith("waiting") and other.wait(30) == 0


def test_the_child_ends_with_its_parent(tmp_path):
    process = start(SLOW, tmp_path / "cache", tmp_path / "log")
    while not (tmp_path / "log").exists() or not (tmp_path / "log").read_text():
        time.sleep(0.01)
    child = int((tmp_path / "log").read_text())
    process.kill()
    process.wait()
    end = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < end, "the child goes on"
        time.sleep(0.02)


def test_a_full_disk_names_the_folder_of_the_cache(monkeypatch):
    def full(job, folder, progress):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("geoseg_ros.runtime.engines.build._export", full)
    with pytest.raises(GeosegError, match="^/cache: No space left on device$"):
        work({"backbone": "a", "folder": "/cache/.entry~1"}, silent)


CODE = """
import resource, signal, sys
from geoseg_ros.errors import GeosegError
from geoseg_ros.runtime.engines.cache import EngineCache, EngineKey
told, key = [], EngineKey("onnx", {})
def build(folder):
    (folder / "engine.plan").write_bytes(bytes(200_000))
    return {}
cache = EngineCache(sys.argv[1], log=told.append)
"""


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess:
    """A process with ``cache``, ``key``, ``build`` and ``told``."""
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    return subprocess.run(
        [sys.executable, "-c", CODE + code, *arguments], capture_output=True, text=True, timeout=60, env=environment, cwd="/"
    )


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    code = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    cache.get_or_build(key, build)
except GeosegError as error:
    print(error)
print(*(p.name for p in cache.folder.iterdir()), sep="\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(cache.get_or_build(key, build).bytes)
"""
    result = run_python(code, str(tmp_path / "cache"))
    assert result.stdout.splitlines() == [f"engine cache {tmp_path / 'cache'}: File too large", LOCK, "200000"], result.stderr


def test_a_folder_that_cannot_be_written_is_read_and_otherwise_passed_by(tmp_path):
    cache = EngineCache(tmp_path / "cache")
    cache.get_or_build(EngineKey("onnx", {}), Builder())
    for path in [tmp_path, cache.folder, *cache.folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    for path in tmp_path.parents:  # another user must come this far
        if path.stat().st_uid == os.getuid() and not path.stat().st_mode & 1:
            path.chmod(path.stat().st_mode | 0o011)
    code = """
import os
if os.geteuid() == 0:  # who may write everything
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
print(cache.get_or_build(key, build).folder.parent == cache.folder, told)
other = EngineKey("onnx", {"another": 1})
one, two = (cache.get_or_build(other, build) for _ in range(2))
print(one.id == two.id, one.folder.parent == cache.folder)
print(*told, sep="\\n")
path = one.folder
del cache
print(path.exists())
"""
    result = run_python(code, str(cache.folder))
    line = f"engine cache {cache.folder}: not writable; what is built is kept for this run only"
    assert result.stdout.splitlines() == ["True []", "True False", line, "False"], result.stderr
    tmp_path.chmod(0o755)
    cache.folder.chmod(0o755)


def test_the_least_recently_used_makes_room(tmp_path):
    cache = EngineCache(tmp_path, limit=3500)
    keys = [rtx(str(i)) for i in range(4)]
    for age, key in enumerate(keys[:3]):
        entry = cache.get_or_build(key, Builder(700))
        os.utime(entry.folder / ENTRY, (1000 + age, 1000 + age))
    assert cache.find(keys[0]), "used now"
    cache.get_or_build(keys[3], Builder(700))
    assert [cache.find(key) is not None for key in keys] == [True, False, True, True]
    huge = cache.get_or_build(rtx("huge"), Builder(10_000))
    assert huge.folder.exists() and [cache.find(key) for key in keys] == [None] * 4, "the one that is needed stays, whatever its size"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([huge.folder.name, LOCK])


def test_an_entry_in_the_making_is_not_removed(tmp_path):
    """Another process builds, slowly, while this one wants to build and to make room: it waits for the other to finish."""
    other = start(SLOW, tmp_path / "cache", tmp_path / "log")
    while not list((tmp_path / "cache").glob(".*~*")):
        time.sleep(0.005)
    cache, waited = EngineCache(tmp_path / "cache", limit=sum(map(len, PIECES)) + 10_000), []
    cache.get_or_build(rtx(), Builder(), lambda *step: waited.append(step))
    assert other.communicate(timeout=60)[0].strip() == "whole" and waited
    assert (cache.folder / KEY.folder / PLAN).stat().st_size == sum(map(len, PIECES))


def test_a_file_is_no_cache(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: expected a folder"):
        EngineCache(tmp_path / "file")


def test_the_usual_place(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert EngineCache().folder == Path("/somewhere/geoseg_ros/engines")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/robot")
    assert EngineCache().folder == Path("/home/robot/.cache/geoseg_ros/engines")
