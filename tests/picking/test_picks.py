import math
import warnings
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from obspy import UTCDateTime

from peaks_by_hand import onset_by_hand
from stand_in import bare_instrument
from xiaonet.picking.annotation import Annotation
from xiaonet.picking.picks import Pick, amplitude_and_snr, find_picks, onsets, read_picks, widths
from xiaonet.picking.segments import Grid, Instrument, Segment

PICK = Pick(1_396_310_400_998_393_000, "CX.PB01..HHZ", "P", 0.75, 0.125, 1234.5, 20.0)
HEIGHTS = {"P": 0.3, "S": 0.3}


def curve(peaks: dict[int, float], samples: int = 1000, width: float = 5) -> np.ndarray:
    """The largest of Gaussian bells at samples, of heights."""
    time = np.arange(samples)
    return np.max([height * np.exp(-((time - sample) ** 2) / (2 * width**2)) for sample, height in peaks.items()], axis=0)


def found(probability: np.ndarray, height: float = 0.3, distance: int = 100) -> dict[int, float]:
    samples, heights = find_picks(probability, height, distance)
    return {int(sample): round(float(value), 6) for sample, value in zip(samples, heights, strict=True)}


def test_peaks_are_found_with_their_probabilities() -> None:
    assert {200: 0.9, 600: 0.5} == found(curve({200: 0.9, 600: 0.5}))


def test_peaks_lower_than_the_height_are_left_out() -> None:
    probability = curve({200: 0.9, 600: 0.29})
    assert ({200: 0.9}, {200: 0.9, 600: 0.29}, {}) == (found(probability), found(probability, height=0.2), found(probability, height=0.95))


def test_a_peak_as_high_as_the_height_counts() -> None:
    assert {500: 0.5} == found(curve({500: 0.5}), height=0.5)


@pytest.mark.parametrize(("second", "expected"), [(299, {200: 0.9}), (300, {200: 0.9, 300: 0.8}), (301, {200: 0.9, 301: 0.8})])
def test_of_two_peaks_closer_than_the_distance_the_lower_one_yields(second: int, expected: dict[int, float]) -> None:
    assert expected == found(curve({200: 0.9, second: 0.8}), distance=100)


def test_the_higher_one_stays_whichever_comes_first() -> None:
    assert {250: 0.9} == found(curve({200: 0.5, 250: 0.9}))


def test_a_peak_yields_to_a_higher_one_only_if_that_one_stays() -> None:
    # 250 yields to 320, so 200 need not yield to it.
    assert {200: 0.4, 320: 0.9} == found(curve({200: 0.4, 260: 0.6, 320: 0.9}), distance=100)


def test_of_two_equal_peaks_the_later_one_stays() -> None:
    assert {250: 0.5} == found(curve({200: 0.5, 250: 0.5}))


def test_a_plateau_is_picked_in_its_middle() -> None:
    probability = np.zeros(100)
    probability[40:51] = 0.8
    assert {45: 0.8} == found(probability)


def test_the_ends_are_no_peaks() -> None:
    assert {} == found(np.concatenate([np.linspace(1, 0, 50), np.linspace(0, 1, 50)]))


@pytest.mark.parametrize("probability", [np.zeros(3001), np.ones(3001), np.linspace(0, 1, 3001), np.zeros(0), np.zeros(1), np.zeros(2)])
def test_a_flat_rising_or_empty_curve_has_no_picks(probability: np.ndarray) -> None:
    samples, heights = find_picks(probability, 0.3, 100)
    assert (0, 0) == (len(samples), len(heights))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    # No two are equal, because scipy leaves it open which of two equal peaks stays.
    levels=arrays(np.float32, st.integers(3, 300), elements=st.floats(0, 1, width=32), unique=True),
    lengths=st.lists(st.integers(1, 4), min_size=300, max_size=300),
    height=st.floats(0, 1),
    distance=st.integers(1, 150),
)
def test_picks_are_those_of_scipy_and_keep_the_rules(levels: np.ndarray, lengths: list[int], height: float, distance: int) -> None:
    probability = np.repeat(levels, lengths[: len(levels)])
    samples, heights = find_picks(probability, height, distance)
    np.testing.assert_array_equal(scipy.signal.find_peaks(probability, height=height, distance=distance)[0], samples)
    np.testing.assert_array_equal(probability[samples].astype(np.float64), heights)
    assert (True, True) == (bool((np.diff(samples) >= distance).all()), bool((heights >= height).all()))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(shift=st.integers(0, 500))
