import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import requests
import seisbench
import seisbench.data as sbd

from xiaonet.data import sets
from xiaonet.data.columns import phase_columns
from xiaonet.data.pipeline import Windows
from xiaonet.data.sets import fill_split, fingerprint, mark_unpicked, open_data, split_data
from xiaonet.errors import DataError

Write = Callable[..., Path]


def noise(count: int, components: int = 3, samples: int = 400) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((components, samples)).astype(np.float32) for _ in range(count)]


def change_metadata(folder: Path, **columns: object) -> None:
    """Overwrite columns, or drop those that are None."""
    metadata = pd.read_csv(folder / "metadata.csv")
    for name, values in columns.items():
        metadata = metadata.drop(columns=name) if values is None else metadata.assign(**{name: values})
    metadata.to_csv(folder / "metadata.csv", index=False)


@pytest.fixture
def small(write_set: Write) -> Path:
    """Five records with P and S and a split."""
    return write_set(
        noise(5),
        trace_p_arrival_sample=[100, 110, 120, 130, 140],
        trace_s_arrival_sample=[200, 210, 220, 230, 240],
        split=["train", "train", "train", "dev", "test"],
    )


# --- finding a data set


def test_a_path_is_opened_in_our_format(small: Path) -> None:
    data = open_data(str(small))
    assert ("ENZ", "NCW", 100.0, "pad", True) == (
        data.component_order,
        data.dimension_order,
        data.sampling_rate,
        data.missing_components,
        data.resample_zerophase,
    )
    assert (5, "set") == (len(data), data.name)
    np.testing.assert_array_equal(noise(5), data.get_waveforms())


def test_a_path_from_home_is_opened(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(small.parent))
    assert 5 == len(open_data("~/set"))


def test_a_folder_with_a_plus_in_its_name_is_opened(small: Path) -> None:
    joined = small.with_name("one+two")
    small.rename(joined)
    assert 5 == len(open_data(str(joined)))


def test_a_name_in_the_working_folder_is_opened(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small.parent)
    assert 5 == len(open_data("set"))


