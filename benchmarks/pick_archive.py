"""Time to pick a station-day: `xiaonet pick` and SeisBench's PhaseNet on the same files with the same number of threads.

    python benchmarks/pick_archive.py --repeats 5 --threads 1

Each time is that of a new process, with its start and the reading of the files. The models take turns, so that other load
on the machine affects all of them. Further parts measure the same day in 5,000 fragments, the memory for 20 station-days,
and the picks that a prefilter loses.

    python benchmarks/pick_archive.py --part fragments
    python benchmarks/pick_archive.py --part memory
    python benchmarks/pick_archive.py --part prefilter
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import obspy

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
FRAGMENTS = 5000


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
        "xiaonet, onnxruntime": ours(folder / "a.csv", DAY, threads, "--runtime", "onnxruntime"),
        "xiaonet, OpenVINO": ours(folder / "b.csv", DAY, threads, "--runtime", "openvino"),
        "with prefilter, onnxruntime": ours(folder / "c.csv", DAY, threads, "--runtime", "onnxruntime", "--prefilter", "xiaonet-nano"),
        "with prefilter, OpenVINO": ours(folder / "d.csv", DAY, threads, "--runtime", "openvino", "--prefilter", "xiaonet-nano"),
        "xiaonet-int8, onnxruntime": ours(folder / "g.csv", DAY, threads, "--model", "xiaonet-int8", "--runtime", "onnxruntime"),
        "xiaonet-nano, onnxruntime": ours(folder / "e.csv", DAY, threads, "--model", "xiaonet-nano", "--runtime", "onnxruntime"),
        "xiaonet-nano, OpenVINO": ours(folder / "f.csv", DAY, threads, "--model", "xiaonet-nano", "--runtime", "openvino"),
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
        ratios = []
        for _ in range(repeats):
            base = measure(whole, threads)[0]
            ratios.append(measure(command, threads)[0] / base)
        reference, found = picks(folder / "whole.csv"), picks(folder / "cut.csv")
        total = sum(map(len, reference.values()))
        print(
            f"{name}: {statistics.median(ratios):.2f} times the time of the whole day ({min(ratios):.2f} to {max(ratios):.2f}); "
            f"of {total} picks {missing(reference, found, 0.005)} moved by a sample or more, "
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


PARTS: dict[str, Callable[[Path, int, int], None]] = {"speed": speed, "fragments": fragments, "memory": memory, "prefilter": prefilter}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, default="speed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if not DAY:
        sys.exit(f"no records below {SHARED / 'data' / 'sds'}: set XIAONET_SHARED")
    with tempfile.TemporaryDirectory() as folder:
        PARTS[arguments.part](Path(folder), arguments.threads, arguments.repeats)


if __name__ == "__main__":
    main()
