"""One command over many recordings: by processes that do one after another, on this machine or on the machines of a Ray cluster.

Every recording has a folder of its own below ``--out``, with what the command writes for one, ``log.txt``, and at last ``result.json``:
where that is there, and was made of the same files with the same options, the recording is left out the next time.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.files import MARK, check_output, mark_results, write_text
from geoseg_ros.processes import Cancelled, Child, ask, serve_job
from geoseg_ros.progress import Progress

_SUFFIXES = (".mcap", ".db3", ".bag")
_STEERING = ("workers", "ray", "json", "command")  # options that do not change a result
_OWN = threading.local()  # the child of each thread
_CHILDREN: list[Child] = []
Job = dict[str, Any]


def add_many(parser: argparse._ActionsContainer) -> None:
    """Declare ``--workers`` and ``--ray``."""
    parser.add_argument(
        "--workers", type=int, metavar="N", help="of several recordings, work on N at a time (default 1; with --ray: all it has)"
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="work on the machines of this Ray cluster, such as auto or HOST:6379")


def are_many(options: argparse.Namespace, recordings: Sequence[str]) -> bool:
    """Whether :func:`run_many` is asked for: several recordings, a list of them (@FILE), or an option of it."""
    return len(recordings) > 1 or options.workers is not None or options.ray is not None or recordings[0].startswith("@")


def run_many(
    options: argparse.Namespace,
    lists: Mapping[str, Sequence[str] | None],
    file: str,
    finish: Callable[[Path, dict[str, Any]], None] = lambda out, results: None,
) -> dict[str, Any]:
    """Run a command once for each recording.

    Args:
        options: of the command; ``out`` is the folder.
        lists: name of an option -> a value for each recording, or None; the recordings come first. @FILE stands for its lines.
        file: what the command writes for one recording, inside its folder.
        finish: called with the folder and the results by name, before the failures are reported.

    Returns:
        ``results`` by name, ``skipped``, ``failed`` (name -> line), ``seconds``.

    Raises:
        InputError: bad options, before anything is done.
        GeosegError: some failed; the others are done.
    """
    begin, out = time.monotonic(), Path(options.out)
    if options.workers is not None and options.workers < 1:
        raise InputError(f"--workers: expected at least 1, got {options.workers}")
    jobs = _jobs(options, {key: _expanded(values) for key, values in lists.items() if values is not None}, out, file)
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / MARK).exists()):
        raise InputError(f"--out: {out} exists, expected a new folder, or one of an earlier run over many recordings")
    check_output(out, "--out", [path for job in jobs.values() for path in job["paths"]])
    work, workers = (_work, 1) if options.ray is None else _on_ray(options)
    mark_results(out)
    say = partial(print, file=sys.stderr if options.json else sys.stdout, flush=True)
    results = {name: done for name, job in jobs.items() if (done := _complete(Path(job["folder"]), job)) is not None}
    skipped = list(results)
    for name in skipped:
        say(f"{name}: complete, skipped")
    made, failed = _run_jobs({name: job for name, job in jobs.items() if name not in results}, work, options.workers or workers, say)
    results = {name: (results | made)[name] for name in jobs if name not in failed}
    summary = {"results": results, "skipped": skipped, "failed": failed, "seconds": round(time.monotonic() - begin, 1)}
    write_text(out / "summary.json", json.dumps(summary, indent=1, default=float) + "\n")
    finish(out, results)
    say(f"{out}: {len(results)} of {len(jobs)} recordings are complete, {len(skipped)} of them from before; {summary['seconds']} s")
    if failed:
        names = ", ".join(list(failed)[:10]) + (", ..." if len(failed) > 10 else "")
        raise GeosegError(
            f"{len(failed)} of {len(jobs)} recordings failed ({names}), see log.txt in their folders; the same command tries them again"
        )
    return summary


def _run_jobs(
    jobs: Mapping[str, Job], work: Callable[[Job, threading.Event], dict[str, Any]], workers: int, say: Callable[[str], None]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Results by name, and a line for each job that failed."""
    made, failed, cancel = dict[str, Any](), dict[str, str](), threading.Event()
    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(work, job, cancel): name for name, job in jobs.items()}
        try:
            for count, future in enumerate(as_completed(futures), 1):
                name, found = futures[future], future.result()
                if "error" in found:
                    failed[name], how = found["error"], f"failed: {found['error']}"
                else:
                    made[name], how = found["result"], f"done in {found['seconds']:.1f} s"
                say(f"{name}: {how} ({count} of {len(futures)})")
        except BaseException:
            cancel.set()
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            while _CHILDREN:
                _CHILDREN.pop().end()
    return made, failed


def _expanded(values: Sequence[str]) -> list[str]:
    """The values, with the lines of FILE for @FILE."""
    found = []
    for value in values:
        if not value.startswith("@"):
            found.append(value)
            continue
        try:
            found += [line.strip() for line in Path(value[1:]).read_text().splitlines() if line.strip()]
        except (OSError, ValueError) as error:
            raise InputError(f"{value}: cannot be read: {error}") from None
    return found


