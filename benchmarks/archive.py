"""What an archive in object storage costs: `xiaonet pick --layout` against the plain command and SeisBench's PhaseNet.

    python benchmarks/archive.py --part cost         # processor time of a station-day, from an S3 server on this machine
    python benchmarks/archive.py --part workers      # 1 and 2 workers, in turn
    python benchmarks/archive.py --part planning     # 10^6 station-days of three objects each
    python benchmarks/archive.py --part simulation   # 10^6 blocks without picking, and 10^4 of them through Dask
    python benchmarks/archive.py --part storage      # obstore against s3fs, if that is installed

Processor time is that of the picking processes alone, without the S3 server. The models take turns, or with --at-once run at the same
time, so that other load on the machine affects all of them.
"""

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import obspy

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

SHARED = Path(os.environ.get("XIAONET_SHARED", "../shared"))
DAY = sorted((SHARED / "data" / "sds" / "2014").glob("CX/*/HH?.D/*.121"))  # 12 h of two stations: a station-day
XIAONET = [sys.executable, "-m", "xiaonet", "pick"]
SEISBENCH = """
import io, sys, torch, obspy, obstore, seisbench.models as sbm
from obstore.store import from_url
torch.set_num_threads(1)
model = sbm.PhaseNet.from_pretrained("stead")
store = from_url("s3://data/sds", client_options={"allow_http": True})
stations = {}
for found in store.list().collect():
    for trace in obspy.read(io.BytesIO(bytes(store.get(found["path"]).bytes()))):
        stations.setdefault(trace.id[:-1], obspy.Stream()).append(trace)
print(sum(len(model.classify(stream).picks) for stream in stations.values()))
"""


def peak_mb(process: int) -> float:
    """Peak memory of a process in MB."""
    try:
        told = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", told)
    return int(found[1]) / 1024 if found else 0.0


