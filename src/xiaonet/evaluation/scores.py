"""From peaks to figures with intervals.

All that an interval is told of is a ratio of sums over windows. So the sums are taken by event once,
and a bootstrap over events (Efron & Tibshirani 1993) is a product of matrices.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import DEFAULT_THRESHOLD, SAMPLING_RATE, WINDOW_SAMPLES
from xiaonet.evaluation.metrics import Bin, CurvePoint, PhaseMetrics, Stability, Value
from xiaonet.evaluation.peaks import LEAST, NOT_MATCHED, Peaks, match, residuals
from xiaonet.evaluation.records import CLASSES, EDGE, LabelledWindows

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Sums = dict[str, Floats]

TOLERANCES = (0.1, 0.5)  # s between a pick and its label
TOLERANCE = 0.5  # s: the one that thresholds are chosen by
OUTLIER = 1.0  # s
HEIGHTS = np.round(np.arange(0.02, 0.985, 0.01), 2)  # thresholds to choose from
RESAMPLES = 1000
MIN_EVENTS = 5  # fewer say nothing of others
BINS = np.linspace(0, 1, 11)  # of a reliability diagram
HISTOGRAM = np.round(np.arange(-1.0, 1.001, 0.02), 2)  # s
CURVE_POINTS = 100
SHIFT = 100  # samples: picks nearer to an end of either window are not compared
SAME = 10  # samples: 0.1 s, within which a pick is the same pick

# Figures as functions of sums; each takes and gives arrays of any shape.
RATIOS: dict[str, Callable[[Sums], Floats]] = {}
for _tolerance in (*map(str, TOLERANCES), "prescribed"):
    RATIOS |= {
        f"precision {_tolerance}": lambda s, t=_tolerance: _ratio(s[f"right {t}"], s[f"right {t}"] + s[f"false {t}"]),  # type: ignore[misc]
        f"recall {_tolerance}": lambda s, t=_tolerance: _ratio(s[f"right {t}"], s[f"labels {t}"]),  # type: ignore[misc]
        f"f1 {_tolerance}": lambda s, t=_tolerance: _ratio(2 * s[f"right {t}"], s[f"right {t}"] + s[f"false {t}"] + s[f"labels {t}"]),  # type: ignore[misc]
    }
RATIOS |= {
    "mean": lambda s: _ratio(s["residual"], s["timed"]),
    "std": lambda s: np.sqrt(np.maximum(_ratio(s["square"], s["timed"]) - _ratio(s["residual"], s["timed"]) ** 2, 0)),
    "mae": lambda s: _ratio(s["absolute"], s["timed"]),
    "outliers": lambda s: _ratio(s["outliers"], s["timed"] + s["outliers"]),
}


@dataclass(frozen=True)
class Judged:
    """Peaks of one phase that count, and which of them are right.

    Attributes:
        peaks: those that count as right or as false.
        right: `(peaks,)`.
        labels: `(windows,)` how many were to be found.
    """

    peaks: Peaks
    right: Mask
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, peaks: Peaks, windows: LabelledWindows, phase: str, tolerance: float) -> "Judged":
        """Match peaks with labels; leave out what nobody could judge, and what lies at a window's ends."""
        labels, judged = windows.labels[phase], windows.judged[phase]
        matched = match(peaks, labels, tolerance * SAMPLING_RATE)
        right = matched != NOT_MATCHED
        wanted = _inside(labels) & judged[:, None]
        counts = judged[peaks.window] & _inside(peaks.sample)
        counts[right] = wanted[peaks.window[right], matched[right]]
        return cls(peaks.keep(counts), right[counts], wanted.sum(axis=1))

    def within(self, windows: Mask) -> "Judged":
        """Of some of the windows."""
        chosen = windows[self.peaks.window]
        return Judged(self.peaks.keep(chosen), self.right[chosen], np.where(windows, self.labels, 0))

    def sums(self, height: float, suffix: str) -> Sums:
        """Right and false picks and labels, `(windows,)` each."""
        high = self.peaks.height >= height
        count = len(self.labels)
        right = np.bincount(self.peaks.window[high & self.right], minlength=count)
        false = np.bincount(self.peaks.window[high & ~self.right], minlength=count)
        counts = {"right": right, "false": false, "labels": self.labels}
        return {f"{name} {suffix}": values.astype(float) for name, values in counts.items()}


