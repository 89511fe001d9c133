"""Teacher targets of whole records, computed once. After that, a training window is only a crop."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from seisbench.data import MultiWaveformDataset
from torch import Tensor

from xiaonet import __version__, console
from xiaonet.constants import NOISE, WINDOW_SAMPLES
from xiaonet.data.columns import first_picks
from xiaonet.data.pool import TrainingRecord
from xiaonet.data.sets import WaveformData, fingerprint, open_data, require_window
from xiaonet.errors import DataError
from xiaonet.files import write_atomically
from xiaonet.io.archive import Archive
from xiaonet.nn.checkpoint import DAMAGE, digest
from xiaonet.nn.teacher import Teacher, remove_delay
from xiaonet.picking.spans import true_spans
from xiaonet.picking.stacking import Stack
from xiaonet.picking.windows import fill_nonfinite

Network = Callable[[Tensor], Tensor]
Raw = tuple[str, NDArray[np.float32], tuple[float, float], bool]  # source, waveform, onsets, manual

TEACHER_BATCH = 64  # windows given to a teacher at once
WINDOW_STEPS = {9000: 750, 100_000: 1000}  # samples between windows, for records shorter than this
LONG_WINDOW_STEP = 1500  # samples between windows of longer records


def gather(labelled: str, unlabelled: str = "", continuous: Iterable[str] = ()) -> Iterator[Raw]:
    """Read the records to train on: labelled ones, unlabelled ones, and stretches of an archive without gaps.

    Args:
        labelled: name of a data set, as for `open_data`. Its train split is used.
        unlabelled: the same for a data set without picks; none if empty.
        continuous: miniSEED files, folders and globs.

    Yields:
        Source, demeaned waveform `(3, samples)`, samples of P and S, and whether an analyst made the picks. The source
        is `manual` for picks of analysts, `automatic` for other labelled records, `unlabelled`, or `continuous`.

    Raises:
        DataError: a data set cannot be opened, or a record is shorter than a window.
    """
    records = open_data(labelled)
    yield from _records(labelled, records)
    if unlabelled:  # a data set needs a pick column, so open it together with the labelled one
        yield from _records(unlabelled, open_data(f"{labelled}+{unlabelled}"), len(records))
    for waveform in _stretches(list(continuous)):
        yield "continuous", waveform, (np.nan, np.nan), False


@torch.inference_mode()
def teacher_probabilities(waveform: NDArray[np.float32], network: Network) -> NDArray[np.float16]:
    """Probabilities `(2, samples)` of P and S for a record `(3, samples)`, stacked from overlapping windows."""
    samples = waveform.shape[1]
    step = next((step for length, step in WINDOW_STEPS.items() if samples < length), LONG_WINDOW_STEP)
    last = samples - WINDOW_SAMPLES
    starts = [*range(0, last, step), last]
    stack = Stack(NOISE, samples)
    for group in range(0, len(starts), TEACHER_BATCH):
        batch = starts[group : group + TEACHER_BATCH]
        windows = np.stack([waveform[:, at : at + WINDOW_SAMPLES] for at in batch])
        windows -= windows.mean(axis=-1, keepdims=True)
        for at, curve in zip(batch, network(torch.from_numpy(windows)).numpy(), strict=True):
            stack.add(curve[:NOISE], at)
    return stack.mean().astype(np.float32).astype(np.float16)


def fuse(
    probabilities: Mapping[str, NDArray[np.float16]], teacher_weights: Mapping[str, float], delays: Mapping[str, int]
) -> NDArray[np.float16]:
    """The weighted mean of several teachers, each shifted to an earlier time by its delay.

    Args:
        probabilities: `(2, samples)` of P and S by each teacher.
        teacher_weights: weight of each teacher; they sum to 1.
        delays: samples by which a teacher's picks come after the analysts'; negative if before, 0 if not given.
    """
    fused = sum(
        weight * remove_delay(probabilities[name].astype(np.float32), delays.get(name, 0)) for name, weight in teacher_weights.items()
    )
    return np.asarray(fused, dtype=np.float16)


def compute_targets(
    records: Iterable[Raw], teachers: Mapping[str, Network], teacher_weights: Mapping[str, float], delays: Mapping[str, int]
) -> Iterator[TrainingRecord]:
    """Add the fused teacher target to records from `gather`. Weights and delays are as in `fuse`."""
    for source, waveform, onsets, manual in records:
        found = {name: teacher_probabilities(waveform, teacher) for name, teacher in teachers.items()}
        yield TrainingRecord(source, waveform, fuse(found, teacher_weights, delays), onsets, manual)


def describe_inputs(data: WaveformData, files: Iterable[Path], teachers: Mapping[str, Teacher]) -> dict[str, Any]:
    """Everything that targets are computed from, by content. Any other sample, pick or weight gives another description.

    Args:
        data: the labelled and unlabelled records.
        files: of the continuous records.
        teachers: by name.
    """
    parts = data.datasets if isinstance(data, MultiWaveformDataset) else [data]
    stored = [file for part in parts for kind in ("metadata*.csv", "waveforms*.hdf5") for file in sorted(part.path.glob(kind))]
    return {
        "version": __version__,
        "data": fingerprint(data),
        "files": [(file.name, _file_digest(file)) for file in (*stored, *files)],
        "teachers": {name: (digest(teacher.state_dict()), teacher.describe()) for name, teacher in teachers.items()},
    }


def save_records(records: list[TrainingRecord], path: Path, made_by: object) -> None:
    """Write records to one file, together with a digest of `made_by`, plain values that describe what they were computed from.

    Raises:
        XiaoNetError: the file cannot be written.
    """
    content: dict[str, Any] = {
        "made_by": np.array(_json_digest(made_by)),
        "sources": np.array([record.source for record in records]),
        "lengths": np.array([record.samples for record in records]),
        "onsets": np.array([record.onsets for record in records]),
        "manual": np.array([record.manual for record in records]),
        "waveforms": np.concatenate([record.waveform for record in records], axis=1),
        "targets": np.concatenate([record.target for record in records], axis=1),
    }
    write_atomically(path, lambda file: np.savez(file, **content))


def load_records(path: Path, made_by: object) -> list[TrainingRecord] | None:
    """Read the records of such a file.

    Returns:
        None if the file does not exist, or was computed from something else.

    Raises:
        DataError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        with np.load(path) as file:
            if str(file["made_by"]) != _json_digest(made_by):
                return None
            bounds = np.cumsum(file["lengths"])[:-1]
            waveforms, targets = (np.split(file[key], bounds, axis=1) for key in ("waveforms", "targets"))
            rows = zip(file["sources"], waveforms, targets, file["onsets"], file["manual"], strict=True)
            return [TrainingRecord(str(s), w, t, (float(p_s[0]), float(p_s[1])), bool(m)) for s, w, t, p_s, m in rows]
    except DAMAGE as error:
        raise DataError(f"{path} is damaged: {str(error).splitlines()[0]}; delete it, and it will be computed again") from error


