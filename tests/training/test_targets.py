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
from xiaonet.data.sets import open_data
from xiaonet.errors import DataError
from xiaonet.nn.record_teacher import open_teacher
from xiaonet.nn.teacher import Teacher
from xiaonet.training.reading import predict_record
from xiaonet.training.targets import describe_inputs, find_predictions, fuse, gather, load_records, save_records


class SpikeDetector(Teacher):
    """P where the vertical is above 10 or, with its polarity reversed, below; S where a horizontal is."""

    name = "spikes"

    def __init__(self, window_samples: int = 3001, sampling_rate: float = 100.0) -> None:
        super().__init__()
        self.window_samples, self.sampling_rate = window_samples, sampling_rate
        self.windows = 0

    def annotate(self, windows: torch.Tensor) -> torch.Tensor:
        assert (3, self.window_samples) == windows.shape[1:]
        self.windows += len(windows)
        return torch.stack([windows[:, 2].abs() > 10, windows[:, 0].abs() > 10], dim=1).float()

    def logits(self, windows: torch.Tensor) -> torch.Tensor:
        raise AssertionError("a record is annotated")

    def describe(self) -> dict[str, object]:
        return {"window": self.window_samples}


@pytest.mark.parametrize("window", [3001, 6000])
@pytest.mark.parametrize("samples", [3001, 3002, 6001, 9001, 100_001])
def test_every_sample_is_covered_at_any_record_length(samples: int, window: int) -> None:
    waveform = np.zeros((3, samples), np.float32)
    waveform[2, [0, 1500, samples - 1]] = 100
    waveform[0, 2000] = -100
    curves = predict_record(waveform, SpikeDetector(window))
    assert_array_equal([0, 1500, samples - 1], np.flatnonzero(curves[0]))
    assert_array_equal([2000], np.flatnonzero(curves[1]))
    assert np.float16 == curves.dtype
    assert_array_equal([1, 1, 1, 1], [*curves[0, [0, 1500, samples - 1]], curves[1, 2000]])


def test_an_offset_changes_nothing() -> None:
    waveform = np.random.default_rng(0).normal(size=(3, 4000)).astype(np.float32)
    waveform[2, 700] = 50
    assert_array_equal(predict_record(waveform, SpikeDetector()), predict_record(waveform + 1000, SpikeDetector()))


def test_a_teacher_reads_a_record_at_its_own_rate_and_answers_at_the_time_of_the_onset() -> None:
    """A slow pulse around sample 4000 stays there, when every second sample is left out and the answer is brought back."""
    waveform = np.zeros((3, 9001), np.float32)
    waveform[2] = 100 * np.exp(-(((np.arange(9001) - 4000) / 20) ** 2))
    halved, whole = (predict_record(waveform, SpikeDetector(sampling_rate=rate)) for rate in (50.0, 100.0))
    assert whole.shape == halved.shape
    assert 4000 == np.flatnonzero(halved[0] > 0.5).mean() == np.flatnonzero(whole[0] > 0.5).mean()
    assert np.abs(halved.astype(float) - whole)[0].sum() <= 4  # the edges of the plateau, which is 60 samples wide


def test_windows_overlap_and_both_polarities_count() -> None:
    class OnlyPositive(SpikeDetector):
        def annotate(self, windows: torch.Tensor) -> torch.Tensor:
            return (windows[:, :2] > 10).float()

    waveform = np.zeros((3, 9001), np.float32)
    waveform[0, 4000], waveform[1, 5000] = 100, -100
    assert_array_equal([0.5, 0.5], predict_record(waveform, OnlyPositive())[[0, 1], [4000, 5000]])
    counted = SpikeDetector()
    predict_record(waveform, counted)
    assert 2 * 13 == counted.windows  # one every 500 samples


@pytest.mark.parametrize(("name", "window"), [("EQTransformer/volpick", 6000), ("ustc_sichuan@50", 3001), ("volpick", 3001)])
def test_real_teachers_of_other_windows_and_rates_find_the_analysts_p(labelled: Path, teachers: Path, name: str, window: int) -> None:
    teacher = open_teacher(name)
    rows = [raw for raw in gather(str(labelled)) if raw[3]][:20]
    found = [predict_record(waveform, teacher)[0] for _, waveform, _, _ in rows]
    near = [curve[int(p) - 50 : int(p) + 51].max() > 0.3 for curve, (_, _, (p, _), _) in zip(found, rows, strict=True)]
    assert (window, True) == (teacher.window_samples, sum(near) >= 17)


def test_a_change_of_units_changes_nothing_for_any_teacher(labelled: Path, teachers: Path) -> None:
    _, waveform, _, _ = next(raw for raw in gather(str(labelled)) if raw[3])
    for name in ("EQTransformer/volpick", "ustc_sichuan@50", "original"):
        teacher = open_teacher(name)
        one, other = (predict_record(unit * waveform / np.abs(waveform).max(), teacher).astype(float) for unit in (1e-9, 1e6))
        assert_allclose(one, other, atol=2e-3)


