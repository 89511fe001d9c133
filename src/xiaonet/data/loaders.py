"""Batches of training windows. The number of processes and workers does not change them."""

import signal
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from seisbench.util import worker_seeding
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from xiaonet.data.pipeline import Windows
from xiaonet.errors import ConfigError

PREFETCH = 4  # batches that each worker keeps ready


class Batches(Sampler[list[tuple[int, int]]]):
    """Batches as lists of `(round, row)`, this process's part of each global batch.

    A round takes one window of each record. An epoch has `windows_per_record` rounds.

    With `shuffle`, the order depends on the seed and the epoch only. A last batch that is not full is
    dropped, so that every step averages over the same number of windows. Which windows that drops
    differs between epochs. Call `start` before each epoch; a resumed run skips the batches already done.

    Args:
        records: number of records.
        batch_size: windows in a global batch, over all processes.
        shuffle: for training. Without it, the windows come in order, as in epoch 0.
        windows_per_record: in an epoch; use more than 1 for a small data set.
        seed: of the order.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        ConfigError: there are more processes than windows in a batch.
    """

    def __init__(
        self,
        records: int,
        batch_size: int,
        *,
        shuffle: bool,
        windows_per_record: int = 1,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.records = records
        self.windows_per_record = windows_per_record
        self.windows = records * windows_per_record
        self.batch_size = min(batch_size, self.windows) if shuffle else batch_size
        self.batch_size -= self.batch_size % world_size if shuffle else 0
        if self.batch_size < 1:
            raise ConfigError(
                f"a batch of {min(batch_size, self.windows)} windows cannot be split over {world_size} processes; "
                f"wanted at least one window for each: use fewer processes or a larger batch"
            )
        self.shuffle, self.seed, self.rank, self.world_size = shuffle, seed, rank, world_size
        self.epoch = self.first = 0

    def start(self, epoch: int, first: int = 0) -> None:
        """Let the next iteration be over `epoch`, from batch `first` on."""
        self.epoch, self.first = epoch, first

    def __len__(self) -> int:
        whole, rest = divmod(self.windows, self.batch_size)
        return whole if self.shuffle or not rest else whole + 1

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, first_round = list(range(self.windows)), 0
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(self.windows, generator=generator).tolist()
            first_round = self.epoch * self.windows_per_record
        for batch in range(self.first, len(self)):
            numbers = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            if part := numbers[self.rank :: self.world_size]:
                yield [(first_round + number // self.records, number % self.records) for number in part]


class DrawnBatches(Dataset[Any]):
    """Batches that are drawn when they are asked for by the number of their step.

    Args:
        draw: gives the arrays of a step. The same step gives the same arrays.
    """

    def __init__(self, draw: Callable[[int], tuple[NDArray[np.float32], ...]]) -> None:
        self.draw = draw

    def __getitem__(self, step: int) -> tuple[NDArray[np.float32], ...]:
        torch.set_flush_denormal(True)  # tiny numbers take processors a hundred times as long
        return self.draw(step)


def make_loader(windows: Windows, batches: Batches, *, num_workers: int, pin_memory: bool) -> DataLoader[dict[str, Tensor]]:
    """Make the prescribed loader: prefetch 4, persistent and seeded workers. With 0 workers, this process loads the windows."""
    return DataLoader(windows, batch_sampler=batches, **_options(num_workers, pin_memory))


def load_drawn(draw: DrawnBatches, first: int, *, num_workers: int, pin_memory: bool) -> DataLoader[tuple[Tensor, ...]]:
    """Make a loader of the same kind that gives the batches of all steps from `first` on, in order and without an end."""
    return DataLoader(draw, sampler=count(first), batch_size=None, **_options(num_workers, pin_memory))


def _options(num_workers: int, pin_memory: bool) -> dict[str, Any]:
    return {
        "num_workers": num_workers,
        "pin_memory": pin_memory,
        "prefetch_factor": PREFETCH if num_workers else None,
        "persistent_workers": num_workers > 0,
        "worker_init_fn": _start_worker,
        "generator": torch.Generator(),  # otherwise, each epoch would draw a seed from the generator that dropout uses
    }


def stop_workers(loader: DataLoader[Any]) -> None:
    """Stop the worker processes of a loader.

    They ignore SIGTERM, with which Python stops its daemon processes when it exits. Without this it would wait for them forever.
    """
    iterator: Any = loader._iterator  # of persistent workers; None otherwise
    if iterator is not None:
        iterator._shutdown_workers()
        loader._iterator = None


def _start_worker(number: int) -> None:
    worker_seeding(number)
    for kind in (signal.SIGINT, signal.SIGTERM):  # the training process handles these
        signal.signal(kind, signal.SIG_IGN)
