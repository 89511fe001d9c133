import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xiaonet.picking.picks import find_picks


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


@settings(max_examples=60, deadline=None)
@given(
    probability=arrays(np.float32, st.integers(3, 300), elements=st.floats(0, 1, width=32)),
    height=st.floats(0, 1),
    distance=st.integers(1, 150),
)
def test_picks_are_those_of_scipy_and_keep_the_rules(probability: np.ndarray, height: float, distance: int) -> None:
    samples, heights = find_picks(probability, height, distance)
    np.testing.assert_array_equal(scipy.signal.find_peaks(probability, height=height, distance=distance)[0], samples)
    np.testing.assert_array_equal(probability[samples].astype(np.float64), heights)
    assert (True, True) == (bool((np.diff(samples) >= distance).all()), bool((heights >= height).all()))


@settings(max_examples=30, deadline=None)
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
