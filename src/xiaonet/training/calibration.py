"""After training: probabilities that say how often a pick is right, and thresholds that keep P and S in balance.

`calibrate` changes the last layer of a network. `choose_thresholds` looks at the dev split and at continuous records.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import cast

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit
from torch import nn

from xiaonet.constants import DISTANCE, NOISE, PICKED_PHASES, SAMPLING_RATE
from xiaonet.nn.model import XiaoNet
from xiaonet.picking.blending import REACH, blend, whole_tiles
from xiaonet.scoring.matching import MatchedPeaks
from xiaonet.scoring.peaks import Peaks, find_peaks
from xiaonet.training.dev_set import THRESHOLDS, DevSet

FEWEST_PEAKS = 30  # right and false peaks that a calibration needs, each
ROUNDS = 3  # P and S share a softmax, so the fit is repeated
SLOPES, SHIFTS = (0.5, 2.0), (-3.0, 3.0)  # limits of the fit
HOURS = 12.0  # of continuous records that are looked at
P_WITHIN = 8.0  # s before an S in which its P is expected
WANTED_SHARE = 0.8  # of S picks that have a P before them
F1_GIVEN_UP = 0.02  # of the best F1, at most, to reach that share


def calibrate(network: XiaoNet, dev_set: DevSet) -> dict[str, tuple[float, float]]:
    """Change the last layer so that the probability of a peak is the share of right ones among its like.

    The logit of a phase against noise becomes `slope · logit + shift` (Platt 1999, in Advances in Large Margin
    Classifiers). Both are fitted to the peaks of the dev split, right or false. The order of the peaks stays.

    Args:
        network: changed in place.
        dev_set: a phase with fewer than 30 right or 30 false peaks there stays as it is.

    Returns:
        Slope and shift of P and of S in all.
    """
    done = dict.fromkeys(PICKED_PHASES, (1.0, 0.0))
    for _ in range(ROUNDS):
        matched = dev_set.matched(network)
        for row, phase in enumerate(PICKED_PHASES):
            slope, shift = _fit(matched[phase])
            weight, bias = network.head.weight, cast(torch.Tensor, network.head.bias)
            with torch.no_grad():
                for part in (weight, bias):
                    part[row] = part[NOISE] + slope * (part[row] - part[NOISE])
                bias[row] += shift
            done[phase] = slope * done[phase][0], slope * done[phase][1] + shift
    return {phase: (round(slope, 3), round(shift, 3)) for phase, (slope, shift) in done.items()}


def _fit(matched: MatchedPeaks) -> tuple[float, float]:
    """Slope and shift of the logistic regression of right peaks on the logit of their probability."""
    right = matched.right.astype(float)
    if min(right.sum(), (1 - right).sum()) < FEWEST_PEAKS:
        return 1.0, 0.0
    found = logit(np.clip(matched.peaks.height, 1e-4, 1 - 1e-4))

    def loss(values: NDArray[np.float64]) -> float:
        fitted = expit(values[0] * found + values[1])
        return float(-np.mean(right * np.log(fitted + 1e-12) + (1 - right) * np.log(1 - fitted + 1e-12)))

    slope, shift = scipy.optimize.minimize(loss, (1.0, 0.0), bounds=(SLOPES, SHIFTS)).x
    return float(slope), float(shift)


class ContinuousRecords:
    """Parts of continuous records, to count picks in.

    Args:
        waveforms: `(3, samples)` each. The beginning of each is used, 12 hours of all at most.
    """

    def __init__(self, waveforms: Sequence[NDArray[np.float32]]) -> None:
        longest = int(HOURS * 3600 * SAMPLING_RATE / max(len(waveforms), 1))
        self.waveforms = [waveform[:, :longest] for waveform in waveforms]

    @torch.inference_mode()
    def _curves(self, network: nn.Module) -> Iterable[NDArray[np.float32]]:
        """Probabilities `(1, 3, samples)` of each record, whose windows are averaged before the network sees it, as in the picker."""
        for waveform in self.waveforms:
            samples = waveform.shape[1]
            low, high = whole_tiles(0, samples)
            sides = REACH - low, REACH + high - samples
            padded = np.pad(waveform.astype(np.float64), ((0, 0), sides), constant_values=np.nan)
            record = blend(padded, low - REACH, REACH, REACH + high - low)
            yield network(torch.from_numpy(record[None])).numpy()[:, :, -low : samples - low]

    def peaks(self, network: nn.Module) -> dict[str, Peaks]:
        """Peaks of P and S of all records."""
        return find_peaks(self._curves(network), DISTANCE)


def share_with_p(p: Peaks, s: Peaks) -> float:
    """Share of S picks with a P pick on the same record in the 8 s before; 1 if there is no S."""
    within = P_WITHIN * SAMPLING_RATE
    with_p = [bool(((s_sample - own > 0) & (s_sample - own <= within)).any()) for s_sample, own in _beside(p, s)]
    return float(np.mean(with_p)) if with_p else 1.0


def _beside(p: Peaks, s: Peaks) -> Iterable[tuple[float, NDArray[np.float64]]]:
    """Each S pick with all P picks of its record."""
    own = {record: p.sample[p.window == record] for record in np.unique(s.window)}
    return ((sample, own[record]) for record, sample in zip(s.window, s.sample, strict=True))


def choose_thresholds(f1: Mapping[str, NDArray[np.float64]], continuous: Mapping[str, Peaks] | None) -> dict[str, float]:
    """Choose the thresholds of P and S together.

    Among pairs that lose at most 0.02 of F1 on dev, in sum over both phases, those come first where at least 80 % of
    the S picks in continuous records have a P before them. Of these, the one with the best F1 is taken, and of equal
    ones (within 0.005) the one with the highest thresholds, because noise is far more frequent in continuous records
    than in any labelled set.

    Args:
        f1: of P and S at each of `THRESHOLDS`, on dev.
        continuous: peaks of P and S in continuous records; None if there are none.
    """
    pairs = list(product(range(len(THRESHOLDS)), repeat=2))
    score = np.array([f1["P"][p] + f1["S"][s] for p, s in pairs])
    allowed = score >= score.max() - F1_GIVEN_UP
    if continuous is not None:
        share = np.array([_share(continuous, p, s) if ok else -1.0 for ok, (p, s) in zip(allowed, pairs, strict=True)])
        allowed &= share >= min(WANTED_SHARE, share.max())
    best = allowed & (score >= score[allowed].max() - 0.005)
    p, s = max((pair for pair, ok in zip(pairs, best, strict=True) if ok), key=lambda pair: (sum(pair), pair))
    return {"P": float(THRESHOLDS[p]), "S": float(THRESHOLDS[s])}


def _share(continuous: Mapping[str, Peaks], p: int, s: int) -> float:
    return share_with_p(continuous["P"].above(THRESHOLDS[p]), continuous["S"].above(THRESHOLDS[s]))
