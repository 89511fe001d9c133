"""Opens SeisBench data sets by class, name or path, in the format that XiaoNet expects."""

import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import seisbench
import seisbench.data as sbd
from numpy.typing import NDArray

from xiaonet import console
from xiaonet.constants import COMPONENTS, SAMPLING_RATE, WINDOW_SAMPLES
from xiaonet.data import synthetic
from xiaonet.data.columns import DEFAULT_PICK_COLUMNS, EVENT_COLUMNS, PHASE_OF, STATUS_COLUMN, UNPICKED, phase_columns, status_column
from xiaonet.errors import ConfigError, DataError
from xiaonet.names import split_names
from xiaonet.picking.windows import fill_nonfinite

WaveformData: TypeAlias = "sbd.WaveformDataset | sbd.MultiWaveformDataset"

SPLITS = ("train", "dev", "test")
SPLIT_ALIASES = {"training": "train", "val": "dev", "valid": "dev", "validation": "dev", "development": "dev", "testing": "test"}
SPLIT_SHARES = (0.8, 0.1, 0.1)  # of the events of a data set without a split
FINGERPRINT_RECORDS = 5  # records whose samples enter the fingerprint
CACHE_BELOW = 2**30  # bytes on disk; smaller sets are read into memory once


def open_data(name: str, *, synthetic_records: int = 400, seed: int = 0) -> WaveformData:
    """Open a data set, or several joined by `+`, at 100 Hz in E, N, Z order with a split.

    Args:
        name: `synthetic`, a class of `seisbench.data`, or the path or name of a folder in SeisBench's format.
            A name without a class is looked up in SeisBench's data folder.
        synthetic_records: number of records in `synthetic`.
        seed: of the records in `synthetic`.

    Raises:
        DataError: a part is missing, cannot be read, or has no sampling rate; or no part has picks.
    """
    try:
        names = split_names(name, "--data", "STEAD or STEAD+my/records")
    except ConfigError as error:
        raise DataError(str(error)) from error
    parts = [_open_part(part, synthetic_records, seed) for part in names]
    for part in parts:
        fill_split(part.metadata)
        mark_unpicked(part.metadata)
    # SeisBench joins columns by name, so a set without picks can be joined to one with picks.
    data = parts[0] if len(parts) == 1 else sbd.MultiWaveformDataset(parts)
    if not phase_columns(data.metadata):
        raise DataError(
            f"{name}: no column of P or S picks among {_listed(data.metadata.columns)}; "
            f"wanted trace_X_arrival_sample with X one of {_listed(PHASE_OF)}"
        )
    _warn_of_outside_picks(name, data.metadata)
    return data


def require_window(name: str, metadata: Mapping[str, Any], samples: int) -> None:
    """Check that a record of the data set `name` is at least one window long.

    Raises:
        DataError: it is shorter.
    """
    if samples < WINDOW_SAMPLES:
        raise DataError(
            f"{name}: {metadata['trace_name']} has {samples} samples; wanted at least {WINDOW_SAMPLES} (30 s). Remove shorter records"
        )


def fill_split(metadata: pd.DataFrame) -> None:
    """Assign records without a split to one by their event, in place. All runs and machines get the same split.

    All records of an event get the same split, so that no event is used both to train and to test.

    Raises:
        DataError: the column `split` holds an unknown name, or records have neither a split nor an event.
    """
    split = metadata["split"] if "split" in metadata else pd.Series(None, index=metadata.index)
    split = split.astype(object).where(split.notna(), "").astype(str).str.strip().str.lower().replace(SPLIT_ALIASES)
    if unknown := sorted(set(split) - {*SPLITS, ""}):
        raise DataError(f"the column split holds {_listed(unknown)}; wanted {_listed(SPLITS)}, or nothing to split by event")
    metadata["split"] = split
    missing = split == ""
    if not missing.any():
        return
    key = next((column for column in (*EVENT_COLUMNS, "trace_name") if column in metadata), None)
    if key is None:
        raise DataError(f"records have neither a split nor an event: wanted source_id among {_listed(metadata.columns)}")
    events = metadata[key].where(metadata[key].notna(), metadata["trace_name"]).astype(str)
    known = dict(zip(events[~missing], split[~missing], strict=True))
    assigned = {event: known.get(event) or _split_of(event) for event in events[missing].unique()}
    metadata.loc[missing, "split"] = events[missing].map(assigned)


def mark_unpicked(metadata: pd.DataFrame) -> None:
    """Mark a phase without a pick column as unpicked, in place, except in records of noise.

    Such a data set does not say whether the phase is in the record.
    """
    picked = set(phase_columns(metadata).values())
    noise = metadata.filter(["trace_category", "source_type"]).isin(["noise"]).any(axis=1)
    for column, phase in DEFAULT_PICK_COLUMNS.items():
        if phase not in picked and status_column(column) not in metadata:
            metadata[status_column(column)] = np.where(noise, "noise", UNPICKED)


def split_data(data: WaveformData) -> tuple[WaveformData, WaveformData, WaveformData]:
    """Training, development and test records. The test split may be empty.

    Raises:
        DataError: the train or dev split is empty.
    """
    train, dev, test = data.train_dev_test()
    for name, part in (("train", train), ("dev", dev)):
        if len(part) == 0:
            counts = data.metadata["split"].value_counts().to_dict()
            raise DataError(
                f"the {name} split is empty: the column split holds {counts}; wanted records in train and dev. "
                "Join a set that has them with +, or drop the column to split by event"
            )
    return train, dev, test


