from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obspy import Stream

from strategies import trace
from xiaonet.constants import WINDOW_SAMPLES
from xiaonet.picking.annotation import annotate_chunk, chunks
from xiaonet.picking.cleaning import BRIDGED, DISPUTED, RECORDED, STILL, WRITTEN
from xiaonet.picking.quality import Quality, add_qualities, channel_problems, measure, spell
from xiaonet.picking.segments import sort_stream


def quality_of(parts: list[tuple[int, np.ndarray]]) -> tuple[Quality, dict[str, Quality]]:
    """The quality of pieces of a vertical, each with its first sample."""
    [instrument], _ = sort_stream(Stream([trace(samples, first * 10**7) for first, samples in parts]))
    total, channels = Quality(), {}
    for segment in instrument.segments:
        for first, end in chunks(segment):
            seen = annotate_chunk(instrument, segment, first, end, lambda windows: np.zeros((len(windows), 3, WINDOW_SAMPLES), np.float32))
            quality, by_channel = measure(seen, begins=first == segment.first)
            total += quality
            add_qualities(channels, by_channel)
    return total, channels


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).normal(0, 100, samples)


def test_gaps_and_bridges_are_counted_and_bridges_are_no_data() -> None:
    total, channels = quality_of([(0, noise(3000)), (3500, noise(2000)), (7000, noise(1000)), (8003, noise(997))])
    assert Quality(recorded=7000, starts=2, bridged=500, bridges=1) == total  # 0.03 s count as data
    found = channels["XX.STA..HHZ"]
    assert total == replace(found, low=total.low, high=total.high)
    assert (1, 7000 / 360_000) == (total.gaps, total.hours)


def test_a_gap_over_the_edge_of_a_chunk_is_one_gap() -> None:
    edge = 360_000  # samples from 1970 on: an hour
    for first, end, starts, bridges in ((edge - 200, edge + 300, 1, 1), (edge - 2000, edge + 10, 2, 0), (edge, edge + 100, 1, 1)):
        total, _ = quality_of([(edge - 9000, noise(first - edge + 9000)), (end, noise(5000))])
        assert (starts, bridges) == (total.starts, total.bridges)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(marks=st.lists(st.sampled_from([0, RECORDED, BRIDGED, STILL, WRITTEN, RECORDED | DISPUTED]), min_size=2), data=st.data())
def test_qualities_of_parts_add_up_to_that_of_the_whole(marks: list[int], data: st.DataObject) -> None:
    everything = np.array(marks, dtype=np.uint8)
    cut = data.draw(st.integers(1, len(marks) - 1))
    parts = [Quality.of(everything[: cut + 1], 1.0, 2.0), Quality.of(everything[cut:], -3.0, 1.5)]
    assert Quality.of(everything, -3.0, 2.0) == reduce(add, parts)


@pytest.mark.parametrize(
    ("quality", "expected"),
    [
        (Quality(recorded=500, low=-1.0, high=1.0), []),
        (Quality(recorded=500, bridged=100, bridges=1, low=-1.0, high=1.0), []),
        (Quality(still=500, low=0.0, high=0.0), ["X: all samples are equal (0); no data"]),
        (Quality(recorded=100, low=5e6, high=5e6), ["X: all samples are equal (5e+06); no data"]),  # too short to be left out
        (Quality(recorded=1, low=0.0, high=0.0), []),
        (Quality(), ["X: no sample in the picked time is a number; no data"]),
        (
            Quality(recorded=500, still=360_000, written=12, disputed=90, low=-1.0, high=1.0),
            [
                "X: 1.0 hours without a change for more than 2 s; no data there",
                "X: 0.1 s of zeros written into gaps; no data there",
                "X: 0.9 s left out because two pieces disagree; the longer one is used, or of two as long the one that was read first",
            ],
        ),
    ],
)
def test_what_a_user_should_know_is_put_into_words(quality: Quality, expected: list[str]) -> None:
    assert expected == channel_problems({"X": quality})


def test_long_times_are_told_in_hours() -> None:
    assert ["0.0 s", "3599.9 s", "1.0 hours", "24.0 hours"] == [spell(samples) for samples in (0, 359_990, 360_000, 8_640_000)]
