import time
import warnings
from collections import Counter
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
import obspy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pymseed import MS3Record, nslc2sourceid

from xiaonet.io import headers
from xiaonet.io.miniseed import LONGEST, decode, scan

START = obspy.UTCDateTime("2020-09-14T11:00:00")
EXAMPLES = Path(obspy.__file__).parent / "io" / "mseed" / "tests" / "data"  # ObsPy's own: a museum of odd files
NO_WAVEFORM = ("no miniSEED", "no complete record", "it has no samples")


class Record(NamedTuple):
    """A record of miniSEED and what is in it."""

    raw: bytes
    seed_id: str
    start_ns: int
    samples: NDArray[Any]


def records(
    samples: NDArray[Any], seed_id: str = "XX.ABC..HHZ", start_ns: int = START.ns, rate: float = 100.0, length: int = 512, version: int = 2
) -> list[Record]:
    """Samples as records: Steim 2 for integers, floats as they are."""
    header = MS3Record(reclen=length, encoding={"i": 11, "f": 4}[samples.dtype.kind])
    header.sourceid, header.starttime, header.samprate, header.formatversion = nslc2sourceid(*seed_id.split(".")), start_ns, rate, version
    made, at = [], 0
    for raw in header.generate(data_samples=samples, sample_type=samples.dtype.kind):
        count = MS3Record.parse(raw).samplecnt
        made.append(Record(bytes(raw), seed_id, start_ns + round(at * 1e9 / rate), samples[at : at + count]))
        at += count
    return made


def noise(number: int, seed: int = 0) -> NDArray[np.int32]:
    return np.random.default_rng(seed).normal(0, 3000, number).astype(np.int32)


def write(path: Path, *made: Record) -> Path:
    path.write_bytes(b"".join(record.raw for record in made))
    return path


def read(path: Path) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """All samples of each channel in order of time, and what was said."""
    said: list[str] = []
    pieces = scan(path, said.append)
    channels: dict[str, list[NDArray[Any]]] = {}
    for piece in sorted(pieces, key=lambda piece: piece.start_ns):
        channels.setdefault(piece.seed_id, []).append(decode(piece, said.append))
    return {seed_id: np.concatenate(parts) for seed_id, parts in channels.items()}, said


