"""The windows on which models are scored: places in the records of one split, with labels and traits."""

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
MARGIN = 100  # samples: least distance of a window's ends from the picks that it is cut around
EDGE = 50  # samples at both ends of a window where nothing counts as missed or as false
WINDOWS_AT_ONCE = 32

# Traits of records by which scores are broken down: edges of their classes, and their columns in SeisBench.
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
    """Places of windows in a data set, with their labels and traits.

    Attributes:
        data: the records.
        rows: `(windows,)` rows of the records in the data set.
        starts: `(windows,)` first samples at 100 Hz.
        labels: by phase, `(windows, labels)` samples from the window's start, filled up with NaN.
        judged: by phase, `(windows,)` false where the phase may be present without a pick.
        events: `(windows,)` number of the earthquake.
        traits: one row a window: `subset`, `components`, `snr_db`, `s_minus_p_s`, `distance_km`, `magnitude`.
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
        """Total length of all windows."""
        return len(self) * WINDOW_SAMPLES / SAMPLING_RATE / 3600

    def batches(self) -> Iterator[NDArray[np.float64]]:
        """Samples `(up to 32, 3, 3001)` in E, N, Z order, in the records' units."""
        yield from cut(self.data, self.rows, self.starts)


def cut(data: WaveformData, rows: Sequence[int] | Array, starts: Sequence[int] | Array) -> Iterator[NDArray[np.float64]]:
    """Windows of records, 32 at a time. A record that is too short is filled up with its last sample."""
    last, record = -1, np.empty((len(COMPONENTS), 0))
    for first in range(0, len(rows), WINDOWS_AT_ONCE):
        windows = np.empty((min(WINDOWS_AT_ONCE, len(rows) - first), len(COMPONENTS), WINDOW_SAMPLES))
        for window, row, start in zip(windows, rows[first : first + WINDOWS_AT_ONCE], starts[first : first + WINDOWS_AT_ONCE], strict=True):
            if row != last:
                last, record = int(row), fill_nonfinite(data.get_waveforms(int(row)))
            piece = record[:, start : start + WINDOW_SAMPLES]
            window[:, : piece.shape[1]] = piece
            window[:, piece.shape[1] :] = piece[:, -1:]
        yield windows


@dataclass(frozen=True)
class LabelledRecord:
    """The labels and traits of one record.

    Attributes:
        row: its row in the data set.
        name: its `trace_name`.
        samples: its length at 100 Hz.
        picks: by phase, samples within the record.
        judged: by phase, false where the phase may be present without a pick.
        event: name of the earthquake.
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
        """Samples and phases of all picks, sorted by time."""
        return sorted((sample, phase) for phase, samples in self.picks.items() for sample in samples)

    def starts(self, rng: np.random.Generator, number: int) -> list[int]:
        """First samples of `number` windows around its picks."""
        if not self.onsets:
            return []
        times = [sample for sample, _ in self.onsets]
        together = times[-1] - times[0] <= WINDOW_SAMPLES - 4 * MARGIN
        targets = [(times[0], times[-1])] if together else [(time, time) for time in times]
        return [self._start(rng, *targets[turn % len(targets)]) for turn in range(number)]

    def quiet_starts(self, rng: np.random.Generator) -> list[int]:
        """First sample of a window without an earthquake; none if there is no room, or a phase may be present without a pick."""
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
    """The records of a split, with their labels and traits.

    Args:
        data: a data set from `open_data`.
        split: `train`, `dev` or `test`.
        incomplete_statuses: statuses which mean that the phase may be present without a pick. It is not judged then.

    Raises:
        DataError: the split is empty, or none of its records has a pick that counts.
    """
    part = data.get_split(split) if split in SPLITS else None
    if part is None or len(part) == 0:
        counts = data.metadata["split"].value_counts().to_dict()
        raise DataError(f"split {split!r} is empty: the column split holds {counts}; choose one of these with --split")
    records = [_record(row, part.get_sample(row), incomplete_statuses) for row in range(len(part))]
    if not any(record.picks[phase] and record.judged[phase] for record in records for phase in PICKED_PHASES):
        raise DataError(
            f"no pick counts in the {len(part)} records of split {split!r}: wanted P or S in "
            f"trace_p_arrival_sample or the like, within the record, with a status other than {', '.join(incomplete_statuses)}"
        )
    return part, records


def around_picks(data: WaveformData, records: Sequence[LabelledRecord], number: int, seed: int) -> LabelledWindows:
    """`number` windows of each record, at random places around its picks.

    A window holds all picks of the record if they fit, or else each pick in turn. Its ends are at least one
    second from these picks.
    """
    return _join(data, [(record, start) for record in records for start in record.starts(_rng(seed, record), number)])


def before_picks(data: WaveformData, records: Sequence[LabelledRecord], seed: int) -> LabelledWindows:
    """One window before the first pick of each record that has room for it, and one of each record without picks."""
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
