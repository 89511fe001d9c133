"""Batches of training windows, dealt to processes and workers without a trace of either in the result."""

import signal
from collections.abc import Iterator

import torch
from seisbench.util import worker_seeding
from torch.utils.data import DataLoader, Sampler

from xiaonet.data.pipeline import Windows

PREFETCH = 4  # batches each worker keeps ready


class Batches(Sampler[list[tuple[int, int]]]):
    """Lists of `(epoch, row)`: one process's share of each global batch.

    With `shuffle`, the order depends on the seed and the epoch alone, and the last batch is
    dropped when it is not full (another one each epoch), so that every step averages over equally
    many windows. Call `start` before each epoch; a resumed run skips the batches it has seen.

    Args:
        records: how many there are.
        batch_size: of the global batch, over all processes.
        shuffle: for training; without it every record comes once, in order, as in epoch 0.
        seed: of the order.
        rank: of this process.
        world_size: how many processes share the work.
    """

    def __init__(self, records: int, batch_size: int, *, shuffle: bool, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        self.records = records
        self.batch_size = min(batch_size, records) if shuffle else batch_size
        self.batch_size -= self.batch_size % world_size if shuffle else 0
        self.shuffle, self.seed, self.rank, self.world_size = shuffle, seed, rank, world_size
        self.epoch = self.first = 0

    def start(self, epoch: int, first: int = 0) -> None:
        """Make the next iteration that of `epoch`, from batch `first` on."""
        self.epoch, self.first = epoch, first

    def __len__(self) -> int:
        whole, rest = divmod(self.records, self.batch_size)
        return whole if self.shuffle or not rest else whole + 1

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, epoch = range(self.records), 0
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order, epoch = torch.randperm(self.records, generator=generator).tolist(), self.epoch
        for batch in range(self.first, len(self)):
            rows = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            share = rows[self.rank :: self.world_size]
            if share:
                yield [(epoch, row) for row in share]


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
    )


def _start_worker(number: int) -> None:
    worker_seeding(number)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training process to answer