def measure(command: list[str]) -> tuple[float, float, float]:
    """Seconds, processor time in seconds and peak memory in MB of a command; of the command line, of its largest worker."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"})
        peak = 0.0
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            peak = max(peak, peak_mb(process.pid))  # that of wait4 is never below the peak of this process
            time.sleep(0.02)
        _, status, usage = ended
        seconds = time.perf_counter() - started
        output.seek(0)
        told = output.read()
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{told}")
    results = [json.loads(line) for line in told.splitlines() if line.startswith('{"event": "result"')]
    memory = results[0].get("memory_mb") if results else None
    return seconds, usage.ru_utime + usage.ru_stime, memory or peak


def objects(out: Path, *options: str) -> list[str]:
    shutil.rmtree(out, ignore_errors=True)
    return [*XIAONET, "s3://data/sds", "--layout", "sds", "--out", str(out), "--json", *options]


def with_server(folder: Path, days: int, work: Callable[[], None]) -> None:
    """Work with station-days in an S3 server: the day, under other names."""
    from archives.servers import make_bucket, s3_server, upload

    os.environ.update(AWS_ACCESS_KEY_ID="me", AWS_SECRET_ACCESS_KEY="secret", AWS_REGION="us-east-1")
    for number, path in product(range(days), DAY):
        stream = obspy.read(path)
        for trace in stream:
            trace.stats.station = f"{trace.stats.station[0]}{number:02}{trace.stats.station[-1]}"
        _, station, _, channel, *_ = stream[0].id.split(".")
        target = folder / "sds" / "2014" / "CX" / station / f"{channel}.D" / f"{stream[0].id}.D.2014.121"
        target.parent.mkdir(parents=True, exist_ok=True)
        stream.write(str(target), "MSEED")
    with s3_server() as proxy:
        os.environ["AWS_ENDPOINT"] = f"http://127.0.0.1:{proxy.behind}"
        make_bucket(proxy, "data")
        upload(folder / "sds", "s3://data/sds")
        work()


def cost(folder: Path, days: int, repeats: int, at_once: bool) -> None:
    plain = [*XIAONET, str(folder / "sds"), "--workers", "1", "--out", str(folder / "plain.csv")]
    options = {
        "xiaonet": ["--model", "xiaonet"],
        "xiaonet, Dask": ["--cluster", "local"],
        "xiaonet-int8": ["--model", "xiaonet-int8"],
        "xiaonet-nano": ["--model", "xiaonet-nano"],
    }

    def turn() -> list[tuple[float, float, float]]:
        made = [objects(folder / "out" / str(number), "--workers", "1", *words) for number, words in enumerate(options.values())]
        with ThreadPoolExecutor(8 if at_once else 1) as pool:
            return list(pool.map(measure, [[sys.executable, "-c", SEISBENCH], plain, *made]))

    def work() -> None:
        turns = []
        for _ in range(repeats):
            turns.append(turn())
            print([f"{one[1]:.1f} s, {one[2]:.0f} MB" for one in turns[-1]], flush=True)
        print("| | vCPU-s a station-day | times less than PhaseNet | to the plain command | MB |\n|---|---|---|---|---|")
        for number, name in enumerate(["SeisBench PhaseNet", "xiaonet, plain command", *options]):
            spent = statistics.median(found[number][1] for found in turns) / days
            less = statistics.median(found[0][1] / found[number][1] for found in turns)
            over = statistics.median(found[number][1] / found[1][1] for found in turns)
            print(f"| {name} | {spent:.2f} | {less:.2f} | {over:.2f} | {max(found[number][2] for found in turns):.0f} |")

    with_server(folder, days, work)


def workers(folder: Path, days: int, repeats: int) -> None:
    def work() -> None:
        ratios = []
        for _ in range(repeats):
            one, two = (measure(objects(folder / "out", "--cluster", "local", "--workers", number))[0] for number in ("1", "2"))
            ratios.append(one / two)
        print(f"2 workers of Dask are {statistics.median(ratios):.2f} times as fast as 1 ({min(ratios):.2f} to {max(ratios):.2f})")

    with_server(folder, days, work)


class Listing:
    """The listing of an archive that exists on paper alone: a year of stations with three channels."""

    url, folder = "s3://paper", None

    def __init__(self, stations: int) -> None:
        self.stations = stations

    def list(self, prefix: str = "") -> "Iterator[Any]":
        from xiaonet.archives.storage import Object

        for station in range(self.stations):
            for channel in ("HHE", "HHN", "HHZ"):
                for day in range(1, 366):
                    name = f"2023/XX/S{station:05}/{channel}.D/XX.S{station:05}..{channel}.D.2023.{day:03}"
                    yield Object(name, 10**7, f'"{station:016x}{day:016x}"')


def paper_plan(folder: Path, station_days: int) -> Any:
    from xiaonet.archives.planning import Plan, Request

    request = Request("s3://paper", "sds", "s3://paper", "xiaonet", {}, {}, {})
    return Plan(Listing(station_days // 365), request, folder), request  # type: ignore[arg-type]


def planning(folder: Path, days: int, repeats: int) -> None:
    started, used = time.perf_counter(), time.process_time()
    plan, _ = paper_plan(folder, 10**6)
    listed = time.perf_counter() - started
    blocks = sum(len(blocks) for blocks in plan.stations())
    seconds, peak = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = (folder / "plan.sqlite").stat().st_size / 1e6
    spent = time.process_time() - used
    told = f"{seconds:.0f} s, {listed:.0f} of them to list and sort; {spent:.0f} s of processor time, {peak:.0f} MB, {size:.0f} MB on disk"
    print(f"{plan.station_days} station-days, {blocks} blocks: {told}")


class Paper(Executor):
    """Does at once what it is asked for."""

    def submit(self, call: Any, /, *arguments: Any, **_: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        done.set_result(pretend(call.__name__, *arguments))
        return done


def pretend(name: str, block: Any, *_: Any) -> Any:
    """The result of a block, without reading or picking anything."""
    from xiaonet.archives.blocks import Picked, Range, Survey, Usage

    if name == "survey":
        times = [(one, one.day * 86_400_000_000_000) for one in block.own]
        ranges = {one.object.key: [Range("XX.S..HHZ", "100", at, at + 86_400_000_000_000)] for one, at in times}
        return Survey(ranges, [], Usage("paper", 0.0, 0.0))
    return Picked(days=len({one.day for one in block.own}), usage=Usage("paper", 0.0, 0.0))


def simulation(folder: Path, days: int, repeats: int) -> None:
    from dataclasses import replace

    from xiaonet.archives import running
    from xiaonet.archives.dataset import Dataset
    from xiaonet.archives.engines import Engine, open_engine

    for station_days, cluster in ((10**6, None), (10**4, "local")):
        (folder / "plan.sqlite").unlink(missing_ok=True)
        plan, request = paper_plan(folder, station_days)
        calls = [0]

        def count(totals: Any, cores: int, calls: list[int] = calls) -> None:
            calls[0] += 1

        started, used = time.perf_counter(), time.process_time()
        if cluster is None:
            plan.request = request = replace(request, days=1)
            totals = running.run(plan, request, Engine(Paper(), lambda: 1000, "paper"), count)
        else:
            running.survey, running.pick_block = (Pretender(name) for name in ("survey", "pick_block"))  # type: ignore[assignment]
            with open_engine(cluster, 1) as engine:
                totals = running.run(plan, request, engine, count)
        seconds, spent = time.perf_counter() - started, time.process_time() - used
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        blocks = totals.done if cluster is None else -(-totals.done // request.days)
        where = cluster or "one process"
        told = f"{totals.done} station-days in {blocks} blocks, surveyed and picked on paper"
        print(f"{where}: {told} in {seconds:.0f} s, {spent:.0f} s of processor time here, {peak:.0f} MB")

    used = time.process_time()
    found = Dataset(Finished(10**6 // 365)).complete()  # type: ignore[arg-type]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(found)} completion objects, read and sorted by day: {time.process_time() - used:.0f} s of processor time, {peak:.0f} MB")


class Finished:
    """The objects of a year of stations that are complete, on paper."""

    def __init__(self, stations: int) -> None:
        self.stations = stations

    def list(self, prefix: str = "") -> "Iterator[Any]":
        from xiaonet.archives.dataset import Complete
        from xiaonet.archives.storage import Object

        for number, day in product(range(self.stations), range(19_358, 19_358 + 365)):
            yield Object(Complete(day, f"XX.S{number:05}", f"{number * 400 + day:032x}").name, 100, "")


class Pretender:
    """Stands for a function of `blocks` on the workers."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, *arguments: Any) -> Any:
        return pretend(self.__name__, *arguments)