def test_a_shift_in_time_shifts_the_picks(shift: int) -> None:
    probability = np.concatenate([np.zeros(shift), curve({200: 0.9, 600: 0.5})])
    assert {200 + shift: 0.9, 600 + shift: 0.5} == found(probability)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_picks_come_as_whole_samples_and_float64_probabilities(dtype: type) -> None:
    samples, heights = find_picks(curve({200: 0.5}).astype(dtype), 0.3, 100)
    assert (np.int64, np.float64, [200], [0.5]) == (samples.dtype, heights.dtype, samples.tolist(), heights.tolist())


def test_the_curve_may_be_read_only_and_strided() -> None:
    probability = np.repeat(curve({200: 0.9}), 2)[::2]
    probability.setflags(write=False)
    assert {200: 0.9} == found(probability)


def test_a_pick_knows_its_time_and_where_it_was_made() -> None:
    assert UTCDateTime(2014, 4, 1, 0, 0, 0, 998393) == PICK.time
    assert ("CX.PB01.", "CX.PB01") == (PICK.trace_id, PICK.station)
    assert ("CX.PB01.10", "CX.PB01") == (replace(PICK, seed_id="CX.PB01.10.HHZ").trace_id, PICK.station)


def test_a_pick_prints_what_one_wants_to_know() -> None:
    assert "CX.PB01..HHZ P 2014-04-01T00:00:00.998393Z ± 0.12 s, probability 0.75, snr 20 dB" == str(PICK)


def test_picks_sort_by_time_then_channel_then_phase_and_can_be_counted_once() -> None:
    later = replace(PICK, time_ns=PICK.time_ns + 1, seed_id="AA.AAA..HHZ")
    south, second = replace(PICK, seed_id="CX.PB01..HHN"), replace(PICK, phase="S")
    assert [south, PICK, second, later] == sorted([later, second, PICK, south])
    assert {PICK, south} == {PICK, replace(PICK), south}


def onset_at(curve: np.ndarray, peak: int) -> float:
    return float(onsets(curve, np.array([peak]))[0])


def width_at(curve: np.ndarray, peak: int) -> float:
    return float(widths(curve, np.array([peak]))[0])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(samples=arrays(np.float64, st.integers(20, 200), elements=st.floats(0.05, 1)), peak=st.integers(5, 15))
def test_the_width_is_that_of_scipy_for_a_peak_that_stands_alone(samples: np.ndarray, peak: int) -> None:
    samples[peak], samples[0], samples[-1] = 2, 0, 0  # from zero to zero, so that half the prominence is half the height
    expected = scipy.signal.peak_widths(samples, [peak], rel_height=0.5)[0][0]
    assert expected == pytest.approx(width_at(samples, peak), abs=1e-9)


def test_the_width_of_a_triangle_is_half_its_base() -> None:
    assert 10.0 == width_at(np.array([*range(10), *range(10, -1, -1)]) / 10, 10)


@pytest.mark.parametrize("beyond", [[], [math.nan]])
def test_a_width_ends_where_the_curve_ends(beyond: list[float]) -> None:
    assert 4.0 == width_at(np.array([*beyond, 0.9, 0.9, 1.0, 0.9, 0.9, *beyond]), 2 + len(beyond))


def bell(sample: float, height: float, sigma: float, samples: int = 4000) -> np.ndarray:
    return height * np.exp(-((np.arange(samples) - sample) ** 2) / (2 * sigma**2))


