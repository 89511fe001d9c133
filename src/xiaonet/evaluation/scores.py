"""From matched peaks to figures with confidence intervals.

Every figure with an interval is a ratio of sums over windows. The sums are taken once for each event. A
bootstrap over events (Efron & Tibshirani 1993) is then a product of matrices.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import DEFAULT_THRESHOLD, SAMPLING_RATE, WINDOW_SAMPLES
from xiaonet.evaluation.metrics import Bin, CurvePoint, PhaseMetrics, Stability, Value
from xiaonet.evaluation.records import CLASSES, EDGE, LabelledWindows
from xiaonet.scoring.matching import MatchedPeaks, inside, residuals
from xiaonet.scoring.peaks import LOWEST_PEAK, Peaks
from xiaonet.scoring.thresholds import choose_threshold, f1_score, ratio

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Sums = dict[str, Floats]

TOLERANCES = (0.1, 0.5)  # s between a pick and its label
TOLERANCE = 0.5  # s: thresholds are chosen with this one
OUTLIER = 1.0  # s
THRESHOLDS = np.round(np.arange(0.02, 0.985, 0.01), 2)  # to choose from
RESAMPLES = 1000
MIN_EVENTS = 5  # fewer events give no interval
BINS = np.linspace(0, 1, 11)  # edges of the classes of a reliability diagram
HISTOGRAM = np.round(np.arange(-1.0, 1.001, 0.02), 2)  # s
CURVE_POINTS = 100
SHIFT = 100  # samples: picks nearer to an end of either window are not compared
SAME = 10  # samples: picks within 0.1 s of each other are the same pick


def match_labels(peaks: Peaks, windows: LabelledWindows, phase: str, tolerance_s: float) -> MatchedPeaks:
    """Match peaks of a phase with its labels. Windows where the phase is not judged and the ends of windows do not count."""
    return MatchedPeaks.of(peaks, windows.labels[phase], windows.judged[phase], tolerance_s * SAMPLING_RATE, EDGE)


@dataclass(frozen=True)
class PhaseScores:
    """Everything about one model and one phase in all windows, before it is summed up."""

    phase: str
    threshold: float
    windows: LabelledWindows
    matched: Mapping[float, MatchedPeaks]  # by tolerance
    residuals: Floats  # (windows, labels) s; NaN where no label counts or nothing was picked
    sums: Sums  # (windows,) each
    probabilistic: bool

    @classmethod
    def of(cls, peaks: Peaks, windows: LabelledWindows, phase: str, threshold: float, *, probabilistic: bool = True) -> "PhaseScores":
        """Score the peaks of a model at its threshold, and at the prescribed one."""
        labels, judged = windows.labels[phase], windows.judged[phase]
        off = residuals(peaks.above(threshold), labels) / SAMPLING_RATE
        off = np.where(inside(labels, EDGE) & judged[:, None], off, np.nan)
        near = np.where(np.abs(off) <= OUTLIER, off, 0.0)
        sums: Sums = {
            "timed": (np.abs(off) <= OUTLIER).sum(axis=1).astype(float),
            "outliers": (np.abs(off) > OUTLIER).sum(axis=1).astype(float),
            "residual": near.sum(axis=1),
            "square": (near**2).sum(axis=1),
            "absolute": np.abs(near).sum(axis=1),
        }
        matched = {tolerance: match_labels(peaks, windows, phase, tolerance) for tolerance in TOLERANCES}
        counted = {str(tolerance): own.counts(threshold) for tolerance, own in matched.items()}
        counted["prescribed"] = matched[TOLERANCE].counts(DEFAULT_THRESHOLD)
        for key, counts in counted.items():
            sums |= {f"{name} {key}": values.astype(float) for name, values in counts._asdict().items()}
        return cls(phase, threshold, windows, matched, off, sums, probabilistic)

    def metrics(self, subset: Mask, seed: int) -> PhaseMetrics:
        """The figures of some of the windows."""
        values = self.values(subset, seed)
        own = self.matched[TOLERANCE].within(subset)
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
        """Every figure with its interval."""
        point, resampled = self._resampled(subset, seed)
        return {name: _value(value, None if resampled is None else resampled[name]) for name, value in point.items()}

    def difference(self, other: "PhaseScores", subset: Mask, seed: int) -> dict[str, Value]:
        """This model's figures minus those of another one, on the same resampled events."""
        (point, samples), (other_point, other_samples) = (one._resampled(subset, seed) for one in (self, other))
        return {
            name: _value(
                value - other_point[name], None if samples is None or other_samples is None else samples[name] - other_samples[name]
            )
            for name, value in point.items()
        }

    def by_trait(self) -> dict[str, dict[str, tuple[int, float]]]:
        """Number of labels and F1 within 0.5 s, by trait and class."""
        found: dict[str, dict[str, tuple[int, float]]] = {}
        for trait, edges in CLASSES.items():
            values = self.windows.traits[trait].to_numpy(dtype=float)
            classes = np.where(np.isnan(values), -1, np.digitize(values, edges))
            names = [f"< {edges[0]:g}", *(f"{low:g}–{high:g}" for low, high in pairwise(edges)), f"≥ {edges[-1]:g}"]
            for number, name in enumerate(names):
                sums = {key: value[classes == number].sum() for key, value in self.sums.items()}
                if labels := int(sums[f"labels {TOLERANCE}"]):
                    found.setdefault(trait, {})[name] = labels, float(_figures(sums)[f"f1 {TOLERANCE}"])
        return found

    def _resampled(self, subset: Mask, seed: int) -> tuple[Sums, Sums | None]:
        """Figures over all events, and over events drawn with replacement if there are enough of them."""
        names, events = np.unique(self.windows.events[subset], return_inverse=True)
        by_event = {key: np.bincount(events, weights=value[subset], minlength=len(names)) for key, value in self.sums.items()}
        point = _figures({key: np.asarray(value.sum()) for key, value in by_event.items()})
        if len(names) < MIN_EVENTS:
            return point, None
        draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES).astype(float)
        return point, _figures({key: draws @ value for key, value in by_event.items()})