LISTED, READ = 10_000, 200  # objects of the part storage
OBSTORE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from xiaonet.archives.storage import Storage
if sys.argv[1] == "list":
    print(sum(1 for _ in Storage("s3://many").list()))
else:
    from pathlib import Path
    storage, folder = Storage("s3://data/sds"), Path(sys.argv[2])
    with ThreadPoolExecutor(8) as pool:
        print(sum(path.stat().st_size for path in pool.map(lambda one: storage.fetch(one, folder), storage.list())))
"""
S3FS = """
import os, sys, s3fs
files = s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT"])
if sys.argv[1] == "list":
    print(len(files.find("many", detail=True)))
else:
    files.get("data/sds/", sys.argv[2] + "/", recursive=True, batch_size=8)
    print(sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(sys.argv[2]) for name in names))
"""


def storage(folder: Path, days: int, repeats: int) -> None:
    """List objects, and copy those of days to this machine, with each library, in a new process each time."""

    def work() -> None:
        from moto.s3.models import s3_backends

        backend = s3_backends["123456789012"]["aws"]
        backend.create_bucket("many", "us-east-1")
        for number in range(LISTED):
            backend.put_object("many", f"2023/XX/S{number // 365:05}/HHZ.D/XX.S{number // 365:05}..HHZ.D.2023.{number % 365:03}", b"")
        programs = {"obstore": OBSTORE, "s3fs": S3FS}
        found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
        for task, (name, program) in product(("list", "read"), repeats * [*programs.items()]):
            target = folder / "copy"
            found.setdefault((task, name), []).append(measure([sys.executable, "-c", program, task, str(target)]))
            shutil.rmtree(target, ignore_errors=True)
        for (task, name), turns in found.items():
            seconds, spent, memory = (statistics.median(one[number] for one in turns) for number in range(3))
            print(f"{task}, {name}: {seconds:.2f} s, {spent:.2f} s of processor time, {memory:.0f} MB")

    if subprocess.run([sys.executable, "-c", "import s3fs"], capture_output=True, check=False).returncode:
        sys.exit("s3fs is not installed; to compare, install it aside: pip install --target FOLDER s3fs, and add FOLDER to PYTHONPATH")
    with_server(folder, -(-READ // len(DAY)), work)


PARTS: dict[str, Callable[[Path, int, int], None]] = {
    "workers": workers,
    "planning": planning,
    "simulation": simulation,
    "storage": storage,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["cost", *PARTS], default="cost")
    parser.add_argument("--days", type=int, default=4, help="station-days of the parts cost, workers and storage")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--at-once", action="store_true", help="part cost: run all commands at the same time, on a busy machine")
    arguments = parser.parse_args()
    if not DAY:
        sys.exit(f"no records below {SHARED / 'data' / 'sds'}: set XIAONET_SHARED")
    with tempfile.TemporaryDirectory() as folder:
        parts = {**PARTS, "cost": partial(cost, at_once=arguments.at_once)}
        parts[arguments.part](Path(folder), arguments.days, arguments.repeats)


if __name__ == "__main__":
    main()
