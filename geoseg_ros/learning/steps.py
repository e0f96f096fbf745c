"""Random numbers and batches as functions of the step.

Nothing random in a training has a state of its own: what a step draws depends on the seed of the training and on the number of the step.
So a batch can be prepared ahead in another thread, a training that was killed goes on with the same numbers, and several processes draw the
same batch and take their share of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg_ros.errors import InputError

_ORDER, _BATCH, _GLOBAL = 0, 1, 2  # what a random number is for: no two of them share a stream


@dataclass(frozen=True)
class Step:
    """One step of a training.

    Attributes:
        number: steps of the stage before it.
        seed: of the training, at least 0.
        stage: of the training.
        rank, processes: this process and the number of them.
    """

    number: int
    seed: int = 0
    stage: int = 1
    rank: int = 0
    processes: int = 1

    def rng(self, *key: int) -> np.random.Generator:
        """Generator of this step, the same in every process.

        Args:
            key: distinguishes several generators of one step, such as by the place of an item in the batch.
        """
        return np.random.default_rng(_sequence(self.seed, _BATCH, self.stage, self.number, *key))

    def generator(self, *key: int) -> torch.Generator:
        """As :meth:`rng`, for PyTorch (on the processor)."""
        return torch.Generator().manual_seed(_number(self.seed, _BATCH, self.stage, self.number, *key))

    @property
    def global_seed(self) -> int:
        """Seed of PyTorch's global generators during this step (dropout); another one in every process."""
        return _number(self.seed, _GLOBAL, self.stage, self.number, self.rank)

    def share(self, count: int, batch: int) -> list[tuple[int, int]]:
        """This process's part of the batch.

        Batches are cut from one endless sequence of items: every item once in random order, then every item once in another order.

        Args:
            count: number of items. batch: items of all processes together.

        Returns:
            (place in the whole batch, index of the item) for each item of this process.

        Raises:
            InputError: the batch cannot be shared out evenly.
        """
        if count < 1 or batch < 1 or batch % self.processes:
            raise InputError(f"batch: expected items and a multiple of the {self.processes} processes, got {batch} of {count} items")
        first = self.number * batch
        places = range(self.rank, batch, self.processes)
        return [(k, int(self.shuffled((first + k) // count, count)[(first + k) % count])) for k in places]

    def shuffled(self, epoch: int, count: int) -> NDArray[np.int64]:
        """The indices below ``count`` in the random order of an epoch of this stage, int64 [count]; not to be written to."""
        return _shuffled(self.seed, self.stage, epoch, count)


@lru_cache(maxsize=8)
def _shuffled(seed: int, stage: int, epoch: int, count: int) -> NDArray[np.int64]:
    order = np.random.default_rng(_sequence(seed, _ORDER, stage, epoch)).permutation(count)
    order.setflags(write=False)
    return order


def _sequence(seed: int, *key: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=key)


def _number(seed: int, *key: int) -> int:
    return int(_sequence(seed, *key).generate_state(1, np.uint64)[0])
