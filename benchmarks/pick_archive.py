"""Time to pick a station-day: `xiaonet pick` and SeisBench's PhaseNet on the same files with the same number of threads.

    python benchmarks/pick_archive.py --repeats 5 --threads 1

Each time is that of a new process, with its start and the reading of the files. The models take turns, so that other load
on the machine affects all of them. Further parts measure the same day in 5,000 fragments, the memory for 20 station-days,
and the picks that a prefilter loses.

    python benchmarks/pick_archive.py --part fragments
    python benchmarks/pick_archive.py --part memory
    python benchmarks/pick_archive.py --part prefilter
    python benchmarks/pick_archive.py --part workers

Two parts measure archives of many files, which are made up: the time and memory that it takes to open the archive, and the time
until the first result is in the journal.

    python benchmarks/pick_archive.py --part records   # 20,000 files of one record, of 100 stations
    python benchmarks/pick_archive.py --part names     # an SDS archive of 300,000 files: 100 days of 1,000 stations
"""

import argparse
import compileall
import csv
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import obspy
from pymseed import MS3Record

import xiaonet

SHARED = Path(os.environ.get("XIAONET_SHARED", "../shared"))
DAY = sorted((SHARED / "data" / "sds" / "2014").glob("CX/*/HH?.D/*.121"))  # 12 h of two stations
XIAONET = str(Path(sys.executable).with_name("xiaonet"))
SEISBENCH = """
import sys, torch, obspy, seisbench.models as sbm
torch.set_num_threads(int(sys.argv[1]))
model = sbm.PhaseNet.from_pretrained("stead")
stations = {}
for path in sys.argv[2:]:
    for trace in obspy.read(path):
        stations.setdefault(trace.id[:-1], obspy.Stream()).append(trace)
print(sum(len(model.classify(stream).picks) for stream in stations.values()))
"""
OPTIONS = {  # of `xiaonet pick`; the runtime is native where it was built
    "xiaonet": [],
    "xiaonet, not centred": ["--not-centred"],
    "xiaonet with prefilter": ["--prefilter", "xiaonet-nano"],
    "xiaonet with prefilter, not centred": ["--prefilter", "xiaonet-nano", "--not-centred"],
    "xiaonet-int8": ["--model", "xiaonet-int8"],
    "xiaonet-int8, not centred": ["--model", "xiaonet-int8", "--not-centred"],
    "xiaonet-nano": ["--model", "xiaonet-nano"],
    "xiaonet-nano, not centred": ["--model", "xiaonet-nano", "--not-centred"],
    "xiaonet-nano-int8": ["--model", "xiaonet-nano-int8"],
    "xiaonet-nano-int8, not centred": ["--model", "xiaonet-nano-int8", "--not-centred"],
    "xiaonet, onnxruntime": ["--runtime", "onnxruntime"],
    "xiaonet, onnxruntime, not centred": ["--runtime", "onnxruntime", "--not-centred"],
    "xiaonet-nano, onnxruntime": ["--model", "xiaonet-nano", "--runtime", "onnxruntime"],
}
PLAN = """
import resource, sys, time
from xiaonet.io.archive import Archive
started = time.perf_counter()
archive = Archive(sys.argv[1])
days = sum(map(archive.expected_seconds, archive.station_names())) / 86400
print(time.perf_counter() - started, time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, days)
"""
FRAGMENTS = 5000
FIRST_DAY = datetime(2020, 1, 1, tzinfo=UTC)
LONGEST_WAIT = 600  # s for the first result


