import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.special import expit, logit

from xiaonet.nn.model import XiaoNet
from xiaonet.scoring.matching import MatchedPeaks
from xiaonet.scoring.peaks import Peaks
from xiaonet.training.calibration import ContinuousRecords, calibrate, choose_thresholds, share_with_p
from xiaonet.training.dev_set import THRESHOLDS


def peaks(samples: list[float], heights: list[float] | None = None, records: list[int] | None = None) -> Peaks:
    count = len(samples)
    return Peaks(np.array(records or [0] * count), np.array(samples), np.array(heights or [1.0] * count), np.full(count, 0.1))


class Matched:
    """A dev set whose peaks are right with the probability expit(1.5 · logit + 0.7) at first, and with their own once that is put right."""

    def __init__(self, count: int = 4000) -> None:
        rng = np.random.default_rng(0)
        self.heights, self.draws, self.calls = rng.uniform(0.02, 0.98, count), rng.random(count), 0

    def matched(self, network: torch.nn.Module) -> dict[str, MatchedPeaks]:
        found = logit(self.heights)
        heights = self.heights if self.calls == 0 else expit(1.5 * found + 0.7)
        self.calls += 1
        right = self.draws < expit(1.5 * found + 0.7)
        own = peaks([0.0] * len(found), heights.tolist())
        few = right & (np.cumsum(right) <= 29)
        return {
            "P": MatchedPeaks(own, right, np.array([int(right.sum())])),
            "S": MatchedPeaks(own, few, np.array([int(few.sum())])),
        }


def test_the_last_layer_turns_the_probability_of_a_peak_into_the_share_of_right_ones() -> None:
    torch.manual_seed(0)
    network, windows = XiaoNet(base_channels=2).eval(), torch.randn(2, 3, 3001)
    with torch.no_grad():
        before = network.logits(windows)
        done = calibrate(network, Matched())
        after = network.logits(windows)
    assert_allclose((1.5, 0.7), done["P"], atol=0.15)
    slope, shift = done["P"]
    assert_allclose(slope * (before[:, 0] - before[:, 2]) + shift, after[:, 0] - after[:, 2], atol=2e-3)
    assert (1.0, 0.0) == done["S"]  # 29 right peaks are too few to learn from
    assert_allclose(before[:, 1:], after[:, 1:], atol=1e-6)


def test_share_of_s_with_a_p_in_the_eight_seconds_before() -> None:
    p = peaks([1000, 5000, 900], records=[0, 0, 1])
    s = peaks([1001, 1800, 1801, 4990, 1000, 100], records=[0, 0, 0, 0, 1, 2])
    assert 3 / 6 == share_with_p(p, s)  # 1001 and 1800 of record 0, and 1000 of record 1
    assert 1.0 == share_with_p(p, peaks([]))


def f1_of(best: dict[float, float]) -> np.ndarray:
    return np.array([best.get(float(threshold), 0.0) for threshold in THRESHOLDS])


def test_thresholds_alone_are_the_highest_of_the_best() -> None:
    f1 = {"P": f1_of({0.3: 0.9, 0.4: 0.899, 0.5: 0.88}), "S": f1_of({0.2: 0.8, 0.6: 0.7})}
    assert {"P": 0.4, "S": 0.2} == choose_thresholds(f1, None)


def test_thresholds_give_up_a_little_f1_so_that_s_picks_have_a_p() -> None:
    """Two of four S picks have a P at the best thresholds; at 0.5 for S, two of two."""
    f1 = {"P": f1_of({0.4: 0.9}), "S": f1_of({0.2: 0.8, 0.5: 0.785, 0.9: 0.5})}
    continuous = {
        "P": peaks([1000, 5000], [0.9, 0.9]),
        "S": peaks([1500, 5500, 3000, 9000], [0.8, 0.7, 0.3, 0.3]),
    }
    assert {"P": 0.4, "S": 0.5} == choose_thresholds(f1, continuous)
    continuous["P"] = peaks([])  # no pair reaches the share, so F1 decides
    assert {"P": 0.4, "S": 0.2} == choose_thresholds(f1, continuous)


@pytest.mark.parametrize("samples", [3001, 7001, 20_000])
def test_picks_of_continuous_records_are_where_the_network_sees_them(samples: int) -> None:
    class Network(torch.nn.Module):
        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            p, s = (windows[:, 2] > 0.9).float(), (windows[:, 2] < -0.9).float()
            return torch.stack([p, s, 1 - p - s], dim=1)

    waveform = np.random.default_rng(0).normal(size=(3, samples)).astype(np.float32)
    waveform[2, [500, 2600]] = 5000, -5000
    found = ContinuousRecords([waveform]).peaks(Network())
    assert 500 in found["P"].sample
    assert 2600 in found["S"].sample
