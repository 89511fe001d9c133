"""What a worker keeps, and how it shares its cores and its memory."""

import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Lock
from types import SimpleNamespace

import pytest

pytest.importorskip("obstore", reason="needs obstore: pip install 'xiaonet[archive]'")

from xiaonet.archives import worker
from xiaonet.archives.storage import located

FAULTS = """
import resource
from xiaonet.archives.worker import turns

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        b"x" * (4 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
turns.share(1)
faults()
print(first, faults())
"""


def test_as_many_threads_pick_as_there_are_cores() -> None:
    turns, lock, now, most, pair = worker._Turns(), Lock(), 0, 0, Barrier(2)
    turns.share(2)

    def pick(_: int) -> None:
        nonlocal now, most
        with turns.take():
            with lock:
                now += 1
                most = max(most, now)
            pair.wait(timeout=30)  # two are here at the same time
            with lock:
                now -= 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(pick, range(6)))
    assert 2 == most


@pytest.mark.parametrize(("threads", "cores"), [(2, 1), (8, 4), (1, 1)])
def test_a_worker_of_dask_has_two_threads_for_each_core(monkeypatch: pytest.MonkeyPatch, threads: int, cores: int) -> None:
    here = SimpleNamespace(state=SimpleNamespace(nthreads=threads))
    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(get_worker=lambda: here))
    assert cores == worker._cores_of_dask()


def test_a_process_that_is_no_worker_has_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "distributed", raising=False)
    assert 1 == worker._cores_of_dask()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_memory_that_dask_would_return_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")  # as Dask sets it
    before, after = map(int, subprocess.check_output([sys.executable, "-c", FAULTS], text=True).split())
    assert 5 * after < before


def test_the_memory_of_a_worker_is_its_own() -> None:
    held = b"x" * (400 << 20)  # of the process that starts it
    program = "from xiaonet.archives.blocks import Usage; print(Usage.now().memory)"
    told = float(subprocess.check_output([sys.executable, "-c", program], text=True))
    assert 10 < told < len(held) / 2**20 / 2


def test_workers_in_other_folders_find_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (str(tmp_path / "out"), "s3://mine/run?region=us-west-2") == (located("out"), located("s3://mine/run?region=us-west-2"))