def test_a_name_is_looked_up_in_the_data_folder_of_seisbench(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.move(small, tmp_path / "datasets" / "OKLA_1Mil_120s_Ver_3")
    monkeypatch.setattr(seisbench, "cache_data_root", tmp_path / "datasets")
    data = open_data("OKLA_1Mil_120s_Ver_3")
    assert (5, "OKLA_1Mil_120s_Ver_3") == (len(data), data.name)


def test_a_class_of_seisbench_is_built_in_our_format(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Tiny(sbd.WaveformDataset):
        def __init__(self, **arguments: object) -> None:
            super().__init__(small, name="Tiny", **arguments)

    monkeypatch.setattr(sbd, "Tiny", Tiny, raising=False)
    data = open_data("Tiny")
    assert (Tiny, 5, "ENZ", 100.0) == (type(data), len(data), data.component_order, data.sampling_rate)


def test_a_class_that_cannot_be_downloaded_is_a_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Remote(sbd.WaveformDataset):
        def __init__(self, **_: object) -> None:
            raise requests.exceptions.ConnectionError("name resolution failed")

    monkeypatch.setattr(sbd, "Remote", Remote, raising=False)
    with pytest.raises(DataError, match=r"Remote.*name resolution failed"):
        open_data("Remote")


@pytest.mark.parametrize("name", ["WaveformDataset", "WaveformBenchmarkDataset", "MultiWaveformDataset", "WaveformDataWriter"])
def test_a_class_that_is_not_a_single_data_set_is_not_found(name: str) -> None:
    with pytest.raises(DataError, match=name):
        open_data(name)


def test_the_synthetic_set_outlives_its_folder() -> None:
    data = open_data("synthetic", synthetic_records=12, seed=4)
    assert ((12, 3, 6001), "synthetic") == (data.get_waveforms().shape, data.name)


def test_a_synthetic_set_that_is_too_large_to_keep_in_memory_can_still_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "CACHE_BELOW", 0)
    assert (10, 3, 6001) == open_data("synthetic", synthetic_records=10).get_waveforms().shape


def test_the_seed_makes_the_synthetic_set() -> None:
    first, same, other = (fingerprint(open_data("synthetic", synthetic_records=12, seed=seed)) for seed in (1, 1, 2))
    assert (first == same, first == other) == (True, False)


def test_the_error_for_a_missing_set_names_the_places_searched_and_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(seisbench, "cache_data_root", tmp_path / "datasets")
    with pytest.raises(DataError) as caught:
        open_data("OKLA_1Mil_120s_Ver_3")
    wanted = (
        "'OKLA_1Mil_120s_Ver_3' not found",
        "seisbench.data",
        str(tmp_path / "OKLA_1Mil_120s_Ver_3"),
        str(tmp_path / "datasets" / "OKLA_1Mil_120s_Ver_3"),
        "Place metadata.csv and waveforms.hdf5",
        "SEISBENCH_CACHE_ROOT",
        "--data synthetic",
    )
    assert [] == [words for words in wanted if words not in str(caught.value)]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "--data '' names nothing before or after a +"),
        ("+", "names nothing"),
        ("synthetic+", r"--data 'synthetic\+' names nothing before or after a \+; wanted e\.g\. STEAD"),
        ("nowhere+synthetic", "data set 'nowhere' not found"),
    ],
)
def test_every_part_of_a_joined_set_must_exist(spec: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        open_data(spec, synthetic_records=10)


def test_chunked_sets_are_found_too(small: Path, write_set: Write, tmp_path: Path) -> None:
    other = write_set(noise(2), name="other", trace_p_arrival_sample=[5, 6])
    folder = tmp_path / "chunked"
    folder.mkdir()
    for chunk, source in (("2019", small), ("2020", other)):
        shutil.copy(source / "metadata.csv", folder / f"metadata{chunk}.csv")
        shutil.copy(source / "waveforms.hdf5", folder / f"waveforms{chunk}.hdf5")
    assert 7 == len(open_data(str(folder)))


# --- joining


def test_joined_sets_hold_the_records_and_splits_of_both(small: Path, write_set: Write) -> None:
    waveforms = noise(3, samples=500)
    other = write_set(waveforms, name="other", trace_Pg_arrival_sample=[1.0, 2.0, 3.0], split=["dev", "test", "train"])
    data = open_data(f"{small} + {other}")
    assert ["train", "train", "train", "dev", "test", "dev", "test", "train"] == data.metadata["split"].tolist()
    assert ["set"] * 5 + ["other"] * 3 == data.metadata["trace_dataset"].tolist()
    np.testing.assert_array_equal(waveforms[1], data.get_sample(6)[0])
    assert [4, 2, 2] == [len(part) for part in split_data(data)]
    assert {"trace_p_arrival_sample": "P", "trace_s_arrival_sample": "S", "trace_Pg_arrival_sample": "P"} == phase_columns(data.metadata)


def test_a_set_without_a_split_keeps_its_records_when_joined(small: Path, made_up: Path) -> None:
    data = open_data(f"{small}+{made_up}")
    assert 45 == sum(len(part) for part in data.train_dev_test())


def test_a_set_without_picks_can_be_joined_to_one_with_picks(small: Path, write_set: Write) -> None:
    silent = write_set(noise(2), name="silent", split=["train", "train"])
    data = open_data(f"{silent}+{small}")
    assert [True, True] + [False] * 5 == data.metadata["trace_p_arrival_sample"].isna().tolist()


def test_three_sets_join(small: Path, made_up: Path) -> None:
    assert 40 + 5 + 10 == len(open_data(f"{made_up}+{small}+synthetic", synthetic_records=10))


# --- what is wrong with a data set


def test_metadata_without_waveforms_names_the_missing_file(small: Path) -> None:
    (small / "waveforms.hdf5").unlink()
    with pytest.raises(DataError, match=r"metadata\.csv but no waveforms\.hdf5") as caught:
        open_data(str(small))
    assert str(small) in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "gzip", "without a record"])