@dataclass(frozen=True)
class PhaseScores:
    """All that is to be known of one model, one phase and all windows, before it is summed up."""

    phase: str
    threshold: float
    windows: LabelledWindows
    judged: Mapping[float, Judged]
    residuals: Floats  # (windows, labels) s, NaN where no label counts or nothing was picked
    sums: Sums
    probabilistic: bool

    @classmethod
    def of(cls, peaks: Peaks, windows: LabelledWindows, phase: str, threshold: float, *, probabilistic: bool = True) -> "PhaseScores":
        """Judge the peaks of a model at its threshold, and at the prescribed one."""
        judged = {tolerance: Judged.of(peaks, windows, phase, tolerance) for tolerance in TOLERANCES}
        off = residuals(peaks.above(threshold), windows.labels[phase]) / SAMPLING_RATE
        off = np.where(_inside(windows.labels[phase]) & windows.judged[phase][:, None], off, np.nan)
        near = np.where(np.abs(off) <= OUTLIER, off, 0.0)
        sums: Sums = {
            "timed": (np.abs(off) <= OUTLIER).sum(axis=1).astype(float),
            "outliers": (np.abs(off) > OUTLIER).sum(axis=1).astype(float),
            "residual": near.sum(axis=1),
            "square": (near**2).sum(axis=1),
            "absolute": np.abs(near).sum(axis=1),
        }
        for tolerance, own in judged.items():
            sums |= own.sums(threshold, str(tolerance))
        sums |= judged[TOLERANCE].sums(DEFAULT_THRESHOLD, "prescribed")
        return cls(phase, threshold, windows, judged, off, sums, probabilistic)

    def metrics(self, subset: Mask, seed: int) -> PhaseMetrics:
        """The figures of some of the windows."""
        values = self.values(subset, seed)
        own = self.judged[TOLERANCE].within(subset)
        bins = _reliability(own) if self.probabilistic else []
        off = self.residuals[subset]
        one, two = _coverage(own, self.threshold, self.windows.labels[self.phase]) if self.probabilistic else (None, None)
        return PhaseMetrics(
            threshold=self.threshold,
            labels=int(own.labels.sum()),
            picks=int((own.peaks.height >= self.threshold).sum()),
            precision={str(tolerance): values[f"precision {tolerance}"] for tolerance in TOLERANCES},
            recall={str(tolerance): values[f"recall {tolerance}"] for tolerance in TOLERANCES},
            f1={str(tolerance): values[f"f1 {tolerance}"] for tolerance in TOLERANCES},
            prescribed_f1=values["f1 prescribed"],
            average_precision=average_precision(own),
            mean_s=values["mean"],
            std_s=values["std"],
            mae_s=values["mae"],
            outliers=values["outliers"],
            calibration_error=_calibration_error(bins),
            reliability=bins,
            within_one_sigma=one,
            within_two_sigma=two,
            curve=precision_recall(own),
            residual_counts=np.histogram(off[~np.isnan(off)], HISTOGRAM)[0].tolist(),
        )

    def values(self, subset: Mask, seed: int) -> dict[str, Value]:
        """Each ratio with its interval."""
        total, resampled = _resampled(self.sums, subset, self.windows.events, seed)
        return {name: _value(ratio(total), None if resampled is None else ratio(resampled)) for name, ratio in RATIOS.items()}

    def difference(self, other: "PhaseScores", subset: Mask, seed: int) -> dict[str, Value]:
        """This model's figures less the other's, on the same resampled events."""
        (mine, my_samples), (theirs, their_samples) = (_resampled(one.sums, subset, self.windows.events, seed) for one in (self, other))
        return {
            name: _value(
                ratio(mine) - ratio(theirs),
                None if my_samples is None or their_samples is None else ratio(my_samples) - ratio(their_samples),
            )
            for name, ratio in RATIOS.items()
        }

    def by_trait(self) -> dict[str, dict[str, tuple[int, float]]]:
        """For each trait and class of it, how many labels there are and F1 within 0.5 s."""
        found: dict[str, dict[str, tuple[int, float]]] = {}
        for trait, edges in CLASSES.items():
            values = self.windows.traits[trait].to_numpy(dtype=float)
            classes = np.digitize(values, edges)
            names = [f"< {edges[0]:g}", *(f"{low:g}–{high:g}" for low, high in pairwise(edges)), f"≥ {edges[-1]:g}"]
            for number, name in enumerate(names):
                sums = {key: value[(classes == number) & ~np.isnan(values)].sum() for key, value in self.sums.items()}
                if sums[f"labels {TOLERANCE}"]:
                    f1 = float(RATIOS[f"f1 {TOLERANCE}"](sums))
                    found.setdefault(trait, {})[name] = int(sums[f"labels {TOLERANCE}"]), f1
        return found


