"""Windows with onsets and without, on which a recipe's thresholds are chosen."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from xiaonet.constants import COMPONENTS, DISTANCE, PICKED_PHASES, WINDOW_SAMPLES
from xiaonet.data.columns import first_picks
from xiaonet.data.sets import open_data, require_window
from xiaonet.errors import DataError
from xiaonet.picking.picks import find_picks
from xiaonet.picking.windows import normalize

Picked = tuple[NDArray[np.floating], float, float]  # waveform, samples of P and S, NaN where nobody picked S

DEV_WINDOWS = 5  # of each record, at random positions
BEFORE, AFTER = 30, 800  # samples between noise and P, and between S and a coda without onsets
ABSENT = float("inf")  # in place of an onset that is not there; NaN is one that nobody looked for
TOLERANCE = 50  # samples: 0.5 s between a pick and its label
HEIGHTS = np.round(np.arange(0.05, 0.96, 0.05), 2)
AS_GOOD = 0.005  # of F1: within this of the best, the highest threshold is taken, for quiet records


class DevSet:
    """Windows of records that analysts picked, with their onsets and without, and how well a network does on them.

    Of each record five windows hold its onsets; one before them and one of its coda, where there is room, hold none, so
    that a threshold is chosen against noise as well. Where nobody picked S, the windows are not asked about it. All are
    judged a second time with the vertical alone, as many stations have it, so that a threshold suits both, unless that is not wanted.

    Args:
        records: waveforms `(3, samples)` with the samples of P and S.
        seed: of the windows' places.
        vertical_alone: whether each window is judged without its horizontals too.
    """

    def __init__(self, records: Iterable[Picked], seed: int = 0, *, vertical_alone: bool = True) -> None:
        rng = np.random.default_rng(seed)
        windows: list[NDArray[np.float32]] = []
        self.onsets: list[tuple[float, float]] = []
        for waveform, p, s in records:
            last = s if s - p < WINDOW_SAMPLES - 400 else p
            high = max(min(int(p) - 100, waveform.shape[-1] - WINDOW_SAMPLES), 0)
            low = min(max(0, int(last) + 100 - WINDOW_SAMPLES), high)
            for start in rng.integers(low, high + 1, DEV_WINDOWS).tolist():
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
    def scores(self, model: nn.Module) -> dict[str, dict[str, float]]:
        """F1 within 0.5 s, its threshold, and the recall within 0.1 s there, for P and S."""
        probabilities = torch.cat([model(batch) for batch in torch.split(self.windows, 32)]).numpy()
        return {phase: self._scores(probabilities[:, row], row) for row, phase in enumerate(PICKED_PHASES)}

    def _scores(self, curves: NDArray[np.float32], row: int) -> dict[str, float]:
        counted = [(curve, onsets[row]) for curve, onsets in zip(curves, self.onsets, strict=True) if not np.isnan(onsets[row])]
        values = [f1(counted, height) for height in HEIGHTS]
        height = float(HEIGHTS[np.flatnonzero(np.array(values) >= max(values) - AS_GOOD)[-1]])
        sharp = sum(bool((np.abs(find_picks(curve, height, DISTANCE)[0] - onset) <= 10).any()) for curve, onset in counted)
        present = sum(onset != ABSENT for _, onset in counted)
        return {"F1": round(max(values), 3), "threshold": height, "recall within 0.1 s": round(sharp / max(present, 1), 3)}


def picked_records(labelled: str, split: str) -> list[Picked]:
    """The records of a split of what `open_data` opens in which an analyst picked P.

    Raises:
        DataError: there are none, or one is shorter than a window.
    """
    data, found = open_data(labelled), list[Picked]()
    for row in np.flatnonzero(data.metadata["split"] == split).tolist():
        if not first_picks(data.metadata.iloc[row].to_dict(), np.inf)[0][1]:
            continue  # without reading its samples
        waveform, metadata = data.get_sample(row)
        (p, manual), (s, _) = first_picks(metadata, waveform.shape[-1])
        if manual:
            require_window(labelled, metadata, waveform.shape[-1])
            found.append((waveform, p, s))
    if not found:
        raise DataError(f"{labelled} has no record with a manual P in its {split} split; wanted some to choose thresholds on")
    return found


def _without_onsets(waveform: NDArray[np.floating], p: float, s: float) -> Iterator[NDArray[np.floating]]:
    """What of a record is noise: until shortly before P, mirrored if short, and its end, if that is long after S."""
    before = waveform[:, : max(int(p) - BEFORE, 0)][:, -WINDOW_SAMPLES:]
    if (lacking := WINDOW_SAMPLES - before.shape[1]) < WINDOW_SAMPLES // 2:
        yield np.pad(before, ((0, 0), (0, lacking)), mode="reflect")
    if waveform.shape[1] - WINDOW_SAMPLES > s + AFTER:
        yield waveform[:, -WINDOW_SAMPLES:]


def f1(counted: list[tuple[NDArray[np.float32], float]], height: float) -> float:
    """F1 of curves of a phase, each with its one onset or none: the first pick within 0.5 s is right, any other is wrong."""
    right = wrong = missed = 0
    for curve, onset in counted:
        picks, _ = find_picks(curve, height, DISTANCE)
        hit = bool((np.abs(picks - onset) <= TOLERANCE).any())
        right, missed, wrong = right + hit, missed + (not hit and onset != ABSENT), wrong + len(picks) - hit
    return 2 * right / max(2 * right + wrong + missed, 1)