def read_by_obspy(path: Path) -> dict[str, NDArray[Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream = obspy.read(str(path), format="MSEED").sort(["starttime"])
    channels: dict[str, list[NDArray[Any]]] = {}
    for trace in stream:
        if trace.data.dtype.kind != "S":  # text
            channels.setdefault(trace.id, []).append(trace.data)
    return {seed_id: np.concatenate(parts) for seed_id, parts in channels.items()}


def same(expected: dict[str, NDArray[Any]], actual: dict[str, NDArray[Any]]) -> bool:
    return expected.keys() == actual.keys() and all(np.array_equal(expected[key], actual[key], equal_nan=True) for key in expected)


def instants(path: Path) -> tuple[Counter[tuple[str, int, float]], list[str]]:
    """Each sample as (channel, hundredths of a second since 1970, value), and what was said."""
    said: list[str] = []
    found: Counter[tuple[str, int, float]] = Counter()
    for piece in scan(path, said.append):
        data = decode(piece, said.append)
        assert len(data) == piece.samples
        first = round(piece.start_ns / 1e7)
        found.update((piece.seed_id, first + at, float(data[at])) for at in np.flatnonzero(~np.isnan(data)))
    return found, said


def of(record: Record) -> list[tuple[str, int, float]]:
    first = round(record.start_ns / 1e7)
    return [(record.seed_id, first + at, float(value)) for at, value in enumerate(record.samples)]


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    ("encoding", "dtype"),
    [("INT16", "int16"), ("INT32", "int32"), ("FLOAT32", "float32"), ("FLOAT64", "float64"), ("STEIM1", "int32"), ("STEIM2", "int32")],
)
def test_every_encoding_and_byte_order_is_read_as_obspy_reads_it(tmp_path: Path, encoding: str, dtype: str, byteorder: str) -> None:
    samples = noise(7000).astype(dtype)
    trace = obspy.Trace(samples, {"network": "XX", "station": "ABC", "channel": "HHZ", "sampling_rate": 100.0, "starttime": START})
    trace.write(str(tmp_path / "file"), "MSEED", encoding=encoding, byteorder=byteorder, reclen=1024)
    channels, said = read(tmp_path / "file")
    assert [] == said
    assert same({"XX.ABC..HHZ": samples}, channels)
    assert same(read_by_obspy(tmp_path / "file"), channels)


@pytest.mark.parametrize("length", [128, 256, 512, 1024, 4096, 8192, 65536])
def test_every_length_of_records_is_read(tmp_path: Path, length: int) -> None:
    samples = noise(80_000)
    made = records(samples, length=length)
    channels, said = read(write(tmp_path / "file", *made))
    assert {length} == {len(record.raw) for record in made}
    assert [] == said
    assert same({"XX.ABC..HHZ": samples}, channels)


@pytest.mark.parametrize("number", [3, 60, 5000])
def test_minised_3_is_read_to_its_last_short_record(tmp_path: Path, number: int) -> None:
    samples = noise(number)
    channels, said = read(write(tmp_path / "file", *records(samples, version=3)))
    assert [] == said
    assert same({"XX.ABC..HHZ": samples}, channels)


def test_versions_and_lengths_may_be_mixed_in_a_file(tmp_path: Path) -> None:
    samples = noise(30_000)
    made: list[Record] = []
    for part, (version, length) in enumerate([(2, 512), (3, 512), (2, 4096), (2, 256), (3, 4096)]):
        made += records(samples[6000 * part :][:6000], start_ns=START.ns + part * 60 * 10**9, length=length, version=version)
    channels, said = read(write(tmp_path / "file", *made))
    assert [] == said
    assert same({"XX.ABC..HHZ": samples}, channels)


# Damage and things that hold no samples.
REFUSED = {"infinite-loop.mseed"}
RENAMED = {"gecko_non_ascii_header.ms": ".GECKO..CNZ"}
MUSEUM = sorted(
    path
    for path in EXAMPLES.glob("**/*")
    if path.is_file() and path.stat().st_size and path.name not in REFUSED and not path.name.startswith("not")
)


@pytest.mark.skipif(not MUSEUM, reason="this ObsPy came without the files of its tests")
@pytest.mark.parametrize("path", MUSEUM, ids=lambda path: path.name)
def test_odd_files_are_read_as_obspy_reads_them(path: Path) -> None:
    expected = read_by_obspy(path)
    if path.name in RENAMED:
        expected = {RENAMED[path.name]: next(iter(expected.values()))}
    channels, said = read(path)
    assert same(expected, channels)
    assert [] == [line for line in said if not line.endswith(NO_WAVEFORM)]


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_damaged_example_of_obspys_is_no_crash(name: str) -> None:
    if not (EXAMPLES / name).exists():
        pytest.skip("this ObsPy came without the files of its tests")
    said: list[str] = []
    for piece in scan(EXAMPLES / name, said.append):
        decode(piece, said.append)
    assert said


def test_real_days_are_read_as_obspy_reads_them(sds: Path) -> None:
    paths = sorted(path for path in sds.glob("2014/CX/PB01/*/*") if path.stat().st_size < 10**6) + sorted(sds.glob("2019/PB/B91?/*/*"))
    assert 12 <= len(paths)
    for path in paths:
        channels, said = read(path)
        assert [] == said
        assert same(read_by_obspy(path), channels)


def test_records_that_follow_each_other_are_one_piece(tmp_path: Path) -> None:
    made = records(noise(20_000))
    path = write(tmp_path / "file", *made)
    [piece] = scan(path, pytest.fail)
    assert (START.ns, 20_000, 100.0, START.ns + 200 * 10**9) == (piece.start_ns, piece.samples, piece.rate, piece.end_ns)
    assert 20 < len(made)


def test_no_piece_is_longer_than_44_minutes(tmp_path: Path) -> None:
    samples = noise(3 * LONGEST)
    pieces = scan(write(tmp_path / "file", *records(samples, length=4096)), pytest.fail)
    assert 262_144 == LONGEST
    assert max(piece.samples for piece in pieces) <= LONGEST
    assert 3 <= len(pieces) <= 4
    assert np.array_equal(samples, np.concatenate([decode(piece, pytest.fail) for piece in pieces]))


def test_a_gap_and_an_overlap_part_pieces(tmp_path: Path) -> None:
    second = 10**9
    one, two, three = (records(noise(2000, seed), start_ns=START.ns + start) for seed, start in enumerate((0, 25 * second, 40 * second)))
    pieces = scan(write(tmp_path / "file", *one, *two, *three), pytest.fail)
    assert [(0, 2000), (25 * second, 2000), (40 * second, 2000)] == [(piece.start_ns - START.ns, piece.samples) for piece in pieces]
    found, _ = instants(tmp_path / "file")
    assert Counter(item for record in one + two + three for item in of(record)) == found


@pytest.mark.parametrize(("late_ms", "pieces"), [(4, 1), (6, 2), (-4, 1), (-6, 2)])
def test_half_a_sample_is_the_least_gap(tmp_path: Path, late_ms: int, pieces: int) -> None:
    made = records(noise(2000)) + records(noise(2000, 1), start_ns=START.ns + 20 * 10**9 + late_ms * 10**6)
    assert pieces == len(scan(write(tmp_path / "file", *made), pytest.fail))


def test_a_clock_that_runs_away_from_its_rate_parts_pieces(tmp_path: Path) -> None:
    # Records are told to start 1 ms later each than 100 Hz would have them: after 5 of them half a sample is reached.
    made = [record for part in range(40) for record in records(noise(200, part), start_ns=START.ns + part * (2 * 10**9 + 10**6))]
    pieces = scan(write(tmp_path / "file", *made), pytest.fail)
    assert 40 == len(made)
    assert {200 * 5} == {piece.samples for piece in pieces}
    for number, piece in enumerate(pieces):
        assert START.ns + 5 * number * (2 * 10**9 + 10**6) == piece.start_ns
        assert np.array_equal(np.concatenate([noise(200, part) for part in range(5 * number, 5 * number + 5)]), decode(piece, pytest.fail))


def test_channels_that_alternate_record_by_record_come_apart(tmp_path: Path) -> None:
    samples = {f"XX.ABC.00.HH{code}": noise(20_000, seed) for seed, code in enumerate("ENZ")}
    queues = [records(data, seed_id) for seed_id, data in samples.items()]
    shortest = min(map(len, queues))
    made = [queue[at] for at in range(shortest) for queue in queues] + [record for queue in queues for record in queue[shortest:]]
    channels, said = read(write(tmp_path / "file", *made))
    assert [] == said
    assert same(samples, channels)


def test_forty_channels_that_alternate_come_apart(tmp_path: Path) -> None:
    samples = {f"XX.S{number:02}..HHZ": noise(2500, number) for number in range(40)}
    queues = [records(data, seed_id) for seed_id, data in samples.items()]
    made = [queue[at] for at in range(max(map(len, queues))) for queue in queues if at < len(queue)]
    channels, said = read(write(tmp_path / "file", *made))
    assert [] == said
    assert same(samples, channels)


def test_one_channel_may_follow_another(tmp_path: Path) -> None:
    samples = {f"XX.ABC..HH{code}": noise(5000 + seed, seed) for seed, code in enumerate("ENZ")}
    made = [record for seed_id, data in samples.items() for record in records(data, seed_id)]
    lone = records(noise(100), "XX.ABC..HNZ")
    channels, said = read(write(tmp_path / "file", *made, *lone))
    assert [] == said
    assert same({**samples, "XX.ABC..HNZ": noise(100)}, channels)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(30)), repeated=st.lists(st.integers(0, 29), max_size=3))
