"""SeisBench data sets by class, name or path, opened the way XiaoNet wants them."""

import hashlib
import re
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
from xiaonet.errors import ConfigError, DataError
from xiaonet.names import split_names
from xiaonet.picking.windows import fill_nonfinite

WaveformData: TypeAlias = "sbd.WaveformDataset | sbd.MultiWaveformDataset"

# What data sets call their picks, and the phase that we teach for each name.
PHASE_OF = {
    **dict.fromkeys(("P", "p", "Pg", "Pn", "PmP", "pP", "P1", "pwP", "pwPm"), "P"),
    **dict.fromkeys(("S", "s", "Sg", "Sn", "SmS", "S1"), "S"),
}
ARRIVAL_COLUMN = re.compile(r"trace_(\w+)_arrival_sample")
UNPICKED = "unpicked"
ANALYSTS = ("manual", "")  # statuses of a pick that an analyst made; a set without statuses is taken to hold such
STATUS_COLUMN = r"^trace_\w+_status$"
SPLITS = ("train", "dev", "test")
SPLIT_ALIASES = {"training": "train", "val": "dev", "valid": "dev", "validation": "dev", "development": "dev", "testing": "test"}
SPLIT_SHARES = (0.8, 0.1, 0.1)  # of events, where a data set brings no split of its own
LOOKED_AT = 5  # records whose samples are part of a data set's fingerprint
CACHE_BELOW = 2**30  # bytes on disk; smaller sets are read into memory once


def open_data(spec: str, *, synthetic_records: int = 400, seed: int = 0) -> WaveformData:
    """Open one data set, or several joined by `+`, at 100 Hz in E, N, Z order with a split.

    Args:
        spec: `synthetic`, a class of `seisbench.data`, or the path or name of a folder in
            SeisBench's format. Names without a class are looked up in SeisBench's data folder.
        synthetic_records: how many records `synthetic` makes.
        seed: of the synthetic records.

    Raises:
        DataError: a part cannot be found or read, has no sampling rate or has no picks.
    """
    try:
        names = split_names(spec, "--data", "STEAD or STEAD+my/records")
    except ConfigError as error:
        raise DataError(str(error)) from error
    parts = [_open_part(name, synthetic_records, seed) for name in names]
    for part in parts:
        fill_split(part.metadata)
        say_unpicked(part.metadata)
    # SeisBench joins columns by name, so a set without any pick may stand beside one with picks.
    data = parts[0] if len(parts) == 1 else sbd.MultiWaveformDataset(parts)
    if not phase_columns(data.metadata):
        raise DataError(
            f"{spec}: no column of P or S picks among {_listed(data.metadata.columns)}; "
            f"wanted trace_X_arrival_sample with X one of {', '.join(PHASE_OF)}"
        )
    _warn_of_outside_picks(spec, data.metadata)
    return data


def phase_columns(metadata: pd.DataFrame) -> dict[str, str]:
    """Columns that hold picks, each with its phase: `{"trace_Pg_arrival_sample": "P", …}`."""
    matches = (ARRIVAL_COLUMN.fullmatch(column) for column in metadata.columns)
    return {m[0]: PHASE_OF[m[1]] for m in matches if m and m[1] in PHASE_OF}


def picks_within(metadata: Mapping[str, Any], samples: float) -> dict[str, list[tuple[float, str]]]:
    """By phase, the samples and statuses of a record's picks that lie within its samples, the earliest first.

    A status that is missing is empty.
    """
    found: dict[str, list[tuple[float, str]]] = {"P": [], "S": []}
    for column, value in metadata.items():
        named = ARRIVAL_COLUMN.fullmatch(column)
        if named and named[1] in PHASE_OF and 0 <= value < samples:
            status = metadata.get(f"trace_{named[1]}_status")
            found[PHASE_OF[named[1]]].append((float(value), "" if pd.isna(status) else str(status)))
    return {phase: sorted(picks) for phase, picks in found.items()}


def first_picks(metadata: Mapping[str, Any], samples: float) -> tuple[tuple[float, bool], tuple[float, bool]]:
    """Of P and of S the sample of a record's first pick, and whether an analyst made it; NaN and false where there is none."""
    picks = picks_within(metadata, samples)
    p, s = ((picks[phase][0][0], picks[phase][0][1] in ANALYSTS) if picks[phase] else (np.nan, False) for phase in "PS")
    return p, s


def require_window(name: str, metadata: Mapping[str, Any], samples: int) -> None:
    """See that a record of a data set is as long as a window; if not, a DataError names it."""
    if samples < WINDOW_SAMPLES:
        raise DataError(f"{name}: {metadata['trace_name']} has {samples} samples; wanted at least {WINDOW_SAMPLES}")


def fill_split(metadata: pd.DataFrame) -> None:
    """Give records without a split one by event, in place: the same for every run and machine.

    All records of an event fall into the same split, so that no event is both learnt and tested.
    """
    if "split" not in metadata:
        metadata["split"] = None
    split = metadata["split"].astype(object).where(metadata["split"].notna(), "").astype(str).str.strip().str.lower()
    split = split.replace(SPLIT_ALIASES)
    unknown = sorted(set(split) - {*SPLITS, ""})
    if unknown:
        raise DataError(f"the column split holds {_listed(unknown)}; wanted {_listed(SPLITS)}, or nothing to split by event")
    metadata["split"] = split
    missing = split == ""
    if not missing.any():
        return
    key = next((k for k in ("source_id", "source_event_id", "source_origin_time", "trace_name") if k in metadata), None)
    if key is None:
        raise DataError(f"records have neither a split nor an event: wanted source_id among {_listed(metadata.columns)}")
    events = metadata[key].where(metadata[key].notna(), metadata["trace_name"]).astype(str)
    known = dict(zip(events[~missing], split[~missing], strict=True))
    dealt = {event: known.get(event) or _split_of(event) for event in events[missing].unique()}
    metadata.loc[missing, "split"] = events[missing].map(dealt)


