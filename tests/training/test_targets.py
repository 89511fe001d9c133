import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from obspy import UTCDateTime

from stand_in import record, write_days
from xiaonet.data.pool import TrainingRecord
from xiaonet.data.sets import open_data
from xiaonet.errors import DataError
from xiaonet.nn.teacher import PhaseNetTeacher
from xiaonet.training.targets import compute_targets, describe_inputs, fuse, gather, load_records, save_records, teacher_probabilities


def _spike_detector(windows: torch.Tensor) -> torch.Tensor:
    """P where the vertical is above 10, S where it is below -10."""
    p, s = (windows[:, 2] > 10).float(), (windows[:, 2] < -10).float()
    return torch.stack([p, s, 1 - p - s], dim=1)


@pytest.mark.parametrize("samples", [3001, 3002, 6001, 9001])
def test_every_sample_is_covered_at_any_record_length(samples: int) -> None:
    waveform = np.zeros((3, samples), np.float32)
    waveform[2, [0, 1500, samples - 1]] = 100
    waveform[2, 2000] = -100
    curves = teacher_probabilities(waveform, _spike_detector)
    assert_array_equal([0, 1500, samples - 1], np.flatnonzero(curves[0]))
    assert_array_equal([2000], np.flatnonzero(curves[1]))
    assert np.float16 == curves.dtype
    assert_array_equal([1, 1, 1, 1], [*curves[0, [0, 1500, samples - 1]], curves[1, 2000]])


def test_an_offset_changes_nothing() -> None:
    waveform = np.random.default_rng(0).normal(size=(3, 4000)).astype(np.float32)
    waveform[2, 700] = 50
    assert_array_equal(teacher_probabilities(waveform, _spike_detector), teacher_probabilities(waveform + 1000, _spike_detector))


def test_teachers_are_weighted_and_shifted_by_their_delay() -> None:
    one, other = np.zeros((2, 100), np.float16), np.zeros((2, 100), np.float16)
    one[0, 50], other[0, 52] = 1, 1
    fused = fuse({"one": one, "other": other}, {"one": 0.25, "other": 0.75}, {"other": 2})
    assert_array_equal([50], np.flatnonzero(fused[0]))
    assert 1.0 == fused[0, 50]
    early = fuse({"one": one}, {"one": 1.0}, {"one": -1})
    assert_array_equal([51], np.flatnonzero(early[0]))
    one[1, 0] = 1  # at the end of a record nothing comes round from its start
    assert_array_equal([], np.flatnonzero(fuse({"one": one}, {"one": 1.0}, {"one": 2})[1]))


