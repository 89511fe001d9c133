"""Picks that change when a record begins elsewhere: XiaoNet beside SeisBench's PhaseNet, in one run.

    python benchmarks/stability.py --repeats 3

Each record of the archives is picked as it is, and again without its first samples, a random number
of up to 30 s. A pick changes if there is none of its phase within one sample of it, or none whose
probability is within 0.01. Picks nearer than 31 s to an end of the shorter record do not count.
PhaseNet has the weights `stead` and all settings as SeisBench sets them; XiaoNet is as shipped.
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

NEAR = 31 * 10**9  # ns beside an end of a record
SAMPLE = 10**7  # ns
LATEST = 3000  # samples that are left out at most
TOLERANCE = 0.01  # of probability


class Reading(NamedTuple):
    time_ns: int
    phase: str
    probability: float


EvaluatedModel = Callable[[obspy.Stream], list[Reading]]


def of_xiaonet(picker: Picker) -> EvaluatedModel:
    return lambda stream: [Reading(pick.time_ns, pick.phase, pick.probability) for pick in picker.pick(stream)]


def of_seisbench(model: PhaseNet) -> EvaluatedModel:
    return lambda stream: [Reading(pick.peak_time.ns, pick.phase, pick.peak_value) for pick in model.classify(stream).picks]


def records(archive: Path) -> list[obspy.Stream]:
    """The components of each station and each file's time range."""
    streams: dict[tuple[str, str], obspy.Stream] = {}
    for path in sorted(archive.glob("*/*/*/*")):
        for trace in obspy.read(path):
            streams.setdefault((trace.id[:-1], path.name[-8:]), obspy.Stream()).append(trace)
    return list(streams.values())


def count_changed(pick: EvaluatedModel, stream: obspy.Stream, shifts: list[int]) -> np.ndarray:
    """Picks; those not found within 0.1 s; those not found within a sample; those found with another probability."""
    whole = pick(stream)
    counts = np.zeros(4, dtype=int)
    for shift in shifts:
        later = stream.slice(max(trace.stats.starttime for trace in stream) + shift / 100)
        first, end = later[0].stats.starttime.ns + NEAR, later[0].stats.endtime.ns - NEAR
        again = pick(later)
        for reading in whole:
            if first <= reading.time_ns < end:
                off = [(abs(other.time_ns - reading.time_ns), other.probability) for other in again if other.phase == reading.phase]
                near = [probability for time_ns, probability in off if time_ns <= 1.01 * SAMPLE]
                alike = any(abs(probability - reading.probability) <= TOLERANCE for probability in near)
                counts += [1, all(time_ns > 10 * SAMPLE for time_ns, _ in off), not near, bool(near) and not alike]
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="other beginnings of each record")
    parser.add_argument("--archives", nargs="+", type=Path, default=[SHARED / "data" / "sds" / year for year in ("2019", "2014")])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    contestants = {"PhaseNet (SeisBench)": of_seisbench(PhaseNet.from_pretrained("stead")), "XiaoNet": of_xiaonet(Picker())}
    print("| archive | picker | picks | not found within 0.1 s | not found within a sample | probability off by more than 0.01 | changed |")
    print("|---|---|---|---|---|---|---|")
    for archive in arguments.archives:
        streams = records(archive)
        for name, pick in contestants.items():
            rng = np.random.default_rng(arguments.seed)
            counts = sum(count_changed(pick, stream, rng.integers(1, LATEST, arguments.repeats).tolist()) for stream in streams)
            picks, gone, moved, other = np.broadcast_to(counts, 4).tolist()
            shares = [f"{number} ({number / max(picks, 1):.1%})" for number in (gone, moved, other, moved + other)]
            print(f"| {archive.name} | {name} | {picks} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
