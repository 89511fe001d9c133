"""Count picks that change when a record begins later, for XiaoNet and for SeisBench's PhaseNet.

    python benchmarks/stability.py --repeats 3

Each record of the archives is picked twice: whole, and without a random number of samples (up to 30 s) at its
start. A pick has changed if the second time there is no pick of its phase within one sample, or if the
probability differs by more than 0.01. Picks within 31 s of an end of the shorter record do not count.
PhaseNet has the weights `stead` and SeisBench's default settings. XiaoNet is used as shipped.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
SHARED = Path(os.environ.get("XIAONET_SHARED", "../shared"))
os.environ.setdefault("SEISBENCH_CACHE_ROOT", str(Path.home() / ".seisbench"))

import numpy as np
import obspy
import torch
from seisbench.models import PhaseNet

from xiaonet import Picker

NEAR = 31 * 10**9  # ns at either end of a record
SAMPLE = 10**7  # ns
LATEST = 3000  # samples that may be left out
TOLERANCE = 0.01  # of probability


class FoundPick(NamedTuple):
    time_ns: int
    phase: str
    probability: float


PickFunction = Callable[[obspy.Stream], list[FoundPick]]


def of_xiaonet(picker: Picker) -> PickFunction:
    return lambda stream: [FoundPick(pick.time_ns, pick.phase, pick.probability) for pick in picker.pick(stream)]


def of_seisbench(model: PhaseNet) -> PickFunction:
    return lambda stream: [FoundPick(pick.peak_time.ns, pick.phase, pick.peak_value) for pick in model.classify(stream).picks]


def records(archive: Path) -> list[obspy.Stream]:
    """The components of each station and each file's time range."""
    streams: dict[tuple[str, str], obspy.Stream] = {}
    for path in sorted(archive.glob("*/*/*/*")):
        for trace in obspy.read(path):
            streams.setdefault((trace.id[:-1], path.name[-8:]), obspy.Stream()).append(trace)
    return list(streams.values())


def count_changed(pick: PickFunction, stream: obspy.Stream, shifts: list[int]) -> np.ndarray:
    """Numbers of picks: all; not found within 0.1 s; not found within a sample; found with another probability."""
    whole = pick(stream)
    counts = np.zeros(4, dtype=int)
    for shift in shifts:
        later = stream.slice(max(trace.stats.starttime for trace in stream) + shift / 100)
        first, end = later[0].stats.starttime.ns + NEAR, later[0].stats.endtime.ns - NEAR
        again = pick(later)
        for found in whole:
            if first <= found.time_ns < end:
                off = [(abs(other.time_ns - found.time_ns), other.probability) for other in again if other.phase == found.phase]
                near = [probability for time_ns, probability in off if time_ns <= 1.01 * SAMPLE]
                alike = any(abs(probability - found.probability) <= TOLERANCE for probability in near)
                counts += [1, all(time_ns > 10 * SAMPLE for time_ns, _ in off), not near, bool(near) and not alike]
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="random starts of each record")
    parser.add_argument("--archives", nargs="+", type=Path, default=[SHARED / "data" / "sds" / year for year in ("2019", "2014")])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    models = {"PhaseNet (SeisBench)": of_seisbench(PhaseNet.from_pretrained("stead")), "XiaoNet": of_xiaonet(Picker())}
    print("| archive | picker | picks | not found within 0.1 s | not found within a sample | probability off by more than 0.01 | changed |")
    print("|---|---|---|---|---|---|---|")
    for archive in arguments.archives:
        streams = records(archive)
        for name, pick in models.items():
            rng = np.random.default_rng(arguments.seed)
            counts = sum(count_changed(pick, stream, rng.integers(1, LATEST, arguments.repeats).tolist()) for stream in streams)
            picks, gone, moved, other = np.broadcast_to(counts, 4).tolist()
            shares = [f"{number} ({number / max(picks, 1):.1%})" for number in (gone, moved, other, moved + other)]
            print(f"| {archive.name} | {name} | {picks} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