def test_records_out_of_order_and_repeated_are_all_there(tmp_path: Path, order: list[int], repeated: list[int]) -> None:
    made = [record for seed, code in enumerate("NZ") for record in records(noise(5200, seed), f"XX.ABC..HH{code}")[:15]]
    chosen = [made[at] for at in [*order, *repeated]]
    found, said = instants(write(tmp_path / "file", *chosen))
    assert [] == said
    assert Counter(item for record in chosen for item in of(record)) == found


@pytest.mark.parametrize("block", [100, 513, 4000])
@pytest.mark.parametrize("version", [2, 3])
def test_it_does_not_matter_how_much_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int, block: int) -> None:
    made = records(noise(6000), version=version)
    path = tmp_path / "file"
    path.write_bytes(
        b"x" * 300 + b"".join(record.raw for record in made[:9]) + b"y" * 700 + b"".join(record.raw for record in made[9:]) + b"z"
    )
    expected = instants(path)
    assert 3 == len(expected[1])
    monkeypatch.setattr(headers, "BLOCK", block)
    assert expected == instants(path)


# What is no waveform


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 5000,
        b"network,station\nCX,PB01\n" * 400,
        bytes(range(256)) * 20,
        b"PK\x03\x04" * 1000,
        b"MS\x03" * 2000,
        b"000001D " * 900,
    ],
    ids=["empty", "zeros", "text", "bytes", "zip", "miniSEED 3 in part", "miniSEED 2 in part"],
)
def test_a_file_that_is_no_miniseed_holds_nothing(tmp_path: Path, raw: bytes) -> None:
    said: list[str] = []
    (tmp_path / "file").write_bytes(raw)
    assert [] == scan(tmp_path / "file", said.append)
    assert ([f"{tmp_path / 'file'}: {len(raw)} bytes from byte 0 skipped: no complete record"] if raw else []) == said


