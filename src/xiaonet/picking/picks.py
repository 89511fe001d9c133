"""Picks from probability curves: the one rule that training, evaluation and archives share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import PHASES, PICKED_PHASES, SAMPLING_RATE
from xiaonet.picking.annotation import Annotation
from xiaonet.picking.segments import Instrument, Segment

if TYPE_CHECKING:
    from obspy import UTCDateTime


@dataclass(frozen=True, order=True, slots=True)
class Pick:
    """The time reading of a phase on one instrument. Sorts by time, then by channel and phase.

    Attributes:
        time_ns: onset, nanoseconds since 1970-01-01 UTC.
        seed_id: NET.STA.LOC.CHA of the component it is told for: the vertical for P, the first
            horizontal for S, where they are there.
        phase: `P` or `S`.
        probability: height of the curve at its peak, 0 to 1.
        uncertainty: s, the standard deviation of a normal curve as wide at half its height.
        amplitude: largest absolute sample of any component in the seconds after the pick, less
            the mean before it, in the unit of the record.
        snr: dB, root mean square after the pick over that before it, on the component where it
            is largest; NaN where there is nothing to compare.
    """

    time_ns: int
    seed_id: str
    phase: str
    probability: float
    uncertainty: float
    amplitude: float
    snr: float

    @property
    def time(self) -> "UTCDateTime":
        """Onset as ObsPy's time."""
        from obspy import UTCDateTime  # only those who ask for it wait for the import

        return UTCDateTime(ns=self.time_ns)

    @property
    def trace_id(self) -> str:
        """NET.STA.LOC."""
        return self.seed_id.rpartition(".")[0]

    @property
    def station(self) -> str:
        """NET.STA."""
        return self.trace_id.rpartition(".")[0]

    def __str__(self) -> str:
        return (
            f"{self.seed_id} {self.phase} {self.time} ± {self.uncertainty:.2f} s, probability {self.probability:.2f}, snr {self.snr:.0f} dB"
        )


BEFORE = slice(-300, -20)  # samples about a pick that are taken as what was there before
AFTER = slice(0, 200)  # and as what the phase brings
WIDEST = 500  # samples to either side in which the foot of a peak is looked for
SIGMAS = 2 * np.sqrt(2 * np.log(2))  # standard deviations in the full width at half height of a normal curve


def read_picks(seen: Annotation, instrument: Instrument, segment: Segment, heights: Mapping[str, float], distance: int) -> list[Pick]:
    """The picks of a chunk, in order of time.

    Args:
        seen: curves of the chunk and of a margin around it.
        instrument: whose they are.
        segment: the time range that the chunk belongs to.
        heights: least probability of a pick, by phase.
        distance: least number of samples between two picks of a phase.
    """
    picks = []
    for phase in PICKED_PHASES:
        curve = seen.probabilities[PHASES.index(phase)]
        preferred = "ZNE" if phase == "P" else "NEZ"
        seed_id = next(instrument.channels[component] for component in preferred if component in instrument.channels)
        trusted = np.where(seen.trusted, curve, np.nan)  # so that no peak yields to one beside a gap
        for sample, height in zip(*find_picks(trusted, heights[phase], distance), strict=True):
            at = int(sample) + seen.start
            if seen.first <= at < seen.end:
                uncertainty = float(width(curve, sample) / SIGMAS / SAMPLING_RATE)
                picks.append(
                    Pick(segment.time_ns(at), seed_id, phase, float(height), uncertainty, *amplitude_and_snr(seen.waveform, sample))
                )
    return sorted(picks)


def width(curve: NDArray[np.floating], peak: int) -> float:
    """Samples around a peak in which the curve stays above half its height, between samples by straight lines."""
    near = curve[peak : peak + WIDEST], curve[max(peak - WIDEST + 1, 0) : peak + 1][::-1]
    return sum(_fall(side, curve[peak] / 2) for side in near)


def amplitude_and_snr(waveform: NDArray[np.floating], pick: int) -> tuple[float, float]:
    """Amplitude and signal-to-noise ratio in dB as `Pick` has them, of `(components, samples)` with NaN for gaps."""
    before, after = (waveform[:, max(pick + part.start, 0) : max(pick + part.stop, 0)] for part in (BEFORE, AFTER))
    known = ~np.isnan(before).any(axis=1) & ~np.isnan(after).any(axis=1) & (before.shape[1] > 0)
    if not known.any():
        after = after[~np.isnan(after).all(axis=1)]
        return float(np.nanmax(np.abs(after - np.nanmean(after, axis=1, keepdims=True)), initial=0.0)), float("nan")
    before, after = before[known], after[known]
    rest = before.mean(axis=1, keepdims=True)
    after = after - rest
    noise = before.std(axis=1)
    ratio = np.sqrt((after**2).mean(axis=1))[noise > 0] / noise[noise > 0]
    return float(np.abs(after).max()), 20 * float(np.log10(ratio.max())) if ratio.any() else float("nan")


def _fall(curve: NDArray[np.floating], level: float) -> float:
    """Samples from the first one, above a level, to where the curve first falls to it, is not known or ends."""
    low = np.flatnonzero(~(curve > level))
    if not len(low) or np.isnan(curve[low[0]]):
        return float(low[0] if len(low) else len(curve)) - 1.0
    high, after = curve[low[0] - 1], curve[low[0]]
    return float(low[0] - 1 + (high - level) / (high - after))


def find_picks(probability: NDArray[np.floating], height: float, distance: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Local maxima of one phase's probability curve, as `scipy.signal.find_peaks` finds them.

    Written out here because importing `scipy.signal` takes longer than picking an hour.

    Args:
        probability: `(samples,)` of one phase.
        height: least probability of a pick.
        distance: least number of samples between two picks of this phase; the lower one yields.

    Returns:
        Sample indexes in rising order, and the probabilities there.
    """
    curve = np.asarray(probability, dtype=np.float64)
    peaks = _local_maxima(curve, height)
    keep = np.ones(len(peaks), dtype=bool)
    for position in np.argsort(curve[peaks], kind="stable")[::-1] if len(peaks) > 1 else ():
        if keep[position]:
            first, last = np.searchsorted(peaks, (peaks[position] - distance + 1, peaks[position] + distance))
            keep[first:last] = False
            keep[position] = True
    return peaks[keep], curve[peaks[keep]]


def _local_maxima(curve: NDArray[np.float64], height: float) -> NDArray[np.int64]:
    """Samples of at least a height, higher than their neighbours; the middle of a flat top, rounded down; never an end."""
    near = np.flatnonzero(curve[1:-1] >= height) + 1  # few, so all that follows is cheap
    first, last = near[curve[near - 1] < curve[near]], near[curve[near + 1] != curve[near]]
    place = np.searchsorted(last, first)  # where the flat top that begins at `first` ends
    first, last = first[place < len(last)], last[place[place < len(last)]]
    falls = curve[last + 1] < curve[last]
    tops: NDArray[np.int64] = (first[falls] + last[falls]) // 2
    return tops