def measure(command: list[str], threads: int) -> tuple[float, float, float]:
    """Seconds, peak memory in MB and seconds of processor time of a command on this number of cores."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{said.decode()}")
    return seconds, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def ours(out: Path, files: list[Path], threads: int, *options: str) -> list[str]:
    out.unlink(missing_ok=True)
    return [XIAONET, "pick", *map(str, files), "--out", str(out), "--workers", str(threads), *options]


def picks(path: Path) -> dict[tuple[str, str], np.ndarray]:
    """Times of picks in s, by channel and phase."""
    found: dict[tuple[str, str], list[float]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            found.setdefault((row["seed_id"], row["phase"]), []).append(float(row["time"]))
    return {key: np.array(times) for key, times in found.items()}


def missing(reference: dict[tuple[str, str], np.ndarray], other: dict[tuple[str, str], np.ndarray], tolerance: float) -> int:
    """Number of picks of the reference without one of the other within a tolerance in s."""
    return sum(
        int((np.abs(other.get(key, np.array([np.inf]))[:, None] - times).min(axis=0) > tolerance).sum()) for key, times in reference.items()
    )


def speed(folder: Path, threads: int, repeats: int) -> None:
    models = {
        "SeisBench PhaseNet": [sys.executable, "-c", SEISBENCH, str(threads), *map(str, DAY)],
        **{name: ours(folder / f"{name}.csv", DAY, threads, *options) for name, options in OPTIONS.items()},
    }
    rounds = [{name: measure(command, threads) for name, command in models.items()} for _ in range(repeats)]
    print(f"{threads} thread(s), medians of {repeats}")
    print("| | s | times as fast, lowest to highest | processor time, s | times less | MB |\n|---|---|---|---|---|---|")
    for name in models:
        seconds = statistics.median(turn[name][0] for turn in rounds)
        ratios = [turn["SeisBench PhaseNet"][0] / turn[name][0] for turn in rounds]
        peak = max(turn[name][1] for turn in rounds)
        spent = statistics.median(turn[name][2] for turn in rounds)
        less = statistics.median(turn["SeisBench PhaseNet"][2] / turn[name][2] for turn in rounds)
        spread = f"{statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
        print(f"| {name} | {seconds:.2f} | {spread} | {spent:.2f} | {less:.2f} | {peak:.0f} |")


def fragments(folder: Path, threads: int, repeats: int) -> None:
    """Pick the day in 5,000 pieces, once without gaps and once with a sample missing between two pieces."""
    whole = ours(folder / "whole.csv", DAY, threads)
    cases: dict[str, list[Path]] = {"cut": [], "a sample lost at each cut": []}
    for lost, files in enumerate(cases.values()):
        for path in DAY:
            trace = obspy.read(path)[0]
            bounds = np.linspace(0, trace.stats.npts, FRAGMENTS // 2 + 1).astype(int)  # the day is 12 h of two stations
            target = folder / f"{path.name}-{lost}"
            obspy.Stream(_piece(trace, low, high - lost) for low, high in pairwise(bounds)).write(str(target), "MSEED", reclen=512)
            files.append(target)
    for name, files in cases.items():
        command = ours(folder / "cut.csv", files, threads)
        runs = [(measure(whole, threads), measure(command, threads)) for _ in range(repeats)]
        ratios = [cut[0] / base[0] for base, cut in runs]
        spent = statistics.median(cut[2] / base[2] for base, cut in runs)
        reference, found = picks(folder / "whole.csv"), picks(folder / "cut.csv")
        total = sum(map(len, reference.values()))
        print(
            f"{name}: {statistics.median(ratios):.2f} times the time of the whole day ({min(ratios):.2f} to {max(ratios):.2f}), "
            f"{spent:.2f} times its processor time; of {total} picks {missing(reference, found, 0.005)} moved by a sample or more, "
            f"{missing(reference, found, 0.1)} gone, {missing(found, reference, 0.1)} new at 0.1 s"
        )


def _piece(trace: obspy.Trace, low: int, high: int) -> obspy.Trace:
    piece = obspy.Trace(
        trace.data[low:high], {key: trace.stats[key] for key in ("network", "station", "location", "channel", "sampling_rate")}
    )
    piece.stats.starttime = trace.stats.starttime + low / trace.stats.sampling_rate
    return piece


def memory(folder: Path, threads: int, repeats: int) -> None:
    """Measure peak memory and time for 1, 5 and 20 station-days."""
    files: list[Path] = []
    for number in range(20):
        for path in DAY:
            stream = obspy.read(path)
            for trace in stream:
                trace.stats.station = f"S{number:02d}{trace.stats.station[-1]}"
            files.append(folder / f"{number}-{path.name}")
            stream.write(str(files[-1]), "MSEED")
    for days in (1, 5, 20):
        seconds, peak, _ = measure(ours(folder / "picks.csv", files[: days * len(DAY)], threads, "--model", "xiaonet-nano"), threads)
        print(f"{days} station-days: {seconds:.1f} s, {seconds / days:.2f} s each, {peak:.0f} MB")


def prefilter(folder: Path, threads: int, repeats: int) -> None:
    """Count the picks that are lost with the small model as prefilter."""
    archives = {"2014, 24 h": DAY, "2019, 5.3 h": [SHARED / "data" / "sds" / "2019"]}
    for name, files in archives.items():
        measure(ours(folder / "full.csv", files, threads), threads)
        measure(ours(folder / "prefilter.csv", files, threads, "--prefilter", "xiaonet-nano"), threads)
        full, fast = picks(folder / "full.csv"), picks(folder / "prefilter.csv")
        total, gone, new = sum(map(len, full.values())), missing(full, fast, 0.1), missing(fast, full, 0.1)
        print(f"{name}: of {total} picks {gone} lost ({100 * gone / total:.2f} %), {new} new")


def _record(station: str, channel: str, start: datetime) -> bytes:
    """One record of miniSEED, of noise."""
    header = MS3Record(reclen=512, encoding=11)
    header.formatversion, header.sourceid, header.samprate = 2, f"FDSN:XX_{station}__H_H_{channel}", 100.0
    header.starttime = round(start.timestamp() * 1e9)
    noise = np.random.default_rng(round(start.timestamp())).integers(-99, 99, 350, dtype=np.int32)
    return next(iter(header.generate(data_samples=noise, sample_type="i")))


def _one_record_files(folder: Path) -> None:
    """20,000 files of one record, of three channels of 100 stations."""
    for station in range(100):
        for number in range(200):
            start, channel = FIRST_DAY + timedelta(seconds=3.5 * (number // 3)), "ENZ"[number % 3]
            (folder / f"S{station:03}.{channel}.{number // 3:03}").write_bytes(_record(f"S{station:03}", channel, start))


def _sds(folder: Path) -> None:
    """An SDS archive of three channels of 1,000 stations over 100 days. Each file has one record instead of a day."""
    for station in (f"S{number:03}" for number in range(1000)):
        for channel in "ENZ":
            place = folder / "2020" / "XX" / station / f"HH{channel}.D"
            place.mkdir(parents=True)
            for day in range(100):
                name = f"XX.{station}..HH{channel}.D.2020.{day + 1:03}"
                (place / name).write_bytes(_record(station, channel, FIRST_DAY + timedelta(days=day)))


def _until_first_result(files: Path, out: Path, threads: int) -> tuple[float, float, float]:
    """Seconds, peak memory in MB and seconds of processor time of `xiaonet pick` until its journal has a result. Then it is stopped."""
    journal = out.with_name(f"{out.name}.journal")
    started = time.perf_counter()
    process = subprocess.Popen(ours(out, [files], threads, "--model", "xiaonet-nano"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (found := journal.exists() and any(_results(journal))) and time.perf_counter() - started < LONGEST_WAIT:
        if process.poll() is not None:
            sys.exit(f"xiaonet pick {files} ended with status {process.returncode}")
        time.sleep(0.05)
    seconds = time.perf_counter() - started
    process.kill()
    _, _, usage = os.wait4(process.pid, 0)
    journal.unlink(missing_ok=True)
    if not found:
        sys.exit(f"xiaonet pick {files} gave no result within {LONGEST_WAIT} s")
    return seconds, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def _results(journal: Path) -> Iterator[str]:
    """Keys of the results in a journal that another process writes."""
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as database, suppress(sqlite3.Error):
        yield from (key for (key,) in database.execute("SELECT key FROM results"))


def _many_files(make: Callable[[Path], None], folder: Path, threads: int, repeats: int) -> None:
    files = folder / "files"
    files.mkdir()
    make(files)
    plans, firsts = [], []
    for _ in range(repeats):
        done = subprocess.run([sys.executable, "-c", PLAN, str(files)], capture_output=True, text=True, check=True)
        plans.append([float(word) for word in done.stdout.split()])
        firsts.append(_until_first_result(files, folder / "picks.csv", threads))
    seconds, spent, peak, days = (statistics.median(column) for column in zip(*plans, strict=True))
    print(f"medians of {repeats}; {days:.0f} days planned in {seconds:.1f} s ({spent:.1f} s of processor time), {peak:.0f} MB at most")
    seconds, peak, spent = (statistics.median(column) for column in zip(*firsts, strict=True))
    print(f"first result in the journal after {seconds:.1f} s ({spent:.1f} s of processor time), {peak:.0f} MB at most")


def records(folder: Path, threads: int, repeats: int) -> None:
    """Plan 20,000 files of one record, and begin to pick them."""
    _many_files(_one_record_files, folder, threads, repeats)


def names(folder: Path, threads: int, repeats: int) -> None:
    """Plan an SDS archive of 300,000 files, and begin to pick it."""
    _many_files(_sds, folder, threads, repeats)


def workers(folder: Path, threads: int, repeats: int) -> None:
    """Pick with two workers on two cores instead of one on one, in turns. The machine should have nothing else to do."""
    for model in ("xiaonet", "xiaonet-nano"):
        commands = {number: ours(folder / f"{number}.csv", DAY, number, "--model", model) for number in (1, 2)}
        runs = [(measure(commands[1], 1), measure(commands[2], 2)) for _ in range(repeats)]
        ratios = [one[0] / two[0] for one, two in runs]
        spent = statistics.median(two[2] / one[2] for one, two in runs)
        print(
            f"{model}: two workers are {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f}, "
            f"medians of {repeats}) and take {spent:.2f} times the processor time"
        )


PARTS: dict[str, Callable[[Path, int, int], None]] = {
    "speed": speed,
    "fragments": fragments,
    "memory": memory,
    "prefilter": prefilter,
    "records": records,
    "names": names,
    "workers": workers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, default="speed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if not DAY and arguments.part not in ("records", "names"):
        sys.exit(f"no records below {SHARED / 'data' / 'sds'}: set XIAONET_SHARED")
    compileall.compile_dir(Path(xiaonet.__file__).parent, quiet=1)  # as pip does when it installs a package
    with tempfile.TemporaryDirectory() as folder:
        PARTS[arguments.part](Path(folder), arguments.threads, arguments.repeats)


if __name__ == "__main__":
    main()
