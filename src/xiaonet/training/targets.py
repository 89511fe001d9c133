"""Teacher targets of whole records, computed once. After that, a training window is only a crop."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from seisbench.data import MultiWaveformDataset

from xiaonet import __version__, console
from xiaonet.config.schema import Config
from xiaonet.constants import WINDOW_SAMPLES
from xiaonet.data.columns import first_picks
from xiaonet.data.pool import TrainingRecord
from xiaonet.data.sets import WaveformData, fingerprint, open_data
from xiaonet.errors import DataError
from xiaonet.files import make_folder, write_atomically
from xiaonet.io.archive import Archive
from xiaonet.nn.checkpoint import DAMAGE, digest
from xiaonet.nn.teacher import Delay, FusedTeacher, Teacher, delays_by_phase, remove_delay
from xiaonet.picking.spans import true_spans
from xiaonet.picking.windows import fill_nonfinite
from xiaonet.training.reading import describe_reading, predict_record, window_starts
from xiaonet.training.setup import locate_data

Raw = tuple[str, NDArray[np.float32], tuple[float, float], bool]  # source, waveform, onsets, manual


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
        DataError: a data set cannot be opened.
    """
    records = open_data(labelled)
    yield from _records(labelled, records)
    if unlabelled:  # a data set needs a pick column, so open it together with the labelled one
        yield from _records(unlabelled, open_data(f"{labelled}+{unlabelled}"), len(records))
    for waveform in _stretches(list(continuous)):
        yield "continuous", waveform, (np.nan, np.nan), False


def fuse(
    probabilities: Mapping[str, NDArray[np.float16]], teacher_weights: Mapping[str, float], delays: Mapping[str, Delay]
) -> NDArray[np.float16]:
    """The weighted mean of several teachers, each shifted to an earlier time by its delay.

    Args:
        probabilities: `(2, samples)` of P and S by each teacher.
        teacher_weights: weight of each teacher; they sum to 1.
        delays: samples by which a teacher's picks come after the analysts', or one number for P and one for S; negative if
            before, 0 if not given.
    """
    fused = np.zeros_like(next(iter(probabilities.values())), dtype=np.float32)
    for name, weight in teacher_weights.items():
        for row, delay in enumerate(delays_by_phase(delays.get(name, 0))):
            fused[row] += weight * remove_delay(probabilities[name][row].astype(np.float32), delay)
    return fused.astype(np.float16)


def find_records(config: Config, teachers: FusedTeacher, path: Path) -> list[TrainingRecord]:
    """Return all records with the teachers' targets.

    Records are read once and kept in a file, and so are the predictions of each teacher, in a file beside it. Another
    weight or delay of a teacher needs no new predictions.

    Args:
        config: names the data.
        teachers: predict the records.
        path: of the file of records. Another run with the same data can use it too.

    Raises:
        XiaoNetError: data cannot be opened, or a file cannot be read or written.
    """
    labelled, unlabelled, continuous = locate_data(config.data)
    data = open_data("+".join(filter(None, (labelled, unlabelled))))
    inputs = describe_inputs(data, Archive(continuous).files)
    inputs["names"] = [config.data.name, config.data.unlabelled, list(config.data.continuous)]
    make_folder(path.parent)
    if (records := load_records(path, inputs)) is not None:
        console.ok("Records", f"{len(records)} read", str(path))
    else:
        records = list(gather(labelled, unlabelled, continuous))
        if not records:
            raise DataError(f"{labelled} has no record in its train split; wanted some to learn from")
        save_records(records, path, inputs)
        console.ok("Records", f"{len(records)} found", str(path))
    predictions = {name: find_predictions(records, teacher, path, inputs) for name, teacher in teachers.members.items()}
    targets = [
        fuse({name: found[row] for name, found in predictions.items()}, teachers.weights, teachers.delays) for row in range(len(records))
    ]
    return [
        TrainingRecord(source, wave, target, onsets, manual)
        for (source, wave, onsets, manual), target in zip(records, targets, strict=True)
    ]