def say_unpicked(metadata: pd.DataFrame) -> None:
    """Mark a phase that a set has no column for as unpicked, in place, except in records of noise.

    Such a set says nothing of that phase, which is not the same as its absence.
    """
    named = set(phase_columns(metadata).values())
    noise = metadata.filter(["trace_category", "source_type"]).isin(["noise"]).any(axis=1)
    for phase in ("P", "S"):
        status = f"trace_{phase.lower()}_status"
        if phase not in named and status not in metadata:
            metadata[status] = np.where(noise, "noise", UNPICKED)


def split_data(data: WaveformData) -> tuple[WaveformData, WaveformData, WaveformData]:
    """Training, development and test records; the test split may be empty.

    Raises:
        DataError: nothing to train on, or nothing to develop on.
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
    """Sixteen hexadecimal digits that change when records, picks, their statuses or splits change, or the samples of a few records."""
    columns = ["trace_name", "split", *phase_columns(data.metadata), *data.metadata.filter(regex=STATUS_COLUMN)]
    rows = pd.util.hash_pandas_object(data.metadata[columns].astype(str), index=False)
    running = hashlib.sha256(rows.to_numpy().tobytes())
    for row in np.unique(np.linspace(0, len(data) - 1, LOOKED_AT, dtype=int)):
        running.update(np.ascontiguousarray(data.get_waveforms(int(row)), dtype=np.float64).tobytes())
    return running.hexdigest()[:16]


def _open_part(name: str, synthetic_records: int, seed: int) -> sbd.WaveformDataset:
    if name == "synthetic":
        with tempfile.TemporaryDirectory(prefix="xiaonet-") as folder:
            synthetic.write(Path(folder), synthetic_records, seed)
            return _open_folder(Path(folder), name, keep=True)
    path = Path(name).expanduser()
    if _holds_data(path):
        return _open_folder(path, path.resolve().name)
    kind = getattr(sbd, name, None) if name.isidentifier() else None
    if isinstance(kind, type) and issubclass(kind, sbd.WaveformDataset):
        try:
            data = kind(**_format(cache=None))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"{name}: seisbench.data.{name} cannot be had: {error}. Place its files in {seisbench.cache_data_root}"
            ) from error
        return _checked(name, data)
    stored = seisbench.cache_data_root / name
    if not path.is_absolute() and _holds_data(stored):
        return _open_folder(stored, name)
    raise DataError(
        f"data set {name!r} not found: it is no class of seisbench.data, and there is no metadata.csv in "
        f"{path.absolute()} or {stored}. Place metadata.csv and waveforms.hdf5 in one of these folders, "
        "set SEISBENCH_CACHE_ROOT, or use --data synthetic"
    )


def _holds_data(path: Path) -> bool:
    """Whether it is a folder in SeisBench's format, in one piece or in chunks."""
    return any(path.glob("metadata*.csv"))


def _open_folder(path: Path, name: str, keep: bool = False) -> sbd.WaveformDataset:
    waveforms = sorted(path.glob("waveforms*.hdf5"))
    if not waveforms:
        raise DataError(f"{path} has metadata.csv but no waveforms.hdf5; both are needed")
    small = keep or sum(file.stat().st_size for file in waveforms) < CACHE_BELOW
    try:
        data = _FolderDataset(path, name=name, **_format(cache="full" if small else None))
        if small:
            data.preload_waveforms()
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a SeisBench data set: {error}") from error
    return _checked(name, data)


class _FolderDataset(sbd.WaveformDataset):
    """SeisBench's data set, whose resampling would spread one missing sample over the whole record."""

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
    turned = [order for order in data.metadata["trace_component_order"].unique() if set("12") & set(str(order))]
    if turned:
        console.warn(
            "Data", "horizontals of unknown azimuth", f"{name} stores {', '.join(turned)}; 1 and 2 are left out, not taken for N and E"
        )
    for column in phase_columns(data.metadata):
        _make_numbers(name, data.metadata, column)
    _make_numbers(name, data.metadata, "trace_sampling_rate_hz")
    unknown = int((~(data.metadata["trace_sampling_rate_hz"] > 0)).sum())
    if unknown:
        raise DataError(f"{name}: {unknown} of {len(data)} records have no sampling rate above 0; fill the column trace_sampling_rate_hz")
    return data


def _make_numbers(name: str, metadata: pd.DataFrame, column: str) -> None:
    numbers = pd.to_numeric(metadata[column], errors="coerce")
    words = metadata[column][metadata[column].notna() & numbers.isna()]
    if len(words):
        raise DataError(f"{name}: {column} holds {words.iloc[0]!r} in {len(words)} of {len(metadata)} records; wanted numbers or nothing")
    metadata[column] = numbers


def _split_of(event: str) -> str:
    position = int.from_bytes(hashlib.sha256(event.encode()).digest()[:8], "big") / 2**64
    return SPLITS[int(np.searchsorted(np.cumsum(SPLIT_SHARES[:-1]), position, side="right"))]


def _warn_of_outside_picks(spec: str, metadata: pd.DataFrame) -> None:
    if "trace_npts" not in metadata:
        return
    picks = metadata[list(phase_columns(metadata))]
    outside = int(((picks < 0) | picks.ge(metadata["trace_npts"], axis=0)).any(axis=1).sum())
    if outside:
        console.warn("Data", "picks outside their traces", f"{spec}: {outside} records; these picks are not taught")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(str, names))