def louder(factor: float, at: int = 2000, samples: int = 4000) -> np.ndarray:
    """Three components that swing between -1 and 1, and `factor` times as far from a sample on; 7 is their mean."""
    swing = np.where(np.arange(samples) % 2, 1.0, -1.0) * np.where(np.arange(samples) < at, 1.0, factor)
    return np.tile(swing, (3, 1)) + 7


@pytest.mark.parametrize(
    ("centre", "sigma", "peak", "expected"),
    [
        (200.0, 12, 200, 200.0),
        (200.3, 12, 200, 200.3),
        (200.46, 8, 200, 200.5),
        (206.0, 16, 200, 205.6),  # as wide as the weights: the rest of the way halves four times
        (199.7, 12, 200, 199.7),
        (3.0, 1, 3, 3.0),  # beside the start of the curve
        (3999.0 - 3.0, 1, 3996, 3996.0),
    ],
)
def test_an_onset_is_read_between_samples(centre: float, sigma: float, peak: int, expected: float) -> None:
    assert expected == pytest.approx(onset_at(bell(centre, 0.8, sigma), peak), abs=1e-9)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(samples=arrays(np.float32, st.integers(1, 200), elements=st.floats(0.0625, 1, width=32)), data=st.data())
def test_an_onset_is_that_of_a_loop(samples: np.ndarray, data: st.DataObject) -> None:
    peak = data.draw(st.integers(0, len(samples) - 1))
    hidden = np.where(np.arange(len(samples)) >= peak + 20, np.nan, samples)
    assert onset_by_hand(samples, peak) == pytest.approx(onset_at(samples, peak), abs=1e-9)
    assert onset_by_hand(hidden, peak) == pytest.approx(onset_at(hidden, peak), abs=1e-9)


def test_where_two_humps_are_almost_level_the_onset_moves_less_than_the_highest_sample() -> None:
    first, second = (np.maximum(bell(2000, one, 12), bell(2024, other, 12)) for one, other in ((0.81, 0.8), (0.8, 0.81)))
    assert (2000, 2024) == (first.argmax(), second.argmax())
    assert 0 < onset_at(second, 2024) - onset_at(first, 2000) < 12


def test_the_last_digits_of_a_probability_do_not_move_an_onset() -> None:
    curves = [bell(2000.33, 0.8, 12) * (1 + noise * np.cos(np.arange(4000))) for noise in (0, 1e-7, -1e-7)]
    assert [2000.3] * 3 == [onset_at(curve, 2000) for curve in curves]


def test_several_peaks_are_read_as_each_alone() -> None:
    samples = np.random.default_rng(1).uniform(0.01, 1, 3000)
    samples[[500, 2000]] = np.nan
    peaks = find_picks(samples, 0.01, 100)[0]
    assert len(peaks) > 20
    assert [onset_at(samples, peak) for peak in peaks] == pytest.approx(onsets(samples, peaks).tolist(), abs=1e-9)
    assert [width_at(samples, peak) for peak in peaks] == widths(samples, peaks).tolist()


def test_a_pick_between_samples_has_its_time_to_the_millisecond() -> None:
    [pick] = read_picks(chunk({"P": bell(2000.3, 0.8, 12)}), instrument("Z"), SEGMENT, HEIGHTS, 100)
    assert (19_003_000_000 + 1_393_000, pytest.approx(0.8, rel=1e-3)) == (pick.time_ns, pick.probability)


def test_an_onset_midway_between_samples_has_one_amplitude_wherever_the_array_starts() -> None:
    curve, waveform = bell(2000.5, 0.8, 8), np.random.default_rng(0).standard_normal((3, 4000)).cumsum(axis=1)
    whole = chunk({"P": curve})._replace(waveform=waveform)
    later = whole._replace(
        start=whole.start + 1, probabilities=whole.probabilities[:, 1:], waveform=waveform[:, 1:], trusted=whole.trusted[1:]
    )
    [expected], [pick] = (read_picks(seen, instrument("Z"), SEGMENT, HEIGHTS, 100) for seen in (whole, later))
    assert 19_005_000_000 + 1_393_000 == pick.time_ns
    assert expected == pick


