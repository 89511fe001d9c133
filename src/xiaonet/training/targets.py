"""What several teachers say of whole records, worked out once: after that, a training window is a crop."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xiaonet import console
from xiaonet.constants import NOISE, WINDOW_SAMPLES
from xiaonet.data.columns import first_picks
from xiaonet.data.pool import TrainingRecord
from xiaonet.data.sets import WaveformData, open_data, require_window
from xiaonet.errors import DataError
from xiaonet.files import write_atomically
from xiaonet.io.archive import Archive
from xiaonet.nn.checkpoint import DAMAGE
from xiaonet.nn.teacher import remove_delay
from xiaonet.picking.spans import true_spans
from xiaonet.picking.stacking import Stack
from xiaonet.picking.windows import fill_nonfinite

Network = Callable[[Tensor], Tensor]
Raw = tuple[str, NDArray[np.float32], tuple[float, float], bool]  # source, waveform, onsets, manual

BATCH = 64  # windows that a teacher looks at at once
SHORT, LONG = 9000, 100_000  # samples; shorter records are looked at by denser windows
HOPS = (750, 1000, 1500)  # samples between windows on short, middling and long records


def gather(labelled: str, unlabelled: str = "", continuous: Iterable[str] = ()) -> Iterator[Raw]:
    """Records to train on, without offset: labelled ones, unlabelled ones and the gap-free stretches of an archive.

    Sources are `manual` for what an analyst picked, `automatic` for the rest of the labelled set, `unlabelled` and
    `continuous`.

    Args:
        labelled: what `open_data` opens; its train split is taken.
        unlabelled: a set without picks, likewise; none if empty.
        continuous: miniSEED files, folders and globs.

    Raises:
        DataError: a set cannot be opened, or a record is shorter than a window.
    """
    records = open_data(labelled)
    yield from _records(labelled, records)
    if unlabelled:  # SeisBench's sets need a pick somewhere, so it is opened beside the labelled one
        yield from _records(unlabelled, open_data(f"{labelled}+{unlabelled}"), len(records))
    for waveform in _stretches(list(continuous)):
        yield "continuous", waveform, (np.nan, np.nan), False


@torch.inference_mode()
def teacher_curves(waveform: NDArray[np.float32], network: Network) -> NDArray[np.float16]:
    """Probabilities `(2, samples)` of P and S for a record `(3, samples)`, from windows that fade where they overlap."""
    samples = waveform.shape[1]
    hop = HOPS[0] if samples < SHORT else HOPS[1] if samples < LONG else HOPS[2]
    last = samples - WINDOW_SAMPLES
    starts = [*range(0, last, hop), last]
    stack = Stack(NOISE, samples)
    for group in range(0, len(starts), BATCH):
        batch = starts[group : group + BATCH]
        windows = np.stack([waveform[:, at : at + WINDOW_SAMPLES] for at in batch])
        windows -= windows.mean(axis=-1, keepdims=True)
        for at, curve in zip(batch, network(torch.from_numpy(windows)).numpy(), strict=True):
            stack.add(curve[:NOISE], at)
    return stack.mean().astype(np.float32).astype(np.float16)


def fuse(curves: Mapping[str, NDArray[np.float16]], shares: Mapping[str, float], late: Mapping[str, int]) -> NDArray[np.float16]:
    """The teachers' weighted mean, each shifted early by the samples that it reads late.

    Args:
        curves: `(2, samples)` of P and S by each teacher.
        shares: weight of each teacher; they sum to 1.
        late: samples by which its picks come after the analysts'; negative where they come before.
    """
    fused = sum(share * remove_delay(curves[name].astype(np.float32), late.get(name, 0)) for name, share in shares.items())
    return np.asarray(fused, dtype=np.float16)


def look(
    raw: Iterable[Raw], teachers: Mapping[str, Network], shares: Mapping[str, float], late: Mapping[str, int]
) -> Iterator[TrainingRecord]:
    """Records with the fused teachers' targets."""
    for source, waveform, onsets, manual in raw:
        seen = {name: teacher_curves(waveform, teacher) for name, teacher in teachers.items()}
        yield TrainingRecord(source, waveform, fuse(seen, shares, late), onsets, manual)


def save_records(records: list[TrainingRecord], path: Path, made_by: object) -> None:
    """Keep records in one file, with what they were made by, so that it is not taken for another's."""
    content: dict[str, Any] = {
        "made_by": np.array(_digest(made_by)),
        "sources": np.array([record.source for record in records]),
        "lengths": np.array([record.samples for record in records]),
        "onsets": np.array([record.onsets for record in records]),
        "manual": np.array([record.manual for record in records]),
        "waveforms": np.concatenate([record.waveform for record in records], axis=1),
        "targets": np.concatenate([record.target for record in records], axis=1),
    }
    write_atomically(path, lambda file: np.savez(file, **content))


def load_records(path: Path, made_by: object) -> list[TrainingRecord] | None:
    """The records of such a file; None if there is none, or one made by something else.

    Raises:
        DataError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        with np.load(path) as file:
            if str(file["made_by"]) != _digest(made_by):
                return None
            bounds = np.cumsum(file["lengths"])[:-1]
            waveforms, targets = (np.split(file[key], bounds, axis=1) for key in ("waveforms", "targets"))
            rows = zip(file["sources"], waveforms, targets, file["onsets"], file["manual"], strict=True)
            return [TrainingRecord(str(s), w, t, (float(p_s[0]), float(p_s[1])), bool(m)) for s, w, t, p_s, m in rows]
    except DAMAGE as error:
        raise DataError(f"{path} is damaged: {str(error).splitlines()[0]}; delete it, and it is made again") from error


def _records(name: str, data: WaveformData, first: int = 0) -> Iterator[Raw]:
    """The train split of a set, or of what joins it from row `first` on."""
    for row in np.flatnonzero(data.metadata["split"] == "train"):
        if row < first:
            continue
        waveform, metadata = data.get_sample(int(row))
        (p, manual_p), (s, manual_s) = first_picks(metadata, waveform.shape[1])
        manual = manual_p or manual_s
        require_window(name, metadata, waveform.shape[1])
        yield "manual" if manual else "unlabelled" if first else "automatic", _still(waveform), (p, s), manual


def _stretches(paths: list[str]) -> Iterator[NDArray[np.float32]]:
    archive, found = Archive(paths), False
    for instrument in archive.instruments:
        for segment in instrument.segments:
            waveform, bridged = instrument.waveform(segment, segment.first, segment.end)
            whole = ~(np.isnan(waveform) | bridged).any(axis=0)
            for low, high in true_spans(np.asarray(whole)):
                if high - low >= 2 * WINDOW_SAMPLES:
                    found = True
                    yield _still(waveform[:, low:high])
    for problem in archive.problems:
        console.warn("Skipped", problem)
    if paths and not found:
        console.warn("Skipped", "continuous records", f"no three components without gaps for a minute in {', '.join(paths)}")


def _still(waveform: NDArray[np.generic]) -> NDArray[np.float32]:
    filled = fill_nonfinite(waveform)
    return np.asarray(filled - filled.mean(axis=1, keepdims=True), dtype=np.float32)


def _digest(made_by: object) -> str:
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()
