"""Batches of training windows, dealt to processes and workers without a trace of either in the result."""

import signal
from collections.abc import Iterator

import torch
from seisbench.util import worker_seeding
from torch.utils.data import DataLoader, Sampler

from xiaonet.data.pipeline import Windows
from xiaonet.errors import ConfigError

PREFETCH = 4  # batches each worker keeps ready


class Batches(Sampler[list[tuple[int, int]]]):
    """Lists of `(round, row)`: one process's share of each global batch.

    A round takes one window of each record, and an epoch is `windows_per_record` rounds.

    With `shuffle`, the order depends on the seed and the epoch alone, and the last batch is
    dropped when it is not full (another one each epoch), so that every step averages over equally
    many windows. Call `start` before each epoch; a resumed run skips the batches it has seen.

    Args:
        records: how many there are.
        batch_size: of the global batch, over all processes.
        shuffle: for training; without it the windows come in order, as in epoch 0.
        windows_per_record: of an epoch; more than 1 makes the epochs of a small data set worth their name.
        seed: of the order.
        rank: of this process.
        world_size: how many processes share the work.

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
                f"a batch of {min(batch_size, self.windows)} windows cannot be dealt to {world_size} processes; use fewer of them"
            )
        self.shuffle, self.seed, self.rank, self.world_size = shuffle, seed, rank, world_size
        self.epoch = self.first = 0

    def start(self, epoch: int, first: int = 0) -> None:
        """Make the next iteration that of `epoch`, from batch `first` on."""
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
            share = numbers[self.rank :: self.world_size]
            if share:
                yield [(first_round + number // self.records, number % self.records) for number in share]


def make_loader(windows: Windows, batches: Batches, *, num_workers: int, pin_memory: bool) -> DataLoader[dict[str, torch.Tensor]]:
    """The prescribed loader: prefetch 4, persistent workers, seeded workers; 0 workers load in this process."""
    return DataLoader(
        windows,
        batch_sampler=batches,
        num_workers=num_workers,
        pin_memory=pin_memory,
        prefetch_factor=PREFETCH if num_workers else None,
        persistent_workers=num_workers > 0,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # else each epoch's start would draw from the generator that dropout uses
    )


def _start_worker(number: int) -> None:
    worker_seeding(number)
    for kind in (signal.SIGINT, signal.SIGTERM):  # these are for the training process to answer
        signal.signal(kind, signal.SIG_IGN)