def test_no_onset_is_read_where_the_curve_is_not_trusted() -> None:
    trusted = np.ones(4000, dtype=bool)
    trusted[2001:2101] = False
    wide = np.maximum(bell(1990, 0.8, 5), 0.9 * bell(2040, 0.8, 20))
    [pick] = read_picks(chunk({"P": wide}, trusted), instrument("Z"), SEGMENT, HEIGHTS, 100)
    assert 18.85 < (pick.time_ns - 1_393_000) / 1e9 < 19.01


@pytest.mark.parametrize(("factor", "snr"), [(1.0, 0.0), (10.0, 20.0), (100.0, 40.0), (0.1, -20.0)])
def test_amplitude_and_snr_compare_what_follows_with_what_was_before(factor: float, snr: float) -> None:
    assert (pytest.approx(factor), pytest.approx(snr)) == amplitude_and_snr(louder(factor), 2000)


def test_the_component_with_the_largest_ratio_counts() -> None:
    waveform = louder(1.0)
    waveform[1] = louder(10.0)[1]
    waveform[2] = 1000 * louder(2.0)[2]  # larger, but not by as much
    amplitude, snr = amplitude_and_snr(waveform, 2000)
    assert (pytest.approx(2000), pytest.approx(20)) == (amplitude, snr)


def test_components_without_data_or_movement_do_not_count() -> None:
    waveform = louder(10.0)
    waveform[0] = np.nan
    waveform[1] = 3.0
    assert (pytest.approx(10), pytest.approx(20)) == amplitude_and_snr(waveform, 2000)


@pytest.mark.parametrize("gap", [(0, 1980), (1900, 1990), (2100, 2110), (2001, 4000)])
@pytest.mark.parametrize("components", [[0, 1, 2], [2]])
def test_where_there_is_nothing_to_compare_with_the_ratio_is_unknown(gap: tuple[int, int], components: list[int]) -> None:
    waveform = np.full((3, 4000), np.nan)
    waveform[components] = louder(10.0, 0)[components]
    waveform[:, slice(*gap)] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        amplitude, snr = amplitude_and_snr(waveform, 2000)
    assert 0 <= amplitude <= 20.1
    assert math.isnan(snr)


@pytest.mark.parametrize("pick", [0, 1, 5, 19, 20])
def test_the_ratio_of_a_pick_at_the_very_start_is_unknown_or_a_number(pick: int) -> None:
    amplitude, _ = amplitude_and_snr(louder(10.0, 0), pick)
    assert 9 < amplitude < 20.1


def instrument(letters: str) -> Instrument:
    return bare_instrument("XX.STA..HH", letters, 10**10)


def chunk(probabilities: dict[str, np.ndarray], trusted: np.ndarray | None = None, first: int = 1000, end: int = 3000) -> Annotation:
    """Annotation of 4000 samples, of which `first` to `end` belong to the chunk; the array starts 100 before the grid's zero."""
    curves = np.stack([probabilities.get(phase, np.zeros(4000)) for phase in "PSN"])
    everywhere = np.ones(4000, dtype=bool)
    return Annotation(first - 100, end - 100, -100, curves, louder(10.0), everywhere if trusted is None else trusted)


SEGMENT = Segment(Grid(Fraction(100), 1_393_000), -100, 3900)


