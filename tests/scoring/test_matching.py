import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import find_peaks as find_peaks_of_scipy

from peaks_by_hand import onset_by_hand, peaks
from xiaonet.scoring.matching import match, residuals
from xiaonet.scoring.peaks import find_peaks

NAN = np.nan


NONE = peaks()

CURVES = st.tuples(st.integers(50, 400), st.integers(0, 2**32 - 1)).map(  # no two samples alike, or either of two could stay
    lambda drawn: np.random.default_rng(drawn[1]).permutation(drawn[0]) / drawn[0]
)


@given(CURVES, st.integers(1, 120), st.sampled_from([0.05, 0.3, 0.5, 0.9]))
def test_peaks_above_a_threshold_are_those_that_scipy_finds_with_it(curve, distance, height):
    expected, _ = find_peaks_of_scipy(curve, height=height, distance=distance)
    found = find_peaks([np.stack([curve, curve, 1 - curve])[None]], distance)["S"].above(height)
    assert sorted(onset_by_hand(curve, peak) for peak in expected.tolist()) == sorted(found.sample.tolist())
    assert sorted(curve[expected]) == sorted(found.height)


def test_peaks_are_sorted_by_window_and_height():
    curve = np.zeros(900)
    curve[[100, 400, 700]] = 0.2, 0.9, 0.5
    batch = np.stack([curve, np.zeros(900), 1 - curve])[None]
    found = find_peaks([batch, np.zeros((1, 3, 900)), batch], 100)
    assert [0, 0, 0, 2, 2, 2] == found["P"].window.tolist()
    assert [400, 700, 100] * 2 == found["P"].sample.tolist()
    assert [0.9, 0.5, 0.2] * 2 == found["P"].height.tolist()
    assert [] == found["S"].sample.tolist()


@pytest.mark.parametrize(
    ("found", "labels", "expected"),
    [
        ([(0, 100, 0.9)], [[100]], [0]),
        ([(0, 150, 0.9)], [[100]], [0]),  # the tolerance counts
        ([(0, 151, 0.9)], [[100]], [-1]),
        ([(0, 140, 0.9), (0, 100, 0.5)], [[100]], [0, -1]),  # the higher one, though it is farther off
        ([(0, 140, 0.9), (0, 100, 0.5)], [[100, 160]], [1, 0]),  # each takes the nearest
        ([(0, 140, 0.9), (0, 130, 0.5)], [[139, 120]], [0, 1]),  # or what is left
        ([(0, 100, 0.9)], [[NAN, 100]], [1]),
        ([(1, 100, 0.9), (0, 100, 0.8)], [[NAN], [100]], [-1, 0]),  # by window
        ([(0, 100, 0.9)], [[]], [-1]),
        ([], [[100]], []),
    ],
)
def test_matching(found, labels, expected):
    assert expected == match(peaks(*found), np.array(labels, dtype=float), 50).tolist()


SOME = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3000), st.floats(0.01, 1)), max_size=30, unique_by=lambda row: (row[0], row[2]))
LABELS = st.lists(st.lists(st.one_of(st.just(NAN), st.integers(0, 3000).map(float)), min_size=2, max_size=2), min_size=4, max_size=4)


@given(SOME, LABELS, st.floats(0.01, 1))
def test_whether_a_peak_is_right_does_not_depend_on_the_threshold(rows, labels, height):
    all_peaks, wanted = peaks(*rows), np.array(labels)
    high = all_peaks.height >= height
    assert match(all_peaks, wanted, 50)[high].tolist() == match(all_peaks.above(height), wanted, 50).tolist()


@given(SOME, LABELS)
def test_matching_is_that_of_a_loop_over_windows(rows, labels):
    found, wanted = peaks(*rows), np.array(labels)
    expected = []
    free = [{at: label for at, label in enumerate(row) if not np.isnan(label)} for row in wanted]
    for window, sample in zip(found.window, found.sample, strict=True):
        near = sorted((abs(sample - label), at) for at, label in free[window].items())
        expected.append(near[0][1] if near and near[0][0] <= 50 else -1)
        free[window].pop(expected[-1], None)
    assert expected == match(found, wanted, 50).tolist()


def test_residuals_are_those_of_the_nearest_peak():
    found = peaks((0, 90, 0.9), (0, 120, 0.5), (2, 700, 0.4))
    expected = [[-10.0, NAN], [NAN, NAN], [200.0, -100.0]]
    np.testing.assert_array_equal(expected, residuals(found, np.array([[100, NAN], [100, NAN], [500, 800]])))
    np.testing.assert_array_equal([[NAN]], residuals(NONE, np.array([[100.0]])))


def test_peaks_in_the_form_of_labels():
    np.testing.assert_array_equal([[NAN, NAN], [5.0, 7.0], [1.0, NAN]], peaks((1, 7, 0.2), (1, 5, 0.9), (2, 1, 0.5)).padded(3))
    assert (3, 0) == NONE.padded(3).shape
