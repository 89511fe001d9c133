from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from peaks_by_hand import peaks
from xiaonet.evaluation.metrics import Value
from xiaonet.evaluation.scores import PhaseScores, average_precision, best_threshold, match_labels, precision_recall, stability
from xiaonet.scoring.matching import MatchedPeaks

NAN = np.nan
NONE = peaks()


def windows(labels, judged=None, events=None, starts=None, rows=None, **traits):
    """Windows with labels of P; each of its own event, unless `events` is given."""
    count = len(labels)
    return SimpleNamespace(
        labels={"P": np.array(labels, dtype=float).reshape(count, -1)},
        judged={"P": np.ones(count, dtype=bool) if judged is None else np.array(judged)},
        events=np.arange(count) if events is None else np.array(events),
        starts=np.zeros(count, dtype=int) if starts is None else np.array(starts),
        rows=np.arange(count) if rows is None else np.array(rows),
        traits=pd.DataFrame({name: traits.get(name, [NAN] * count) for name in ("snr_db", "s_minus_p_s", "distance_km", "magnitude")}),
        __len__=lambda: count,
    )


def all_of(own) -> np.ndarray:
    return np.ones(len(own.events), dtype=bool)


# Six windows: right, right but 0.3 s late, one right and one false, missed, nothing there and a false one, below the threshold.
LABELS = [[1000], [1000], [1000], [1000], [NAN], [1000]]
PEAKS = peaks((0, 1000, 0.9), (1, 1030, 0.8), (2, 995, 0.7), (2, 2000, 0.6), (4, 500, 0.5), (5, 1000, 0.2))


def test_worked_figures():
    own = windows(LABELS)
    metrics = PhaseScores.of(PEAKS, own, "P", 0.3).metrics(all_of(own), seed=0)
    assert (5, 5) == (metrics.labels, metrics.picks)
    assert (3 / 5, 3 / 5, 3 / 5) == (metrics.precision["0.5"].value, metrics.recall["0.5"].value, metrics.f1["0.5"].value)
    assert (2 / 5, 2 / 5, 2 / 5) == (metrics.precision["0.1"].value, metrics.recall["0.1"].value, metrics.f1["0.1"].value)
    assert 3 / 5 == metrics.prescribed_f1.value
    off = np.array([0.0, 0.3, -0.05])
    np.testing.assert_allclose(
        [off.mean(), off.std(), np.abs(off).mean(), 0.0],
        [metrics.mean_s.value, metrics.std_s.value, metrics.mae_s.value, metrics.outliers.value],
    )
    assert [1, 1, 1] == [count for count in metrics.residual_counts if count]
    assert (2 / 3, 2 / 3) == (metrics.within_one_sigma, metrics.within_two_sigma)  # the uncertainty is 0.1 s


def test_the_prescribed_height_stays_where_the_threshold_moves():
    own = windows(LABELS)
    metrics = PhaseScores.of(PEAKS, own, "P", 0.15).metrics(all_of(own), seed=0)
    assert (4 / 5, 3 / 5) == (metrics.recall["0.5"].value, metrics.prescribed_f1.value)


def test_a_pick_far_off_is_an_outlier_and_not_in_the_mean():
    own = windows([[1000], [1000]])
    metrics = PhaseScores.of(peaks((0, 1010, 0.9), (1, 1101, 0.9)), own, "P", 0.3).metrics(all_of(own), seed=0)
    assert (0.5, 0.1) == (metrics.outliers.value, pytest.approx(metrics.mae_s.value))


@pytest.mark.parametrize(
    ("label", "pick", "right", "false", "labels"),
    [
        (49, 60, 0, 0, 0),  # a label at the window's end is not asked for, and its pick is not false
        (50, 45, 1, 0, 1),
        (2951, 2940, 0, 0, 0),
        (2950, 2999, 1, 0, 1),
        (1000, 30, 0, 0, 1),  # a pick at the window's end is not false
        (1000, 50, 0, 1, 1),
    ],
)
def test_what_lies_at_a_windows_ends(label, pick, right, false, labels):
    counts = match_labels(peaks((0, pick, 0.9)), windows([[label]]), "P", 0.5).counts(0.3)
    assert (right, false, labels) == tuple(int(values[0]) for values in counts)