def test_damaged_waveforms_are_a_data_error(small: Path, damage: str) -> None:
    file = small / "waveforms.hdf5"
    whole = file.read_bytes()
    if damage == "without a record":
        with h5py.File(file, "a") as waveforms:
            del waveforms["data"]
    else:
        file.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"no waveforms", "gzip": gzip.compress(whole)}[damage])
    with pytest.raises(DataError, match="cannot be read as a SeisBench data set"):
        open_data(str(small))


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b"a,b\n1,2\n", b'trace_name\n"unclosed\n'])
def test_damaged_metadata_are_a_data_error(small: Path, content: bytes) -> None:
    (small / "metadata.csv").write_bytes(content)
    with pytest.raises(DataError, match="set"):
        open_data(str(small))


def test_a_record_that_metadata_name_but_waveforms_lack_is_a_data_error(small: Path) -> None:
    names = pd.read_csv(small / "metadata.csv")["trace_name"]
    change_metadata(small, trace_name=[*names[:4], "bucket9$0,:3,:400"])
    with pytest.raises(DataError, match="bucket9"):
        open_data(str(small))


def test_missing_pick_columns_list_the_columns_found_and_wanted(small: Path) -> None:
    change_metadata(small, trace_p_arrival_sample=None, trace_s_arrival_sample=None, trace_PKP_arrival_sample=3, p_arrival=[1] * 5)
    with pytest.raises(DataError, match="no column of P or S picks") as caught:
        open_data(str(small))
    for words in ("trace_PKP_arrival_sample", "p_arrival", "source_id", "trace_X_arrival_sample", "Pg", "Sn"):
        assert words in str(caught.value)


@pytest.mark.parametrize(("rates", "count"), [([100, None, 100, None, 100], "2 of 5"), ([None] * 5, "5 of 5")])
def test_missing_sampling_rates_are_counted_and_the_column_named(small: Path, rates: list[float | None], count: str) -> None:
    change_metadata(small, trace_sampling_rate_hz=rates)
    with pytest.raises(DataError, match=f"{count} records have no sampling rate.*trace_sampling_rate_hz"):
        open_data(str(small))


def test_a_missing_sampling_rate_column_is_a_data_error(small: Path) -> None:
    change_metadata(small, trace_sampling_rate_hz=None)
    with pytest.raises(DataError, match="5 of 5 records have no sampling rate"):
        open_data(str(small))


@pytest.mark.parametrize(
    ("splits", "message"),
    [(["dev"] * 5, "the train split is empty"), (["train"] * 5, "the dev split is empty"), (["test"] * 5, "the train split is empty")],
)
def test_an_empty_split_is_named_with_what_the_column_holds(small: Path, splits: list[str], message: str) -> None:
    change_metadata(small, split=splits)
    with pytest.raises(DataError, match=message) as caught:
        split_data(open_data(str(small)))
    for words in (f"{{'{splits[0]}': 5}}", "train and dev", "+", "drop the column"):
        assert words in str(caught.value)


def test_the_test_split_may_be_empty(small: Path) -> None:
    change_metadata(small, split=["train", "dev", "dev", "train", "train"])
    assert [3, 2, 0] == [len(part) for part in split_data(open_data(str(small)))]


def test_splits_hold_their_own_records(small: Path) -> None:
    train, dev, test = split_data(open_data(str(small)))
    assert [100, 110, 120] == train.metadata["trace_p_arrival_sample"].tolist()
    assert ([130], [140]) == (dev.metadata["trace_p_arrival_sample"].tolist(), test.metadata["trace_p_arrival_sample"].tolist())


