"""Read picks from probabilities. Training, evaluation and picking all use these functions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import PHASES, PICK_SIDE, PICKED_PHASES, SAMPLE_NS, SAMPLING_RATE
from xiaonet.extras import import_for
from xiaonet.picking.annotation import AROUND, Annotation, Network
from xiaonet.picking.centred import centred_curves
from xiaonet.picking.segments import Instrument, Segment

if TYPE_CHECKING:
    from obspy import UTCDateTime

COUNT = "count"  # the unit of an amplitude without an inventory


@dataclass(frozen=True, order=True, slots=True, repr=False)
class Pick:
    """A pick of a phase on one instrument. Picks sort by time, then by channel and phase.

    Attributes:
        time_ns: onset, in nanoseconds since 1970-01-01 UTC, read between samples to a tenth of a sample (1 ms).
        seed_id: NET.STA.LOC.CHA of the component of the pick: the vertical for P, the first horizontal for
            S, or another component if that is missing.
        phase: `P` or `S`.
        probability: at the peak, 0 to 1.
        uncertainty: s, the standard deviation of a normal curve with the same width at half height.
        amplitude: largest absolute sample of any component in the two seconds after the pick, minus the
            mean before it, in `unit`.
        snr: dB, root mean square after the pick over standard deviation before it, on the component where
            this is largest; NaN if there is no noise to compare with.
        unit: of the amplitude: `count` for that of the record, whatever it is; or with an inventory, `m/s`, `m/s**2` or `m`.
    """

    time_ns: int
    seed_id: str
    phase: str
    probability: float
    uncertainty: float
    amplitude: float
    snr: float
    unit: str = COUNT

    @property
    def time(self) -> "UTCDateTime":
        """Onset as ObsPy's time."""
        return import_for("Pick.time", "obspy").UTCDateTime(ns=self.time_ns)  # slow to import

    @property
    def trace_id(self) -> str:
        """NET.STA.LOC."""
        return self.seed_id.rpartition(".")[0]

    @property
    def station(self) -> str:
        """NET.STA."""
        return self.trace_id.rpartition(".")[0]

    def __repr__(self) -> str:
        return f"<Pick {self}>"

    def __str__(self) -> str:
        return (
            f"{self.seed_id} {self.phase} {self.time} ± {self.uncertainty:.2f} s, probability {self.probability:.2f}, snr {self.snr:.0f} dB"
        )


BEFORE = slice(-300, -20)  # samples relative to a pick that count as noise
AFTER = slice(0, 200)  # samples relative to a pick that count as signal
ONSET_SIGMA = 16  # samples: standard deviation of the weights around an onset
ONSET_REACH = 3 * ONSET_SIGMA  # samples on either side of a peak that its onset depends on
ONSET_STEPS = 4
CANDIDATE = 0.6  # of the threshold: a peak of at least this height may be a pick when it is computed again
FARTHEST = 50  # samples by which a candidate may move then
WIDEST = 500  # samples: a peak is less wide than this on either side
SIGMAS = 2 * np.sqrt(2 * np.log(2))  # standard deviations in the full width at half height of a normal curve


class Peak(NamedTuple):
    """A peak of a phase's probability.

    Attributes:
        onset: sample, to a tenth.
        height: probability.
        width: at half height, in samples.
    """

    onset: float
    height: float
    width: float


def read_picks(
    annotation: Annotation,
    instrument: Instrument,
    segment: Segment,
    thresholds: Mapping[str, float],
    distance: int,
    around: Network | None = None,
) -> list[Pick]:
    """Read the picks of a chunk, in order of time.

    Args:
        annotation: of the chunk and a margin around it.
        instrument: the instrument that was annotated.
        segment: the segment that the chunk is part of.
        thresholds: minimum probability of a pick, by phase.
        distance: minimum number of samples between two picks of a phase.
        around: computes the probabilities around each pick again, from windows centred on it; None reads those of the annotation.
    """
    picks = []
    for phase, peaks in zip(PICKED_PHASES, _peaks_of_phases(annotation, thresholds, distance, around), strict=True):
        preferred = "ZNE" if phase == "P" else "NEZ"
        seed_id = next(instrument.channels[component] for component in preferred if component in instrument.channels)
        for peak in peaks:
            if annotation.first <= annotation.start + peak.onset < annotation.end:
                time_ns = segment.time_ns(annotation.start) + round(peak.onset * SAMPLE_NS)
                uncertainty = float(peak.width / SIGMAS / SAMPLING_RATE)
                # An onset may be midway between samples, where `round` would depend on where the array starts.
                measured = amplitude_and_snr(annotation.waveform, int(peak.onset + 0.5))
                picks.append(Pick(time_ns, seed_id, phase, peak.height, uncertainty, *measured))
    return sorted(picks)