def test_a_phase_that_is_not_judged_counts_nowhere():
    own = windows([[1000], [1000]], judged=[True, False])
    scores = PhaseScores.of(peaks((0, 1000, 0.9), (1, 1400, 0.9)), own, "P", 0.3)
    metrics = scores.metrics(all_of(own), seed=0)
    assert (1, 1, 1.0, 0.0) == (metrics.labels, metrics.picks, metrics.f1["0.5"].value, metrics.outliers.value)


def test_no_picks_at_all():
    own = windows(LABELS)
    metrics = PhaseScores.of(NONE, own, "P", 0.3).metrics(all_of(own), seed=0)
    assert (0, Value(), 0.0, 0.0) == (metrics.picks, metrics.precision["0.5"], metrics.recall["0.5"].value, metrics.f1["0.5"].value)
    assert (Value(), Value(), 0.0, None, []) == (
        metrics.mae_s,
        metrics.outliers,
        metrics.average_precision,
        metrics.calibration_error,
        metrics.curve,
    )


def test_picks_everywhere():
    own = windows([[1000]] * 6)
    everywhere = peaks(*((window, sample, 0.9) for window in range(6) for sample in range(100, 2900, 100)))
    metrics = PhaseScores.of(everywhere, own, "P", 0.3).metrics(all_of(own), seed=0)
    assert (1 / 28, 1.0) == (metrics.precision["0.5"].value, metrics.recall["0.5"].value)
    assert Value(value=2 / 29, low=2 / 29, high=2 / 29) == metrics.f1["0.5"]


def test_no_labels_have_no_f1():
    own = windows([[NAN]] * 6)
    metrics = PhaseScores.of(NONE, own, "P", 0.3).metrics(all_of(own), seed=0)
    assert (Value(), Value(), None) == (metrics.f1["0.5"], metrics.recall["0.5"], metrics.average_precision)


@pytest.mark.parametrize(("events", "there"), [([0] * 6, False), ([0, 1, 2, 3, 3, 3], False), ([0, 1, 2, 3, 4, 4], True)])
def test_few_events_have_no_intervals(events, there):
    own = windows(LABELS, events=events)
    value = PhaseScores.of(PEAKS, own, "P", 0.3).metrics(all_of(own), seed=0).f1["0.5"]
    assert (0.6, there, there) == (value.value, value.low is not None, value.high is not None)


