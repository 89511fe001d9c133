"""Dask on this machine, at an address, and through Slurm; workers and schedulers that are killed at any moment."""

import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="needs dask.distributed: pip install 'xiaonet[archive]'")
pytest.importorskip("obstore", reason="needs obstore: pip install 'xiaonet[archive]'")

from archives.test_exact import csv_of, objects_of, picked
from xiaonet.archives import engines
from xiaonet.archives.dataset import Dataset
from xiaonet.archives.engines import open_engine
from xiaonet.archives.planning import Plan, Request
from xiaonet.archives.running import RunTotals, run
from xiaonet.archives.storage import Storage

KILLS = int(os.environ.get("FAULTS_ARCHIVE_KILLS", "2"))
SBATCH = """#!/bin/sh
# Runs a job of Slurm on this machine. It keeps a copy, as Slurm does: the file is gone once this script ends.
for job; do :; done
cp "$job" "{folder}/job.$$"
sh "{folder}/job.$$" >"{folder}/job.$$.log" 2>&1 &
echo $! >>"{folder}/jobs"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
for job; do kill $job 2>/dev/null; done
exit 0
"""


def run_on(cluster: str, request: Request, folder: Path, *, resume: bool = False, workers: int = 2) -> RunTotals:
    Dataset(Storage(request.out, create=True)).begin(request, resume)
    folder.mkdir()
    try:
        with Plan(Storage(request.source), request, folder) as plan, open_engine(cluster, workers) as engine:
            return run(plan, request, engine, lambda totals, cores: None)
    finally:
        shutil.rmtree(folder)


def command(days: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    """The command line, in a group of processes of its own."""
    words = ["pick", str(days), "--layout", "sds", "--model", "xiaonet-nano", "--out", str(out), *more]
    return subprocess.Popen(
        [sys.executable, "-m", "xiaonet", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def end(process: subprocess.Popen[bytes]) -> str:
    told, _ = process.communicate(timeout=300)
    return told.decode()


@contextmanager
def dask(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A scheduler or a worker of Dask in a group of processes of its own, killed at the end."""
    process = subprocess.Popen([sys.executable, "-m", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_workers_here_give_the_same_objects(ask, expected: bytes, tmp_path: Path) -> None:
    request, alone = ask(days=1), ask(days=1, out=str(tmp_path / "alone"))
    totals = run_on("local", request, tmp_path / "plan")
    assert ({}, 7) == (totals.failures, totals.done)
    assert expected == csv_of(request.out)
    picked(alone, tmp_path / "plan")
    assert objects_of(alone.out) == objects_of(request.out)


def test_workers_that_are_slow_to_end_do_not_undo_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    import distributed

    class Slow(distributed.LocalCluster):
        def close(self, timeout: float | None = None) -> None:
            super().close(timeout)
            raise TimeoutError

    monkeypatch.setattr(engines, "_start", lambda *_: Slow(n_workers=1, processes=False, dashboard_address=None))
    with open_engine("local", 1) as engine:
        assert 3 == engine.executor.submit(sum, [1, 2]).result()


@pytest.mark.parametrize("trial", range(KILLS))
def test_workers_killed_at_any_moment_change_nothing(ask, expected: bytes, tmp_path: Path, trial: int) -> None:
    import distributed

    rng, ended = random.Random(trial), threading.Event()

    def kill() -> None:
        for _ in range(3):
            if ended.wait(rng.uniform(0.2, 2.0)):
                return
            try:
                pids = list(distributed.default_client().run(os.getpid).values())
                os.kill(rng.choice(pids), signal.SIGKILL)
            except (ValueError, OSError, IndexError):  # not started yet, or dead already
                continue

    killer = threading.Thread(target=kill)
    killer.start()
    totals = run_on("local", ask(days=1), tmp_path / "plan")
    ended.set()
    killer.join()
    assert {} == totals.failures
    assert expected == csv_of(ask().out)


@pytest.mark.parametrize("trial", range(KILLS))
def test_a_run_killed_with_its_scheduler_at_any_moment_ends_as_if_nothing_had_happened(
    days: Path, expected: bytes, tmp_path: Path, trial: int
) -> None:
    rng, out = random.Random(100 + trial), tmp_path / "out"
    for _ in range(rng.randint(1, 2)):
        killed = command(days, out, "--cluster", "local", "--workers", "1", "--resume")
        time.sleep(rng.uniform(1.0, 12.0))
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
    last = command(days, out, "--resume")
    told = end(last)
    assert 0 == last.returncode, told
    assert expected == csv_of(str(out))


def test_a_scheduler_that_dies_is_told_and_the_next_run_ends_the_work(days: Path, expected: bytes, tmp_path: Path) -> None:
    port, out = free_port(), tmp_path / "out"
    address = f"tcp://127.0.0.1:{port}"
    words = ("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    with dask(*words) as scheduler:
        waiting = command(days, out, "--cluster", address)  # without a worker it waits
        while not (out / "run.json").exists():
            time.sleep(0.1)
        time.sleep(3)
        scheduler.kill()
        told = end(waiting)
    assert 1 == waiting.returncode
    assert "complete days are kept: start it and repeat the command with --resume" in told or "no scheduler answers at" in told
    with dask(*words), dask("distributed.cli.dask_worker", address, "--nthreads", "2", "--no-dashboard"):
        time.sleep(2)
        last = command(days, out, "--cluster", address, "--resume")
        told = end(last)
    assert 0 == last.returncode, told
    assert expected == csv_of(str(out))


def test_jobs_of_slurm_do_the_work(ask, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask_jobqueue", reason="needs dask-jobqueue: pip install 'xiaonet[archive]'")
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in {"sbatch": SBATCH.replace("{folder}", str(folder)), "scancel": SCANCEL}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    totals = run_on("slurm", ask(days=2), tmp_path / "plan", workers=1)
    assert ({}, 7) == (totals.failures, totals.done)
    assert expected == csv_of(ask().out)
    assert (folder / "jobs").read_text().split()