def _records(name: str, data: WaveformData, first: int = 0) -> Iterator[Raw]:
    """The train split of a data set, from row `first` on."""
    for row in np.flatnonzero(data.metadata["split"] == "train"):
        if row < first:
            continue
        waveform, metadata = data.get_sample(int(row))
        (p, manual_p), (s, manual_s) = first_picks(metadata, waveform.shape[1])
        manual = manual_p or manual_s
        require_window(name, metadata, waveform.shape[1])
        yield "manual" if manual else "unlabelled" if first else "automatic", _demeaned(waveform), (p, s), manual


def _stretches(paths: list[str]) -> Iterator[NDArray[np.float32]]:
    archive, found = Archive(paths), False
    for instrument in archive.instruments:
        for segment in instrument.segments:
            waveform, bridged = instrument.waveform(segment, segment.first, segment.end)
            whole = ~(np.isnan(waveform) | bridged).any(axis=0)
            for low, high in true_spans(np.asarray(whole)):
                if high - low >= 2 * WINDOW_SAMPLES:
                    found = True
                    yield _demeaned(waveform[:, low:high])
    for problem in archive.problems:
        console.warn("Skipped", problem)
    if paths and not found:
        console.warn("Skipped", "continuous records", f"no three components without gaps for a minute in {', '.join(paths)}")


def _demeaned(waveform: NDArray[np.generic]) -> NDArray[np.float32]:
    filled = fill_nonfinite(waveform)
    return np.asarray(filled - filled.mean(axis=1, keepdims=True), dtype=np.float32)


def _json_digest(made_by: object) -> str:
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
