"""Learning rates against PyTorch's, and the random numbers of steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoseg_ros.learning.schedules import constant, cosine, with_warm_up
from geoseg_ros.learning.steps import Step

STEPS = 1000


def of_torch(make) -> list[float]:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimiser)
    rates = []
    for _ in range(STEPS):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


def test_the_cosine_equals_that_of_torch():
    ours = [cosine(0.1)(step, step / STEPS) for step in range(STEPS)]
    theirs = of_torch(lambda optimiser: torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS, eta_min=0.1))
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_constant_and_warm_up():
    assert constant(5, 0.3) == 1.0
    warm = with_warm_up(cosine(), 10)
    assert warm(0, 0.0) == pytest.approx(0.1) and warm(4, 0.0) == pytest.approx(0.5) and warm(20, 0.5) == cosine()(20, 0.5)


def test_every_epoch_has_every_item_once_whatever_the_batch():
    items = [item for number in range(10) for _, item in Step(number, seed=5).share(10, 4)]
    epochs = [items[k : k + 10] for k in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs) and epochs[0] != epochs[1]
    assert len(Step(0).share(3, 8)) == 8  # more than there are: some come twice


@given(number=st.integers(0, 50), processes=st.sampled_from([1, 2, 3, 4]), count=st.integers(1, 30))
def test_processes_share_the_batch_of_one(number, processes, count):
    whole = Step(number, 1).share(count, 12)
    parts = [Step(number, 1, 1, rank, processes).share(count, 12) for rank in range(processes)]
    assert sorted(pair for part in parts for pair in part) == whole and {len(part) for part in parts} == {12 // processes}


def test_random_numbers_belong_to_the_step_and_not_to_the_process():
    def draw(step, *key):
        return float(step.rng(*key).random()), float(torch.rand(1, generator=step.generator(*key)))

    step = Step(3, seed=1)
    assert draw(step) == draw(Step(3, seed=1, rank=1, processes=2)) and draw(step) == draw(step)
    others = [draw(step, 0), draw(step, 1), draw(step, 0, 0), draw(Step(4, 1)), draw(Step(3, 2)), draw(Step(3, 1, stage=2))]
    assert len({draw(step), *others}) == 7
    assert step.global_seed != Step(3, 1, rank=1, processes=2).global_seed
    with pytest.raises(ValueError, match="read-only"):
        step.shuffled(0, 5)[0] = 1
    assert np.array_equal(np.sort(step.shuffled(0, 5)), np.arange(5))
