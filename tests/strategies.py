"""Hypothesis strategies for picking: records, times and cuts; and streams made of them."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st
from obspy import Stream, Trace, UTCDateTime

RATES = [20.0, 31.25, 40.0, 50.0, 62.5, 80.0, 100.0, 125.0, 128.0, 200.0, 250.0, 500.0, 100 / 3]
TYPES = ["i1", "i2", "i4", "i8", "u1", "u2", "f4", "f8", ">i2", ">i4", ">f4", ">f8"]

times_ns = st.one_of(
    st.sampled_from([0, -1, 10**9 - 1, -(86400 * 10**9) // 2, 4102444800 * 10**9]),  # 1970, just before, 2100
    st.integers(-(5 * 10**18), 5 * 10**18),  # 1811 to 2128
)


def cuts(samples: int, most: int = 6) -> st.SearchStrategy[list[int]]:
    """Bounds of the parts of a record, including 0 and its length."""
    return st.sets(st.integers(1, samples - 1), max_size=most).map(lambda inner: [0, *sorted(inner), samples])


def spans(samples: int, longest: int, most: int = 3) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Ranges of a record: first sample and the one after the last."""
    one = st.tuples(st.integers(0, samples - 1), st.integers(1, longest))
    return st.lists(one.map(lambda span: (span[0], min(span[0] + span[1], samples))), max_size=most)


@st.composite
def records(draw: st.DrawFn, samples: int) -> np.ndarray:
    """Noise `(samples,)` with gaps (NaN) and constant ranges of any length."""
    record = np.random.default_rng(draw(st.integers(0, 2**32))).standard_normal(samples)
    for first, end in draw(spans(samples, samples // 4)):
        record[first:end] = draw(st.sampled_from([0.0, 1.0]))
    for first, end in draw(spans(samples, samples // 3)):
        record[first:end] = np.nan
    return record


def trace(samples: np.ndarray, start_ns: int = 0, rate: float = 100.0, seed_id: str = "XX.STA..HHZ") -> Trace:
    network, station, location, channel = seed_id.split(".")
    header = {"network": network, "station": station, "location": location, "channel": channel, "sampling_rate": rate}
    return Trace(samples, {**header, "starttime": UTCDateTime(ns=start_ns)})


def stream(components: Mapping[str, np.ndarray], start_ns: int = 0, rate: float = 100.0, instrument: str = "XX.STA..HH") -> Stream:
    """A trace for each component."""
    return Stream([trace(samples, start_ns, rate, instrument + letter) for letter, samples in components.items()])


def cut(whole: Trace, bounds: Sequence[int]) -> list[Trace]:
    """Cut a trace into parts."""
    step = 1e9 / whole.stats.sampling_rate
    return [
        trace(whole.data[first:end], whole.stats.starttime.ns + round(first * step), whole.stats.sampling_rate, whole.id)
        for first, end in pairwise(bounds)
    ]
