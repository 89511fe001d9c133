"""The three tasks of the pick benchmark (Münchmeyer et al. 2022, doi:10.1029/2021JB023499).

1. Is there an earthquake in these 30 s? 2. Is the phase in these 10 s P or S? 3. When does it begin?
Targets are the tables that the benchmark publishes (`task1.csv`, `task23.csv`), or are drawn by its rules.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xiaonet.constants import NOISE, PHASES, PICKED_PHASES, SAMPLING_RATE, WINDOW_SAMPLES
from xiaonet.data.sets import WaveformData
from xiaonet.errors import DataError
from xiaonet.evaluation.metrics import Detection, Onset, Tasks
from xiaonet.evaluation.models import EvaluatedModel
from xiaonet.evaluation.records import LabelledRecord, cut
from xiaonet.scoring.thresholds import choose_threshold, f1_by_threshold

EVENT_SAMPLES = 3000  # 30 s: a target of task 1
ONSET_SAMPLES = 1000  # 10 s: a target of tasks 2 and 3
APART = 50  # samples between a target and the next phase, and between its ends and its onset
LARGEST = 1e100  # ratio of P to S; it is infinite where a model gives no S at all
COLUMNS = {
    "task1.csv": ("trace_name", "trace_split", "sampling_rate", "start_sample", "end_sample", "trace_type"),
    "task23.csv": ("trace_name", "trace_split", "sampling_rate", "start_sample", "end_sample", "phase_label", "phase_onset"),
}
ANSWERS = ("score_detection", "score_p_or_s", "p_sample_pred", "s_sample_pred")  # the benchmark's columns

Targets = Mapping[str, pd.DataFrame]  # by file name


def draw_targets(records: Sequence[LabelledRecord], split: str, seed: int) -> Targets:
    """Draw targets by the benchmark's rules, from the records in which all phases are judged.

    Args:
        records: of one split.
        split: its name, for the column `trace_split`.
        seed: random seed of their places.
    """
    first, second = [], []
    for record in records:
        if not all(record.judged.values()):
            continue
        rng = np.random.default_rng([seed, record.row])
        common = {"trace_name": record.name, "trace_split": split, "sampling_rate": SAMPLING_RATE}
        for onset, _ in record.onsets[:1]:
            low, high = onset - EVENT_SAMPLES + 2 * APART, min(onset - 2 * APART, record.samples - EVENT_SAMPLES)
            if (at := _between(rng, max(0, low), high)) is not None:
                first.append({**common, "start_sample": at, "end_sample": at + EVENT_SAMPLES, "trace_type": "earthquake"})
        for at in record.quiet_starts(rng):
            first.append({**common, "start_sample": at, "end_sample": at + EVENT_SAMPLES, "trace_type": "noise"})
        times = [-APART, *(onset for onset, _ in record.onsets), record.samples + APART]
        for (onset, phase), before, after in zip(record.onsets, times, times[2:], strict=False):
            low = max(before + APART, onset - ONSET_SAMPLES + APART)
            high = min(onset - APART, after - APART - ONSET_SAMPLES)
            if (at := _between(rng, low, high)) is not None:
                second.append({**common, "start_sample": at, "end_sample": at + ONSET_SAMPLES, "phase_label": phase, "phase_onset": onset})
    return {name: pd.DataFrame(rows, columns=COLUMNS[name]) for name, rows in (("task1.csv", first), ("task23.csv", second))}


def read_targets(folder: Path, split: str) -> Targets:
    """Read the published targets of a split from `task1.csv` and `task23.csv`, with samples converted to 100 Hz.

    Raises:
        DataError: a file or a column is missing, or the split has no targets.
    """
    found = {}
    for name, columns in COLUMNS.items():
        try:
            table = pd.read_csv(folder / name)
        except (OSError, ValueError) as error:
            raise DataError(f"{folder / name} cannot be read: {error}; wanted the pick benchmark's targets") from error
        if missing := [column for column in columns if column not in table]:
            raise DataError(f"{folder / name} lacks {', '.join(missing)}; wanted the pick benchmark's columns {', '.join(columns)}")
        own = table[table["trace_split"] == split].reset_index(drop=True)
        if own.empty:
            raise DataError(f"{folder / name} has no target of split {split!r}; it has {sorted(table['trace_split'].astype(str).unique())}")
        for column in ("start_sample", "end_sample", "phase_onset"):
            if column in own:
                own[column] = own[column] * SAMPLING_RATE / own["sampling_rate"]
        found[name] = own.astype({"start_sample": int, "end_sample": int})
    return found


def answer(model: EvaluatedModel, data: WaveformData, targets: Targets) -> dict[str, pd.DataFrame]:
    """The targets with a model's answers, in the benchmark's columns.

    `score_detection` is the maximum of 1 − noise. `score_p_or_s` is the ratio of the maximum of P to that of S,
    and `p_sample_pred` and `s_sample_pred` are the samples of these maxima. Only the target counts; it lies in
    the middle of the window that the model sees.

    Raises:
        DataError: a target belongs to a record that the data set lacks.
    """
    rows = {name: row for row, name in enumerate(data.metadata["trace_name"])}
    answered = {}
    for name, table in targets.items():
        if unknown := sorted(set(table["trace_name"]) - rows.keys()):
            raise DataError(f"{name}: {len(unknown)} targets belong to records that are not in the split, such as {unknown[0]!r}")
        own = np.array([rows[trace] for trace in table["trace_name"]], dtype=np.int64)
        lengths = np.array([data.get_waveforms(int(row)).shape[-1] for row in own], dtype=np.int64)
        low, high = table["start_sample"].to_numpy(), table["end_sample"].to_numpy()
        starts = np.clip(low - (WINDOW_SAMPLES - (high - low)) // 2, 0, np.maximum(lengths - WINDOW_SAMPLES, 0))
        answers: list[tuple[float, float, int, int]] = []
        for windows in cut(data, own, starts):
            for probabilities in model.annotate(windows):
                number = len(answers)
                at, end = low[number] - starts[number], high[number] - starts[number]
                answers.append(_answer(probabilities[:, max(at, 0) : end], int(low[number])))
        answered[name] = pd.concat([table, pd.DataFrame(answers, columns=list(ANSWERS))], axis=1)
    return answered


def score(answers: Mapping[str, pd.DataFrame], thresholds: Mapping[str, float]) -> Tasks:
    """The benchmark's figures.

    Args:
        answers: from `answer`.
        thresholds: of `detection` and `identification`, tuned on dev; F1 and MCC need them.
    """
    events, onsets = answers["task1.csv"], answers["task23.csv"]
    return Tasks(
        detection=_detection(events["trace_type"] == "earthquake", events["score_detection"], thresholds.get("detection")),
        identification=_detection(onsets["phase_label"] == "P", _ratio(onsets), thresholds.get("identification")),
        onset={phase: _onset(onsets[onsets["phase_label"] == phase], phase) for phase in PICKED_PHASES},
    )


def best_thresholds(answers: Mapping[str, pd.DataFrame]) -> dict[str, float | None]:
    """The thresholds with the best F1 in tasks 1 and 2; None where there are no positive targets."""
    events, onsets = answers["task1.csv"], answers["task23.csv"]
    return {
        "detection": _best_threshold((events["trace_type"] == "earthquake").to_numpy(), events["score_detection"].to_numpy()),
        "identification": _best_threshold((onsets["phase_label"] == "P").to_numpy(), _ratio(onsets).to_numpy()),
    }


def area_under_curve(right: NDArray[np.bool_], scores: NDArray[np.floating]) -> float | None:
    """Area under the ROC curve: how often a positive target scores higher than a negative one (Hanley & McNeil 1982)."""
    if right.all() or not right.any():
        return None
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]  # ties share their mean rank
    positive = int(right.sum())
    return float((rank[right].sum() - positive * (positive + 1) / 2) / (positive * (len(right) - positive)))


def _between(rng: np.random.Generator, low: float, high: float) -> int | None:
    low, high = int(np.ceil(low)), int(np.floor(high))
    return int(rng.integers(low, high + 1)) if high >= low else None


def _answer(probabilities: NDArray[np.floating], start: int) -> tuple[float, float, int, int]:
    p, s = (probabilities[PHASES.index(phase)] for phase in PICKED_PHASES)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.float64(p.max()) / np.float64(s.max()))
    return float((1 - probabilities[NOISE]).max()), ratio, int(p.argmax()) + start, int(s.argmax()) + start


def _ratio(onsets: pd.DataFrame) -> "pd.Series[float]":
    ratio: pd.Series[float] = onsets["score_p_or_s"].fillna(1.0).clip(-LARGEST, LARGEST)  # 0 / 0: neither P nor S
    return ratio


def _detection(right: "pd.Series[bool]", scores: "pd.Series[float]", threshold: float | None) -> Detection:
    truth, values = right.to_numpy(dtype=bool), scores.to_numpy(dtype=float)
    f1 = matthews = None
    if threshold is not None and len(truth):
        chosen = values >= threshold
        tp, fp, fn, tn = (int((a & b).sum()) for a, b in ((chosen, truth), (chosen, ~truth), (~chosen, truth), (~chosen, ~truth)))
        f1 = float(f1_by_threshold(np.array([threshold]), values, truth, tp + fn)[0])
        root = np.sqrt(float(tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        matthews = float((tp * tn - fp * fn) / root) if root else 0.0
    return Detection(targets=len(truth), area_under_curve=area_under_curve(truth, values), threshold=threshold, f1=f1, matthews=matthews)


def _best_threshold(right: NDArray[np.bool_], scores: NDArray[np.floating]) -> float | None:
    if not right.any():
        return None
    thresholds = np.unique(scores)
    return choose_threshold(thresholds, f1_by_threshold(thresholds, scores, right, int(right.sum())), prefer="highest")


def _onset(onsets: pd.DataFrame, phase: str) -> Onset:
    off = ((onsets[f"{phase.lower()}_sample_pred"] - onsets["phase_onset"]) / SAMPLING_RATE).to_numpy(dtype=float)
    if not len(off):
        return Onset(targets=0, mean_s=None, rms_s=None, mae_s=None)
    return Onset(
        targets=len(off),
        mean_s=float(off.mean()),
        rms_s=float(np.sqrt((off**2).mean())),
        mae_s=float(np.abs(off).mean()),
    )
