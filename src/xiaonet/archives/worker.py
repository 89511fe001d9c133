"""What a worker keeps from block to block: storages, pickers, and turns on its cores."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock, Semaphore
from typing import Any

from xiaonet.archives.planning import Request
from xiaonet.archives.storage import Storage
from xiaonet.errors import ConfigError, StorageError
from xiaonet.memory import keep_freed_memory
from xiaonet.picker import Picker
from xiaonet.picking.amplitudes import Deconvolution

AT_ONCE = 2  # blocks of each core: one waits for its files while the other is picked
KEPT, LARGEST = 128 << 20, 32 << 20  # bytes of freed memory that are kept, and of an array; older C libraries take no larger number
_LOADING = Lock()


class _Turns:
    """Lets as many threads pick at a time as the worker has cores. The others fetch their files meanwhile."""

    def __init__(self) -> None:
        self._free: Semaphore | None = None
        self._lock = Lock()

    def share(self, cores: int) -> None:
        """Set the number of cores of this process."""
        keep_freed_memory(KEPT, LARGEST, arenas=1)
        self._free = Semaphore(cores)

    @contextmanager
    def take(self) -> Iterator[None]:
        """Wait for a core, and hold it."""
        with self._lock:
            if self._free is None:
                self.share(_cores_of_dask())
        assert self._free is not None
        with self._free:
            yield


turns = _Turns()


def _cores_of_dask() -> int:
    """Cores of this worker of Dask, which has `AT_ONCE` threads for each; 1 in another process."""
    if (distributed := sys.modules.get("distributed")) is None:
        return 1
    try:
        return max(1, int(distributed.get_worker().state.nthreads) // AT_ONCE)
    except ValueError:  # not on a worker
        return 1


@lru_cache(8)
def storage_of(url: str, create: bool = False) -> Storage:
    """The storage at a URL, opened once."""
    return Storage(url, create=create)


def picker_of(request: Request) -> Picker:
    """The picker of a request, which is the same as that of the one who asks.

    Raises:
        ConfigError: this worker has another version or model.
        StorageError: the inventory cannot be read.
    """
    thresholds, how = tuple(sorted(request.thresholds.items())), tuple(request.how.items())
    with _LOADING:
        picker = _picker(request.model, thresholds, how, request.out, request.inventory, request.deconvolve)
    for name, wanted in request.provenance.items():
        if (found := picker.provenance.get(name)) != wanted:
            raise ConfigError(f"this worker has {name} {found!r}; wanted {wanted!r}: install the same XiaoNet and model on all workers")
    return picker


@lru_cache(4)
def _picker(
    model: str,
    thresholds: tuple[tuple[str, float], ...],
    how: tuple[tuple[str, Any], ...],
    out: str,
    inventory: str,
    deconvolve: Deconvolution | None,
) -> Picker:
    with tempfile.TemporaryDirectory(prefix="xiaonet-") as folder:
        path = None
        if inventory:
            path = Path(folder) / inventory.rpartition("/")[2]
            content = storage_of(out, create=True).read(inventory)
            if content is None:
                raise StorageError(f"{out}/{inventory} is gone; repeat the command with --resume")
            path.write_bytes(content)
        return Picker(model, dict(thresholds), threads=1, inventory=path, deconvolve=deconvolve, **dict(how))
