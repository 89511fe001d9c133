"""Count picks that change though nothing has happened, for XiaoNet and for SeisBench's PhaseNet.

    python benchmarks/stability.py --repeats 3
    python benchmarks/stability.py --part time

The part `cuts` lets each record begin later: each is picked twice, whole and without a random number of samples (up to
30 s) at its start. A pick has changed if the second time there is no pick of its phase within one sample, or if the
probability differs by more than 0.01. PhaseNet has the weights `stead` and SeisBench's default settings. XiaoNet is used as
shipped.

The part `time` changes how the picker sees the same ground motion. The clock is set on and as much is left out at the
start, so that the windows of both pickers move; or the polarity is reversed; or the record is resampled in the frequency
domain. It lists how many picks move by more than 15 and 50 ms and how many are lost (no pick of the phase within 0.5 s).
Lost picks whose probability was within 0.05 of the threshold are counted apart. All models have their own thresholds and
default settings.

Picks within 31 s of an end of the shorter record do not count.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
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
from xiaonet.constants import SECOND_NS
from xiaonet.evaluation.models import EvaluatedModel, load_models

NEAR = 31 * 10**9  # ns at either end of a record
SAMPLE = 10**7  # ns
LATEST = 3000  # samples that may be left out
TOLERANCE = 0.01  # of probability
SAME = SECOND_NS // 2  # ns between two picks that may be the same one
MARGINAL = 0.05  # of probability above the threshold
DAYS = ("060", "091")  # of the archive 2014: 03-01 and 04-01
SHIFTS = (0.01, 0.08, 1.23, 5.0, 7.77, 10.0)  # s
RATES = (50, 80, 200)  # Hz


class FoundPick(NamedTuple):
    time_ns: int
    phase: str
    probability: float


PickFunction = Callable[[obspy.Stream], list[FoundPick]]


def of_xiaonet(picker: Picker) -> PickFunction:
    return lambda stream: [FoundPick(pick.time_ns, pick.phase, pick.probability) for pick in picker.pick(stream)]


def of_seisbench(model: PhaseNet) -> PickFunction:
    return lambda stream: [FoundPick(pick.peak_time.ns, pick.phase, pick.peak_value) for pick in model.classify(stream).picks]


def records(archive: Path, days: tuple[str, ...] = ("",)) -> list[obspy.Stream]:
    """The components of each station and each file's time range, of files whose names end in one of `days`."""
    streams: dict[tuple[str, str], obspy.Stream] = {}
    for path in sorted(path for path in archive.glob("*/*/*/*") if path.name.endswith(days)):
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


def cuts(arguments: argparse.Namespace) -> None:
    """Print how many picks change when the records begin later."""
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


def shifted(stream: obspy.Stream, seconds: float) -> obspy.Stream:
    """The stream with its clock set on, without as many seconds at its start."""
    for trace in (later := stream.slice(max(trace.stats.starttime for trace in stream) + seconds).copy()):
        trace.stats.starttime += seconds
    return later


def reversed_polarity(stream: obspy.Stream) -> obspy.Stream:
    """The stream with all components reversed."""
    for trace in (other := stream.copy()):
        trace.data = -trace.data
    return other


def resampled(stream: obspy.Stream, rate: float) -> obspy.Stream:
    """The stream at another rate, with all frequencies below the Nyquist frequency of both as they were."""
    return stream.copy().resample(rate, window=None)


def moves(model: EvaluatedModel, before: list[FoundPick], after: list[FoundPick]) -> tuple[list[float], int, int]:
    """How far the picks move, in s; and how many are lost, well above the threshold and just above it."""
    found, lost, marginal = [], 0, 0
    for pick in before:
        distance = min((abs(other.time_ns - pick.time_ns) for other in after if other.phase == pick.phase), default=SAME + 1)
        if distance <= SAME:
            found.append(distance / SECOND_NS)
        elif pick.probability - model.thresholds[pick.phase] <= MARGINAL:
            marginal += 1
        else:
            lost += 1
    return found, lost, marginal


def time(arguments: argparse.Namespace) -> None:
    """Print how far picks move when the picker sees the same ground motion in another way."""
    streams = records(arguments.archives[-1], DAYS)
    changes: dict[str, tuple[Callable[[obspy.Stream], obspy.Stream], float]] = {
        f"clock set on by {shift:g} s": (partial(shifted, seconds=shift), shift) for shift in SHIFTS
    }
    changes["polarity reversed"] = reversed_polarity, 0.0
    changes |= {f"resampled to {rate} Hz": (partial(resampled, rate=rate), 0.0) for rate in RATES}
    print("| model | change | picks | > 15 ms | > 50 ms | lost | lost at the threshold | median, ms | 90 % below, ms |")
    print("|---|---|---|---|---|---|---|---|---|")
    for model in load_models(arguments.models):
        picks = [_inner(stream, [FoundPick(*pick) for pick in model.pick(stream, model.thresholds)]) for stream in streams]
        every: list[tuple[list[float], int, int]] = []
        for name, (change, shift) in changes.items():
            rows = []
            for stream, before in zip(streams, picks, strict=True):
                after = [FoundPick(*pick) for pick in model.pick(change(stream), model.thresholds)]
                back = [pick._replace(time_ns=pick.time_ns - round(shift * SECOND_NS)) for pick in after]
                rows.append(moves(model, before, back))
            print(_row(model.name, name, rows), flush=True)
            every += rows
        print(_row(model.name, "all", every), flush=True)


def _inner(stream: obspy.Stream, picks: list[FoundPick]) -> list[FoundPick]:
    """Picks far from both ends of a record."""
    return [pick for pick in picks if stream[0].stats.starttime.ns + NEAR <= pick.time_ns < stream[0].stats.endtime.ns - NEAR]


def _row(model: str, change: str, rows: list[tuple[list[float], int, int]]) -> str:
    found, lost, marginal = np.concatenate([own for own, _, _ in rows]), *(sum(row[column] for row in rows) for column in (1, 2))
    middle, high = 1000 * np.quantile(found, (0.5, 0.9))
    far = " | ".join(str(int((found > limit + 1e-9).sum())) for limit in (0.015, 0.05))
    return f"| {model} | {change} | {len(found) + lost + marginal} | {far} | {lost} | {marginal} | {middle:.0f} | {high:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["cuts", "time"], default="cuts")
    parser.add_argument("--archives", nargs="+", type=Path, default=[SHARED / "data" / "sds" / year for year in ("2019", "2014")])
    parser.add_argument("--repeats", type=int, default=3, help="random starts of each record; for cuts")
    parser.add_argument("--seed", type=int, default=0, help="of the random starts; for cuts")
    parser.add_argument("--models", nargs="+", default=["xiaonet", "xiaonet-nano", "seisbench:PhaseNet/original"], help="for time")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    {"cuts": cuts, "time": time}[arguments.part](arguments)


if __name__ == "__main__":
    main()