def test_seed_headers_before_the_records_are_passed_over(tmp_path: Path) -> None:
    made = records(noise(5000))
    (tmp_path / "file").write_bytes(
        b"".join(b"%06dA " % number + b"0" * 4088 for number in range(300)) + b"".join(record.raw for record in made)
    )
    channels, said = read(tmp_path / "file")
    assert [f"{tmp_path / 'file'}: {300 * 4096} bytes from byte 0 skipped: no miniSEED"] == said
    assert same({"XX.ABC..HHZ": noise(5000)}, channels)


def test_the_search_for_a_first_record_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "SEARCH", 10_000)
    said: list[str] = []
    (tmp_path / "file").write_bytes(b"x" * 10_000 + records(noise(500))[0].raw)
    assert [] == scan(tmp_path / "file", said.append)
    (tmp_path / "file").write_bytes(b"x" * 9_000 + records(noise(500))[0].raw)
    assert 1 == len(scan(tmp_path / "file", said.append))


def patched(record: Record, at: int, raw: bytes) -> Record:
    return record._replace(raw=record.raw[:at] + raw + record.raw[at + len(raw) :])


@pytest.mark.parametrize(
    ("at", "raw", "reason"),
    [
        (8, b"A.B  ", "its channel name is invalid: 'FDSN:XX_A.B__H_H_Z'"),
        (8, b"A\x01B  ", "its channel name is invalid: 'FDSN:XX_A\\x01B__H_H_Z'"),
        (8, b"A*B  ", "its channel name is invalid: 'FDSN:XX_A*B__H_H_Z'"),
        (30, b"\0\0", "it has no samples"),
        (30, b"\x81\x9c", "33180 samples do not fit into it"),
        (32, b"\0\0\0\0", "its sampling rate is 0 Hz"),
        (32, b"\x7f\xff\x7f\xff", "its sampling rate is 1.07368e+09 Hz"),
    ],
)
def test_a_record_whose_header_makes_no_sense_is_skipped(tmp_path: Path, at: int, raw: bytes, reason: str) -> None:
    made = records(noise(6000))
    spoiled = [*made[:3], patched(made[3], at, raw), made[4], patched(made[5], at, raw), *made[6:]]
    found, said = instants(write(tmp_path / "file", *spoiled))
    assert [f"{tmp_path / 'file'}: record at byte {3 * 512} and 1 more skipped: {reason}"] == said
    assert Counter(item for number, record in enumerate(made) if number not in (3, 5) for item in of(record)) == found


