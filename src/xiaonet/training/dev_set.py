"""The windows on which a training run chooses the thresholds of its model."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from xiaonet.constants import COMPONENTS, DISTANCE, PICKED_PHASES, WINDOW_SAMPLES
from xiaonet.data.columns import first_picks
from xiaonet.data.sets import open_data, require_window
from xiaonet.errors import DataError
from xiaonet.picking.windows import normalize
from xiaonet.scoring.matching import MatchedPeaks
from xiaonet.scoring.peaks import Peaks, find_peaks
from xiaonet.scoring.thresholds import choose_threshold

PickedRecord = tuple[NDArray[np.floating], float, float]  # waveform, samples of P and S; S is NaN where nobody picked it

Choose = Callable[[Mapping[str, NDArray[np.float64]]], dict[str, float]]  # thresholds of P and S from their F1

WINDOWS_PER_RECORD = 5  # at random places around the picks
BEFORE_P, AFTER_S = 30, 800  # samples between noise and P, and between S and a coda without onsets
ABSENT = float("inf")  # sample of a phase that is not in a window; NaN where nobody looked for the phase
TOLERANCE, SHARP_TOLERANCE = 50, 10  # samples: 0.5 and 0.1 s between a pick and its label
THRESHOLDS = np.round(np.arange(0.05, 0.96, 0.05), 2)  # to choose from
F1_MARGIN = 0.005  # the highest threshold within this of the best F1 is chosen; `choose_threshold` says why


class DevSet:
    """Windows of records that an analyst picked, and how well a network picks them.

    Five windows of each record hold its onsets. Where there is room, one window before the onsets and one of
    the coda hold none, so that noise has a say in the threshold. Windows where nobody picked S do not count
    for S. By default, every window counts a second time with its vertical alone, because many stations have
    no horizontals.

    Args:
        records: waveforms `(3, samples)` at 100 Hz, each with the samples of P and S.
        seed: random seed of the places of windows.
        vertical_alone: whether every window counts without its horizontals, too.
    """

    def __init__(self, records: Iterable[PickedRecord], seed: int = 0, *, vertical_alone: bool = True) -> None:
        rng = np.random.default_rng(seed)
        windows: list[NDArray[np.float32]] = []
        self.onsets: list[tuple[float, float]] = []
        for waveform, p, s in records:
            last = s if s - p < WINDOW_SAMPLES - 400 else p
            high = max(min(int(p) - 100, waveform.shape[-1] - WINDOW_SAMPLES), 0)
            low = min(max(0, int(last) + 100 - WINDOW_SAMPLES), high)
            for start in rng.integers(low, high + 1, WINDOWS_PER_RECORD).tolist():
                windows.append(normalize(waveform[:, start : start + WINDOW_SAMPLES]))
                self.onsets.append((p - start, s - start if s - start < WINDOW_SAMPLES else np.nan))
            for quiet in _without_onsets(waveform, p, s):
                windows.append(normalize(quiet))
                self.onsets.append((ABSENT, ABSENT))
        stacked = np.stack(windows)
        if vertical_alone:
            alone = stacked * np.array([component == "Z" for component in COMPONENTS], np.float32)[:, None]
            stacked, self.onsets = np.concatenate([stacked, alone]), 2 * self.onsets
        self.windows = torch.from_numpy(stacked)

    @torch.inference_mode()
    def peaks(self, model: nn.Module) -> dict[str, Peaks]:
        """Peaks of P and S that a network finds."""
        return find_peaks((model(batch).numpy() for batch in torch.split(self.windows, 32)), DISTANCE)

    def matched(self, model: nn.Module) -> dict[str, MatchedPeaks]:
        """Peaks of P and S, right or false."""
        peaks = self.peaks(model)
        return {phase: match_onsets(peaks[phase], self.labels(phase)) for phase in PICKED_PHASES}

    def labels(self, phase: str) -> list[float]:
        """The onset of a phase in each window."""
        return [onsets[PICKED_PHASES.index(phase)] for onsets in self.onsets]

    def scores(self, model: nn.Module, choose: Choose | None = None) -> dict[str, dict[str, float]]:
        """The best F1 within 0.5 s, the threshold chosen, and the recall within 0.1 s at it, for P and S.

        Args:
            model: the network.
            choose: finds the thresholds from F1 of P and S at each of `THRESHOLDS`; by default, for each phase, the highest
                within 0.005 of the best F1.
        """
        peaks = self.peaks(model)
        f1 = {phase: match_onsets(peaks[phase], self.labels(phase)).f1(THRESHOLDS) for phase in PICKED_PHASES}
        thresholds = (choose or _choose_each)(f1)
        return {phase: self._scores(peaks[phase], phase, f1[phase], thresholds[phase]) for phase in PICKED_PHASES}

    def _scores(self, peaks: Peaks, phase: str, f1: NDArray[np.float64], threshold: float) -> dict[str, float]:
        right, _, labels = match_onsets(peaks, self.labels(phase), SHARP_TOLERANCE).counts(threshold)
        recall = int(right.sum()) / max(int(labels.sum()), 1)
        return {"F1": round(float(f1.max()), 3), "threshold": threshold, "recall within 0.1 s": round(recall, 3)}


def _choose_each(f1: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    return {phase: choose_threshold(THRESHOLDS, own, margin=F1_MARGIN, prefer="highest") for phase, own in f1.items()}


def match_onsets(peaks: Peaks, onsets: Sequence[float], tolerance: int = TOLERANCE) -> MatchedPeaks:
    """Match peaks of a phase with the one onset or none of each window.

    Args:
        peaks: of the phase.
        onsets: a sample for each window; `ABSENT` where there is no onset, NaN where it is unknown.
        tolerance: largest distance of a right pick from the onset, in samples.
    """
    samples = np.asarray(onsets, dtype=float)
    return MatchedPeaks.of(peaks, np.where(np.isfinite(samples), samples, np.nan)[:, None], ~np.isnan(samples), tolerance)


def picked_records(labelled: str, split: str) -> list[PickedRecord]:
    """The records of a split in which an analyst picked P.

    Args:
        labelled: what `open_data` opens.
        split: `train`, `dev` or `test`.

    Raises:
        DataError: there is no such record, or one is shorter than a window.
    """
    data, found = open_data(labelled), list[PickedRecord]()
    for row in np.flatnonzero(data.metadata["split"] == split).tolist():
        if not first_picks(data.metadata.iloc[row].to_dict(), np.inf)[0][1]:
            continue  # spares reading its samples
        waveform, metadata = data.get_sample(row)
        (p, manual), (s, _) = first_picks(metadata, waveform.shape[-1])
        if manual:
            require_window(labelled, metadata, waveform.shape[-1])
            found.append((waveform, p, s))
    if not found:
        raise DataError(f"{labelled} has no record with a manual P in its {split} split; wanted some to choose thresholds on")
    return found


def _without_onsets(waveform: NDArray[np.floating], p: float, s: float) -> Iterator[NDArray[np.floating]]:
    """The noise before P, mirrored if it is short, and the end of the record if that is long after S."""
    before = waveform[:, : max(int(p) - BEFORE_P, 0)][:, -WINDOW_SAMPLES:]
    if (lacking := WINDOW_SAMPLES - before.shape[1]) < WINDOW_SAMPLES // 2:
        yield np.pad(before, ((0, 0), (0, lacking)), mode="reflect")
    if waveform.shape[1] - WINDOW_SAMPLES > s + AFTER_S:
        yield waveform[:, -WINDOW_SAMPLES:]
