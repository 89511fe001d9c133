import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import obspy
import pytest
from obspy import Stream

from strategies import stream
from xiaonet import Picker
from xiaonet.picking.picks import Peak, _far_apart
from xiaonet.runtime.predictor import around_by_places

START = 1_400_000_000  # sample of the first of a record since 1970, a multiple of 8
ONSET = 4000  # sample of the record
SAMPLES = 9000
HOUR = Path(os.environ.get("XIAONET_SHARED", "../shared"), "data/sds/2014/CX/PB01")
Shape = Callable[[int, float], tuple[float, float]]  # place in the window and sample there to the height of a peak and how late it is


class Spikes:
    """Finds P near a spike of the vertical; `shape` tells how."""

    runtime, description, digest, thresholds = "stand-in", "spikes", "0" * 64, {"P": 0.6, "S": 0.6}
    stacking = "probabilities"
    around = around_by_places

    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        found = np.zeros(windows.shape, np.float32)
        for curve, window in zip(found, windows, strict=True):
            for place in np.flatnonzero(np.abs(window[2]) > max(0.99, 20 * window[2].std())).tolist():
                height, late = self.shape(place, float(window[2, place]))
                curve[0] += height * np.exp(-(((np.arange(windows.shape[-1]) - place - late) / 10) ** 2) / 2)
        return found


def pick(
    shape: Shape, monkeypatch: pytest.MonkeyPatch, start: int = START, sign: float = 1, centred: bool = True
) -> list[tuple[float, float]]:
    """Samples after the onset and probabilities of the picks of a record with one spike."""
    monkeypatch.setattr("xiaonet.picker.load_predictor", lambda *_: Spikes(shape))
    samples = np.random.default_rng(0).standard_normal((3, SAMPLES))
    samples[2, ONSET] = 1000
    picks = Picker(centred=centred).pick(Stream(stream(dict(zip("ENZ", sign * samples, strict=True)), start * 10**7)))
    return [(round(found.time_ns / 1e7 - start - ONSET, 2), round(found.probability, 3)) for found in picks]


@pytest.mark.parametrize("shift", [0, 1, 3, 8, 123, 2000])
def test_a_network_that_sees_an_onset_later_at_some_places_gives_the_mean_of_all(shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def shape(place: int, sample: float) -> tuple[float, float]:
        return 0.8, place % 8

    [(late, height)] = pick(shape, monkeypatch, START + shift)
    assert (3.5, 0.78) == (late, pytest.approx(height, abs=0.01))  # a mean of eight curves is a little lower and wider
    [(late, height)] = pick(shape, monkeypatch, START + shift, centred=False)
    assert (pytest.approx(late % 1), 0.8) == (0, height)


def test_without_centred_windows_the_same_picks_move(monkeypatch: pytest.MonkeyPatch) -> None:
    late = {pick(lambda place, _: (0.8, place % 8), monkeypatch, START + shift, centred=False)[0][0] for shift in range(8)}
    assert set(range(8)) == late


def test_reversed_polarity_gives_the_same_pick(monkeypatch: pytest.MonkeyPatch) -> None:
    def shape(place: int, sample: float) -> tuple[float, float]:
        return (0.8, 0.0) if sample > 0 else (0.7, 9.0)

    assert [(0.0, 0.8)] == pick(shape, monkeypatch) == pick(shape, monkeypatch, sign=-1)
    assert [(9.0, 0.7)] == pick(shape, monkeypatch, sign=-1, centred=False)


def test_the_mean_decides_whether_a_candidate_is_a_pick(monkeypatch: pytest.MonkeyPatch) -> None:
    place = next(
        start for start in range(8) if not pick(lambda at, _: (0.9 if at % 8 else 0.4, 0.0), monkeypatch, START + start, centred=False)
    )
    assert [(0.0, 0.838)] == pick(lambda at, _: (0.9 if at % 8 else 0.4, 0.0), monkeypatch, START + place)  # (7 * 0.9 + 0.4) / 8
    assert [] == pick(lambda at, _: (0.4 if at % 8 else 0.9, 0.0), monkeypatch, START + place)  # (7 * 0.4 + 0.9) / 8 is below 0.6
    assert [(0.0, 0.9)] == pick(lambda at, _: (0.4 if at % 8 else 0.9, 0.0), monkeypatch, START + place, centred=False)
    assert [] == pick(lambda at, _: (0.9 if at % 8 else 0.3, 0.0), monkeypatch, START + place)  # 0.3 is no candidate


def test_of_peaks_that_came_close_the_highest_is_kept() -> None:
    peaks = [Peak(100.0, 0.7, 10.0), Peak(180.0, 0.8, 10.0), Peak(281.0, 0.6, 10.0), Peak(279.9, 0.5, 10.0)]
    assert [peaks[1], peaks[2]] == _far_apart(peaks, 100)
    assert [] == _far_apart([], 100)


@pytest.mark.parametrize("model", ["xiaonet", "xiaonet-nano"])
def test_real_picks_do_not_move_with_the_clock_or_the_polarity(model: str) -> None:
    files = sorted(HOUR.glob("*/*.2014.060"))
    if not files:
        pytest.skip(f"there are no records of 2014-03-01 in {HOUR}; set XIAONET_SHARED")
    whole = Stream([trace for file in files for trace in obspy.read(file)])
    later, reversed_stream = whole.copy(), whole.copy()
    for trace, other in zip(later, reversed_stream, strict=True):
        trace.stats.starttime += 1.23
        other.data = -other.data
    picker = Picker(model)
    found = picker.pick(whole)
    assert len(found) >= 10
    for changed, seconds in ((later, 1.23), (reversed_stream, 0.0)):
        again = picker.pick(changed)
        moved = [
            min(abs(other.time_ns - one.time_ns - seconds * 1e9) for other in again if other.phase == one.phase) / 1e9 for one in found
        ]
        lost = [pick for pick, move in zip(found, moved, strict=True) if move > 0.5]
        assert all(pick.probability < picker.thresholds[pick.phase] + 0.1 for pick in lost)
        assert sum(move > 0.05 for move in moved) <= 1 + len(lost)
        assert sum(move > 0.015 for move in moved) <= len(found) / 10