def _jobs(options: argparse.Namespace, lists: Mapping[str, list[str]], out: Path, file: str) -> dict[str, Job]:
    """Name -> what a worker needs: the options of a run over one recording."""
    first, recordings = next(iter(lists.items()))
    for key, values in lists.items():
        if len(values) != len(recordings) or not values:
            raise InputError(f"--{key}: expected one for each of {len(recordings)} recordings, got {len(values)}")
    absolute = [Path(path).absolute() for path in recordings]
    common = os.path.commonpath([path.parent for path in absolute])
    jobs: dict[str, Job] = {}
    for k, path in enumerate(absolute):
        inside = path.relative_to(common)
        name = "_".join((inside.with_suffix("") if inside.suffix in _SUFFIXES else inside).parts)
        if name in jobs:
            raise InputError(f"{first}: two recordings get the folder {name}, expected different names")
        own = {key: [values[k]] for key, values in lists.items()}
        given = {key: value for key, value in vars(options).items() if key not in _STEERING} | own | {"out": str(out / name / file)}
        jobs[name] = {
            "command": options.command,
            "options": given,
            "paths": [values[k] for values in lists.values()],
            "place": os.getcwd(),
            "folder": str((out / name).absolute()),
        }
    return jobs


def _made_of(job: Job) -> dict[str, Any]:
    """The options of a job, and size and time of every file that they name: what its result depends on."""
    states = {}
    for value in job["options"].values():
        for path in [value] if isinstance(value, str) else value if isinstance(value, list) else ():
            if isinstance(path, str) and path != job["options"]["out"] and os.path.exists(path):
                files = [Path(path), *sorted(Path(path).rglob("*"))]
                states[path] = [
                    sum(file.stat().st_size for file in files if file.is_file()),
                    max(file.stat().st_mtime_ns for file in files),
                ]
    return json.loads(json.dumps({"options": {key: value for key, value in job["options"].items() if key != "out"}, "files": states}))


def _complete(folder: Path, job: Job) -> Any:
    """The result of an earlier run of the same job, or None."""
    try:
        found = json.loads((folder / "result.json").read_text())
        return found["result"] if found["made_of"] == _made_of(job) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _work(job: Job, cancel: threading.Event | None = None) -> dict[str, Any]:
    """Do a job in this thread's child process: ``result`` and ``seconds``, or ``error``. What is half-written of it is removed first."""
    begin, folder = time.monotonic(), Path(job["folder"])
    try:
        os.chdir(job["place"])
        made_of = _made_of(job)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        result = ask(_child(), job, cancel=cancel)
        seconds = round(time.monotonic() - begin, 2)
        write_text(folder / "result.json", json.dumps({"result": result, "seconds": seconds, "made_of": made_of}) + "\n")
        return {"result": result, "seconds": seconds}
    except Cancelled:
        raise
    except (InputError, GeosegError, OSError) as error:
        return {"error": " ".join(str(error).split())}


def _child() -> Child:
    """The child of this thread; a new one at first, and where it has died."""
    child: Child | None = getattr(_OWN, "child", None)
    if child is None or child.code is not None:
        child = _OWN.child = Child("worker", [sys.executable, "-m", "geoseg_ros.cli.many"])
        _CHILDREN.append(child)
    return child


def _on_ray(options: argparse.Namespace) -> tuple[Callable[[Job, threading.Event], dict[str, Any]], int]:
    """What does a job on the cluster, and how many it does at a time. Tasks of a machine that is lost are done again on another."""
    import ray

    try:
        host, _, port = options.ray.rpartition("//")[2].rpartition(":")
        if host and port.isdigit():  # Ray itself waits for minutes
            socket.create_connection((host, int(port)), 5.0).close()
        ray.init(address=options.ray, log_to_driver=False, logging_level="error", ignore_reinit_error=True)
    except Exception as error:  # OSError, ConnectionError, ValueError, those of grpc
        raise InputError(f"--ray {options.ray}: no cluster replies: {' '.join(str(error).split())[:150]}") from None
    gpus = int(getattr(options, "device", None) == "cuda")  # Ray hides the GPUs from tasks that ask for none
    task = ray.remote(num_cpus=1, num_gpus=gpus, scheduling_strategy="SPREAD")(_work)

    def work(job: Job, cancel: threading.Event) -> dict[str, Any]:
        reference = task.remote(job)
        while not ray.wait([reference], timeout=0.2)[0]:
            if cancel.is_set():
                ray.cancel(reference, force=True)
        try:
            return dict(ray.get(reference))
        except ray.exceptions.RayError as error:
            return {"error": " ".join(str(error).split())[:300]}

    return work, max(int(ray.cluster_resources().get("CPU", 1)), 1)


def _serve(job: Job, progress: Progress) -> dict[str, Any]:
    """The child's side: the command, run for one recording; what it prints goes to the log of that."""
    from geoseg_ros.cli.main import COMMANDS

    os.chdir(job["place"])
    with open(Path(job["folder"]) / "log.txt", "wb") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    module = importlib.import_module(f"geoseg_ros.cli.{COMMANDS[job['command']][0]}")
    options = argparse.Namespace(**job["options"], command=job["command"], json=True, workers=None, ray=None)
    try:
        return dict(json.loads(json.dumps(module.run(options), default=float)))
    except (InputError, GeosegError):
        raise
    except Exception as error:  # must not keep the next recording from its turn
        traceback.print_exc()
        raise GeosegError(f"{type(error).__name__}: {error}") from error


if __name__ == "__main__":
    os._exit(serve_job(_serve, several=True))
