"""The training loop: budgets, hooks, gradients, averages, and the same bytes after a break."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg_ros.backbones.tiny import load_tiny
from geoseg_ros.errors import GeosegError, InputError
from geoseg_ros.learning.checkpoint import Checkpoint
from geoseg_ros.learning.fabric import open_fabric
from geoseg_ros.learning.loop import LoopConfig, Run, train
from geoseg_ros.learning.schedules import constant
from geoseg_ros.learning.steps import Step
from support.distillation_world import write_photos
from support.paths import PYTHONPATH
from support.small_task import CONFIG, SmallTask, train_and_compare, weights

pytestmark = pytest.mark.train


class Killed(Exception):
    pass


def same(first, second) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def test_it_learns_counts_and_calls_its_hooks():
    task, reported = SmallTask(), []
    run = train(task, CONFIG, report=lambda r: reported.append((r.step, r.progress, r.epoch, dict(r.means))))
    assert run.step == 15 and run.progress == 1.0 and run.seconds > 0
    assert [r[0] for r in reported] == list(range(1, 16)) and reported[-1][1] == 1.0
    assert [r[1] for r in reported] == sorted(r[1] for r in reported)
    assert task.events == [("begin", 0), *(("epoch", step) for step in (3, 5, 8, 10, 13, 15)), ("end", 15)]
    assert set(run.losses) == set(run.means) == {"error", "size"}
    long = SmallTask()
    assert train(long, replace(CONFIG, epochs=60)).means["error"] < 0.7 * reported[2][3]["error"]


def test_runs_repeat_by_their_seed_whatever_is_prefetched():
    found = []
    for changes in ({}, {"prefetch": 3}, {"seed": 4}, {"stage": 2}):
        task = SmallTask()
        train(task, replace(CONFIG, **changes))
        found.append(weights(task.model))
    assert same(found[0], found[1]) and not same(found[0], found[2]) and not same(found[0], found[3])


def test_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    train(SmallTask(), CONFIG)
    assert torch.equal(torch.rand(3), expected)


@settings(max_examples=12, deadline=None)
@given(breaks=st.lists(st.integers(1, 15), max_size=3), optimiser=st.sampled_from(["adam", "sgd"]), average=st.sampled_from([None, 0.9]))
def test_a_training_with_breaks_ends_with_the_same_bytes(tmp_path_factory, breaks, optimiser, average):
    config = replace(CONFIG, average=average)
    whole = SmallTask(optimiser)
    expected = train(whole, config)
    path = tmp_path_factory.mktemp("state") / "training.state"
    for step in [*breaks, None]:

        def stop(run, step=step):
            if run.step == step:
                raise Killed

        task = SmallTask(optimiser)
        try:
            run = train(task, config, checkpoint=Checkpoint(path, "d", every=0.0), report=stop)
        except Killed:
            continue
    assert same(weights(whole.model), weights(task.model)) and whole.total == task.total
    assert run.step == expected.step and run.means == (expected.means if run.losses else {})
    if average is not None:
        assert same(weights(expected.average), weights(run.average))
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert ("begin", 0) in task.events or breaks


def test_stages_share_a_checkpoint(tmp_path):
    def stages(task, checkpoint=None, stop=None):
        def at(stage):
            def report(run):
                if (stage, run.step) == stop:
                    raise Killed

            return report

        for stage in (1, 2, 3):
            train(task, replace(CONFIG, stage=stage, epochs=2), checkpoint=checkpoint, report=at(stage))
        return weights(task.model)

    expected = stages(SmallTask())
    for stop in [(1, 2), (2, 1), (2, 5), (3, 4)]:
        path = tmp_path / f"{stop}.state"
        with pytest.raises(Killed):
            stages(SmallTask(), Checkpoint(path, "d", every=0.0), stop)
        task = SmallTask()
        assert same(expected, stages(task, Checkpoint(path, "d")))
        assert [name for name, _ in task.events].count("begin") == 3 - stop[0]
    again = SmallTask()
    assert same(expected, stages(again, Checkpoint(path, "d"))) and again.events == [("end", 5)]  # finished: nothing is trained


def test_checkpoints_are_written_when_due_and_at_the_end(tmp_path):
    for every, saved in ((0.0, list(range(1, 16))), (3600.0, [15])):
        task = SmallTask()
        train(task, CONFIG, checkpoint=Checkpoint(tmp_path / f"{every}.state", "d", every))
        assert [step for name, step in task.events if name == "saved"] == saved


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "training.state"
    train(SmallTask(), CONFIG, checkpoint=Checkpoint(path, "d"))
    with pytest.raises(InputError, match="the state of another training"):
        Checkpoint(path, "e")
    with pytest.raises(InputError, match="damaged training state") as error:
        train(SmallTask(norm=False), CONFIG, checkpoint=Checkpoint(path, "d"))
    assert "\n" not in str(error.value)


def test_a_limit_in_seconds_ends_in_the_middle_of_an_epoch_and_is_kept_over_breaks(tmp_path):
    class Slow(SmallTask):
        def after_step(self, run: Run) -> None:
            time.sleep(0.02)

    config = LoopConfig(seconds=0.3, average=0.9)
    task, progress = Slow(), []
    began = time.monotonic()
    run = train(task, config, report=lambda r: progress.append(r.progress))
    assert 0.3 <= time.monotonic() - began < 10 and 1 <= run.step <= 15
    assert progress == sorted(progress) and progress[-1] == 1.0 and task.events[-2][0] == "epoch"
    path = tmp_path / "training.state"

    def stop(run):
        if run.seconds > 0.2:
            raise Killed

    with pytest.raises(Killed):
        train(Slow(), config, checkpoint=Checkpoint(path, "d", every=0.0), report=stop)
    before = Checkpoint(path, "d").found
    assert before is not None and before.seconds > 0.15
    second = train(Slow(), config, checkpoint=Checkpoint(path, "d"))
    assert second.seconds >= 0.3 and before.step < second.step <= 15
    assert train(SmallTask(), LoopConfig(seconds=0.0)).step == 1  # at least one step


def test_no_epochs_train_nothing():
    task = SmallTask()
    before = weights(task.model)
    assert train(task, replace(CONFIG, epochs=0)).step == 0
    assert same(before, weights(task.model)) and [name for name, _ in task.events] == ["begin", "end"]


def test_the_rates_of_all_groups_follow_the_schedule():
    rates = []

    class Watched(SmallTask):
        def optimiser(self):
            self.made = super().optimiser()
            return self.made

        def after_step(self, run: Run) -> None:
            rates.append([group["lr"] for group in self.made.param_groups])

    train(Watched(), replace(CONFIG, schedule=lambda step, progress: step + progress))
    assert rates[3] == pytest.approx([0.02 * (3 + 3 / 15), 0.01 * (3 + 3 / 15)])


def test_the_average_is_that_of_the_weights():
    history = []

    class Watched(SmallTask):
        def after_step(self, run: Run) -> None:
            history.append(weights(self.model))

    run = train(Watched(), CONFIG)
    expected = history[0]
    for n, now in enumerate(history[1:], 1):
        decay = min(0.9, (n + 1) / (n + 10))
        expected = {k: decay * v + (1 - decay) * now[k] if v.is_floating_point() else now[k] for k, v in expected.items()}
    assert run.average is not None and not run.average.training
    for name, value in run.average.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("broken", "words"), [("loss", r"the loss is no longer finite \(error\)"), ("gradient", "the gradient is no")])
def test_what_is_not_finite_is_refused_before_it_reaches_the_weights(broken, words):
    class Broken(SmallTask):
        def batch(self, step):
            inputs, targets = super().batch(step)
            return inputs, targets * (float("nan") if step.number == 4 and broken == "loss" else 1.0)

    task = Broken()
    if broken == "gradient":
        task.model.body[0].weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(GeosegError, match=words):
        train(task, CONFIG)
    assert all(torch.isfinite(value).all() for value in task.model.state_dict().values())


def test_gradients_are_clipped():
    moved = []
    for clip in (None, 1e-6):
        task = SmallTask("sgd", dropout=0.0)
        before = weights(task.model)
        train(task, LoopConfig(epochs=1, schedule=constant, clip=clip))
        moved.append(max(float((value - before[name]).abs().max()) for name, value in task.model.named_parameters()))
    assert moved[1] < 1e-5 < moved[0]


def test_wrong_settings_are_one_line():
    with pytest.raises(InputError, match="epochs or seconds"):
        train(SmallTask(), LoopConfig())
    with pytest.raises(InputError, match="seed: expected at least 0, got -1"):
        train(SmallTask(), replace(CONFIG, seed=-1))
    for device in ("tpu", "cuda:x", "cuda:99"):
        with pytest.raises(InputError, match="device"):
            open_fabric(device)


def test_errors_of_a_batch_reach_the_caller():
    class Broken(SmallTask):
        def batch(self, step):
            if step.number == 3:
                raise InputError("picture.png: not an image")
            return super().batch(step)

    with pytest.raises(InputError, match=r"picture\.png"):
        train(Broken(), CONFIG)


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=240, env=environment)


@pytest.fixture
def expected(tmp_path):
    task = SmallTask(dropout=0.0, norm=False)
    train(task, CONFIG)
    torch.save(task.model.state_dict(), tmp_path / "weights.pt")
    return str(tmp_path / "weights.pt")


def test_two_processes_get_the_weights_of_one(expected):
    """Started by Fabric, over gloo."""
    assert open_fabric("cpu", processes=2).launch(train_and_compare, expected) <= 1e-5


def test_torchrun_starts_the_processes(expected, tmp_path):
    """The weights are those of one process, and of a distillation the first process alone writes and returns something."""
    out = tmp_path / "student.safetensors"
    script = str(Path(__file__).parents[1] / "support" / "two_processes.py")
    arguments = ("--standalone", "--nproc-per-node=2", script, expected, str(write_photos(tmp_path / "photos")), str(out))
    done = run_python("-m", "torch.distributed.run", *arguments)
    assert done.returncode == 0, done.stderr
    found = sorted(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
    assert [rank for rank, *_ in found] == [0, 1] and all(difference <= 1e-5 for _, difference, _ in found)
    assert found[0][2] == load_tiny(out)[2] and found[0][2]["steps"] == 9 and found[1][2] == {}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos", "student.safetensors", "weights.pt"]


def test_a_batch_that_two_processes_cannot_share_is_refused():
    with pytest.raises(InputError, match="a multiple of the 2 processes, got 5"):
        Step(0, processes=2).share(10, 5)


def test_lightning_is_imported_late_prints_nothing_and_calls_nobody():
    code = (
        "import socket, sys\n"
        "import geoseg_ros.learning.loop, geoseg_ros.learning.distillation\n"
        "assert not [m for m in sys.modules if m.startswith('lightning')]\n"
        "def refuse(*arguments): raise AssertionError(f'a connection to {arguments}')\n"
        "socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse\n"
        "from support.small_task import CONFIG, SmallTask\n"
        "geoseg_ros.learning.loop.train(SmallTask(), CONFIG)\n"
        "assert [m for m in sys.modules if m.startswith('lightning')]\n"
    )
    done = run_python("-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