def test_picks_outside_their_traces_are_warned_about(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_metadata(small, trace_p_arrival_sample=[-1, 0, 399, 400, None])
    open_data(str(small))
    out = capsys.readouterr().out
    assert ("picks outside their traces" in out, "2 records" in out) == (True, True)


def test_picks_inside_their_traces_are_not_warned_about(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_data(str(small))
    assert "" == capsys.readouterr().out


# --- sampling rate and components


def sharp(rate: int, onset_s: float = 5.0, length_s: int = 40) -> np.ndarray:
    """Silence, then a 5 Hz oscillation at full strength from the onset on."""
    time = np.arange(length_s * rate) / rate - onset_s
    return np.tile(np.where(time >= 0, np.cos(2 * np.pi * 5 * time), 0), (3, 1)).astype(np.float32)


@pytest.mark.parametrize("rate", [50, 100, 200, 250])
def test_records_at_another_rate_are_resampled_and_their_onsets_stay(rate: int, write_set: Write) -> None:
    folder = write_set([sharp(rate)], trace_sampling_rate_hz=[float(rate)], trace_p_arrival_sample=[5 * rate], split=["train"])
    waveform, metadata = open_data(str(folder)).get_sample(0)
    assert ((3, 4000), 500.0, 100.0) == (waveform.shape, metadata["trace_p_arrival_sample"], metadata["trace_sampling_rate_hz"])
    crossing = np.argmax(np.abs(waveform) > 0.5, axis=-1)  # half of the step: where the onset is
    np.testing.assert_array_less(np.abs(crossing - 500), 2)


def test_labels_of_resampled_records_sit_on_their_onsets(write_set: Write) -> None:
    folder = write_set([sharp(200)], trace_sampling_rate_hz=[200.0], trace_p_arrival_sample=[1000], trace_s_arrival_sample=[None])
    item = Windows(open_data(str(folder)))[0]
    onset = np.argmax(np.abs(item["X"][2]) > 0.4)
    assert abs(int(item["y"][0].argmax()) - int(onset)) <= 1


def test_a_missing_sample_leaves_the_rest_of_a_resampled_record(write_set: Write) -> None:
    waveform = sharp(200)
    waveform[:, 6000] = np.nan
    folder = write_set([waveform], trace_sampling_rate_hz=[200.0], trace_p_arrival_sample=[1000], trace_s_arrival_sample=[None])
    np.testing.assert_allclose(np.abs(Windows(open_data(str(folder)))[0]["X"]).max(axis=-1), 1, rtol=1e-6)


@pytest.mark.parametrize("stored", ["ZNE", "ENZ", "NEZ"])
def test_components_come_in_our_order_however_they_are_stored(stored: str, write_set: Write) -> None:
    waveform = np.stack([np.full(400, {"E": 1, "N": 2, "Z": 3}[component], dtype=np.float32) for component in stored])
    folder = write_set([waveform], components=stored, trace_p_arrival_sample=[5], split=["train"])
    assert [1, 2, 3] == open_data(str(folder)).get_sample(0)[0][:, 0].tolist()


def test_a_vertical_alone_is_padded_with_zeros(write_set: Write) -> None:
    waveforms = noise(2, components=1)
    folder = write_set(waveforms, components="Z", trace_p_arrival_sample=[5, 6], split=["train", "dev"])
    waveform = open_data(str(folder)).get_sample(1)[0]
    np.testing.assert_array_equal(np.concatenate([np.zeros((2, 400)), waveforms[1]]), waveform)


def test_component_orders_may_differ_between_records_and_sets(write_set: Write) -> None:
    three = write_set([np.stack([np.full(400, v, np.float32) for v in (3, 2, 1)])], name="three", components="ZNE", split=["train"])
    one = write_set([np.full((1, 400), 3, np.float32)], name="one", components="Z", trace_p_arrival_sample=[5], split=["dev"])
    data = open_data(f"{three}+{one}")
    assert ([1, 2, 3], [0, 0, 3]) == (data.get_sample(0)[0][:, 0].tolist(), data.get_sample(1)[0][:, 0].tolist())


# --- splits by event


def events(count: int, records: int = 3, **columns: object) -> pd.DataFrame:
    metadata = pd.DataFrame({"source_id": [f"event {number // records}" for number in range(count * records)]})
    return metadata.assign(trace_name=[f"trace {number}" for number in range(len(metadata))], **columns)


def test_records_of_an_event_share_its_split() -> None:
    metadata = events(200)
    fill_split(metadata)
    assert [1] * 200 == metadata.groupby("source_id")["split"].nunique().tolist()


def test_four_fifths_of_events_are_for_training() -> None:
    metadata = events(5000, records=1)
    fill_split(metadata)
    shares = metadata["split"].value_counts(normalize=True)
    assert pytest.approx({"train": 0.8, "dev": 0.1, "test": 0.1}, abs=0.015) == shares.to_dict()


def test_the_split_depends_on_the_event_alone() -> None:
    forward, backward = events(100), events(100).iloc[::-1].reset_index(drop=True)
    few = events(10)
    for metadata in (forward, backward, few):
        fill_split(metadata)
    assert forward["split"].tolist() == backward["split"].tolist()[::-1]
    assert forward["split"].tolist()[:30] == few["split"].tolist()


def test_the_split_is_the_same_on_every_machine() -> None:
    metadata = events(12, records=1)
    fill_split(metadata)
    # The first digits of SHA-256 as a fraction of 1, by `printf "event 1" | sha256sum`: below 0.8 train, below 0.9 dev.
    wanted = ["train", "test", "train", "train", "train", "train", "train", "train", "train", "train", "train", "test"]
    assert wanted == metadata["split"].tolist()


def test_given_splits_stay_and_missing_ones_are_filled() -> None:
    metadata = events(50, records=1, split=["test", None] * 25)
    fill_split(metadata)
    assert ["test"] * 25 == metadata["split"].tolist()[::2]
    filled = events(50, records=1)
    fill_split(filled)
    assert filled["split"].tolist()[1::2] == metadata["split"].tolist()[1::2]


def test_a_record_without_a_split_joins_the_others_of_its_event() -> None:
    metadata = events(50, records=2, split=[None, "dev"] * 50)
    fill_split(metadata)
    assert ["dev"] * 100 == metadata["split"].tolist()


@pytest.mark.parametrize(("given", "meant"), [("Train", "train"), (" DEV", "dev"), ("validation", "dev"), ("val", "dev"), ("TEST", "test")])
def test_other_spellings_of_a_split_are_understood(given: str, meant: str) -> None:
    metadata = events(3, split=given)
    fill_split(metadata)
    assert {meant} == set(metadata["split"])


@pytest.mark.parametrize("value", ["holdout", 3])
def test_an_unknown_split_is_refused_so_that_no_test_record_is_trained_on(value: object) -> None:
    with pytest.raises(DataError, match=f"the column split holds {value}; wanted train, dev, test, or nothing to split by event"):
        fill_split(events(20, split=value))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("trace_p_arrival_sample", [5, "nan?"], "trace_p_arrival_sample holds 'nan\\?' in 1 of 2 records; wanted numbers or nothing"),
        ("trace_sampling_rate_hz", [100.0, 0.0], "1 of 2 records have no sampling rate above 0; fill the column trace_sampling_rate_hz"),
        ("trace_sampling_rate_hz", [-100.0, -1.0], "2 of 2 records have no sampling rate above 0"),
    ],
)
def test_columns_that_hold_words_are_named(column: str, values: list[object], message: str, write_set: Write) -> None:
    columns = {"trace_p_arrival_sample": [5, 6], column: values}
    with pytest.raises(DataError, match=message):
        open_data(str(write_set(noise(2), **columns)))