def test_picks_are_read_with_time_height_and_width() -> None:
    seen = chunk({"P": bell(2000, 0.8, 12), "S": bell(2500, 0.6, 25), "N": bell(1500, 0.9, 10)})
    p, s = read_picks(seen, instrument("ENZ"), SEGMENT, HEIGHTS, 100)
    assert (19 * 10**9 + 1_393_000, "XX.STA..HHZ", "P") == (p.time_ns, p.seed_id, p.phase)
    assert (24 * 10**9 + 1_393_000, "XX.STA..HHN", "S") == (s.time_ns, s.seed_id, s.phase)
    assert (pytest.approx(0.8), pytest.approx(0.6)) == (p.probability, s.probability)
    assert (pytest.approx(0.12, rel=1e-3), pytest.approx(0.25, rel=1e-3)) == (p.uncertainty, s.uncertainty)
    assert (pytest.approx(10), pytest.approx(20)) == (p.amplitude, p.snr)
    assert {int, str, float} == {type(value) for value in (p.time_ns, p.seed_id, p.probability, p.uncertainty, p.amplitude, p.snr)}


def test_each_phase_has_its_own_threshold() -> None:
    seen = chunk({"P": bell(2000, 0.5, 12), "S": bell(2500, 0.5, 25)})
    assert ["S"] == [pick.phase for pick in read_picks(seen, instrument("Z"), SEGMENT, {"P": 0.6, "S": 0.4}, 100)]


@pytest.mark.parametrize(
    ("letters", "p", "s"),
    [("ENZ", "Z", "N"), ("12Z", "Z", "1"), ("123", "3", "1"), ("Z", "Z", "Z"), ("EN", "N", "N"), ("2", "2", "2"), ("EZ", "Z", "E")],
)
def test_p_is_told_for_the_vertical_and_s_for_the_first_horizontal(letters: str, p: str, s: str) -> None:
    seen = chunk({"P": bell(2000, 0.8, 12), "S": bell(2500, 0.6, 25)})
    assert [f"XX.STA..HH{p}", f"XX.STA..HH{s}"] == [pick.seed_id for pick in read_picks(seen, instrument(letters), SEGMENT, HEIGHTS, 100)]


@pytest.mark.parametrize(
    ("sample", "number"), [(999, 0), (1000, 1), (2999, 1), (3000, 0), (999.7, 0), (1000.3, 1), (2999.7, 1), (3000.3, 0)]
)
def test_a_pick_belongs_to_one_chunk(sample: float, number: int) -> None:
    assert number == len(read_picks(chunk({"P": bell(sample, 0.8, 12)}), instrument("Z"), SEGMENT, HEIGHTS, 100))


def test_a_pick_yields_to_a_higher_one_of_the_next_chunk() -> None:
    both = np.maximum(bell(2960, 0.7, 12), bell(3040, 0.8, 12))
    assert [] == read_picks(chunk({"P": both}), instrument("Z"), SEGMENT, HEIGHTS, 100)


def test_nothing_is_picked_where_the_curve_is_not_trusted_and_nothing_yields_to_that() -> None:
    trusted = np.ones(4000, dtype=bool)
    trusted[1990:2050] = False
    curves = np.maximum(bell(2000, 0.9, 10), bell(2080, 0.5, 10))
    assert [19.80] == [
        pick.time_ns // 10**7 / 100 for pick in read_picks(chunk({"P": curves}, trusted), instrument("Z"), SEGMENT, HEIGHTS, 100)
    ]


def test_the_flank_of_a_peak_that_is_not_trusted_is_no_pick() -> None:
    trusted = np.ones(4000, dtype=bool)
    trusted[1990:2020] = False
    assert [] == read_picks(chunk({"P": bell(2000, 0.9, 30)}, trusted), instrument("Z"), SEGMENT, HEIGHTS, 100)


def test_picks_of_both_phases_come_in_order_of_time() -> None:
    p = np.maximum(bell(1500, 0.8, 12), bell(2500, 0.8, 12))
    s = np.maximum(bell(1200, 0.8, 12), bell(2000, 0.8, 12))
    assert ["S", "P", "S", "P"] == [pick.phase for pick in read_picks(chunk({"P": p, "S": s}), instrument("ENZ"), SEGMENT, HEIGHTS, 100)]
