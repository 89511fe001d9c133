"""Windows that models are judged on, cut from the records of one split, with what is known of each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xiaonet.constants import COMPONENTS, PICKED_PHASES, SAMPLING_RATE, WINDOW_SAMPLES
from xiaonet.data.columns import EVENT_COLUMNS, incomplete_phases, picks_within
from xiaonet.data.sets import SPLITS, WaveformData
from xiaonet.errors import DataError
from xiaonet.picking.picks import amplitude_and_snr
from xiaonet.picking.windows import fill_nonfinite

Array = NDArray[Any]
MARGIN = 100  # samples: at least so far a window's ends stay from the picks that it is cut around
EDGE = 50  # samples beside a window's ends where nothing counts as missed or as false
BATCH = 32  # windows cut at once

# What breakdowns go by: edges of the classes, and the columns of SeisBench that say it.
CLASSES: Mapping[str, tuple[float, ...]] = {
    "snr_db": (5, 10, 20, 30),
    "s_minus_p_s": (1, 2, 4, 8),
    "distance_km": (10, 30, 60, 120),
    "magnitude": (1, 2, 3, 4),
}
COLUMNS = {
    "distance_km": ("path_ep_distance_km", "path_hyp_distance_km"),
    "magnitude": ("source_magnitude",),
}


@dataclass(frozen=True)
class LabelledWindows:
    """Places of windows in a data set, and what is known of each.

    Attributes:
        data: the records.
        rows: `(windows,)` of the records.
        starts: `(windows,)` first samples at 100 Hz.
        labels: by phase `(windows, labels)`, samples from the window's start; NaN where there are fewer.
        judged: by phase `(windows,)`, false where the phase may be there and nobody picked it.
        events: `(windows,)` numbers of the events that the records are of.
        traits: a row a window: `subset`, `components`, `snr_db`, `s_minus_p_s`, `distance_km`, `magnitude`.
    """

    data: WaveformData
    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    labels: Mapping[str, NDArray[np.float64]]
    judged: Mapping[str, NDArray[np.bool_]]
    events: NDArray[np.int64]
    traits: pd.DataFrame

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def hours(self) -> float:
        """Length of all windows together."""
        return len(self) * WINDOW_SAMPLES / SAMPLING_RATE / 3600

    def batches(self) -> Iterator[NDArray[np.float64]]:
        """The samples, `(up to 32, 3, 3001)` in E, N, Z order and the records' units."""
        yield from cut(self.data, self.rows, self.starts)


def cut(data: WaveformData, rows: Sequence[int] | Array, starts: Sequence[int] | Array) -> Iterator[NDArray[np.float64]]:
    """Windows of records, 32 at a time; a record that is too short goes on with its last sample."""
    last, record = -1, np.empty((len(COMPONENTS), 0))
    for first in range(0, len(rows), BATCH):
        windows = np.empty((min(BATCH, len(rows) - first), len(COMPONENTS), WINDOW_SAMPLES))
        for window, row, start in zip(windows, rows[first : first + BATCH], starts[first : first + BATCH], strict=True):
            if row != last:
                last, record = int(row), fill_nonfinite(data.get_waveforms(int(row)))
            piece = record[:, start : start + WINDOW_SAMPLES]
            window[:, : piece.shape[1]] = piece
            window[:, piece.shape[1] :] = piece[:, -1:]
        yield windows


@dataclass(frozen=True)
class LabelledRecord:
    """What is known of one record.

    Attributes:
        row: in its data set.
        name: `trace_name` there.
        samples: at 100 Hz.
        picks: by phase, samples within the record.
        judged: by phase, false where it may be there and nobody picked it.
        event: that it is of.
        traits: as in `LabelledWindows`.
    """

    row: int
    name: str
    samples: int
    picks: Mapping[str, list[float]]
    judged: Mapping[str, bool]
    event: str
    traits: Mapping[str, Any]

    @property
    def onsets(self) -> list[tuple[float, str]]:
        """Samples and phases in order of time."""
        return sorted((sample, phase) for phase, samples in self.picks.items() for sample in samples)

    def starts(self, rng: np.random.Generator, number: int) -> list[int]:
        """Where windows around its picks begin."""
        if not self.onsets:
            return []
        times = [sample for sample, _ in self.onsets]
        together = times[-1] - times[0] <= WINDOW_SAMPLES - 4 * MARGIN
        targets = [(times[0], times[-1])] if together else [(time, time) for time in times]
        return [self._start(rng, *targets[turn % len(targets)]) for turn in range(number)]

    def quiet_starts(self, rng: np.random.Generator) -> list[int]:
        """Where a window without an earthquake begins, if there is room for one and all phases are known."""
        if not all(self.judged.values()):
            return []
        latest = int(self.onsets[0][0]) - MARGIN - WINDOW_SAMPLES if self.onsets else max(0, self.samples - WINDOW_SAMPLES)
        return [int(rng.integers(0, latest + 1))] if latest >= 0 else []

    def _start(self, rng: np.random.Generator, first: float, last: float) -> int:
        latest = max(0, self.samples - WINDOW_SAMPLES)
        low = min(max(0, int(last) + MARGIN - WINDOW_SAMPLES), latest)
        high = max(low, min(int(first) - MARGIN, latest))
        return int(rng.integers(low, high + 1))