def test_phases_of_noise_records_are_not_marked_as_unpicked() -> None:
    metadata = events(2, records=1, source_type=["noise", "earthquake"])
    mark_unpicked(metadata)
    assert [["noise", "noise"], ["unpicked", "unpicked"]] == metadata[["trace_p_status", "trace_s_status"]].to_numpy().tolist()


@pytest.mark.parametrize("value", ["", float("nan"), None])
def test_an_empty_split_counts_as_missing(value: object) -> None:
    metadata, wanted = events(20, split=value), events(20)
    fill_split(metadata)
    fill_split(wanted)
    assert wanted["split"].tolist() == metadata["split"].tolist()


@pytest.mark.parametrize("column", ["source_event_id", "source_origin_time"])
def test_other_columns_may_identify_the_event(column: str) -> None:
    metadata, wanted = events(50).rename(columns={"source_id": column}), events(50)
    fill_split(metadata)
    fill_split(wanted)
    assert wanted["split"].tolist() == metadata["split"].tolist()


def test_records_without_an_event_are_split_one_by_one() -> None:
    metadata = events(2000, records=1, source_id=None)
    fill_split(metadata)
    assert {"train", "dev", "test"} == set(metadata["split"])


def test_records_with_neither_split_nor_event_are_a_data_error() -> None:
    with pytest.raises(DataError, match=r"neither a split nor an event: wanted source_id among station_code"):
        fill_split(pd.DataFrame({"station_code": ["STA"]}))


