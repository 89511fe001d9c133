import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score as f1_of_scikit_learn

from xiaonet.scoring.thresholds import choose_threshold, f1_by_threshold, f1_score, ratio

THRESHOLDS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
F1 = np.array([0.5, 0.9, 0.9, 0.9, 0.896, 0.2])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, 0.3),  # the middle one of 0.2, 0.3 and 0.4
        ({"prefer": "highest"}, 0.4),
        ({"margin": 0.005, "prefer": "highest"}, 0.5),
        ({"margin": 0.005}, 0.4),  # the third of 0.2 to 0.5
        ({"margin": 1.0, "prefer": "highest"}, 0.6),
    ],
)
def test_the_rules_of_choosing(rule, expected):
    assert expected == choose_threshold(THRESHOLDS, F1, **rule)


@given(st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=1, max_size=40), st.integers(0, 10))
def test_f1_is_that_of_scikit_learn(rows, threshold):
    heights, right = np.array([height for height, _ in rows]) / 10, np.array([one for _, one in rows])
    expected = f1_of_scikit_learn(right, heights >= threshold / 10, zero_division=0)
    np.testing.assert_allclose([expected], f1_by_threshold(np.array([threshold / 10]), heights, right, right.sum()))


def test_labels_without_a_peak_are_missed():
    assert [2 * 1 / (1 + 0 + 4), 0.0] == f1_by_threshold(np.array([0.5, 0.9]), np.array([0.5]), np.array([True]), 4).tolist()


def test_nothing_of_nothing():
    np.testing.assert_array_equal([np.nan, 0.5, 0.0], ratio(np.array([0, 1, 0]), np.array([0, 2, 2])))
    assert np.isnan(f1_score(np.array(0), np.array(0), np.array(0)))
    assert [0.0] == f1_by_threshold(np.array([0.5]), np.array([]), np.array([], dtype=bool), 0).tolist()