def test_text_is_no_waveform(tmp_path: Path) -> None:
    header = MS3Record(reclen=512, encoding=0)
    header.sourceid, header.starttime, header.samprate, header.formatversion = "FDSN:XX_ABC__L_O_G", START.ns, 0, 2
    log = [
        Record(bytes(raw), "XX.ABC..LOG", START.ns, noise(0))
        for raw in header.generate(data_samples=b"all is well " * 200, sample_type="t")
    ]
    made = records(noise(5000))
    channels, said = read(write(tmp_path / "file", *made[:5], *log, *made[5:]))
    assert [f"{tmp_path / 'file'}: record at byte {5 * 512} and {len(log) - 1} more skipped: it has no samples"] == said
    assert 3 < len(log)
    assert same({"XX.ABC..HHZ": noise(5000)}, channels)


@pytest.mark.parametrize("time", ["1900-01-01T00:00:05", "1969-12-31T23:59:55", "1970-01-01T00:00:00", "2099-12-31T23:59:55"])
@pytest.mark.parametrize("version", [2, 3])
def test_times_of_any_century_are_read(tmp_path: Path, time: str, version: int) -> None:
    start_ns = obspy.UTCDateTime(time).ns
    [piece] = scan(write(tmp_path / "file", *records(noise(1000), start_ns=start_ns, version=version)), pytest.fail)
    assert (start_ns, start_ns + 10 * 10**9) == (piece.start_ns, piece.end_ns)
    assert np.array_equal(noise(1000), decode(piece, pytest.fail))


def test_damage_in_a_record_costs_that_record(tmp_path: Path) -> None:
    made = records(noise(6000))
    path = write(tmp_path / "file", *made[:7], patched(made[7], 200, b"spoiled"), *made[8:])
    [piece] = scan(path, pytest.fail)
    said: list[str] = []
    samples = decode(piece, said.append)
    first = sum(len(record.samples) for record in made[:7])
    missing = slice(first, first + len(made[7].samples))
    assert np.isnan(samples[missing]).all()
    samples[missing] = made[7].samples
    assert np.array_equal(noise(6000), samples)
    [line] = said
    assert line.startswith(f"{path}: record at byte {7 * 512} skipped: ")


def test_damage_among_channels_that_alternate_is_told_of_one(tmp_path: Path) -> None:
    made = MADE["alternating"]
    path = write(tmp_path / "file", *made[:7], patched(made[7], 200, b"spoiled"), *made[8:])
    found, said = instants(path)
    assert Counter(item for number, record in enumerate(made) if number != 7 for item in of(record)) == found
    [line] = said
    assert line.startswith(f"{path}: record at byte {7 * 512} skipped: ")