def best_threshold(judged: Judged) -> float | None:
    """The threshold of the highest F1, the middle one of several; None where there is nothing to find."""
    if not judged.labels.sum():
        return None
    sums = [{key: value.sum() for key, value in judged.sums(height, str(TOLERANCE)).items()} for height in HEIGHTS]
    f1 = np.array([RATIOS[f"f1 {TOLERANCE}"](one) for one in sums])
    best = np.flatnonzero(f1 == np.nanmax(f1))
    return float(HEIGHTS[best[len(best) // 2]])


def average_precision(judged: Judged) -> float | None:
    """Σ (Rₙ − Rₙ₋₁) Pₙ over the peaks from the highest down; what is lower than 0.01 is never found."""
    labels = judged.labels.sum()
    if not labels:
        return None
    right = judged.right[np.argsort(-judged.peaks.height, kind="stable")]
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    return float(precision[right].sum() / labels)


def precision_recall(judged: Judged) -> list[CurvePoint]:
    """Precision and recall at thresholds from 0.01 to 0.99."""
    labels, points = int(judged.labels.sum()), []
    for height in np.linspace(LEAST, 1 - LEAST, CURVE_POINTS - 1):
        high = judged.peaks.height >= height
        if labels and high.any():
            right = int((high & judged.right).sum())
            points.append(CurvePoint(threshold=round(float(height), 4), precision=right / int(high.sum()), recall=right / labels))
    return points


def stability(peaks: Mapping[str, Peaks], windows: LabelledWindows, thresholds: Mapping[str, float]) -> Stability:
    """What becomes of picks when the window starts elsewhere: each record's windows against the next of the same record.

    A pick that lies a second or more within both windows changes if there is none of its phase within
    0.1 s in the other.
    """
    first = np.flatnonzero(windows.rows[:-1] == windows.rows[1:])
    compared = lost = 0
    jitter: list[Floats] = []
    for phase, threshold in thresholds.items():
        samples = peaks[phase].above(threshold).padded(len(windows)) + windows.starts[:, None]
        for own, other in ((first, first + 1), (first + 1, first)):
            low = np.maximum(windows.starts[own], windows.starts[other]) + SHIFT
            high = np.minimum(windows.starts[own], windows.starts[other]) + WINDOW_SAMPLES - SHIFT
            picks = np.where((samples[own] >= low[:, None]) & (samples[own] < high[:, None]), samples[own], np.nan)
            off = samples[other][:, None, :] - picks[:, :, None]
            known = ~np.isnan(picks)
            if not known.any():
                continue
            size = np.nan_to_num(np.abs(off), nan=np.inf)
            nearest = size.argmin(axis=2) if size.shape[2] else np.zeros(picks.shape, dtype=int)
            found = np.take_along_axis(off, nearest[..., None], axis=2)[..., 0]
            same = known & (np.abs(found) <= SAME)
            compared, lost = compared + int(known.sum()), lost + int((known & ~same).sum())
            jitter.append(found[same] / SAMPLING_RATE)
    together = np.concatenate(jitter) if jitter else np.empty(0)
    return Stability(
        picks=compared,
        changed=lost / compared if compared else None,
        jitter_s=float(np.sqrt((together**2).mean())) if len(together) else None,
    )


def _inside(samples: NDArray[np.floating] | NDArray[np.int64]) -> Mask:
    return np.asarray((samples >= EDGE) & (samples < WINDOW_SAMPLES - EDGE))


def _ratio(part: Floats, whole: Floats) -> Floats:
    part, whole = np.asarray(part, dtype=float), np.asarray(whole, dtype=float)
    ratio: Floats = np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)
    return ratio


def _resampled(sums: Sums, subset: Mask, events: NDArray[np.int64], seed: int) -> tuple[Sums, Sums | None]:
    """Sums over all events, and over events drawn with replacement, if there are enough of them."""
    names, known = np.unique(events[subset], return_inverse=True)
    by_event = {key: np.bincount(known, weights=value[subset], minlength=len(names)) for key, value in sums.items()}
    total = {key: np.asarray(value.sum()) for key, value in by_event.items()}
    if len(names) < MIN_EVENTS:
        return total, None
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES).astype(float)
    return total, {key: draws @ value for key, value in by_event.items()}


def _value(point: Floats, resampled: Floats | None) -> Value:
    """A figure, with the 95 % interval of percentiles."""
    if np.isnan(point):
        return Value()
    if resampled is None or np.isnan(resampled).all():
        return Value(value=float(point))
    low, high = np.nanpercentile(resampled, (2.5, 97.5))
    return Value(value=float(point), low=float(low), high=float(high))


def _reliability(judged: Judged) -> list[Bin]:
    """In each class of probability, how many peaks are right (Guo et al. 2017)."""
    place = np.clip(np.digitize(judged.peaks.height, BINS) - 1, 0, len(BINS) - 2)
    bins = []
    for number in np.unique(place):
        own = place == number
        bins.append(
            Bin(
                probability=float(judged.peaks.height[own].mean()),
                right=float(judged.right[own].mean()),
                picks=int(own.sum()),
            )
        )
    return bins


def _calibration_error(bins: list[Bin]) -> float | None:
    """The mean distance of the two, by number of picks: the expected calibration error."""
    total = sum(one.picks for one in bins)
    return sum(one.picks * abs(one.probability - one.right) for one in bins) / total if total else None


def _coverage(judged: Judged, threshold: float, labels: Floats) -> tuple[float | None, float | None]:
    """Of right picks, the share whose label lies within one and two of their standard deviations."""
    right = judged.right & (judged.peaks.height >= threshold)
    found = judged.peaks.keep(right)
    if not right.any():
        return None, None
    off = np.nanmin(np.abs(found.sample[:, None] - labels[found.window]), axis=1) / SAMPLING_RATE
    return float((off <= found.sigma).mean()), float((off <= 2 * found.sigma).mean())