def _peaks_of_phases(annotation: Annotation, thresholds: Mapping[str, float], distance: int, around: Network | None) -> list[list[Peak]]:
    """The peaks of P and of S."""
    rows = [PHASES.index(phase) for phase in PICKED_PHASES]
    heights = [thresholds[phase] for phase in PICKED_PHASES]
    trusted = [np.where(annotation.trusted, annotation.probabilities[row], np.nan) for row in rows]  # so no peak beside a gap hides another
    if around is None:
        return [
            _peaks(annotation.probabilities[row], curve, find_picks(curve, height, distance)[0])
            for row, curve, height in zip(rows, trusted, heights, strict=True)
        ]
    inside = slice(PICK_SIDE, trusted[0].size - PICK_SIDE)
    found = [find_picks(curve, CANDIDATE * height, distance)[0] for curve, height in zip(trusted, heights, strict=True)]
    found = [samples[(samples >= inside.start) & (samples < inside.stop)] for samples in found]
    candidates, numbers = np.unique(np.concatenate(found), return_inverse=True)  # of both phases at once, to fill the lanes of a processor
    curves = centred_curves(annotation.surroundings, candidates + AROUND, around)
    own = np.split(numbers, [len(found[0])])
    return [
        _centred_peaks(annotation.trusted, candidates[number], curves[number, row], height, distance)
        for row, number, height in zip(rows, own, heights, strict=True)
    ]