def test_records_of_all_sources(write_set, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    labelled = write_set(
        [rng.normal(size=(3, 3100)).astype(np.float32) + 7 for _ in range(3)],
        name="labelled",
        split=["train", "train", "dev"],
        trace_p_arrival_sample=[100.0, np.nan, 100.0],
        trace_s_arrival_sample=[np.nan, 300.0, 200.0],
        trace_p_status=["manual", "unpicked", "manual"],
        trace_s_status=["unpicked", "automatic", "manual"],
    )
    quiet = write_set([rng.normal(size=(3, 3100))], name="quiet", split=["train"], trace_p_status=["unpicked"], trace_s_status=["unpicked"])
    archive = write_days(record(UTCDateTime(2024, 1, 2), seconds=90), tmp_path / "sds")
    found = list(gather(str(labelled), str(quiet), [str(archive), str(tmp_path / "nowhere")]))
    assert ["manual", "automatic", "unlabelled", "continuous"] == [source for source, *_ in found]
    assert_array_equal([[100, np.nan], [np.nan, 300], [np.nan, np.nan], [np.nan, np.nan]], [onsets for _, _, onsets, _ in found])
    assert [True, False, False, False] == [manual for *_, manual in found]
    assert 9000 == found[3][1].shape[1]
    assert_allclose(0, [waveform.mean() for _, waveform, *_ in found[:3]], atol=1e-5)
    assert "nowhere: no such file or folder" in capsys.readouterr().out


def test_picks_are_found_by_any_name_within_their_records_and_count_as_manual_unless_automatic(write_set) -> None:
    records = write_set(
        [np.ones((3, 3100))] * 5,
        split=["train"] * 5,
        trace_Pg_arrival_sample=[100.0, 100.0, 3100.0, -5.0, 100.0],
        trace_Sn_arrival_sample=[200.0, np.nan, np.nan, np.nan, np.nan],
        trace_Pg_status=["automatic", "", "manual", "manual", "autopicker"],  # STEAD's word
        trace_Sn_status=["automatic"] * 5,
    )
    found = list(gather(str(records)))
    assert ["automatic", "manual", "automatic", "automatic", "automatic"] == [source for source, *_ in found]
    assert_array_equal([[100, 200], [100, np.nan], [np.nan] * 2, [np.nan] * 2, [100, np.nan]], [onsets for _, _, onsets, _ in found])


def test_samples_interpolated_across_a_gap_are_not_trained_on(write_set, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nine seconds are missing after 100 of 300, less than what the picker bridges."""
    labelled = write_set([np.ones((3, 3100))], split=["train"], trace_p_arrival_sample=[5.0])
    stream, start = record(UTCDateTime(2024, 1, 2), seconds=300), UTCDateTime(2024, 1, 2)
    before = write_days(stream.slice(endtime=start + 99.99), tmp_path / "before")
    after = write_days(stream.slice(starttime=start + 109), tmp_path / "after")
    found = [waveform.shape[1] for source, waveform, *_ in gather(str(labelled), "", [str(before), str(after)]) if source == "continuous"]
    assert [10_000, 19_100] == found
    vertical = write_days(stream.select(component="Z"), tmp_path / "vertical")
    assert 1 == len(list(gather(str(labelled), "", [str(vertical)])))
    assert "no three components without gaps for a minute" in capsys.readouterr().out


def test_a_record_shorter_than_a_window_is_refused(write_set) -> None:
    short = write_set([np.ones((3, 2000))], split=["train"], trace_p_arrival_sample=[5.0])
    with pytest.raises(DataError, match="has 2000 samples; wanted at least 3001"):
        list(gather(str(short)))


def test_records_are_the_same_after_saving_and_loading(tmp_path: Path) -> None:
    path = tmp_path / "records.npz"
    rng = np.random.default_rng(0)
    records = [
        TrainingRecord(source, rng.normal(size=(3, n)).astype(np.float32), rng.random((2, n)).astype(np.float16), onsets, manual)
        for source, n, onsets, manual in (("a", 3001, (5.0, np.nan), True), ("b", 4000, (np.nan, np.nan), False))
    ]
    assert load_records(path, "x") is None
    save_records(records, path, "x")
    for expected, actual in zip(records, load_records(path, "x"), strict=True):
        assert (expected.source, expected.manual) == (actual.source, actual.manual)
        assert_array_equal(expected.onsets, actual.onsets)
        assert_array_equal(expected.waveform, actual.waveform)
        assert_array_equal(expected.target, actual.target)
    assert load_records(path, "y") is None
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"is damaged: .*; delete it, and it will be computed again"):
        load_records(path, "x")


def test_inputs_are_described_by_their_content(write_set, teacher_file: Path, tmp_path: Path) -> None:
    """A sample of any record, a setting beside the samples, a continuous sample, or a weight: each change shows; another place does not."""
    rng = np.random.default_rng(0)
    folder = write_set([rng.normal(size=(3, 3100)).astype(np.float32) for _ in range(9)], trace_p_arrival_sample=[5.0] * 9)
    day = tmp_path / "day.mseed"
    day.write_bytes(b"one")

    def described(teacher: Path = teacher_file, folder: Path = folder, day: Path = day) -> dict[str, object]:
        return describe_inputs(open_data(str(folder)), [day], {"it": PhaseNetTeacher.from_pretrained(str(teacher))})

    before = described()
    copies = [Path(shutil.copytree(folder, tmp_path / f"copy {number}" / folder.name)) for number in range(3)]
    assert before == described(folder=copies[0])
    with h5py.File(copies[1] / "waveforms.hdf5", "r+") as file:
        samples = file["data"]["bucket0"]
        samples[3, 2, 1700] = samples[3, 2, 1700] + 1
    metadata = pd.read_csv(copies[2] / "metadata.csv")
    metadata.assign(trace_sampling_rate_hz=50.0).to_csv(copies[2] / "metadata.csv", index=False)
    (tmp_path / "later").mkdir()
    other = tmp_path / "later" / day.name
    other.write_bytes(b"two")
    weights = _with_another_weight(teacher_file, tmp_path / "later")
    changed = [described(folder=copies[1]), described(folder=copies[2]), described(day=other), described(teacher=weights)]
    assert 5 == len({json.dumps(description, sort_keys=True) for description in (before, *changed)})


def _with_another_weight(teacher_file: Path, folder: Path) -> Path:
    """A teacher file of the same name and size."""
    shutil.copy(teacher_file.with_suffix(".json"), folder)
    weights = torch.load(teacher_file)
    weights["inc.weight"] = -weights["inc.weight"]
    other = folder / teacher_file.name
    torch.save(weights, other)
    assert other.stat().st_size == teacher_file.stat().st_size
    return other


@pytest.mark.parametrize(("name", "delay"), [("stead", -1), ("original", 2), ("okla", -1)])
def test_delay_of_each_teacher_on_analysts_picks(labelled: Path, teachers: Path, name: str, delay: int) -> None:
    """The figure of the recipes, on the analysts' P of every fifth training record; half a sample is left to chance."""
    rows = [raw for raw in gather(str(labelled)) if raw[3]][::5]
    [share] = [{name: 1.0}]
    residuals = []
    for found in compute_targets(rows, {name: PhaseNetTeacher.from_pretrained(name)}, share, {}):
        at = int(found.onsets[0])
        near = found.target[0, at - 50 : at + 51]
        if near.max() > 0.1:
            residuals.append(int(near.argmax()) - 50)
    assert abs(float(np.median(residuals)) - delay) <= 1
