import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from peaks_by_hand import onset_by_hand
from xiaonet.constants import DISTANCE
from xiaonet.errors import DataError
from xiaonet.picking.picks import find_picks
from xiaonet.scoring.peaks import find_peaks
from xiaonet.training.dev_set import ABSENT, THRESHOLDS, DevSet, match_onsets, picked_records


def f1(counted: list[tuple[np.ndarray, float]], height: float) -> float:
    """F1 of curves of a phase, each with its one onset or none."""
    peaks = find_peaks([np.stack([np.stack([curve] * 3) for curve, _ in counted])], DISTANCE)["P"]
    return match_onsets(peaks, [onset for _, onset in counted]).f1(np.array([height]))[0]


def test_f1_by_hand() -> None:
    curve = np.zeros(3001, np.float32)
    curve[[1000, 2000]] = 0.8, 0.4
    counted = [(curve, 1040.0), (curve, 2060.0), (np.zeros(3001, np.float32), 500.0)]
    # at 0.3: 1 right, 1 wrong; 2 wrong, 1 missed; 1 missed
    assert_allclose(2 * 1 / (2 * 1 + 3 + 2), f1(counted, 0.3))
    assert_allclose(2 * 1 / (2 * 1 + 1 + 2), f1(counted, 0.5))


def test_a_pick_where_there_is_no_onset_is_wrong_and_none_is_not_missed() -> None:
    curve = np.zeros(3001, np.float32)
    curve[1000] = 0.8
    silent = np.zeros(3001, np.float32)
    assert_allclose(2 * 1 / (2 * 1 + 1), f1([(curve, 1000.0), (curve, ABSENT), (silent, ABSENT)], 0.3))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_f1_is_that_of_a_loop_over_thresholds_and_windows(seed: int) -> None:
    """At each threshold the picker's rule alone decides: the first pick within 0.5 s is right, any other is wrong."""
    rng = np.random.default_rng(seed)
    curves = [(np.round(rng.random(400) ** 4, 2)).astype(np.float32) for _ in range(6)]  # rounded, so that peaks are as high as others
    onsets = rng.choice([100.0, 250.3, ABSENT, np.nan], len(curves)).tolist()
    expected = []
    for height in THRESHOLDS:
        right = wrong = missed = 0
        for curve, onset in zip(curves, onsets, strict=True):
            if np.isnan(onset):
                continue
            picks = [onset_by_hand(curve, peak) for peak in find_picks(curve, height, DISTANCE)[0].tolist()]
            hit = any(abs(pick - onset) <= 50 for pick in picks)
            right, missed, wrong = right + hit, missed + (not hit and onset != ABSENT), wrong + len(picks) - hit
        expected.append(2 * right / max(2 * right + wrong + missed, 1))
    peaks = find_peaks([np.stack([np.stack([curve] * 3) for curve in curves])], DISTANCE)["S"]
    assert expected == match_onsets(peaks, onsets).f1(THRESHOLDS).tolist()


def test_the_scores_of_a_network(write_set) -> None:
    """A network that gives P 0.62 at a high sample, P 0.42 at a lower one 1.5 s before, and S 0.52 three tenths of a second late.

    Ten windows hold the onsets. In two of noise before P, the lower sample is the highest one, so its P is false at 0.6, too.
    """
    import torch

    record = np.zeros((3, 9001))
    record[2, [2850, 3000]], record[2, 3400] = (100, 1000), -1000
    folder = write_set([record], split=["dev"], trace_p_arrival_sample=[3000.0], trace_s_arrival_sample=[3400.0])

    class Network(torch.nn.Module):
        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            vertical = windows[:, 2]
            p = 0.42 * ((vertical > 0.05) & (vertical < 0.5)) + 0.62 * (vertical > 0.5)
            s = 0.52 * torch.roll(vertical < -0.5, 30, dims=1)
            return torch.stack([p, s, 1 - p - s], dim=1)

    found = DevSet(picked_records(str(folder), "dev")).scores(Network())
    assert {"F1": round(2 * 10 / (2 * 10 + 2), 3), "threshold": 0.6, "recall within 0.1 s": 1.0} == found["P"]
    assert {"F1": 1.0, "threshold": 0.5, "recall within 0.1 s": 0.0} == found["S"]


def test_dev_has_windows_with_onsets_and_without(write_set) -> None:
    """Spikes tell where the two without were cut: until 30 samples before P and mirrored there, and the last 3001 samples."""
    record = np.zeros((3, 9001))
    record[:, [2965, 6500]] = 1
    picks = {"trace_p_arrival_sample": [5.0, 3000.0], "trace_s_arrival_sample": [9.0, 3400.0], "trace_p_status": ["manual"] * 2}
    dev = DevSet(picked_records(str(write_set([record] * 2, split=["train", "dev"], **picks)), "dev"))
    assert [np.isfinite(p) for p, _ in dev.onsets[:7]] == [True] * 5 + [False] * 2
    assert dev.onsets[5:7] == [(ABSENT, ABSENT)] * 2
    before, coda = dev.windows[5:7, 2].numpy()
    assert_array_equal([2965, 2973], np.flatnonzero(before > 0.5))
    assert_array_equal([500], np.flatnonzero(coda > 0.5))


def test_dev_is_judged_with_three_components_and_with_the_vertical_alone(write_set) -> None:
    record = np.random.default_rng(0).normal(size=(3, 6000))
    dev = DevSet(picked_records(str(write_set([record], split=["dev"], trace_p_arrival_sample=[3500.0])), "dev"))
    three, alone = dev.windows.chunk(2)
    assert_array_equal(three[:, 2], alone[:, 2])
    assert three[:, :2].abs().amax() == 1
    assert alone[:, :2].abs().amax() == 0
    assert_array_equal(dev.onsets[: len(three)], dev.onsets[len(three) :])


def test_noise_before_a_p_that_is_early_does_not_hold_what_comes_after_it(write_set) -> None:
    folder = write_set(
        [np.ones((3, 6000))] * 2, split=["train", "dev"], trace_p_arrival_sample=[20.0] * 2, trace_s_arrival_sample=[4000.0] * 2
    )
    dev = DevSet(picked_records(str(folder), "dev"))
    assert (ABSENT, ABSENT) not in dev.onsets


def test_picks_are_found_by_any_name_and_trusted_unless_automatic(write_set) -> None:
    picks = {
        "trace_Pg_arrival_sample": [np.nan, 100.0, 7000.0],
        "trace_Pg_status": ["manual"] * 3,
        "trace_Sn_arrival_sample": [5.0, 900.0, 50.0],
    }
    folder = write_set([np.ones((3, 6000))] * 3, split=["dev"] * 3, **picks)
    [(waveform, p, s)] = picked_records(str(folder), "dev")  # the first has no P, and the P of the last lies outside
    assert ((3, 6000), 100.0, 900.0) == (waveform.shape, p, s)


def test_a_dev_record_that_is_too_short_is_named(write_set) -> None:
    folder = write_set([np.ones((3, 900))], split=["dev"], trace_p_arrival_sample=[100.0])
    with pytest.raises(DataError, match="has 900 samples; wanted at least 3001"):
        picked_records(str(folder), "dev")


def test_dev_needs_analysts_picks(write_set) -> None:
    folder = write_set([np.ones((3, 4000))] * 2, split=["train", "dev"], trace_p_arrival_sample=[5.0] * 2, trace_p_status=["automatic"] * 2)
    with pytest.raises(DataError, match="has no record with a manual P in its dev split"):
        picked_records(str(folder), "dev")
