"""A training that is killed goes on where it was, and ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from geoseg_ros.errors import InputError
from geoseg_ros.learning.checkpoint import Checkpoint
from geoseg_ros.methods.geofree.training import fit
from support.network_worlds_train import FIT, LONG, extractor, sets
from support.paths import PYTHONPATH

pytestmark = pytest.mark.train

SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from support.network_worlds_train import LONG, sets
from support.network_worlds_train import extractor
from geoseg_ros.methods.geofree.training import fit
fit(sets(), LONG, extractor(), state=Path(sys.argv[1]), save_every=0.0)
"""


def check_same(first, second) -> None:
    assert all(torch.equal(v, second.network.state_dict()[k]) for k, v in first.network.state_dict().items())
    for name, bank in first.banks.items():
        again = second.banks[name].tensors()
        assert all(torch.equal(v, again[k]) for k, v in bank.tensors().items())
    drop = [[{k: v for k, v in e.items() if k != "seconds"} for e in f.history.epochs] for f in (first, second)]
    assert drop[0] == drop[1] and first.history.checks == second.history.checks


@pytest.fixture(scope="module")
def whole():
    torch.set_num_threads(1)
    return fit(sets(), LONG, extractor())


def test_a_killed_process_is_resumed(whole, tmp_path):
    state = tmp_path / "training.state"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(state)], env={**os.environ, "PYTHONPATH": PYTHONPATH})
    deadline = time.monotonic() + 240
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(0.05)  # somewhere in a later step
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert state.exists()
    check_same(whole, fit(sets(), LONG, extractor(), state=state))


@pytest.mark.parametrize("written", [3, 8, 15, 20, 22])
def test_a_break_after_any_step(whole, tmp_path, monkeypatch, written):
    """8 steps of stage 1, 12 of stage 2, 4 of stage 3; the break comes right after a state was written."""
    state, real, count = tmp_path / "training.state", Checkpoint.write, []

    def write(*arguments) -> None:
        real(*arguments)
        count.append(1)
        if len(count) == written:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "write", write)
    with pytest.raises(KeyboardInterrupt):
        fit(sets(), LONG, extractor(), state=state, save_every=0.0)
    assert [p.name for p in tmp_path.iterdir()] == [state.name]
    monkeypatch.setattr(Checkpoint, "write", real)
    check_same(whole, fit(sets(), LONG, extractor(), state=state))


def test_a_state_of_another_training_is_refused(tmp_path):
    state = tmp_path / "training.state"
    short = replace(FIT, **{f"stage{k}": replace(getattr(FIT, f"stage{k}"), epochs=1) for k in (1, 2, 3)})
    first = fit(sets(), short, extractor(), state=state)
    again = fit(sets(), short, extractor(), state=state)  # finished: nothing is trained again
    check_same(first, again)
    for changed in (replace(short, seed=9), replace(short, stage3=replace(short.stage3, epochs=2))):
        with pytest.raises(InputError, match="the state of another training"):
            fit(sets(), changed, extractor(), state=state)
    with pytest.raises(InputError, match="the state of another training"):
        fit(sets()[::-1], short, extractor(), state=state)
    whole = state.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"x" * 100):
        state.write_bytes(damaged)
        with pytest.raises(InputError, match="not a file of kind 'training state'") as error:
            fit(sets(), short, extractor(), state=state)
        assert "\n" not in str(error.value)