def fingerprint(data: WaveformData) -> str:
    """Sixteen hexadecimal digits that change with the records, picks, statuses, splits, or the samples of a few records."""
    columns = ["trace_name", "split", *phase_columns(data.metadata), *data.metadata.filter(regex=STATUS_COLUMN)]
    rows = pd.util.hash_pandas_object(data.metadata[columns].astype(str), index=False)
    running = hashlib.sha256(rows.to_numpy().tobytes())
    for row in np.unique(np.linspace(0, len(data) - 1, FINGERPRINT_RECORDS, dtype=int)):
        running.update(np.ascontiguousarray(data.get_waveforms(int(row)), dtype=np.float64).tobytes())
    return running.hexdigest()[:16]


def _open_part(name: str, synthetic_records: int, seed: int) -> sbd.WaveformDataset:
    if name == "synthetic":
        with tempfile.TemporaryDirectory(prefix="xiaonet-") as folder:
            synthetic.write(Path(folder), synthetic_records, seed)
            return _open_folder(Path(folder), name, in_memory=True)
    path = Path(name).expanduser()
    if _holds_data(path):
        return _open_folder(path, path.resolve().name)
    kind = getattr(sbd, name, None) if name.isidentifier() else None
    if isinstance(kind, type) and issubclass(kind, sbd.WaveformDataset):
        try:
            data = kind(**_format(cache=None))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"{name}: seisbench.data.{name} could not be loaded: {error}. Place its files in {seisbench.cache_data_root}"
            ) from error
        return _checked(name, data)
    stored = seisbench.cache_data_root / name
    if not path.is_absolute() and _holds_data(stored):
        return _open_folder(stored, name)
    raise DataError(
        f"data set {name!r} not found: seisbench.data has no such class, and there is no metadata.csv in "
        f"{path.absolute()} or {stored}. Place metadata.csv and waveforms.hdf5 in one of these folders, "
        "set SEISBENCH_CACHE_ROOT, or use --data synthetic"
    )


def _holds_data(path: Path) -> bool:
    """Whether a folder is in SeisBench's format, in one piece or in chunks."""
    return any(path.glob("metadata*.csv"))


def _open_folder(path: Path, name: str, in_memory: bool = False) -> sbd.WaveformDataset:
    waveforms = list(path.glob("waveforms*.hdf5"))
    if not waveforms:
        raise DataError(f"{path} has metadata.csv but no waveforms.hdf5; add it")
    small = in_memory or sum(file.stat().st_size for file in waveforms) < CACHE_BELOW
    try:
        data = _FolderDataset(path, name=name, **_format(cache="full" if small else None))
        if small:
            data.preload_waveforms()
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a SeisBench data set: {error}. Copy or download it again") from error
    return _checked(name, data)


class _FolderDataset(sbd.WaveformDataset):
    """SeisBench's data set. SeisBench's own resampling would spread one missing sample over the whole record."""

    def _resample(self, waveform: NDArray[np.generic], *rates: float, **options: float) -> NDArray[np.float64]:
        resampled: NDArray[np.float64] = super()._resample(fill_nonfinite(waveform), *rates, **options)
        return resampled


def _format(cache: str | None) -> dict[str, object]:
    return {
        "component_order": COMPONENTS,
        "dimension_order": "NCW",
        "sampling_rate": SAMPLING_RATE,
        "resample_zerophase": True,  # SeisBench's default filter is causal and would delay onsets
        "missing_components": "pad",
        "cache": cache,
    }


def _checked(name: str, data: sbd.WaveformDataset) -> sbd.WaveformDataset:
    if orders := [order for order in data.metadata["trace_component_order"].unique() if set("12") & set(str(order))]:
        console.warn("Data", "horizontals of unknown azimuth", f"{name} stores {_listed(orders)}; 1 and 2 are ignored, not used as N and E")
    for column in (*phase_columns(data.metadata), "trace_sampling_rate_hz"):
        _convert_to_numbers(name, data.metadata, column)
    if unknown := int((~(data.metadata["trace_sampling_rate_hz"] > 0)).sum()):
        raise DataError(f"{name}: {unknown} of {len(data)} records have no sampling rate above 0; fill the column trace_sampling_rate_hz")
    return data


def _convert_to_numbers(name: str, metadata: pd.DataFrame, column: str) -> None:
    numbers = pd.to_numeric(metadata[column], errors="coerce")
    words = metadata[column][metadata[column].notna() & numbers.isna()]
    if len(words):
        raise DataError(
            f"{name}: {column} holds {words.iloc[0]!r} in {len(words)} of {len(metadata)} records; wanted numbers or nothing. "
            "Correct or empty these fields"
        )
    metadata[column] = numbers


def _split_of(event: str) -> str:
    position = int.from_bytes(hashlib.sha256(event.encode()).digest()[:8], "big") / 2**64
    return SPLITS[int(np.searchsorted(np.cumsum(SPLIT_SHARES[:-1]), position, side="right"))]


def _warn_of_outside_picks(name: str, metadata: pd.DataFrame) -> None:
    if "trace_npts" not in metadata:
        return
    picks = metadata[list(phase_columns(metadata))]
    outside = int(((picks < 0) | picks.ge(metadata["trace_npts"], axis=0)).any(axis=1).sum())
    if outside:
        console.warn("Data", "picks outside their traces", f"{name}: {outside} records; these picks are not used")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(str, names))
