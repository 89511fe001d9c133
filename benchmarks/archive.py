"""What an archive in object storage costs: `xiaonet pick --layout` against the plain command and SeisBench's PhaseNet.

    python benchmarks/archive.py --part cost         # processor time of a station-day, from an S3 server on this machine
    python benchmarks/archive.py --part workers      # 1 and 2 workers, in turn
    python benchmarks/archive.py --part planning     # 10^6 station-days of three objects each
    python benchmarks/archive.py --part simulation   # 10^6 blocks without picking, and 10^4 of them through Dask
    python benchmarks/archive.py --part storage      # obstore against s3fs, if that is installed

Processor time is that of the picking processes alone, without the S3 server. The models take turns, so that other load on the
machine affects all of them.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
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


def measure(command: list[str]) -> tuple[float, float, float]:
    """Seconds, processor time in seconds and peak memory in MB of a command; of the command line, of its largest worker."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"})
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        output.seek(0)
        told = output.read()
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{told}")
    results = [json.loads(line) for line in told.splitlines() if line.startswith('{"event": "result"')]
    memory = results[0].get("memory_mb") if results else None
    return seconds, usage.ru_utime + usage.ru_stime, memory or usage.ru_maxrss / 1024


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


def cost(folder: Path, days: int, repeats: int) -> None:
    plain = [*XIAONET, str(folder / "sds"), "--workers", "1", "--out", str(folder / "plain.csv")]

    def work() -> None:
        names = ("SeisBench PhaseNet", "xiaonet, plain command", "xiaonet", "xiaonet, Dask", "xiaonet-int8", "xiaonet-nano")
        turns: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
        for _ in range(repeats):
            out = folder / "out"
            turns["SeisBench PhaseNet"].append(measure([sys.executable, "-c", SEISBENCH]))
            turns["xiaonet, plain command"].append(measure(plain))
            turns["xiaonet, Dask"].append(measure(objects(out, "--workers", "1", "--cluster", "local")))
            for model in ("xiaonet", "xiaonet-int8", "xiaonet-nano"):
                turns[model].append(measure(objects(out, "--workers", "1", "--model", model)))
        print("| | vCPU-s a station-day | times less than PhaseNet | MB |\n|---|---|---|---|")
        for name, found in turns.items():
            spent = statistics.median(one[1] for one in found) / days
            ratio = statistics.median(base[1] / one[1] for base, one in zip(turns["SeisBench PhaseNet"], found, strict=True))
            print(f"| {name} | {spent:.2f} | {ratio:.1f} | {max(one[2] for one in found):.0f} |")

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
    started = time.perf_counter()
    plan, _ = paper_plan(folder, 10**6)
    listed = time.perf_counter() - started
    blocks = sum(len(blocks) for blocks in plan.stations())
    seconds, peak = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = (folder / "plan.sqlite").stat().st_size / 1e6
    told = f"{seconds:.0f} s, {listed:.0f} of them to list and sort, {peak:.0f} MB, {size:.0f} MB on disk"
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
    from xiaonet.archives.engines import Engine, open_engine

    for station_days, cluster in ((10**6, None), (10**4, "local")):
        (folder / "plan.sqlite").unlink(missing_ok=True)
        plan, request = paper_plan(folder, station_days)
        calls = [0]

        def count(totals: Any, cores: int, calls: list[int] = calls) -> None:
            calls[0] += 1

        started = time.perf_counter()
        if cluster is None:
            plan.request = request = replace(request, days=1)
            totals = running.run(plan, request, Engine(Paper(), lambda: 1000, "paper"), count)
        else:
            running.survey, running.pick_block = (Pretender(name) for name in ("survey", "pick_block"))  # type: ignore[assignment]
            with open_engine(cluster, 1) as engine:
                totals = running.run(plan, request, engine, count)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        blocks = totals.done if cluster is None else -(-totals.done // request.days)
        where = cluster or "one process"
        print(f"{where}: {totals.done} station-days in {blocks} blocks, surveyed and picked on paper in {seconds:.0f} s, {peak:.0f} MB")


class Pretender:
    """Stands for a function of `blocks` on the workers."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, *arguments: Any) -> Any:
        return pretend(self.__name__, *arguments)


def storage(folder: Path, days: int, repeats: int) -> None:
    """Download the day's objects one after the other with each library, in a new process each time."""
    programs = {
        "obstore": (
            "from obstore.store import from_url\ns = from_url('s3://data/sds', client_options={'allow_http': True})\n"
            "print(sum(len(bytes(s.get(o['path']).bytes())) for o in s.list().collect()))"
        ),
        "s3fs": (
            "import os, s3fs\nf = s3fs.S3FileSystem(endpoint_url=os.environ['AWS_ENDPOINT'])\n"
            "print(sum(len(f.cat_file(k)) for k in f.find('data/sds')))"
        ),
    }

    def work() -> None:
        for name, program in programs.items():
            if subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, check=False).returncode:
                print(f"{name} is not installed")
                continue
            found = [measure([sys.executable, "-c", program]) for _ in range(repeats)]
            seconds, spent, memory = (statistics.median(one[number] for one in found) for number in range(3))
            print(f"{name}: {seconds:.2f} s, {spent:.2f} s of processor time, {memory:.0f} MB")

    with_server(folder, days, work)


PARTS: dict[str, Callable[[Path, int, int], None]] = {
    "cost": cost,
    "workers": workers,
    "planning": planning,
    "simulation": simulation,
    "storage": storage,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, default="cost")
    parser.add_argument("--days", type=int, default=4, help="station-days of the parts cost, workers and storage")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if not DAY:
        sys.exit(f"no records below {SHARED / 'data' / 'sds'}: set XIAONET_SHARED")
    with tempfile.TemporaryDirectory() as folder:
        PARTS[arguments.part](Path(folder), arguments.days, arguments.repeats)


if __name__ == "__main__":
    main()