def read_records(data: WaveformData, split: str, incomplete_statuses: Sequence[str]) -> tuple[WaveformData, list[LabelledRecord]]:
    """The records of a split, and what is known of each.

    Args:
        data: opened by `open_data`.
        split: `train`, `dev` or `test`.
        incomplete_statuses: statuses of a phase that say: this phase may be there unpicked. It is not judged.

    Raises:
        DataError: the split is empty, or none of its records has a pick that can be judged.
    """
    part = data.get_split(split) if split in SPLITS else None
    if part is None or len(part) == 0:
        counts = data.metadata["split"].value_counts().to_dict()
        raise DataError(f"split {split!r} is empty: the column split holds {counts}; choose one of these with --split")
    records = [_record(row, part.get_sample(row), incomplete_statuses) for row in range(len(part))]
    if not any(record.picks[phase] and record.judged[phase] for record in records for phase in PICKED_PHASES):
        raise DataError(
            f"no pick to be judged in the {len(part)} records of split {split!r}: wanted P or S in "
            f"trace_p_arrival_sample or the like, within the record, with a status other than {', '.join(incomplete_statuses)}"
        )
    return part, records


def around_picks(data: WaveformData, records: Sequence[LabelledRecord], number: int, seed: int) -> LabelledWindows:
    """Windows at random places around the picks of records, `number` of each.

    Their ends lie at least a second from the picks that they are cut around: all of a record if they fit
    into one window, else one after the other.
    """
    return _join(data, [(record, start) for record in records for start in record.starts(_rng(seed, record), number)])


def before_picks(data: WaveformData, records: Sequence[LabelledRecord], seed: int) -> LabelledWindows:
    """A window before the first pick of each record that has room for it, and one of each without any pick."""
    return _join(data, [(record, start) for record in records for start in record.quiet_starts(_rng(seed, record))])


def _rng(seed: int, record: LabelledRecord) -> np.random.Generator:
    return np.random.default_rng([seed, record.row])


def _record(row: int, stored: tuple[Array, dict[str, Any]], incomplete_statuses: Sequence[str]) -> LabelledRecord:
    waveform, metadata = stored
    within = picks_within(metadata, waveform.shape[-1] if waveform.any() else 0)
    picks = {phase: [sample for sample, _ in within[phase]] for phase in PICKED_PHASES}
    incomplete = incomplete_phases(metadata, incomplete_statuses)
    event = next((metadata[key] for key in EVENT_COLUMNS if not pd.isna(metadata.get(key))), metadata["trace_name"])
    judged = {phase: phase not in incomplete for phase in PICKED_PHASES}
    return LabelledRecord(
        row, str(metadata["trace_name"]), waveform.shape[-1], picks, judged, str(event), _traits(waveform, metadata, picks)
    )


def _traits(waveform: Array, metadata: Mapping[str, Any], picks: Mapping[str, list[float]]) -> dict[str, Any]:
    alive = [component for component, trace in zip(COMPONENTS, waveform, strict=True) if np.ptp(trace) > 0]
    components = {"ENZ": "three components", "Z": "vertical alone"}.get("".join(alive), "other components")
    source = metadata.get("trace_dataset", metadata.get("dataset"))
    first = min((sample for samples in picks.values() for sample in samples), default=np.nan)
    found: dict[str, Any] = {
        "subset": components if pd.isna(source) else f"{source}, {components}",
        "components": components,
        "snr_db": np.nan if np.isnan(first) else amplitude_and_snr(waveform.astype(np.float64), int(first))[1],
        "s_minus_p_s": (min(picks["S"]) - min(picks["P"])) / SAMPLING_RATE if picks["P"] and picks["S"] else np.nan,
    }
    for trait, columns in COLUMNS.items():
        numbers = [pd.to_numeric(metadata.get(column), errors="coerce") for column in columns]
        found[trait] = next((float(number) for number in numbers if number is not None and not pd.isna(number)), np.nan)
    return found


def _join(data: WaveformData, places: Sequence[tuple[LabelledRecord, int]]) -> LabelledWindows:
    labels = {}
    for phase in PICKED_PHASES:
        inside = [[sample - start for sample in record.picks[phase] if 0 <= sample - start < WINDOW_SAMPLES] for record, start in places]
        labels[phase] = np.full((len(places), max(map(len, inside), default=0)), np.nan)
        for row, samples in zip(labels[phase], inside, strict=True):
            row[: len(samples)] = samples
    return LabelledWindows(
        data=data,
        rows=np.array([record.row for record, _ in places], dtype=np.int64),
        starts=np.array([start for _, start in places], dtype=np.int64),
        labels=labels,
        judged={phase: np.array([record.judged[phase] for record, _ in places], dtype=bool) for phase in PICKED_PHASES},
        events=pd.factorize(np.array([record.event for record, _ in places], dtype=object))[0].astype(np.int64),
        traits=pd.DataFrame([record.traits for record, _ in places], columns=["subset", "components", *CLASSES]),
    )