def test_no_event_of_a_set_without_a_split_is_in_both_training_and_test(made_up: Path) -> None:
    parts = open_data(str(made_up)).train_dev_test()
    found = [set(part.metadata["source_id"]) for part in parts]
    assert (40, 10) == (sum(map(len, parts)), sum(map(len, found)))
    assert set() == (found[0] & found[1]) | (found[0] & found[2]) | (found[1] & found[2])


# --- picks


@pytest.mark.parametrize(
    ("column", "status"), [("trace_Pg_arrival_sample", "trace_s_status"), ("trace_S_arrival_sample", "trace_p_status")]
)
def test_a_phase_that_a_set_has_no_column_for_is_unpicked_except_in_noise(column: str, status: str, write_set: Write) -> None:
    folder = write_set(noise(3), trace_category=["earthquake", "noise", None], **{column: [100, None, 100]})
    metadata = open_data(str(folder)).metadata
    assert ["unpicked", "noise", "unpicked"] == metadata[status].tolist()
    windows = Windows(open_data(str(folder)), incomplete_statuses=("unpicked",))
    phase = "ps".index(status[6])
    assert [True, False, True] == [bool(windows[row]["incomplete"][phase]) for row in range(3)]
    assert [False, False, False] == [bool(windows[row]["incomplete"][1 - phase]) for row in range(3)]


def test_statuses_that_a_set_brings_do_not_change(small: Path, write_set: Write) -> None:
    assert set() == {"trace_p_status", "trace_s_status"} & set(open_data(str(small)).metadata.columns)
    said = write_set(noise(2), name="said", trace_p_arrival_sample=[5, 6], trace_s_status=["manual", "unpicked"])
    assert ["manual", "unpicked"] == open_data(str(said)).metadata["trace_s_status"].tolist()


def test_an_unpicked_phase_stays_so_when_sets_are_joined(small: Path, write_set: Write) -> None:
    p_only = write_set(noise(2), name="p_only", trace_p_arrival_sample=[5, 6])
    windows = Windows(open_data(f"{small}+{p_only}"), incomplete_statuses=("unpicked",))
    assert [[False] * 3] * 5 + [[False, True, False]] * 2 == [windows[row]["incomplete"].tolist() for row in range(7)]


def test_fingerprints_differ_by_records_picks_and_splits(made_up: Path) -> None:
    original = fingerprint(open_data(str(made_up)))
    assert (16, original) == (len(f"{int(original, 16):016x}"), fingerprint(open_data(str(made_up))))
    changes = []
    for change in ("trace_p_arrival_sample", "trace_s_arrival_sample", "split", "trace_name", "waveforms", None):
        data = open_data(str(made_up))
        metadata = data.metadata
        row = metadata.index[metadata["trace_p_arrival_sample"].notna()][0]
        if change is None:
            data.filter([False] + [True] * 39)
        elif change == "waveforms":
            look = data.get_waveforms
            data.get_waveforms = lambda row, look=look: 1e-9 * look(row)
        elif change.endswith("sample"):
            metadata.loc[row, change] += 1
        else:
            metadata.loc[row, change] = "other"
        changes.append(fingerprint(data))
    assert 7 == len({original, *changes})


def test_the_real_records_are_opened_with_their_picks_and_splits(labelled: Path) -> None:
    data = open_data(str(labelled))
    assert (577, {"trace_p_arrival_sample": "P", "trace_s_arrival_sample": "S"}) == (len(data), phase_columns(data.metadata))
    assert (449, 415) == tuple(data.metadata[["trace_p_arrival_sample", "trace_s_arrival_sample"]].notna().sum())
    assert [len(data), 0] == [len(data.train()) + len(data.dev()), len(data.test())]


def test_real_records_with_and_without_picks_join(labelled: Path, unlabelled: Path) -> None:
    data = open_data(f"{labelled}+{unlabelled}")
    assert (577 + 635, 635) == (len(data), int(data.metadata["trace_dataset"].str.contains("unlabelled").sum()))
