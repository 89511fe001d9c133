import csv
import io
import math
import os
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import obspy
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from obspy.io.quakeml.core import _validate
from pyarrow import parquet

from xiaonet.errors import ConfigError, DataError, OutputError
from xiaonet.io import parquet as pick_parquet
from xiaonet.io.columns import COLUMNS
from xiaonet.io.picks import Picks, check_format, read_pick_file, write_picks
from xiaonet.picking.picks import Pick

SUFFIXES = (".csv", ".parquet", ".xml", ".quakeml", ".qml")
PROVENANCE = {"model": "xiaonet", "thresholds": "P 0.3, S 0.25"}
P = Pick(1562486930_867986123, "PB.B918..EHZ", "P", 0.875, 0.05, 1234.5, 21.25)
S = Pick(1562486932_697986000, "PB.B918..EH1", "S", 0.5221331715583801, 0.1, 0.1 + 0.2, math.nan)
LATER = Pick(1562487000_000000000, "CX.B918.10.HHZ", "P", 1.0, 0.0, 0.0, -math.inf)


def picks_of_a_network(number: int) -> Iterator[Pick]:
    """Made one by one: a pick every 10 ms."""
    for index in range(number):
        yield Pick(1562486400_000000000 + index * 10_000_000, f"PB.B{index % 900:03d}..EHZ", "PS"[index % 2], 0.5, 0.1 + index, 1.0, 9.5)


seed_ids = st.builds(
    "{}.{}.{}.{}".format,
    st.sampled_from(["PB", "CX", ""]),
    st.text("ABC019,'\" é", max_size=5),
    st.sampled_from(["", "00", "10"]),
    st.sampled_from(["EHZ", "HH1", "Z", ""]),
)
numbers = st.floats(width=64) | st.floats(0, 1)
picks_lists = st.lists(
    st.builds(
        Pick,
        time_ns=st.integers(-(2**62), 2**62),
        seed_id=seed_ids,
        phase=st.sampled_from("PS"),
        probability=st.floats(0, 1),
        uncertainty=numbers,
        amplitude=numbers,
        snr=numbers,
        unit=st.sampled_from(["count", "m/s", "m/s**2", "m"]),
    ),
    max_size=8,
)


def read_table(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, float_precision="round_trip", keep_default_na=False, na_values={"uncertainty": "", "amp": "", "snr": ""})


def test_csv_has_a_line_a_pick(tmp_path: Path) -> None:
    assert 2 == write_picks([P, S], tmp_path / "picks.csv", PROVENANCE)
    assert (
        b"station,phase,time,timestamp,prob,uncertainty,amp,snr,seed_id,id,type,amp_unit\n"
        b"PB.B918.,P,1562486930.867986123,2019-07-07T08:08:50.867986+00:00,0.875,0.05,1234.5,21.25,PB.B918..EHZ,PB.B918.,P,count\n"
        b"PB.B918.,S,1562486932.697986000,2019-07-07T08:08:52.697986+00:00,0.5221331715583801,0.1,0.30000000000000004,,"
        b"PB.B918..EH1,PB.B918.,S,count\n"
    ) == (tmp_path / "picks.csv").read_bytes()


@pytest.mark.parametrize(
    ("time_ns", "time", "timestamp"),
    [
        (0, "0.000000000", "1970-01-01T00:00:00.000000+00:00"),
        (1, "0.000000001", "1970-01-01T00:00:00.000000+00:00"),
        (-1_000_000, "-0.001000000", "1969-12-31T23:59:59.999000+00:00"),
        (-1_500_000_000, "-1.500000000", "1969-12-31T23:59:58.500000+00:00"),
        (1_999_999_499, "1.999999499", "1970-01-01T00:00:01.999999+00:00"),
        (1_999_999_500, "1.999999500", "1970-01-01T00:00:02.000000+00:00"),
        (4102444799_999000000, "4102444799.999000000", "2099-12-31T23:59:59.999000+00:00"),
    ],
)
def test_csv_tells_the_time_to_the_nanosecond_and_its_timestamp_to_the_microsecond(
    tmp_path: Path, time_ns: int, time: str, timestamp: str
) -> None:
    write_picks([Pick(time_ns, "PB.B918..EHZ", "P", 0.5, 0.1, 1.0, 1.0)], tmp_path / "picks.csv", {})
    line = next(csv.DictReader(io.StringIO((tmp_path / "picks.csv").read_text())))
    assert (time, timestamp) == (line["time"], line["timestamp"])


