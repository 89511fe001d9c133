"""A stand-in for a network, and miniSEED in which it finds every onset exactly."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from obspy import Stream, Trace, UTCDateTime

from xiaonet.io.archive import FileRange
from xiaonet.picking.segments import Instrument, build_instruments
from xiaonet.picking.time_index import TimeIndex
from xiaonet.runtime.predictor import around_by_places

MIDNIGHT = UTCDateTime("2020-09-15T00:00:00")


class StandIn:
    """Finds P where a sample of the vertical is far larger than its window, and S on the north component."""

    runtime, version, description, note, digest = "none", "1.0", "stand-in", "", "0" * 64
    stacking = "probabilities"
    thresholds: Mapping[str, float] = {"P": 0.5, "S": 0.5}
    around = around_by_places

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        spread = windows.std(axis=-1, keepdims=True)
        height = np.clip(np.abs(windows) / np.where(spread > 0, spread, 1) / 10 - 1, 0, 1)
        return np.stack([height[:, 2], height[:, 1], 1 - height.max(axis=1)], axis=1).astype(np.float32)


def record(
    start: UTCDateTime = MIDNIGHT - 300,
    seconds: float = 600,
    onsets: Mapping[str, Sequence[float]] | None = None,
    instrument: str = "XX.ABC..HH",
) -> Stream:
    """Noise of an instrument at 100 Hz. `onsets` gives, for each component, seconds after midnight that get one high sample."""
    network, station, location, code = instrument.split(".")
    stream = Stream()
    for component in "ENZ":
        header = {"network": network, "station": station, "location": location, "channel": code + component}
        seed = sum(map(ord, instrument + component)) + start.ns // 10**7 % 10**6
        samples = np.random.default_rng(seed).normal(0, 1000, round(seconds * 100)).astype(np.int32)
        for second in (onsets or {}).get(component, ()):
            samples[round((MIDNIGHT + second - start) * 100)] = 200_000
        stream.append(Trace(samples, {**header, "sampling_rate": 100.0, "starttime": start}))
    return stream


def bare_instrument(name: str, letters: str, end_ns: int = 1) -> Instrument:
    """An instrument at 100 Hz whose channels have these last letters, without samples."""
    indexes = {(name + letter, Fraction(100)): TimeIndex([FileRange(0, end_ns, 0)]) for letter in letters}
    [instrument], _ = build_instruments(indexes, lambda *_: [], {})
    return instrument


def write_days(stream: Stream, folder: Path) -> Path:
    """An SDS archive: a file for each day of each channel."""
    for trace in stream:
        stats, day = trace.stats, UTCDateTime(trace.stats.starttime.date)
        while day <= stats.endtime:
            part = trace.slice(day, day + 86400 - stats.delta)
            place = folder / str(day.year) / stats.network / stats.station / f"{stats.channel}.D"
            place.mkdir(parents=True, exist_ok=True)
            write(Stream([part]), place / f"{trace.id}.D.{day.year}.{day.julday:03}")
            day += 86400
    return folder


def write(stream: Stream, path: Path, length: int = 512) -> Path:
    """A file of miniSEED."""
    stream.write(str(path), "MSEED", reclen=length)
    return path
