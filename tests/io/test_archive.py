import gc
import os
import shutil
import tracemalloc
import zipfile
from concurrent.futures import CancelledError
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from obspy import Stream, Trace, UTCDateTime
from pymseed import MS3Record

from stand_in import MIDNIGHT, record, write, write_days
from xiaonet.io import archive, miniseed
from xiaonet.io.archive import Archive
from xiaonet.io.find_files import parse_name
from xiaonet.picking.segments import Instrument, sort_stream

HUNDRED = Fraction(100)


def names(found: Archive) -> list[str]:
    return [instrument.name for instrument in found.instruments]


def whole(instrument: Instrument) -> tuple[list[int], np.ndarray]:
    """Start and end of an instrument's segments, and all their samples."""
    bounds = [time for segment in instrument.segments for time in (segment.time_ns(segment.first), segment.time_ns(segment.end))]
    return bounds, np.concatenate([instrument.waveform(segment, segment.first, segment.end)[0] for segment in instrument.segments], axis=1)


def same(expected: Instrument, actual: Instrument) -> bool:
    (times, samples), (other_times, other_samples) = whole(expected), whole(actual)
    return times == other_times and np.array_equal(samples, other_samples, equal_nan=True)


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are opened, in order."""
    opened: list[str] = []
    scan = archive.scan
    monkeypatch.setattr(archive, "scan", lambda path, *others: opened.append(path.name) or scan(path, *others))
    return opened


# Which files


def test_files_folders_and_globs_are_the_same_archive(tmp_path: Path) -> None:
    folder = write_days(record(), tmp_path / "sds")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert 6 == len(files)
    expected = Archive([folder])
    for paths in (files, [str(path) for path in files], [folder / "2020" / "**" / "*HH?*"], [folder, folder, *files]):
        found = Archive(paths)
        assert ({}, sorted(expected.files)) == (found.problems, sorted(found.files))
        [one], [other] = expected.instruments, found.instruments
        assert same(one, other)


def test_a_folder_is_read_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b/2", "b/10", "a/z", ".hidden", "a/.hidden", ".git/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(record(seconds=1), tmp_path / name)
    assert ["a/z", "b/10", "b/2"] == [str(path.relative_to(tmp_path)) for path in Archive([tmp_path]).files]


def test_one_path_and_one_station_need_no_list(tmp_path: Path) -> None:
    path = write(record(seconds=1), tmp_path / "file")
    write(record(seconds=1, instrument="XX.DEF..HH"), tmp_path / "other")
    for one in (path, str(path), str(tmp_path / "fi*")):
        assert [path] == Archive(one).files
    assert ["XX.ABC..HH"] == names(Archive(tmp_path, stations="ABC"))


def test_a_link_is_followed_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path = write(record(seconds=1), tmp_path / "real" / "file")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "alias").symlink_to(path)
    found = Archive([tmp_path])
    assert ([path], {}) == (found.files, found.problems)


def test_a_name_with_brackets_is_a_name_first(tmp_path: Path) -> None:
    path = write(record(seconds=1), tmp_path / "day[1]")
    assert [path] == Archive([path]).files


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([], ["AA.ONE.00.BH", "AA.ONE.10.HH", "AA.TWO..HH", "BB.ONE..HH"]),
        (["ONE"], ["AA.ONE.00.BH", "AA.ONE.10.HH", "BB.ONE..HH"]),
        (["AA.ONE"], ["AA.ONE.00.BH", "AA.ONE.10.HH"]),
        (["AA.ONE.10"], ["AA.ONE.10.HH"]),
        (["AA.*"], ["AA.ONE.00.BH", "AA.ONE.10.HH", "AA.TWO..HH"]),
        (["*.BH", "T*"], ["AA.ONE.00.BH", "AA.TWO..HH"]),
        (["AA.ONE..HH", "one"], []),
    ],
)
@pytest.mark.parametrize("days", [False, True])
def test_stations_are_chosen_by_name(tmp_path: Path, patterns: list[str], expected: list[str], days: bool) -> None:
    for number, instrument in enumerate(("AA.ONE.00.BH", "AA.ONE.10.HH", "AA.TWO..HH", "BB.ONE..HH")):
        stream = record(MIDNIGHT, 2, instrument=instrument)
        _ = write_days(stream, tmp_path) if days else write(stream, tmp_path / f"{number}")
    found = Archive([tmp_path], stations=patterns)
    assert (expected, {}) == (names(found), found.problems)


def test_stations_of_one_name_in_two_networks_stay_apart(tmp_path: Path) -> None:
    for network in ("AA", "BB"):
        write(record(seconds=2, instrument=f"{network}.ONE..HH"), tmp_path / network)
    one, two = Archive([tmp_path]).instruments
    assert ("AA.ONE..HH", "BB.ONE..HH") == (one.name, two.name)
    assert not np.array_equal(whole(one)[1], whole(two)[1])


def test_a_channel_of_two_rates_is_two_instruments(tmp_path: Path) -> None:
    write(record(seconds=60), tmp_path / "a")
    for trace in (later := record(start=MIDNIGHT, seconds=60)):
        trace.stats.sampling_rate = 50.0
    write(later, tmp_path / "b")
    found = Archive([tmp_path])
    assert [("XX.ABC..HH", 50), ("XX.ABC..HH", 100)] == [(instrument.name, instrument.rate) for instrument in found.instruments]


# Which times


def test_only_what_was_asked_for_is_within(tmp_path: Path) -> None:
    write(record(), tmp_path / "file")
    for first, last, expected in (
        (-10, 20, (-10, 20)),
        (None, -290, (-300, -290)),
        (None, 20.001, (-300, 20.01)),
        (290.001, None, (290.01, 300)),
        (400, None, None),
    ):
        bounds = [None if time is None else MIDNIGHT.ns + round(time * 1e9) for time in (first, last)]
        found = Archive([tmp_path / "file"], *bounds)
        [segment] = found.instruments[0].segments
        part = found.within(segment)
        if expected is None:
            assert part.first >= part.end
        else:
            assert [MIDNIGHT.ns + round(time * 1e9) for time in expected] == [part.time_ns(part.first), part.time_ns(part.end)]


def test_days_that_were_not_asked_for_are_not_opened(tmp_path: Path, scanned: list[str]) -> None:
    days = [write_days(record(MIDNIGHT + 86400 * day, 2)[:1], tmp_path) for day in range(-3, 4)]
    assert 7 == len(days)
    found = Archive([tmp_path], MIDNIGHT.ns, (MIDNIGHT + 3600).ns)
    assert [] == scanned  # and none before its station is asked for
    assert ["XX.ABC..HH"] == names(found)
    # The neighbours too, for what is beside the time that was asked for.
    assert ["XX.ABC..HHE.D.2020.258", "XX.ABC..HHE.D.2020.259", "XX.ABC..HHE.D.2020.260"] == scanned


def test_a_file_that_is_named_after_no_day_is_opened(tmp_path: Path, scanned: list[str]) -> None:
    for name in ("XX.ABC..HHE.D.2020.12", "XX.ABC..HHE.D.0000.001", "day.mseed"):
        write(record(MIDNIGHT, 2)[:1], tmp_path / name)
    assert 3 == len(Archive([tmp_path], MIDNIGHT.ns, (MIDNIGHT + 1).ns).files) == len(scanned)


# One record, however it was cut


def cut(stream: Stream, seconds: float) -> list[Stream]:
    """Parts of a stream, each of at most so many seconds."""
    start, end = stream[0].stats.starttime, stream[0].stats.endtime
    return [stream.slice(start + at, start + at + seconds - 0.01) for at in np.arange(0, end - start, seconds)]


def test_consecutive_files_are_one_record(tmp_path: Path) -> None:
    stream = record()
    write(stream, tmp_path / "joined")
    (tmp_path / "parts").mkdir()
    for number, part in enumerate(cut(stream, 7.3)):
        write(part, tmp_path / "parts" / f"{number}", 256)
    [expected], [found] = Archive([tmp_path / "joined"]).instruments, Archive([tmp_path / "parts"]).instruments
    assert 83 == len(Archive([tmp_path / "parts"]).files)
    assert same(expected, found)
    assert same(sort_stream(stream)[0][0], found)


@pytest.mark.parametrize("kept", [0, 7, 10**6])
def test_files_more_than_are_remembered_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    for number, part in enumerate(cut(record(), 50)):
        write(part, tmp_path / f"{number}")
    [expected] = Archive([tmp_path]).instruments
    monkeypatch.setattr(archive, "KEPT_PIECES", kept)
    monkeypatch.setattr(archive, "CACHED_FILES", 1)
    monkeypatch.setattr(archive, "CACHED_PIECES", 1)
    assert same(expected, Archive([tmp_path]).instruments[0])


def one_channel(folder: Path, number: int) -> Path:
    """Files that follow each other, a record of 512 bytes each."""
    folder.mkdir()
    samples = np.random.default_rng(0).integers(-99, 99, (number, 100), dtype=np.int32)
    for place, part in enumerate(samples):
        header = {"network": "XX", "station": "ABC", "channel": "HHZ", "sampling_rate": 100.0, "starttime": MIDNIGHT + place}
        write(Stream([Trace(part, header)]), folder / f"{place:04}")
    return folder


def test_a_file_is_scanned_once_however_many_there_are(tmp_path: Path, scanned: list[str]) -> None:
    found = Archive(one_channel(tmp_path / "files", 200))
    for _ in range(3):
        _, samples = whole(found.instruments[0])
    assert 200 == len(scanned) == len({*scanned})
    assert 20_000 == np.isfinite(samples[2]).sum()


def test_files_beyond_those_that_are_kept_are_scanned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scanned: list[str]) -> None:
    monkeypatch.setattr(archive, "KEPT_PIECES", 150)
    monkeypatch.setattr(archive, "CACHED_FILES", 1)
    whole(Archive(one_channel(tmp_path / "files", 200)).instruments[0])
    names = [f"{place:04}" for place in range(200)]
    assert names + names[150:] == scanned


def cost(folder: Path) -> tuple[int, int]:
    """Objects and bytes that an archive holds."""
    gc.collect()
    before = len(gc.get_objects())
    tracemalloc.start()
    found = Archive(folder)
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert int(folder.name) == len(found.files)
    return len(gc.get_objects()) - before, size


def test_a_file_takes_little_memory_and_no_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "CACHED_FILES", 1)
    few, many = (one_channel(tmp_path / f"{number}", number) for number in (100, 600))
    # The least of several, because the tables of the interpreter grow now and then.
    objects, memory = (min(cost(many)[kind] for _ in range(3)) - min(cost(few)[kind] for _ in range(3)) for kind in (0, 1))
    assert objects < 10  # of 500 more files
    assert memory / 500 < 300  # bytes


@pytest.mark.parametrize("kind", ["MSEED", "GSE2", "SAC"])
@pytest.mark.parametrize("zipped", [False, True])
def test_what_is_kept_of_a_file_is_what_was_found_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, zipped: bool) -> None:
    monkeypatch.setattr(miniseed, "LONGEST", 1000)
    for number, trace in enumerate(record(seconds=60)):
        Stream([trace]).write(str(tmp_path / f"{number}"), kind)
    if zipped:
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as target:
            for number in range(3):
                target.write(tmp_path / f"{number}")
                (tmp_path / f"{number}").unlink()
    monkeypatch.setattr(archive, "CACHED_FILES", 0)
    kept = Archive([tmp_path])
    monkeypatch.setattr(archive, "KEPT_PIECES", 0)
    again = Archive([tmp_path])
    channel = ("XX.ABC..HHZ", HUNDRED)
    [pieces, expected] = [[piece[:4] + piece[5:] for piece in found.pieces(channel, 0, 2**62)] for found in (kept, again)]
    assert {"MSEED": 4}.get(kind, 6) == len(pieces)
    assert expected == pieces
    assert same(again.instruments[0], kept.instruments[0])


def test_times_beyond_64_bits_are_read(tmp_path: Path) -> None:
    stream = record(UTCDateTime(9000, 1, 1), 60)
    for number, trace in enumerate(stream):
        Stream([trace]).write(str(tmp_path / f"{number}"), "SAC")
    write(record(MIDNIGHT, 60), tmp_path / "now")
    [instrument] = Archive([tmp_path]).instruments
    starts = [segment.time_ns(segment.first) for segment in instrument.segments]
    assert [MIDNIGHT.ns, UTCDateTime(9000, 1, 1).ns] == starts
    assert 12_000 == np.isfinite(whole(instrument)[1]).all(axis=0).sum()


def test_files_twice_and_files_that_overlap_are_one_record(tmp_path: Path) -> None:
    stream = record()
    (tmp_path / "copies").mkdir()
    write(stream, tmp_path / "joined")
    shutil.copy(tmp_path / "joined", tmp_path / "copies" / "copy")
    shutil.copy(tmp_path / "joined", tmp_path / "copies" / "other copy")
    write(stream.slice(MIDNIGHT - 100, MIDNIGHT + 50), tmp_path / "copies" / "part", 4096)
    [expected], [found] = Archive([tmp_path / "joined"]).instruments, Archive([tmp_path / "copies"]).instruments
    assert same(expected, found)


def test_a_part_that_is_in_a_file_twice_does_not_end_its_record(tmp_path: Path) -> None:
    stream = record()
    write(stream, tmp_path / "joined")
    write(stream + stream.slice(MIDNIGHT - 100, MIDNIGHT + 50), tmp_path / "twice")
    assert same(Archive([tmp_path / "joined"]).instruments[0], Archive([tmp_path / "twice"]).instruments[0])


@pytest.mark.parametrize("pause", [0.02, 29.0, 31.0, 4000.0])
def test_a_gap_is_the_same_within_a_file_and_between_two(tmp_path: Path, pause: float) -> None:
    # The second part lies on a grid of its own, 3 ms late.
    parts = [record(MIDNIGHT, 60), record(MIDNIGHT + 60 + pause + 0.003, 60)]
    write(parts[0] + parts[1], tmp_path / "joined")
    (tmp_path / "parts").mkdir()
    for number, part in enumerate(parts):
        write(part, tmp_path / "parts" / f"{number}")
    [expected], [found] = Archive([tmp_path / "joined"]).instruments, Archive([tmp_path / "parts"]).instruments
    assert (1 if pause < 30 else 2) == len(found.segments) == len(expected.segments)
    assert same(expected, found)
    assert same(sort_stream(parts[0] + parts[1])[0][0], found)


def test_a_clock_that_was_not_set_yet_makes_no_run_of_decades(tmp_path: Path) -> None:
    stream = record(UTCDateTime(0), 20) + record(UTCDateTime(-3600), 20) + record(MIDNIGHT, 20) + record(UTCDateTime("2099-12-31"), 20)
    write(stream, tmp_path / "file")
    [instrument] = Archive([tmp_path / "file"]).instruments
    starts = [UTCDateTime(-3600), UTCDateTime(0), MIDNIGHT, UTCDateTime("2099-12-31")]
    assert [(start.ns, (start + 20).ns) for start in starts] == [
        (segment.time_ns(segment.first), segment.time_ns(segment.end)) for segment in instrument.segments
    ]


def test_real_days_are_what_obspy_reads(sds: Path) -> None:
    import obspy

    paths = sorted(sds.glob("2019/PB/B91[67]/*/*"))
    stream = Stream([trace for path in paths for trace in obspy.read(path)])
    found = Archive(paths)
    assert ({}, ["PB.B916..EH", "PB.B917..EH"]) == (found.problems, names(found))
    for expected, actual in zip(sort_stream(stream)[0], found.instruments, strict=True):
        assert same(expected, actual)


# Archives that are named as in SDS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CX.PB01..HHE.D.2014.121", ("CX.PB01..HHE", UTCDateTime(2014, 5, 1).ns)),
        ("CX.PB01.--.HHE.D.2014.121", ("CX.PB01..HHE", UTCDateTime(2014, 5, 1).ns)),
        ("CX.PB01.10.HHE.D.2016.366", ("CX.PB01.10.HHE", UTCDateTime(2016, 12, 31).ns)),
        ("CX.PB01..HHE.D.2014.366", None),  # no such day
        ("CX.PB01..HHE.D.2014.000", None),
        ("CX.PB01..HHE.D.0000.001", None),
        ("CX.PB01..HHE.D.2014.121.gz", None),
        ("PB01..HHE.D.2014.121", None),
    ],
)
def test_the_name_of_a_file_in_an_sds_archive_tells_channel_and_day(name: str, expected: tuple[str, int] | None) -> None:
    assert expected == parse_name(name)


def days_of(folder: Path, *instruments: str) -> Path:
    for instrument in instruments:
        write_days(record(instrument=instrument), folder)
    return folder


def test_an_sds_archive_is_planned_from_names(tmp_path: Path, scanned: list[str]) -> None:
    days_of(tmp_path, "XX.AB..HH", "XX.AB-1..HH", "XX.ABC..HH", "XX.ABC.00.BH")
    found = Archive([tmp_path])
    assert (["XX.AB-1", "XX.AB", "XX.ABC"], 24) == (found.station_names(), len([*found.sources()]))
    assert [2 * 86400.0, 2 * 86400.0, 4 * 86400.0] == [found.expected_seconds(name) for name in found.station_names()]
    assert [] == scanned
    assert ["XX.ABC..HH", "XX.ABC.00.BH"] == [instrument.name for instrument in found.of_station("XX.ABC")]
    assert (12, {"XX.ABC"}) == (len(scanned), {".".join(name.split(".")[:2]) for name in scanned})
    assert 1200.0 == found.expected_seconds("XX.ABC")
    assert ["XX.AB-1..HH", "XX.AB..HH", "XX.ABC..HH", "XX.ABC.00.BH"] == names(found)
    assert (24, set()) == (len({*scanned}), found.changed)
    assert 24 == len(scanned) == len(found.files)


def misname(folder: Path, here: str, there: str) -> Path:
    """Move the file of one channel and day to the name of another."""
    [path] = folder.rglob(here)
    target = path.with_name(there)
    path.rename(target)
    return target


@pytest.mark.parametrize("named", ["XX.AAA..HHZ.D.2020.300", "XX.CCC..HHZ.D.2020.300"])
def test_a_file_with_the_name_of_another_station_is_named_and_read(tmp_path: Path, named: str) -> None:
    days_of(tmp_path / "sds", "XX.AAA..HH", "XX.BBB..HH", "XX.CCC..HH")
    right = Archive([shutil.copytree(tmp_path / "sds", tmp_path / "right")]).instruments
    path = misname(tmp_path / "sds", "XX.BBB..HHZ.D.2020.259", named)
    found = Archive([tmp_path / "sds"])
    for one in found.station_names():
        found.of_station(one)
    assert ({"XX.BBB"} if "CCC" in named else set()) == found.changed
    assert all(same(one, other) for one, other in zip(right, found.instruments, strict=True))
    assert [
        f"{path}: holds XX.BBB..HHZ, but its name says {named[:11]}; it is picked as XX.BBB..HHZ",
        f"{path}: holds data of 2020-09-15, but its name says 2020-10-26; --from and --to go by the name",
    ] == list(found.problems)


def test_a_station_that_no_name_says_is_found(tmp_path: Path) -> None:
    write_days(record(MIDNIGHT, 60), tmp_path)
    for number, trace in enumerate(record(MIDNIGHT, 60, instrument="XX.ZZZ..HH")):
        write(Stream([trace]), tmp_path / f"XX.ABC..HHZ.D.2020.26{number}")
    assert ["XX.ABC..HH", "XX.ZZZ..HH"] == names(Archive([tmp_path]))


def test_what_is_kept_of_earlier_stations_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scanned: list[str]) -> None:
    days_of(tmp_path, "XX.AAA..HH", "XX.BBB..HH")
    expected = Archive([tmp_path]).instruments
    monkeypatch.setattr(archive, "KEPT_PIECES", 6)
    monkeypatch.setattr(archive, "CACHED_FILES", 0)
    found = Archive([tmp_path])
    scanned.clear()
    for name, wanted in zip(("XX.AAA", "XX.BBB"), expected, strict=True):
        assert same(wanted, found.of_station(name)[0])
    assert 12 == len(scanned) == len({*scanned})
    assert same(expected[0], found.of_station("XX.AAA")[0])
    assert 18 <= len(scanned)


def test_a_scan_can_be_stopped(tmp_path: Path, scanned: list[str]) -> None:
    found = Archive([days_of(tmp_path, "XX.ABC..HH")])
    with pytest.raises(CancelledError):
        found.of_station("XX.ABC", lambda: len(scanned) >= 2)
    assert 2 == len(scanned)


# What cannot be used


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty"),
        (b"network,station\n", "no waveforms in miniSEED or in another format that ObsPy knows"),
        (b"\0" * 10_000, "no waveforms in miniSEED or in another format that ObsPy knows"),
    ],
)
def test_a_file_without_waveforms_is_named(tmp_path: Path, raw: bytes, reason: str) -> None:
    (tmp_path / "file").write_bytes(raw)
    write(record(seconds=2), tmp_path / "other")
    found = Archive([tmp_path])
    assert ([tmp_path / "other"], {f"{tmp_path / 'file'}: {reason}": None}) == (found.files, found.problems)


def test_text_of_a_data_logger_is_no_waveform(tmp_path: Path) -> None:
    header = MS3Record(reclen=512, encoding=0)
    header.sourceid, header.starttime, header.samprate, header.formatversion = "FDSN:XX_ABC__L_O_G", MIDNIGHT.ns, 0, 2
    (tmp_path / "file").write_bytes(b"".join(header.generate(data_samples=b"all is well " * 200, sample_type="t")))
    found = Archive([tmp_path])
    [problem] = found.problems
    assert f"{tmp_path / 'file'}: MSEED of XX.ABC..LOG without samples at a rate above 0 Hz, such as a log" == problem


def test_an_empty_folder_and_a_path_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    found = Archive([tmp_path / "folder", tmp_path / "nowhere", str(tmp_path / "*.mseed"), "x" * 5000])
    expected = [tmp_path / "nowhere", tmp_path / "*.mseed", "x" * 5000]
    assert [f"{path}: no such file or folder" for path in expected] == list(found.problems)
    assert ([], []) == (found.files, found.instruments)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *others: object) -> None:
        raise PermissionError(13, "Permission denied", str(path)) if path.name == "denied" else OSError(5, "Input/output error")

    for name in ("denied", "broken"):
        write(record(seconds=2), tmp_path / name)
    monkeypatch.setattr(archive, "scan", refuse)  # root may read any file
    found = Archive([tmp_path])
    expected = [f"{tmp_path / 'broken'}: cannot be read: Input/output error", f"{tmp_path / 'denied'}: cannot be read: Permission denied"]
    assert (expected, []) == (list(found.problems), found.files)


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(folder: str) -> object:
        if str(folder).endswith("denied"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    (tmp_path / "denied").mkdir()
    path = write(record(seconds=2), tmp_path / "file")
    monkeypatch.setattr(os, "scandir", refuse)
    found = Archive([tmp_path])
    assert ([path], [f"{tmp_path / 'denied'}: cannot be read: Permission denied"]) == (found.files, list(found.problems))


def test_a_pipe_and_a_link_in_a_circle_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    told = list(Archive([tmp_path]).problems)
    assert [
        f"{tmp_path / 'circle'}: cannot be read: Too many levels of symbolic links",
        f"{tmp_path / 'missing'}: cannot be read: No such file or directory",
        f"{tmp_path / 'pipe'}: neither a file nor a folder",
    ] == sorted(told)


def test_channels_that_cannot_be_picked_are_named_once(tmp_path: Path) -> None:
    stream = record(seconds=60)
    for code, rate in (("LHZ", 1.0), ("HHX", 100.0)):
        trace = stream[0].copy()
        trace.stats.channel, trace.stats.sampling_rate = code, rate
        stream.append(trace)
    for name in "ab":
        write(stream, tmp_path / name)
    found = Archive([tmp_path])
    assert ["XX.ABC..HH"] == names(found)
    assert ["XX.ABC..HHX", "XX.ABC..LHZ"] == sorted(problem.partition(":")[0] for problem in found.problems)
    assert ["XX.ABC..HHX"] == [problem.partition(":")[0] for problem in Archive([tmp_path], stations=["*.HH"]).problems]


def test_damage_is_told_when_the_data_are_read(tmp_path: Path) -> None:
    path = write(record()[:1], tmp_path / "file")
    raw = bytearray(path.read_bytes())
    raw[10 * 512 + 200 : 10 * 512 + 210] = b"something!"
    path.write_bytes(raw)
    found = Archive([path])
    assert {} == found.problems
    for _ in range(2):
        whole(found.instruments[0])
    [problem] = found.problems
    assert problem.startswith(f"{path}: record at byte {10 * 512} skipped: ")


@pytest.mark.parametrize("cached", [0, 64])
def test_a_file_that_goes_while_it_is_worked_on_is_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: int) -> None:
    monkeypatch.setattr(archive, "CACHED_FILES", cached)
    parts = cut(record(), 200)
    for number, part in enumerate(parts):
        write(part, tmp_path / f"{number}")
    found = Archive([tmp_path])
    (tmp_path / "1").unlink()
    bounds, samples = whole(found.instruments[0])
    assert [(MIDNIGHT - 300).ns, (MIDNIGHT + 300).ns] == bounds
    assert [False] * 20_000 + [True] * 20_000 + [False] * 20_000 == np.isnan(samples[2]).tolist()
    assert [f"{tmp_path / '1'}: cannot be read: No such file or directory"] == list(found.problems)