@settings(max_examples=60, deadline=None)
@given(picks=picks_lists)
def test_every_digit_comes_back_from_csv(tmp_path_factory: pytest.TempPathFactory, picks: list[Pick]) -> None:
    path = tmp_path_factory.mktemp("csv") / "picks.csv"
    assert len(picks) == write_picks(iter(picks), path, PROVENANCE)
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))

    def number(text: str) -> float:
        return float(text) if text else math.nan

    back = [
        Pick(
            int(line["time"].replace(".", "")),
            line["seed_id"],
            line["phase"],
            number(line["prob"]),
            number(line["uncertainty"]),
            number(line["amp"]),
            number(line["snr"]),
            line["amp_unit"],
        )
        for line in lines
    ]
    assert [repr(pick) for pick in picks] == [repr(pick) for pick in back]
    assert [(pick.trace_id, pick.phase) * 2 for pick in picks] == [
        (line["station"], line["phase"], line["id"], line["type"]) for line in lines
    ]
    for pick, line in zip(picks, lines, strict=True):
        seconds = datetime.fromisoformat(line["timestamp"]) - datetime(1970, 1, 1, tzinfo=UTC)
        assert abs(seconds.days * 86_400_000_000_000 + seconds.seconds * 10**9 + seconds.microseconds * 1000 - pick.time_ns) <= 500


@settings(max_examples=40, deadline=None)
@given(picks=picks_lists)
def test_csv_and_parquet_hold_the_same_table(tmp_path_factory: pytest.TempPathFactory, picks: list[Pick]) -> None:
    folder = tmp_path_factory.mktemp("tables")
    assert len(picks) == write_picks(iter(picks), folder / "picks.csv", {}) == write_picks(iter(picks), folder / "picks.parquet", {})
    lines, table = read_table(folder / "picks.csv"), read_table(folder / "picks.parquet")
    assert list(COLUMNS) == list(lines) == list(table)
    for name in ("time", "prob", "uncertainty", "amp", "snr"):
        pd.testing.assert_series_equal(lines[name].astype("float64"), table[name], check_exact=True)
    for name in ("station", "phase", "seed_id", "id", "type", "amp_unit"):
        assert lines[name].astype(str).tolist() == table[name].tolist()
    assert [pick.time_ns for pick in picks] == table["timestamp"].astype("int64").tolist()


def test_parquet_has_types_nulls_and_provenance(tmp_path: Path) -> None:
    assert 3 == write_picks([P, S, LATER], tmp_path / "picks.parquet", PROVENANCE)
    table = parquet.read_table(tmp_path / "picks.parquet")
    number, text = "double", "string"
    assert [text, text, number, "timestamp[ns, tz=UTC]", number, number, number, number, text, text, text, text] == [
        str(kind) for kind in table.schema.types
    ]
    assert {b"model": b"xiaonet", b"thresholds": b"P 0.3, S 0.25"} == table.schema.metadata
    assert [21.25, None, -math.inf] == table["snr"].to_pylist()
    assert [1562486930_867986123, 1562486932_697986000, 1562487000_000000000] == table["timestamp"].cast("int64").to_pylist()
    assert [1562486930.867986123, 1562486932.697986, 1562487000.0] == table["time"].to_pylist()