def _centred_peaks(
    trusted: NDArray[np.bool_], candidates: NDArray[np.int64], curves: NDArray[np.float32], height: float, distance: int
) -> list[Peak]:
    """The peaks of a phase in its curves `(candidates, 201)` around candidates. The curves form one, with NaN between them."""
    places = np.arange(-PICK_SIDE, PICK_SIDE + 2)  # the last is between two curves
    curves = np.pad(curves, ((0, 0), (0, 1)), constant_values=np.nan)
    known = np.where(trusted[np.minimum(candidates[:, None] + places, len(trusted) - 1)], curves, np.nan)
    near = np.where(np.abs(places) <= FARTHEST, known, np.nan)
    samples = find_picks(near.ravel(), height, distance)[0]
    moved = candidates - np.arange(len(candidates)) * len(places) - PICK_SIDE  # from a place in the one curve to a sample
    peaks = zip(_peaks(curves.ravel(), known.ravel(), samples), moved[samples // len(places)].tolist(), strict=True)
    return _far_apart([peak._replace(onset=peak.onset + by) for peak, by in peaks], distance)


def _peaks(curve: NDArray[np.floating], trusted: NDArray[np.floating], samples: NDArray[np.int64]) -> list[Peak]:
    """The peaks at samples of a curve."""
    values = onsets(trusted, samples), trusted[samples].astype(np.float64), widths(curve, samples)
    return [Peak(*peak) for peak in zip(*(value.tolist() for value in values), strict=True)]


def _far_apart(peaks: list[Peak], distance: int) -> list[Peak]:
    """Of peaks that are closer than `distance`, the highest."""
    kept: list[Peak] = []
    for peak in sorted(peaks, key=lambda peak: (-peak.height, peak.onset)):
        if all(abs(peak.onset - other.onset) >= distance for other in kept):
            kept.append(peak)
    return kept


def onsets(curve: NDArray[np.floating], peaks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Read the onset at each peak between samples: the mean place of the samples around it, weighted by their probability.

    The samples are also weighted by a normal curve around the onset. So the mean is taken four times, first around
    the peak and then around the mean before (mean shift, Fukunaga & Hostetler 1975). All of the peak has a say, so an onset
    moves less than the highest sample does when the network sees the same ground motion in another way.

    Args:
        curve: `(samples,)` probability of one phase; NaN counts as 0.
        peaks: `(peaks,)` samples with a probability above 0.

    Returns:
        `(peaks,)` samples, to a tenth, so that the last digits of a probability do not change them.
    """
    near = np.nan_to_num(_around(curve, peaks, ONSET_REACH))
    offsets = np.arange(-ONSET_REACH, ONSET_REACH + 1)
    shifts = np.zeros(len(peaks))
    for _ in range(ONSET_STEPS):
        weights = near * np.exp(-(((offsets - shifts[:, None]) / ONSET_SIGMA) ** 2) / 2)
        shifts = weights @ offsets / weights.sum(axis=1)
    return np.asarray(peaks + np.round(shifts, 1))


def widths(curve: NDArray[np.floating], peaks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Width of each peak at half its height in samples, interpolated linearly, as `scipy.signal.peak_widths` with a base of 0.

    Args:
        curve: `(samples,)` probability of one phase; a peak ends where it is NaN.
        peaks: `(peaks,)` samples with a probability above 0.
    """
    near = _around(curve, peaks, WIDEST)
    near[:, [0, -1]] = np.nan
    level = near[:, WIDEST] / 2
    return _falls(near[:, WIDEST:], level) + _falls(near[:, WIDEST::-1], level)


def _falls(curves: NDArray[np.float64], level: NDArray[np.float64]) -> NDArray[np.float64]:
    """Samples from the first one of each curve to where it first falls to its level, or to the last before it is NaN."""
    low = (~(curves > level[:, None])).argmax(axis=1)
    rows = np.arange(len(curves))
    high, after = curves[rows, low - 1], curves[rows, low]
    return np.asarray(np.where(np.isnan(after), low - 1, low - 1 + (high - level) / (high - after)))


def _around(curve: NDArray[np.floating], samples: NDArray[np.int64], reach: int) -> NDArray[np.float64]:
    """`(samples, 2 * reach + 1)` values around samples of a curve; NaN beyond its ends."""
    places = samples[:, None] + np.arange(-reach, reach + 1)
    inside = (places >= 0) & (places < len(curve))
    return np.where(inside, curve[np.where(inside, places, 0)].astype(np.float64), np.nan)


def amplitude_and_snr(waveform: NDArray[np.floating], pick: int) -> tuple[float, float]:
    """Amplitude and signal-to-noise ratio in dB as in `Pick`, of a waveform `(components, samples)` with NaN in gaps."""
    before, after = (waveform[:, max(pick + part.start, 0) : max(pick + part.stop, 0)] for part in (BEFORE, AFTER))
    total = before.sum(axis=1)
    known = ~np.isnan(total + after.sum(axis=1)) & (before.shape[1] > 0)
    if not known.any():
        after = after[~np.isnan(after).all(axis=1)]
        return float(np.nanmax(np.abs(after - np.nanmean(after, axis=1, keepdims=True)), initial=0.0)), float("nan")
    mean = (total[known] / before.shape[1])[:, None]
    before, after = before[known] - mean, after[known] - mean
    noise = np.sqrt((before**2).sum(axis=1) / before.shape[1])
    ratio = np.sqrt((after**2).sum(axis=1) / after.shape[1])[noise > 0] / noise[noise > 0]
    return float(np.abs(after).max()), 20 * float(np.log10(ratio.max())) if ratio.any() else float("nan")


def find_picks(probability: NDArray[np.floating], height: float, distance: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the peaks of one phase's probability, with the result of `scipy.signal.find_peaks`.

    Written out here because importing `scipy.signal` takes longer than picking an hour.

    Args:
        probability: `(samples,)` of one phase.
        height: minimum probability of a pick.
        distance: minimum number of samples between two picks; of two that are closer, the higher one is kept.

    Returns:
        Sample indexes in rising order, and the probabilities there.
    """
    peaks = _local_maxima(np.asarray(probability), np.float64(height))
    heights = probability[peaks].astype(np.float64)
    if len(peaks) < 2:
        return peaks, heights
    keep = np.ones(len(peaks), dtype=bool)
    for position in np.argsort(heights, kind="stable")[::-1]:
        if keep[position]:
            first, last = np.searchsorted(peaks, (peaks[position] - distance + 1, peaks[position] + distance))
            keep[first:last] = False
            keep[position] = True
    return peaks[keep], heights[keep]


def _local_maxima(curve: NDArray[np.floating], height: np.float64) -> NDArray[np.int64]:
    """Peaks of at least a height, without the two ends. A flat top counts once, at its middle, rounded down."""
    near = np.flatnonzero(curve[1:-1] >= height) + 1  # few, so the rest is cheap
    first, last = near[curve[near - 1] < curve[near]], near[curve[near + 1] != curve[near]]
    place = np.searchsorted(last, first)  # where the flat top that begins at `first` ends
    first, last = first[place < len(last)], last[place[place < len(last)]]
    falls = curve[last + 1] < curve[last]
    tops: NDArray[np.int64] = (first[falls] + last[falls]) // 2
    return tops