def test_teachers_are_weighted_and_shifted_by_their_delay() -> None:
    one, other = np.zeros((2, 100), np.float16), np.zeros((2, 100), np.float16)
    one[0, 50], other[0, 52] = 1, 1
    fused = fuse({"one": one, "other": other}, {"one": 0.25, "other": 0.75}, {"other": 2})
    assert_array_equal([50], np.flatnonzero(fused[0]))
    assert 1.0 == fused[0, 50]
    early = fuse({"one": one}, {"one": 1.0}, {"one": -1})
    assert_array_equal([51], np.flatnonzero(early[0]))
    both = fuse({"one": one}, {"one": 1.0}, {"one": (3, -2)})
    assert_array_equal([47], np.flatnonzero(both[0]))
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


def test_records_shorter_than_a_window_are_left_out_with_a_warning(write_set, capsys: pytest.CaptureFixture[str]) -> None:
    waveforms = [np.ones((3, 2000)), np.ones((3, 1500)), np.ones((3, 3001))]
    records = write_set(waveforms, split=["train"] * 3, trace_p_arrival_sample=[5.0] * 3)
    assert [3001] == [waveform.shape[1] for _, waveform, _, _ in gather(str(records))]
    told = " ".join(capsys.readouterr().out.split())
    assert f"2 records of {records} have 1500 to 2000 samples - wanted at least 3001 (30 s)" in told


def test_records_are_the_same_after_saving_and_loading(tmp_path: Path) -> None:
    path = tmp_path / "records.npz"
    rng = np.random.default_rng(0)
    records = [
        (source, rng.normal(size=(3, n)).astype(np.float32), onsets, manual)
        for source, n, onsets, manual in (("a", 3001, (5.0, np.nan), True), ("b", 4000, (np.nan, np.nan), False))
    ]
    assert load_records(path, "x") is None
    save_records(records, path, "x")
    for expected, actual in zip(records, load_records(path, "x"), strict=True):
        assert (expected[0], expected[3]) == (actual[0], actual[3])
        assert_array_equal(expected[2], actual[2])
        assert_array_equal(expected[1], actual[1])
    assert load_records(path, "y") is None
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"is damaged: .*; delete it, and it will be computed again"):
        load_records(path, "x")


def test_inputs_are_described_by_their_content(write_set, tmp_path: Path) -> None:
    """A sample of any record, a setting beside the samples or a continuous sample: each change shows; another place does not."""
    rng = np.random.default_rng(0)
    folder = write_set([rng.normal(size=(3, 3100)).astype(np.float32) for _ in range(9)], trace_p_arrival_sample=[5.0] * 9)
    day = tmp_path / "day.mseed"
    day.write_bytes(b"one")

    def described(folder: Path = folder, day: Path = day) -> dict[str, object]:
        return describe_inputs(open_data(str(folder)), [day])

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
    changed = [described(folder=copies[1]), described(folder=copies[2]), described(day=other)]
    assert 4 == len({json.dumps(description, sort_keys=True) for description in (before, *changed)})


def test_predictions_are_kept_until_the_records_or_a_weight_of_the_teacher_change(teacher_file: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "later").mkdir()
    waveform = np.random.default_rng(0).normal(size=(3, 3500)).astype(np.float32)
    records = [("manual", waveform, (5.0, np.nan), True), ("continuous", waveform[:, :3100], (np.nan, np.nan), False)]
    asked: list[int] = []
    monkeypatch.setattr("xiaonet.training.targets.predict_record", lambda *given: asked.append(1) or predict_record(*given))

    def predictions(weights: Path = teacher_file, inputs: str = "x") -> list[np.ndarray]:
        return find_predictions(records, open_teacher(str(weights)), tmp_path / "records.npz", {"inputs": inputs})

    first = predictions()
    assert_array_equal(first[1], predictions()[1])
    assert [(2, 3500), (2, 3100)] == [found.shape for found in first]
    assert (2, ["records-untrained.pt.npz"]) == (len(asked), [path.name for path in tmp_path.glob("*.npz")])
    other = predictions(_with_another_weight(teacher_file, tmp_path / "later"))
    assert (4, True) == (len(asked), bool((first[0] != other[0]).any()))
    predictions(inputs="y")
    assert 6 == len(asked)


def _with_another_weight(teacher_file: Path, folder: Path) -> Path:
    """A teacher file of the same name and size."""
    shutil.copy(teacher_file.with_suffix(".json"), folder)
    weights = torch.load(teacher_file)
    weights["inc.weight"] = weights["inc.weight"].flip(-1)
    other = folder / teacher_file.name
    torch.save(weights, other)
    assert other.stat().st_size == teacher_file.stat().st_size
    return other


@pytest.mark.parametrize(("name", "delay"), [("stead", -1), ("original", 2), ("okla", -1)])
def test_delay_of_each_teacher_on_analysts_picks(labelled: Path, teachers: Path, name: str, delay: int) -> None:
    """The figure of the recipes, on the analysts' P of every fifth training record; half a sample is left to chance."""
    teacher, residuals = open_teacher(name), []
    for _, waveform, (p, _), _ in [raw for raw in gather(str(labelled)) if raw[3]][::5]:
        near = predict_record(waveform, teacher)[0, int(p) - 50 : int(p) + 51]
        if near.max() > 0.1:
            residuals.append(int(near.argmax()) - 50)
    assert abs(float(np.median(residuals)) - delay) <= 1