def best_threshold(matched: MatchedPeaks) -> float | None:
    """The threshold with the best F1; None where there are no labels."""
    return choose_threshold(THRESHOLDS, matched.f1(THRESHOLDS)) if matched.labels.any() else None


def average_precision(matched: MatchedPeaks) -> float | None:
    """Σ (Rₙ − Rₙ₋₁) Pₙ over the peaks from the highest down; peaks below 0.01 are never found."""
    labels = matched.labels.sum()
    if not labels:
        return None
    right = matched.right[np.argsort(-matched.peaks.height, kind="stable")]
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    return float(precision[right].sum() / labels)


def precision_recall(matched: MatchedPeaks) -> list[CurvePoint]:
    """Precision and recall at thresholds from 0.01 to 0.99."""
    labels, points = int(matched.labels.sum()), []
    for threshold in np.linspace(LOWEST_PEAK, 1 - LOWEST_PEAK, CURVE_POINTS - 1):
        picked = matched.peaks.height >= threshold
        if labels and picked.any():
            right = int((picked & matched.right).sum())
            points.append(CurvePoint(threshold=round(float(threshold), 4), precision=right / int(picked.sum()), recall=right / labels))
    return points


def stability(peaks: Mapping[str, Peaks], windows: LabelledWindows, thresholds: Mapping[str, float]) -> Stability:
    """How picks change when the window starts elsewhere: each window against the next one of the same record.

    Only picks a second or more within both windows are compared. A pick counts as changed if the other window
    has no pick of its phase within 0.1 s.
    """
    first = np.flatnonzero(windows.rows[:-1] == windows.rows[1:])
    compared = changed = 0
    jitter: list[Floats] = []
    for phase, threshold in thresholds.items():
        picks = peaks[phase].above(threshold)
        samples = picks.padded(len(windows)) + windows.starts[:, None]
        for own, other in ((first, first + 1), (first + 1, first)):
            low = np.maximum(windows.starts[own], windows.starts[other])[:, None] + SHIFT
            high = np.minimum(windows.starts[own], windows.starts[other])[:, None] + WINDOW_SAMPLES - SHIFT
            shared = (samples[own] >= low) & (samples[own] < high)
            expected = np.full(samples.shape, np.nan)
            expected[other] = samples[own] - windows.starts[other, None]
            off = residuals(picks, expected)[other][shared]
            same = np.abs(off) <= SAME
            compared, changed = compared + len(off), changed + int((~same).sum())
            jitter.append(off[same] / SAMPLING_RATE)
    together = np.concatenate(jitter)
    return Stability(
        picks=compared,
        changed=changed / compared if compared else None,
        jitter_s=float(np.sqrt((together**2).mean())) if len(together) else None,
    )


def _figures(sums: Sums) -> Sums:
    """Figures from sums of any shape."""
    figures: Sums = {}
    for key in (*map(str, TOLERANCES), "prescribed"):
        right, false, labels = (sums[f"{name} {key}"] for name in ("right", "false", "labels"))
        figures |= {
            f"precision {key}": ratio(right, right + false),
            f"recall {key}": ratio(right, labels),
            f"f1 {key}": f1_score(right, false, labels),
        }
    timed, outliers = sums["timed"], sums["outliers"]
    mean = ratio(sums["residual"], timed)
    return figures | {
        "mean": mean,
        "std": np.sqrt(np.maximum(ratio(sums["square"], timed) - mean**2, 0)),
        "mae": ratio(sums["absolute"], timed),
        "outliers": ratio(outliers, timed + outliers),
    }


def _value(point: Floats, resampled: Floats | None) -> Value:
    """A figure with its 95 % interval of percentiles."""
    if np.isnan(point):
        return Value()
    if resampled is None or np.isnan(resampled).all():
        return Value(value=float(point))
    low, high = np.nanpercentile(resampled, (2.5, 97.5))
    return Value(value=float(point), low=float(low), high=float(high))


def _reliability(matched: MatchedPeaks) -> list[Bin]:
    """The share of right peaks in each class of probability (Guo et al. 2017)."""
    height = matched.peaks.height
    place = np.clip(np.digitize(height, BINS) - 1, 0, len(BINS) - 2)
    return [
        Bin(probability=float(height[own].mean()), right=float(matched.right[own].mean()), picks=int(own.sum()))
        for own in (place == number for number in np.unique(place))
    ]


def _calibration_error(bins: list[Bin]) -> float | None:
    """The expected calibration error: the mean of |probability − share of right peaks|, weighted by number of peaks."""
    total = sum(one.picks for one in bins)
    return sum(one.picks * abs(one.probability - one.right) for one in bins) / total if total else None


def _coverage(matched: MatchedPeaks, threshold: float, labels: Floats) -> tuple[float | None, float | None]:
    """The shares of right picks whose label lies within one and two of their standard deviations."""
    right = matched.right & (matched.peaks.height >= threshold)
    found = matched.peaks.keep(right)
    if not right.any():
        return None, None
    off = np.nanmin(np.abs(found.sample[:, None] - labels[found.window]), axis=1) / SAMPLING_RATE
    return float((off <= found.sigma).mean()), float((off <= 2 * found.sigma).mean())