@pytest.mark.parametrize("length", [512, 4096])
@pytest.mark.parametrize("byte", range(64))
def test_a_flipped_bit_of_a_header_costs_no_other_record(tmp_path: Path, byte: int, length: int) -> None:
    made = records(noise(7 * length // 2), length=length)
    assert 6 < len(made) < 12
    expected = Counter(item for number, record in enumerate(made) if number != 4 for item in of(record))
    for bit in range(8):
        flipped = patched(made[4], byte, bytes([made[4].raw[byte] ^ 1 << bit]))
        found, said = instants(write(tmp_path / "file", *made[:4], flipped, *made[5:]))
        assert not expected - found, bit
        assert said or found.total() == sum(len(record.samples) for record in made), bit


def test_a_record_whose_blockettes_lead_nowhere_is_told_and_those_after_it_are_read(tmp_path: Path) -> None:
    made = records(noise(60_000), length=4096)
    path = write(tmp_path / "file", *made[:5], patched(made[5], 46, b"\x40\x30"), *made[6:])
    found, said = instants(path)
    assert Counter(item for number, record in enumerate(made) if number != 5 for item in of(record)) == found
    [line] = said
    assert line.startswith(f"{path}: record at byte {5 * 4096} skipped: ")


@pytest.mark.parametrize("bit", range(16))
def test_a_record_that_contradicts_its_rate_is_told(tmp_path: Path, bit: int) -> None:
    made = records(noise(20_000))
    rate = int.from_bytes(made[5].raw[32:34], "big") ^ 1 << bit
    path = write(tmp_path / "file", *made[:5], patched(made[5], 32, rate.to_bytes(2, "big")), *made[6:])
    said: list[str] = []
    pieces = scan(path, said.append)
    assert ({100.0}, 20_000 - len(made[5].samples)) == ({piece.rate for piece in pieces}, sum(piece.samples for piece in pieces))
    [line] = said
    assert line.startswith(f"{path}: record at byte {5 * 512} skipped: its sampling rate is ")


@pytest.mark.parametrize("number", [0, 1, 7, 40, 41])  # of 42 records; many of them are read at once
@pytest.mark.parametrize("encoding", [1, 3, 12, 16, 32])
def test_a_record_alone_in_its_encoding_is_told(tmp_path: Path, number: int, encoding: int) -> None:
    made = records(noise(114 * 41 + 50).astype(np.float32))
    assert 42 == len(made)
    start = number * 512
    raw = bytearray(b"".join(record.raw for record in made))
    assert 4 == raw[start + 52]
    raw[start + 52] = encoding
    path = tmp_path / "file"
    path.write_bytes(raw)
    found, (line,) = read(path)
    assert f"{path}: record at byte {start} skipped: its encoding is {encoding}, but that of the records beside it is 4" == line
    wanted = np.concatenate([record.samples for at, record in enumerate(made) if at != number])
    np.testing.assert_array_equal(wanted, found["XX.ABC..HHZ"])


def test_a_channel_may_change_its_encoding(tmp_path: Path) -> None:
    packed = records(noise(3000))
    floats = records(noise(1000, 1).astype(np.float32), start_ns=START.ns + 30 * 10**9)
    found, said = read(write(tmp_path / "file", *packed, *floats))
    assert [] == said
    np.testing.assert_array_equal(np.concatenate([noise(3000), noise(1000, 1)]).astype(float), found["XX.ABC..HHZ"].astype(float))


def test_two_rates_of_a_channel_that_alternate_are_both_read(tmp_path: Path) -> None:
    queues = records(noise(6000)), records(noise(3000, 1), rate=50.0)
    made = [record for pair in zip(*queues, strict=False) for record in pair]
    pieces = scan(write(tmp_path / "file", *made), pytest.fail)
    assert {100.0: sum(len(record.samples) for record in made[::2]), 50.0: sum(len(record.samples) for record in made[1::2])} == {
        rate: sum(piece.samples for piece in pieces if piece.rate == rate) for rate in (100.0, 50.0)
    }


@pytest.mark.parametrize(("year", "day"), [(2020, 258), (2020, 366), (2019, 365)])
@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize(("second", "fraction"), [(59, 10_000), (60, 0), (60, 10_000), (60, 5_000), (12, 10_000)])
def test_a_second_of_60_and_a_fraction_of_10000_are_the_next_second(
    tmp_path: Path, year: int, day: int, order: Literal["big", "little"], second: int, fraction: int
) -> None:
    start = obspy.UTCDateTime(year=year, julday=day, hour=23, minute=59)
    trace = obspy.Trace(noise(3000), {"network": "XX", "station": "ABC", "channel": "HHZ", "sampling_rate": 100.0, "starttime": start})
    trace.write(str(tmp_path / "file"), "MSEED", reclen=512, byteorder=">" if order == "big" else "<")
    raw = bytearray((tmp_path / "file").read_bytes())
    first = next(iter(scan(tmp_path / "file", pytest.fail))).samples
    assert 3000 == first
    raw[26], raw[28:30] = second, fraction.to_bytes(2, order)
    (tmp_path / "file").write_bytes(raw[:512])
    [piece] = scan(tmp_path / "file", pytest.fail)
    assert (start + second + fraction / 10_000).ns == piece.start_ns
    assert np.array_equal(noise(3000)[: piece.samples], decode(piece, pytest.fail))


@pytest.mark.parametrize(("location", "kept"), [(b"\xe9\xe9", ""), (b"0\x80", "0"), (b"\xff0", "")])
def test_a_location_is_read_up_to_a_byte_beyond_ascii(tmp_path: Path, location: bytes, kept: str) -> None:
    made = [patched(record, 13, location) for record in records(noise(3000))]
    channels, said = read(write(tmp_path / "file", *made))
    assert ([], {f"XX.ABC.{kept}.HHZ"}) == (said, set(channels))
    assert np.array_equal(noise(3000), channels[f"XX.ABC.{kept}.HHZ"])


@pytest.mark.parametrize("code", ["Z", "EW", "UD1", "HHZ"])
def test_channel_codes_of_any_length_are_as_written(tmp_path: Path, code: str) -> None:
    made = [patched(record, 15, f"{code:3}".encode()) for record in records(noise(500))]
    assert {f"XX.ABC..{code}"} == read(write(tmp_path / "file", *made))[0].keys()


def test_a_long_stretch_without_records_is_searched_in_seconds(tmp_path: Path) -> None:
    made = records(noise(3000))
    write(tmp_path / "file", *made)
    with (tmp_path / "file").open("r+b") as file:
        file.seek(2 * 10**8)  # zeros, then bytes that look like anything
        file.write(np.random.default_rng(0).bytes(10**8) + b"".join(record.raw for record in made))
    started = time.monotonic()
    said: list[str] = []
    assert [3000, 3000] == [piece.samples for piece in scan(tmp_path / "file", said.append)]
    assert time.monotonic() - started < 15  # 3 s where nothing else runs; 25 s with a search byte by byte
    assert [f"{tmp_path / 'file'}: {3 * 10**8 - 512 * len(made)} bytes from byte {512 * len(made)} skipped: no miniSEED"] == said


@pytest.mark.parametrize("kept", [0, 300, 5 * 512, 5 * 512 + 300])
def test_a_file_that_shrank_since_it_was_scanned_is_no_crash(tmp_path: Path, kept: int) -> None:
    made = records(noise(6000))
    path = write(tmp_path / "file", *made)
    [piece] = scan(path, pytest.fail)
    path.write_bytes(path.read_bytes()[:kept])
    said: list[str] = []
    samples = decode(piece, said.append)
    known = sum(len(record.samples) for record in made[: kept // 512])
    assert np.array_equal(noise(6000)[:known], samples[:known])
    assert (6000, True) == (len(samples), np.isnan(samples[known:]).all())
    assert [f"{path}: the file has changed since it was scanned, from byte {kept // 512 * 512} on"] == said


def test_a_file_that_is_gone_is_an_os_error(tmp_path: Path) -> None:
    [piece] = scan(write(tmp_path / "file", *records(noise(500))), pytest.fail)
    (tmp_path / "file").unlink()
    with pytest.raises(FileNotFoundError):
        decode(piece, pytest.fail)
    with pytest.raises(FileNotFoundError):
        scan(tmp_path / "file", pytest.fail)


# Damage


class Damage(NamedTuple):
    """At a share of the file, a bit flips, bytes come in, or bytes go."""

    kind: str
    share: float
    size: int


def spoil(made: list[Record], damages: list[Damage]) -> tuple[bytes, list[Record]]:
    """The bytes of a file after damage, and the records of which none was touched."""
    raw = np.frombuffer(b"".join(record.raw for record in made), np.uint8)
    origin = np.arange(len(raw))  # where each byte was before; -1 for new ones
    for kind, share, size in damages:
        at = int(share * len(raw))
        if kind == "flip":
            raw, origin = raw.copy(), origin.copy()
            raw[at : at + 1] ^= 1 << size % 8
            origin[at : at + 1] = -1
        elif kind == "insert":
            raw = np.insert(raw, at, np.random.default_rng(size).integers(0, 256, size, np.uint8))
            origin = np.insert(origin, at, np.full(size, -1))
        else:
            raw, origin = np.delete(raw, slice(at, at + size)), np.delete(origin, slice(at, at + size))
    ends = np.cumsum([len(record.raw) for record in made])
    sound = [
        record
        for record, end in zip(made, ends, strict=True)
        for at in np.flatnonzero(origin == end - len(record.raw))
        if np.array_equal(origin[at : at + len(record.raw)], np.arange(end - len(record.raw), end))
    ]
    return raw.tobytes(), sound


def damage(*kinds: str) -> st.SearchStrategy[list[Damage]]:
    one = st.builds(Damage, st.sampled_from(kinds), st.floats(0, 1, exclude_max=True), st.integers(1, 3000))
    return st.lists(one, min_size=1, max_size=4)


MADE = {
    "Steim 2": records(noise(8000)),
    "short": records(noise(1000), length=128),
    "floats": records(noise(2000).astype(np.float32)),
    "miniSEED 3": records(noise(8000), version=3),
    "alternating": [
        record
        for trio in zip(*(records(noise(2800, seed), f"XX.ABC..HH{code}") for seed, code in enumerate("ENZ")), strict=False)
        for record in trio
    ],
}


@pytest.mark.parametrize("name", MADE)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_costs_no_more_than_the_records_that_it_hits(tmp_path: Path, name: str, data: st.DataObject) -> None:
    raw, sound = spoil(MADE[name], data.draw(damage("flip", "insert", "cut")))
    (tmp_path / "file").write_bytes(raw)
    found, said = instants(tmp_path / "file")
    expected = Counter(item for record in sound for item in of(record))
    assert not expected - found
    assert all(line.startswith(f"{tmp_path / 'file'}: ") and "byte" in line for line in said)


@pytest.mark.parametrize("name", ["Steim 2", "miniSEED 3"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_never_goes_by_in_silence_when_samples_are_lost(tmp_path: Path, name: str, data: st.DataObject) -> None:
    raw, _ = spoil(MADE[name], data.draw(damage("flip")))
    (tmp_path / "file").write_bytes(raw)
    found, said = instants(tmp_path / "file")
    assert said or found.total() == sum(len(record.samples) for record in MADE[name])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=3000), tail=st.sampled_from([b"", MADE["Steim 2"][0].raw, MADE["miniSEED 3"][0].raw]))
def test_any_bytes_can_be_scanned(tmp_path: Path, raw: bytes, tail: bytes) -> None:
    (tmp_path / "file").write_bytes(raw + tail)
    found, _ = instants(tmp_path / "file")
    assert found.total() >= (len(of(MADE["Steim 2"][0])) if tail == MADE["Steim 2"][0].raw else 0)


def test_a_file_with_damage_at_many_places_is_not_read_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = records(noise(200_000))
    damaged = [patched(record, 6, b"\0") if number % 2 else record for number, record in enumerate(made)]
    path, amounts = write(tmp_path / "file", *damaged), []
    assert len(made) > 500
    read = headers.read_range

    def counted(file: IO[bytes], first: int, end: int) -> bytes:
        amounts.append(len(content := read(file, first, end)))
        return content

    monkeypatch.setattr(headers, "read_range", counted)
    said: list[str] = []
    found = list(headers.headers(path, said.append))
    assert ([512 * number for number in range(0, len(made), 2)], len(made) // 2) == ([one.offset for one in found], len(said))
    assert sum(amounts) < 60 * path.stat().st_size  # a search of the rest each time reads 250 times as much


@pytest.mark.parametrize("junk", [b"\0", b"000000D ", bytes(range(256))])
def test_a_long_search_shows_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, junk: bytes) -> None:
    monkeypatch.setattr(headers, "BLOCK", 2**14)
    path, shares = tmp_path / "file", []
    first, last = records(noise(1000)), records(noise(1000), start_ns=10**18)
    path.write_bytes(b"".join(record.raw for record in first) + junk * (10**6 // len(junk)) + b"".join(record.raw for record in last))
    found = list(headers.headers(path, lambda _: None, shares.append))
    assert len(found) >= 2
    assert shares == sorted(shares)
    assert 50 <= len(set(shares))
    assert 0 < shares[0] < shares[-1] <= 1