def test_parquet_is_written_in_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pick_parquet, "ROW_GROUP", 4)
    assert 10 == write_picks(picks_of_a_network(10), tmp_path / "picks.parquet", {})
    file = parquet.ParquetFile(tmp_path / "picks.parquet")
    assert [4, 4, 2] == [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
    assert [0.1 + index for index in range(10)] == file.read()["uncertainty"].to_pylist()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_stations_of_one_name_in_two_networks_stay_apart(tmp_path: Path, suffix: str) -> None:
    write_picks([P, LATER], tmp_path / f"picks{suffix}", {})
    table = read_table(tmp_path / f"picks{suffix}")
    assert (["PB.B918.", "CX.B918.10"],) * 2 == (table["station"].tolist(), table["id"].tolist())


def test_memory_does_not_grow_with_the_number_of_picks(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        assert 30_000 == write_picks(picks_of_a_network(30_000), tmp_path / "picks.csv", {})
        assert tracemalloc.get_traced_memory()[1] < 500_000  # the picks alone are 8 MB
    finally:
        tracemalloc.stop()


def test_parquet_holds_no_more_than_a_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pick_parquet, "ROW_GROUP", 1000)
    arrow = []

    def watched() -> Iterator[Pick]:
        for index, pick in enumerate(picks_of_a_network(30_000)):
            if index % 1000 == 0:
                arrow.append(pa.total_allocated_bytes() - before)
            yield pick

    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        assert 30_000 == write_picks(watched(), tmp_path / "picks.parquet", {})
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    assert max(arrow) < 3_000_000


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_picks_make_a_file_without_picks(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picks{suffix}"
    assert 0 == write_picks([], path, PROVENANCE)
    if suffix in (".csv", ".parquet"):
        assert (list(COLUMNS), 0) == (list(read_table(path)), len(read_table(path)))
    else:
        assert _validate(str(path))
        assert [[]] == [event.picks for event in obspy.read_events(path)]


@pytest.mark.parametrize("suffix", [".xml", ".quakeml", ".qml"])
def test_quakeml_follows_its_schema_and_obspy_reads_the_picks_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picks{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 3 == write_picks(iter([P, S, LATER]), path, PROVENANCE)
    assert _validate(str(path), verbose=True)
    (event,) = obspy.read_events(path, format="QUAKEML")
    assert ["2019-07-07T08:08:50.867986Z", "2019-07-07T08:08:52.697986Z", "2019-07-07T08:10:00.000000Z"] == [
        str(pick.time) for pick in event.picks
    ]
    assert ["PB.B918..EHZ", "PB.B918..EH1", "CX.B918.10.HHZ"] == [pick.waveform_id.get_seed_string() for pick in event.picks]
    assert ["P", "S", "P"] == [pick.phase_hint for pick in event.picks]
    assert [0.05, 0.1, 0.0] == [pick.time_errors.uncertainty for pick in event.picks]
    assert ["automatic"] * 3 == [pick.evaluation_mode for pick in event.picks]
    assert ["smi:local/xiaonet/picker"] * 3 == [pick.method_id.id for pick in event.picks]
    assert [
        ["probability=0.875, amplitude=1234.5, snr_db=21.25, amplitude_unit=count"],
        ["probability=0.5221331715583801, amplitude=0.30000000000000004, amplitude_unit=count"],
        ["probability=1.0, amplitude=0.0, snr_db=-inf, amplitude_unit=count"],
    ] == [[comment.text for comment in pick.comments] for pick in event.picks]
    assert ["picks that no event has been sought for", "model: xiaonet", "thresholds: P 0.3, S 0.25"] == [
        comment.text for comment in event.comments
    ]


@settings(max_examples=40, deadline=None)
@given(picks=picks_lists)
@example(picks=[replace(P, uncertainty=math.inf)])  # which XML writes INF
@example(picks=[replace(P, uncertainty=math.nan)])
def test_quakeml_of_any_picks_follows_its_schema(tmp_path_factory: pytest.TempPathFactory, picks: list[Pick]) -> None:
    path = tmp_path_factory.mktemp("quakeml") / "picks.xml"
    assert len(picks) == write_picks(picks, path, PROVENANCE)
    assert _validate(str(path), verbose=True)
    (event,) = obspy.read_events(path)
    assert [(str(pick.time), pick.seed_id, pick.phase) for pick in picks] == [
        (str(pick.time), pick.waveform_id.get_seed_string(), pick.phase_hint) for pick in event.picks
    ]


def test_the_same_picks_give_the_same_quakeml_and_others_another_event(tmp_path: Path) -> None:
    louder = replace(P, probability=0.9)
    for name, picks in {"one": [P, S], "same": (P, S), "louder": [louder, S]}.items():
        write_picks(picks, tmp_path / f"{name}.xml", PROVENANCE)
    assert (tmp_path / "one.xml").read_bytes() == (tmp_path / "same.xml").read_bytes()
    one, louder_event = (obspy.read_events(tmp_path / f"{name}.xml")[0] for name in ("one", "louder"))
    assert one.resource_id.id != louder_event.resource_id.id
    assert "smi:local/xiaonet/pick/PB.B918..EHZ/P/1562486930867986123" == one.picks[0].resource_id.id


@pytest.mark.parametrize("name", ["picks.txt", "picks", "picks.csv.gz", ".csv"])
def test_other_suffixes_are_refused_with_those_that_there_are(tmp_path: Path, name: str) -> None:
    for refuse in (check_format, lambda path: write_picks([P], path, {})):
        with pytest.raises(ConfigError, match=r"wanted one of \.csv, \.xml, \.quakeml, \.qml, \.parquet: choose another name"):
            refuse(tmp_path / name)
    assert [] == list(tmp_path.iterdir())


def test_suffixes_may_be_in_capitals(tmp_path: Path) -> None:
    check_format(tmp_path / "PICKS.CSV")
    assert 1 == write_picks([P], tmp_path / "PICKS.CSV", {})
    assert 2 == len((tmp_path / "PICKS.CSV").read_text().splitlines())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_check_leaves_nothing_behind_and_what_stood_there(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "older.csv").write_text("older")
    check_format(tmp_path / f"picks{suffix}")
    check_format(tmp_path / "older.csv")
    assert ["older.csv"] == [path.name for path in tmp_path.iterdir()]
    assert "older" == (tmp_path / "older.csv").read_text()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "picks.csv").mkdir()
    with pytest.raises(OutputError, match=r"picks\.csv is a folder; wanted a file"):
        check_format(tmp_path / "picks.csv")


def test_a_missing_folder_is_reported_before_any_pick_is_made(tmp_path: Path) -> None:
    def never() -> Iterator[Pick]:
        raise AssertionError("asked for a pick")
        yield P

    with pytest.raises(OutputError, match=r"no/picks\.csv cannot be written: .*No such file or directory.*; make the folder"):
        write_picks(never(), tmp_path / "no" / "picks.csv", {})


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that not even root may write to, such as Linux's /proc/self")
def test_a_folder_that_cannot_be_written_to_is_reported() -> None:
    with pytest.raises(OutputError, match=r"/proc/self/picks\.xml cannot be written: "):
        check_format(Path("/proc/self/picks.xml"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_reported(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match=r"picks\.csv cannot be written: .*Permission denied"):
        check_format(tmp_path / "picks.csv")


def test_parquet_without_pyarrow_names_the_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"needs pyarrow, which is not installed: pip install 'xiaonet\[parquet\]', or write \.csv"):
        check_format(tmp_path / "picks.parquet")
    check_format(tmp_path / "picks.csv")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_the_older_file_as_it_was(tmp_path: Path, suffix: str, write_limit: Callable[[int], None]) -> None:
    path = tmp_path / f"picks{suffix}"
    write_picks([P, S], path, PROVENANCE)
    before = path.read_bytes()
    write_limit(20_000)
    with pytest.raises(OutputError, match=r"could not be written: .*an older file there is unchanged"):
        write_picks(picks_of_a_network(2000), path, PROVENANCE)
    write_limit(10_000_000)
    assert (before, [path]) == (path.read_bytes(), list(tmp_path.iterdir()))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_picks_that_break_off_leave_the_older_file_as_it_was(tmp_path: Path, suffix: str, error: type[BaseException]) -> None:
    def broken() -> Iterator[Pick]:
        yield P
        raise error("broken off")

    path = tmp_path / f"picks{suffix}"
    path.write_bytes(b"older")
    with pytest.raises(error, match="broken off"):
        write_picks(broken(), path, PROVENANCE)
    assert (b"older", [path]) == (path.read_bytes(), list(tmp_path.iterdir()))


def test_csv_is_written_without_the_packages_that_are_slow_to_import(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from xiaonet.io.picks import write_picks; from xiaonet.picking.picks import Pick;"
        "write_picks([Pick(0, 'PB.B918..EHZ', 'P', 0.5, 0.1, 1.0, 1.0)], Path(sys.argv[1]), {});"
        "print(*sorted({'pandas', 'obspy', 'pyarrow', 'torch', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "picks.csv"], capture_output=True, text=True, check=True)
    assert "\n" == done.stdout
    assert 2 == len((tmp_path / "picks.csv").read_text().splitlines())


# Reading


@settings(max_examples=40, deadline=None)
@example([P, S, LATER])
@given(picks_lists)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_picks_are_read_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, suffix: str, picks: list[Pick]) -> None:
    path = tmp_path_factory.mktemp("picks") / f"picks{suffix}"
    write_picks(picks, path, PROVENANCE)
    assert list(map(repr, picks)) == list(map(repr, read_pick_file(path)))  # repr, because NaN equals nothing


def test_picks_are_read_from_quakeml_to_the_microsecond(tmp_path: Path) -> None:
    write_picks([P, S, LATER], tmp_path / "picks.xml", PROVENANCE)
    expected = [replace(P, time_ns=1562486930_867986000), S, LATER]
    assert list(map(repr, expected)) == list(map(repr, read_pick_file(tmp_path / "picks.xml")))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_unit_of_an_amplitude_is_read_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picks{suffix}"
    write_picks([replace(P, unit="m/s**2"), replace(S, unit="m/s"), LATER], path, PROVENANCE)
    assert ["m/s**2", "m/s", "count"] == [pick.unit for pick in read_pick_file(path)]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_amplitudes_in_a_file_without_units_are_in_counts(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picks{suffix}"
    write_picks([P], path, PROVENANCE)
    table = read_table(path).drop(columns="amp_unit")
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    assert [("count", 1234.5)] == [(pick.unit, pick.amplitude) for pick in read_pick_file(path)]


def test_a_pick_of_an_analyst_in_quakeml_has_no_probability(tmp_path: Path) -> None:
    stream = obspy.core.event.WaveformStreamID(seed_string="PB.B918..EHZ")
    reading = obspy.core.event.Pick(time=obspy.UTCDateTime(2019, 7, 7), waveform_id=stream, phase_hint="P")
    obspy.core.event.Catalog([obspy.core.event.Event(picks=[reading])]).write(str(tmp_path / "picks.xml"), format="QUAKEML")
    [pick] = read_pick_file(tmp_path / "picks.xml")
    assert (1562457600 * 10**9, "PB.B918..EHZ", "P") == (pick.time_ns, pick.seed_id, pick.phase)
    assert all(map(math.isnan, (pick.probability, pick.uncertainty, pick.amplitude, pick.snr)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("picks.csv", b"", r"picks\.csv holds no picks of XiaoNet: the columns seed_id, phase, .* are missing; wanted a file that"),
        ("picks.csv", b"station,phase\n\xff\xfe\n", r"holds no picks of XiaoNet: 'utf-8' codec can't decode"),
        (
            "picks.csv",
            b"seed_id,phase,time,prob,uncertainty,amp,snr\nPB.B918..EHZ,P,noon,0.5,0.1,1,1\n",
            r"line 2 holds no pick: .*'noon'",
        ),
        ("picks.csv", b"seed_id,phase,time,prob,uncertainty,amp,snr\nPB.B918..EHZ,P,1\n", "line 2 holds no pick: "),
        (
            "picks.csv",
            b"seed_id,phase,time,prob,uncertainty,amp,snr\nPB.B918..EHZ,Lg,1,1,1,1,1\n",
            "include 'Lg', which is neither P nor S",
        ),
        ("picks.csv", b"seed_id,phase,time,prob,uncertainty,amp,snr\nB918,P,1,1,1,1,1\n", "'B918' is no NET.STA.LOC.CHA"),
        ("picks.parquet", b"PAR1", r"picks\.parquet holds no picks of XiaoNet: "),
        ("picks.xml", b"<q:quakeml", r"picks\.xml holds no picks of XiaoNet: "),
        ("picks.txt", b"", r"picks\.txt ends in '\.txt'; wanted one of \.csv"),
        ("missing.csv", None, r"missing\.csv cannot be read: No such file or directory; wanted a file of picks"),
    ],
)
def test_a_file_without_picks_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((DataError, ConfigError), match=message):
        read_pick_file(tmp_path / name)


# A list of picks


def test_a_list_of_picks_prints_as_a_table() -> None:
    picks = Picks(
        [
            Pick(1_500_000_000 * 10**9 + 714 * 10**6, "BW.RJOB..EHZ", "P", 0.956, 0.126, 2463.7, 19.98),
            Pick(0, "X.Y..Z", "S", 1.0, 0.2, 1.0, math.nan),
        ]
    )
    expected = [
        "time                              channel  phase  probability   ± s  snr dB",
        "2017-07-14T02:40:00.714000Z  BW.RJOB..EHZ      P         0.96  0.13      20",
        "1970-01-01T00:00:00.000000Z        X.Y..Z      S         1.00  0.20     nan",
    ]
    assert expected == str(picks).splitlines() == repr(picks).splitlines()
    assert expected[:2] == str(picks[:1]).splitlines()
    assert "<Pick BW.RJOB..EHZ P 2017-07-14T02:40:00.714000Z ± 0.13 s, probability 0.96, snr 20 dB>" == repr(picks[0])
    assert "no picks" == str(Picks())


def test_of_many_picks_the_first_and_the_last_are_printed() -> None:
    picks = Picks(Pick(number * 10**9, "BW.RJOB..EHZ", "P", 0.9, 0.1, 1.0, 9.0) for number in range(61))
    lines = str(picks).splitlines()
    assert (1 + 20 + 1 + 20, "… 21 more") == (len(lines), lines[21])
    assert ["00:00:19", "00:00:41"] == [lines[20][11:19], lines[22][11:19]]
    assert 61 == len(str(picks[:60]).splitlines())


@pytest.mark.parametrize("number", [0, 5])
def test_a_list_of_picks_becomes_the_table_of_its_files(tmp_path: Path, number: int) -> None:
    picks = Picks(
        (Pick(1_500_000_000_123_456_789 + at, "BW.RJOB..EHZ", "PS"[at % 2], 0.1 * at, 0.1, at / 3, math.nan) for at in range(number)),
        {"model": "x"},
    )
    for name in ("picks.parquet", "picks.csv", "picks.xml"):
        picks.write(tmp_path / name if name == "picks.csv" else str(tmp_path / name))
    table = picks.to_dataframe()
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "picks.parquet"), table, check_dtype=number > 0)
    assert "datetime64[ns, UTC]" == str(table["timestamp"].dtype)
    assert number == len(obspy.read_events(tmp_path / "picks.xml")[0].picks) == len(read_pick_file(tmp_path / "picks.csv"))
    assert b"x" == parquet.read_schema(tmp_path / "picks.parquet").metadata[b"model"]


def test_without_pandas_the_table_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match="to_dataframe needs pandas: pip install pandas"):
        Picks().to_dataframe()
