"""Whole records with teacher targets, from which training windows are drawn.

A `Pool` also knows where in its records the onsets and the quiet stretches are.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import DISTANCE, WINDOW_SAMPLES
from xiaonet.errors import DataError
from xiaonet.picking.picks import find_picks

ONSET_PROBABILITY = 0.1  # a teacher peak of at least this height counts as an onset
QUIET_PROBABILITY = 0.05  # all teacher probabilities in a quiet stretch stay below this
P_MARGIN = 100  # samples: a quiet stretch ends at least this long before a labelled P, where the teacher peaks begin
QUIET_STEP = 500  # samples between the starts of two candidate quiet stretches


@dataclass(frozen=True)
class TrainingRecord:
    """A record with its teacher target and its picks.

    Attributes:
        source: name of the group that it belongs to.
        waveform: `(3, samples)` in E, N, Z order at 100 Hz, demeaned, in any unit.
        target: `(2, samples)` teacher probabilities of P and S.
        onsets: samples of the P and S picks; NaN for a missing pick.
        manual: whether an analyst made the picks.
    """

    source: str
    waveform: NDArray[np.float32]
    target: NDArray[np.float16]
    onsets: tuple[float, float] = (np.nan, np.nan)
    manual: bool = False

    @property
    def samples(self) -> int:
        """Length in samples."""
        return int(self.waveform.shape[1])


class Pool:
    """Training records, with the places of their onsets and quiet stretches.

    Args:
        records: each at least one window long. Records of a source without a weight are left out.
        source_weights: how often to draw from each source; scaled to a sum of 1.

    Attributes:
        records: the records in use.
        rows: indices of the records of each source.
        onsets: for each record, samples of the teacher peaks and picks.
        quiet: for each source that has some, quiet stretches as (row, first, end).

    Raises:
        DataError: a source has no records.
    """

    def __init__(self, records: Sequence[TrainingRecord], source_weights: Mapping[str, float]) -> None:
        self.records = records = [record for record in records if record.source in source_weights]
        self.rows = {source: [row for row, record in enumerate(records) if record.source == source] for source in source_weights}
        if empty := [source for source, rows in self.rows.items() if not rows]:
            found = ", ".join(sorted({record.source for record in records})) or "none"
            raise DataError(f"there are no {', '.join(empty)} records among those found ({found}); remove their weight, or add such data")
        self._sources = list(source_weights)
        self._source_weights = np.array(list(source_weights.values())) / sum(source_weights.values())
        # Long records are drawn more often, in proportion to their length.
        lengths = {source: np.array([records[row].samples for row in rows], dtype=float) for source, rows in self.rows.items()}
        self._record_weights = {source: length / length.sum() for source, length in lengths.items()}
        self.onsets = [_onsets(record) for record in records]
        quiet = {source: [(row, *stretch) for row in rows for stretch in _quiet(records[row])] for source, rows in self.rows.items()}
        self.quiet = {source: stretches for source, stretches in quiet.items() if stretches}

    def digest(self) -> str:
        """SHA-256 of the content of all records."""
        running = hashlib.sha256()
        for record in self.records:
            running.update(f"{record.source} {record.onsets} {record.manual}".encode())
            running.update(np.ascontiguousarray(record.waveform).tobytes())
            running.update(np.ascontiguousarray(record.target).tobytes())
        return running.hexdigest()

    def draw_row(self, rng: np.random.Generator) -> int:
        """Draw a record and return its index."""
        source = self._sources[rng.choice(len(self._sources), p=self._source_weights)]
        return int(rng.choice(self.rows[source], p=self._record_weights[source]))

    def draw_noise(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw a quiet window `(3, 3001)`. All sources are equally likely. A short stretch is mirrored at its end."""
        stretches = self.quiet[list(self.quiet)[rng.integers(len(self.quiet))]]
        row, first, end = stretches[rng.integers(len(stretches))]
        noise = self.records[row].waveform[:, first:end]
        noise = np.pad(noise - noise.mean(axis=1, keepdims=True), ((0, 0), (0, WINDOW_SAMPLES - noise.shape[1])), mode="reflect")
        return noise[:, ::-1] if rng.random() < 0.5 else noise


def _onsets(record: TrainingRecord) -> NDArray[np.int64]:
    peaks = [find_picks(curve, ONSET_PROBABILITY, DISTANCE)[0] for curve in record.target]
    labelled = np.array([onset for onset in record.onsets if not np.isnan(onset)], dtype=np.int64)
    return np.concatenate([*peaks, labelled])


def _quiet(record: TrainingRecord) -> list[tuple[int, int]]:
    """First and end samples of noise: before P in a labelled record, otherwise wherever the teachers see nothing."""
    end, length = record.samples, WINDOW_SAMPLES
    if not np.isnan(record.onsets).all():
        end = int(np.nan_to_num(record.onsets[0])) - P_MARGIN
        length = min(length, max(end, WINDOW_SAMPLES // 2 + 1))
    alive = record.waveform[:, ::50].any(axis=1).all()
    highest = record.target.max(axis=0)
    starts = range(0, end - length + 1, QUIET_STEP)
    return [(start, start + length) for start in starts if alive and highest[start : start + length].max() < QUIET_PROBABILITY]