def test_intervals_are_over_events_and_not_over_windows():
    """One hit in two: over 400 windows sqrt(1/4/400) = 0.025, over 20 events of 20 equal windows sqrt(1/4/20) = 0.112."""
    found = peaks(*((window, 1000, 0.9) for window in range(400) if window // 20 % 2))
    widths = []
    for events in (np.arange(400), np.arange(400) // 20):
        own = windows([[1000]] * 400, events=events)
        recall = PhaseScores.of(found, own, "P", 0.3).metrics(all_of(own), seed=0).recall["0.5"]
        widths.append(recall.high - recall.low)
    np.testing.assert_allclose([2 * 1.96 * 0.025, 2 * 1.96 * 0.112], widths, rtol=0.1)


def test_a_model_differs_from_itself_by_nothing():
    own = windows(LABELS)
    scores = PhaseScores.of(PEAKS, own, "P", 0.3)
    values = scores.difference(scores, all_of(own), seed=0)
    assert {Value(value=0.0, low=0.0, high=0.0)} == set(values.values())


def test_paired_differences_are_narrower_than_intervals():
    rng = np.random.default_rng(0)
    hard = rng.random(200) < 0.5  # records that neither picks
    labels = windows([[1000]] * 200)
    one = peaks(*((window, 1000, 0.9) for window in range(200) if not hard[window]))
    other = peaks(*((window, 1000, 0.9) for window in range(200) if not hard[window] and window % 10))
    first, second = (PhaseScores.of(found, labels, "P", 0.3) for found in (one, other))
    difference = first.difference(second, all_of(labels), 0)["recall 0.5"]
    recall = first.values(all_of(labels), 0)["recall 0.5"]
    missed = sum(not hard[window] and window % 10 == 0 for window in range(200)) / 200
    assert missed == pytest.approx(difference.value)
    assert 0 < difference.low < difference.high < difference.low + 0.6 * (recall.high - recall.low)


def test_a_subset_counts_its_own_windows_alone():
    own = windows(LABELS)
    subset = np.array([True, True, False, False, False, False])
    assert 1.0 == PhaseScores.of(PEAKS, own, "P", 0.3).metrics(subset, seed=0).f1["0.5"].value


@given(st.lists(st.tuples(st.integers(1, 998), st.booleans()), min_size=1, max_size=60, unique_by=lambda row: row[0]))
def test_average_precision_is_that_of_scikit_learn(rows):
    heights, right = np.array([height for height, _ in rows]) / 1000, np.array([one for _, one in rows])
    found = peaks(*((window, 1000, height) for window, height in enumerate(heights)))
    matched = MatchedPeaks(found, right, right.astype(int))
    if right.any():
        np.testing.assert_allclose(average_precision_score(right, heights), average_precision(matched))
    else:
        assert average_precision(matched) is None


def test_the_best_threshold_lies_between_right_and_false():
    own = windows([[1000]] * 4)
    found = peaks(*((window, 1000, 0.6) for window in range(4)), *((window, 2000, 0.4) for window in range(4)))
    assert 0.51 == best_threshold(match_labels(found, own, "P", 0.5))  # the middle of 0.41 to 0.60


def test_points_of_the_curve():
    points = {
        point.threshold: (point.precision, point.recall) for point in precision_recall(match_labels(PEAKS, windows(LABELS), "P", 0.5))
    }
    assert (4 / 6, 4 / 5) == points[0.01]
    assert (1.0, 1 / 5) == points[0.85]
    assert 0.95 not in points


def test_calibration():
    """Peaks of 0.85: half are right, 0.35 off; of 0.25: all are right, 0.75 off. In the mean 0.55."""
    own = windows([[1000], [NAN], [1000], [1000]])
    found = peaks((0, 1000, 0.85), (1, 1000, 0.85), (2, 1000, 0.25), (3, 1000, 0.25))
    metrics = PhaseScores.of(found, own, "P", 0.1).metrics(all_of(own), seed=0)
    assert [(0.25, 1.0, 2), (0.85, 0.5, 2)] == [(one.probability, one.right, one.picks) for one in metrics.reliability]
    assert pytest.approx(0.55) == metrics.calibration_error


def test_a_model_without_probabilities_has_no_calibration():
    own = windows(LABELS)
    metrics = PhaseScores.of(PEAKS, own, "P", 0.3, probabilistic=False).metrics(all_of(own), seed=0)
    assert (None, [], None, None) == (metrics.calibration_error, metrics.reliability, metrics.within_one_sigma, metrics.within_two_sigma)


def test_breakdowns_name_their_classes():
    own = windows(LABELS, magnitude=[0.5, 1.0, 2.5, NAN, 9.0, 3.9])
    expected = {"magnitude": {"< 1": (1, 1.0), "1–2": (1, 1.0), "2–3": (1, 2 / 3), "3–4": (1, 0.0)}}
    assert expected == PhaseScores.of(PEAKS, own, "P", 0.3).by_trait()


class Pair(SimpleNamespace):
    def __len__(self):
        return len(self.rows)


def test_stability():
    """Two windows of one record, the second 500 samples later: of three picks that both see, one moves and one is gone."""
    own = Pair(rows=np.array([7, 7, 8]), starts=np.array([0, 500, 0]))
    found = peaks(
        (0, 1000, 0.9), (1, 503, 0.9),  # moves by 3 samples
        (0, 2000, 0.9), (1, 1530, 0.9),  # by 30: each is gone in the other
        (0, 300, 0.9),  # the second window does not see it
        (0, 2950, 0.9),  # too near to the end of the first
        (2, 1500, 0.9),  # of another record
    )  # fmt: skip
    result = stability({"P": found}, own, {"P": 0.3})
    assert (4, 0.5, pytest.approx(0.03)) == (result.picks, result.changed, result.jitter_s)


def test_stability_of_nothing():
    own = Pair(rows=np.array([7, 7]), starts=np.array([0, 500]))
    result = stability({"P": NONE}, own, {"P": 0.3})
    assert (0, None, None) == (result.picks, result.changed, result.jitter_s)