def find_predictions(records: Sequence[Raw], teacher: Teacher, records_path: Path, inputs: Mapping[str, Any]) -> list[NDArray[np.float16]]:
    """Return the predictions `(2, samples)` of a teacher for records, which are computed once and kept in a file.

    Args:
        records: from `gather`.
        teacher: predicts them. Its name is a part of the file's name.
        records_path: of the file of records. The file of predictions lies beside it.
        inputs: describe the records, from `describe_inputs`.

    Raises:
        XiaoNetError: the file cannot be read or written.
    """
    path = records_path.with_name(f"{records_path.stem}-{re.sub(r'[^A-Za-z0-9._@-]+', '_', teacher.name)}.npz")
    made_by = {"records": inputs, "teacher": digest(teacher.state_dict()), "described": teacher.describe(), "reading": describe_reading()}
    lengths = [record[1].shape[1] for record in records]
    content = _load(path, made_by)
    if content is None:
        windows = sum(len(window_starts(samples, teacher.window_samples)) for samples in lengths)
        predictions = []
        with console.WindowProgress(f"Predictions of {teacher.name}", windows) as bar:
            for _, waveform, _, _ in records:
                predictions.append(predict_record(waveform, teacher))
                bar.update(len(window_starts(waveform.shape[1], teacher.window_samples)))
        content = {"predictions": np.concatenate(predictions, axis=1)}
        _save(path, made_by, content)
    console.ok("Predictions", teacher.name, str(path))
    return np.split(content["predictions"], np.cumsum(lengths)[:-1], axis=1)


def describe_inputs(data: WaveformData, files: Iterable[Path]) -> dict[str, Any]:
    """Everything that records are read from, by content. Any other sample or pick gives another description.

    Args:
        data: the labelled and unlabelled records.
        files: of the continuous records.
    """
    parts = data.datasets if isinstance(data, MultiWaveformDataset) else [data]
    stored = [file for part in parts for kind in ("metadata*.csv", "waveforms*.hdf5") for file in sorted(part.path.glob(kind))]
    return {
        "version": __version__,
        "data": fingerprint(data),
        "files": [(file.name, _file_digest(file)) for file in (*stored, *files)],
    }


def save_records(records: Sequence[Raw], path: Path, made_by: object) -> None:
    """Write records to one file, together with a digest of `made_by`, plain values that describe what they were read from.

    Raises:
        XiaoNetError: the file cannot be written.
    """
    sources, waveforms, onsets, manual = zip(*records, strict=True)
    content = {
        "sources": np.array(sources),
        "lengths": np.array([waveform.shape[1] for waveform in waveforms]),
        "onsets": np.array(onsets),
        "manual": np.array(manual),
        "waveforms": np.concatenate(waveforms, axis=1),
    }
    _save(path, made_by, content)


def load_records(path: Path, made_by: object) -> list[Raw] | None:
    """Read the records of such a file.

    Returns:
        None if the file does not exist, or was made from something else.

    Raises:
        DataError: the file is damaged.
    """
    if (content := _load(path, made_by)) is None:
        return None
    waveforms = np.split(content["waveforms"], np.cumsum(content["lengths"])[:-1], axis=1)
    rows = zip(content["sources"], waveforms, content["onsets"], content["manual"], strict=True)
    return [(str(source), waveform, (float(p_s[0]), float(p_s[1])), bool(manual)) for source, waveform, p_s, manual in rows]


def _save(path: Path, made_by: object, content: Mapping[str, Any]) -> None:
    write_atomically(path, lambda file: np.savez(file, made_by=np.array(_json_digest(made_by)), **content))


def _load(path: Path, made_by: object) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        with np.load(path) as file:
            return dict(file) if str(file["made_by"]) == _json_digest(made_by) else None
    except DAMAGE as error:
        raise DataError(f"{path} is damaged: {str(error).splitlines()[0]}; delete it, and it will be computed again") from error


def _records(name: str, data: WaveformData, first: int = 0) -> Iterator[Raw]:
    """The train split of a data set, from row `first` on."""
    short = []
    for row in np.flatnonzero(data.metadata["split"] == "train"):
        if row < first:
            continue
        waveform, metadata = data.get_sample(int(row))
        (p, manual_p), (s, manual_s) = first_picks(metadata, waveform.shape[1])
        manual = manual_p or manual_s
        if waveform.shape[1] < WINDOW_SAMPLES:
            short.append(waveform.shape[1])
            continue
        yield "manual" if manual else "unlabelled" if first else "automatic", _demeaned(waveform), (p, s), manual
    if short:
        shown = f"{len(short)} records of {name} have {min(short)} to {max(short)} samples"
        console.warn("Skipped", shown, f"wanted at least {WINDOW_SAMPLES} (30 s)")


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
