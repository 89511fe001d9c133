"""What runs the blocks: threads of this process, or workers of Dask here, at an address, or as jobs of Slurm."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

from xiaonet.archives.worker import AT_ONCE, turns
from xiaonet.errors import ConfigError
from xiaonet.extras import import_for

DEATHS = 10  # of workers, after which a block counts as failed
ANSWER_S = 20  # within which a scheduler must answer
SETTINGS = {  # of Dask; without the last four, its watching takes 4 % of a core for as long as a run lasts
    "distributed.scheduler.allowed-failures": DEATHS,
    "distributed.comm.timeouts.connect": "10s",
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "2s",
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
}
MEMORY = "2GB"  # asked of Slurm for each worker, unless the settings of dask-jobqueue say more


class Engine(NamedTuple):
    """Runs functions somewhere.

    Attributes:
        executor: takes them.
        cores: number of cores it has now.
        where: the place in words.
    """

    executor: Executor
    cores: Callable[[], int]
    where: str


@contextmanager
def open_engine(cluster: str | None, workers: int) -> Iterator[Engine]:
    """Start an engine, or connect to one.

    Args:
        cluster: None for threads of this process; `local`, the `tcp://` address of a scheduler, or `slurm`.
        workers: number of cores to use; of Slurm the most jobs at a time. An address has its own.

    Raises:
        ConfigError: the cluster is unknown, or no scheduler answers.
        MissingPackageError: Dask is not installed.
    """
    if cluster is None:
        turns.share(workers)
        with ThreadPoolExecutor(AT_ONCE * workers) as pool:
            try:
                yield Engine(pool, lambda: workers, f"{workers} cores of this process")
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return
    if cluster not in ("local", "slurm") and not cluster.startswith("tcp://"):
        raise ConfigError(f"--cluster is {cluster!r}; wanted local, slurm, or the address of a scheduler such as tcp://10.0.0.1:8786")
    distributed = import_for("--cluster", "distributed")
    import dask

    with dask.config.set(SETTINGS):
        try:
            started = _start(cluster, workers, distributed)
            client = distributed.Client(started, timeout=ANSWER_S)
        except OSError as error:
            raise ConfigError(f"no scheduler answers at {cluster}: {error}; start one with: dask scheduler") from error
        try:
            where = f"{cluster}, dashboard {client.dashboard_link or 'after pip install bokeh'}"
            yield Engine(client.get_executor(pure=False), lambda: sum(client.nthreads().values()) // AT_ONCE or 1, where)
        finally:
            for close in (partial(client.close, timeout=5), *([] if started is cluster else [partial(started.close, timeout=30)])):
                with suppress(TimeoutError):  # of workers that are slow to end; they end with this process
                    close()


def _start(cluster: str, workers: int, distributed: Any) -> Any:
    """A cluster that ends with this process; or the address of one."""
    if cluster == "local":
        return distributed.LocalCluster(n_workers=workers, threads_per_worker=AT_ONCE, host="127.0.0.1", dashboard_address="127.0.0.1:8787")
    if cluster == "slurm":
        import dask

        jobqueue = import_for("--cluster slurm", "dask_jobqueue")
        memory = dask.config.get("jobqueue.slurm.memory", None) or MEMORY
        jobs = jobqueue.SLURMCluster(cores=AT_ONCE, processes=1, job_cpu=1, memory=memory)
        jobs.adapt(minimum_jobs=1, maximum_jobs=workers)
        return jobs
    return cluster
