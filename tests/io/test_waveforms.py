import bz2
import errno
import gzip
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import obspy
import pytest
from obspy import Stream, Trace

from stand_in import record, write
from xiaonet.io import compressed, miniseed
from xiaonet.io.archive import Archive
from xiaonet.picking.segments import sort_stream

KNET = Path(obspy.__file__).parent / "io" / "nied" / "tests" / "data"
UNKNOWN = "no waveforms in miniSEED or in another format that ObsPy knows"


def samples(found: Archive) -> np.ndarray:
    [instrument] = found.instruments
    [segment] = instrument.segments
    return instrument.waveform(segment, segment.first, segment.end)[0]


def expected(stream: Stream) -> np.ndarray:
    [instrument], skipped = sort_stream(stream)
    [segment] = instrument.segments
    assert [] == skipped
    return instrument.waveform(segment, segment.first, segment.end)[0]


@pytest.mark.parametrize("name", ["SAC", "SACXY", "GSE2", "PICKLE", "TSPAIR", "MSEED"])
def test_what_obspy_knows_is_read_as_obspy_reads_it(tmp_path: Path, name: str) -> None:
    stream = record(seconds=90)
    for number, trace in enumerate(stream):
        Stream([trace]).write(str(tmp_path / f"[{number}]"), name)
    for number, path in enumerate(sorted(tmp_path.iterdir())):
        path.rename(tmp_path / f"{number}[a]")
    found = Archive(tmp_path)
    assert ({}, {} if name == "MSEED" else {name: 3}) == (found.problems, dict(found.formats))
    np.testing.assert_array_equal(expected(stream), samples(found))


def test_a_long_trace_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(miniseed, "LONGEST", 1000)
    stream = record(seconds=90)
    stream.write(str(tmp_path / "file"), "GSE2")
    np.testing.assert_array_equal(expected(stream), samples(Archive(tmp_path)))


@pytest.mark.skipif(not KNET.is_dir(), reason="this ObsPy came without the files of its tests")
def test_k_net_files_are_read(tmp_path: Path) -> None:
    for path in KNET.glob("test.knet*"):
        shutil.copy(path, tmp_path)
    found = Archive(tmp_path)
    [trace] = obspy.read(str(KNET / "test.knet"))
    assert ({}, {"KNET"}) == (found.problems, set(found.formats))
    assert {trace.id} == {seed_id for one in found.instruments for seed_id in one.channels.values()}


def tar_gz(content: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, data in content.items():
            item = tarfile.TarInfo(name)
            item.size = len(data)
            tar.addfile(item, io.BytesIO(data))
    return raw.getvalue()


def zipped(content: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return raw.getvalue()


def single(compress: Callable[[bytes], bytes]) -> Callable[[dict[str, bytes]], bytes]:
    return lambda content: compress(b"".join(content.values()))


PACKERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "a.gz": single(gzip.compress),
    "a.bz2": single(bz2.compress),
    "a.zip": zipped,
    "a.tar.gz": tar_gz,
    "a.tar": lambda content: gzip.decompress(tar_gz(content)),
    "nested.zip": lambda content: zipped({"inner.tar.gz": tar_gz({name: gzip.compress(data) for name, data in content.items()})}),
}


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("kind", ["MSEED", "GSE2"])
def test_compressed_files_are_what_is_in_them(tmp_path: Path, name: str, kind: str) -> None:
    stream, content = record(seconds=90), {}
    for trace in stream:
        Stream([trace]).write(str(tmp_path / "one"), kind)
        content[trace.id] = (tmp_path / "one").read_bytes()
    (tmp_path / "one").unlink()
    (tmp_path / name).write_bytes(PACKERS[name](content))
    found = Archive(tmp_path)
    assert ({}, {} if kind == "MSEED" else {kind: 1}, [tmp_path / name]) == (found.problems, dict(found.formats), found.files)
    compressed.expand.cache_clear()  # so that it is expanded again
    np.testing.assert_array_equal(expected(stream), samples(found))


def test_a_damaged_compressed_file_is_named_and_read_up_to_the_damage(tmp_path: Path) -> None:
    path = write(record(seconds=90), tmp_path / "file")
    raw = gzip.compress(path.read_bytes(), mtime=0)
    path.unlink()
    (tmp_path / "cut.gz").write_bytes(raw[: len(raw) // 2])
    (tmp_path / "bad.bz2").write_bytes(b"BZh91AY&SY" + bytes(1000))
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04" + bytes(1000))
    found = Archive(tmp_path)
    assert {"XX.ABC..HH"} == {instrument.name for instrument in found.instruments}
    damaged = [problem.split(": ")[0] for problem in found.problems if "damaged, and only what comes before the damage is read" in problem]
    assert [str(tmp_path / name) for name in ("bad.bz2", "bad.zip", "cut.gz")] == damaged


def bomb_of_zeros(size: int) -> bytes:
    raw = io.BytesIO()
    with gzip.GzipFile(fileobj=raw, mode="wb") as file:
        for _ in range(size // 10**6):
            file.write(bytes(10**6))
    return raw.getvalue()


def sparse_tar(size: int) -> bytes:
    """A tar archive with a hole: its members are short in the archive, and long when they are expanded."""
    header = tarfile.TarInfo("hole")
    header.type, header.pax_headers = tarfile.REGTYPE, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(size)}
    table = b"0\n".ljust(512, b"\0")  # no data in the hole
    header.size = len(table)
    return header.tobuf(tarfile.PAX_FORMAT) + table + bytes(1024)


def long_name_tar(size: int) -> bytes:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, size
    return header.tobuf(tarfile.GNU_FORMAT) + bytes(10**5)


def unknown_member_tar(size: int) -> bytes:
    header = tarfile.TarInfo("label")
    header.type, header.size = b"V", size
    return header.tobuf(tarfile.GNU_FORMAT) + bytes(10**5)


BOMBS: dict[str, Callable[[int], bytes]] = {
    "zeros.gz": bomb_of_zeros,
    "zeros.bz2": lambda size: bz2.compress(gzip.decompress(bomb_of_zeros(size))),
    "zeros.zip": lambda size: zipped({"a": bytes(size)}),
    "zeros.tar.gz": lambda size: tar_gz({"a": bytes(size)}),
    "many.zip": lambda size: zipped({f"{number}": b"" for number in range(size // 4096 + 1)}),
    "nested.zip": lambda size: zipped({"b.gz": gzip.compress(bomb_of_zeros(size))}),
    "shared.zip": lambda size: zipped({f"{number}.gz": bomb_of_zeros(size // 4) for number in range(5)}),
    "hole.tar": sparse_tar,
    "unknown.tar": unknown_member_tar,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_expands_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    size = 40 * 10**6
    monkeypatch.setattr(compressed, "SMALL", size - 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / name).write_bytes(BOMBS[name](size))
    assert (tmp_path / name).stat().st_size < size / 12
    monkeypatch.setattr(compressed, "GROWTH", 10)
    found = Archive(tmp_path / name)
    assert [
        f"{tmp_path / name}: refused: it expands to more than 0.04 GB; the limit is 0.04 GB, or 10 times the size of the file if that is "
        "more; if you trust it, expand it yourself and name the folder instead"
    ] == list(found.problems)
    assert [] == list((tmp_path / "temporary").iterdir())


def test_a_full_temporary_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_limit: Callable[[int], None]) -> None:
    (tmp_path / "a.gz").write_bytes(bomb_of_zeros(10**6))
    monkeypatch.setattr(compressed, "ENOSPC", errno.EFBIG)  # the error of the limit
    write_limit(1000)
    found = Archive(tmp_path / "a.gz")
    reason = f"cannot be expanded: no space is left in {tempfile.gettempdir()}; free some, or set TMPDIR to another folder"
    assert [f"{tmp_path / 'a.gz'}: {reason}"] == list(found.problems)


def test_a_large_file_may_expand_as_far_as_real_records_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "SMALL", 0)
    stream = record(seconds=90)
    stream.write(str(tmp_path / "a"), "SLIST")
    raw = gzip.compress((tmp_path / "a").read_bytes())
    (tmp_path / "a").unlink()
    (tmp_path / "a.gz").write_bytes(raw)
    found = Archive(tmp_path)
    assert {} == found.problems
    np.testing.assert_array_equal(expected(stream), samples(found))


def test_an_archive_of_thousands_of_files_is_read(tmp_path: Path) -> None:
    stream = record(seconds=90)
    path = write(stream, tmp_path / "file", 512)
    raw = path.read_bytes()
    path.unlink()
    records = [raw[at : at + 512] for at in range(0, len(raw), 512)]
    content = {f"{number:05}": records[number % len(records)] for number in range(3000)}
    (tmp_path / "a.zip").write_bytes(zipped(content))
    found = Archive(tmp_path)
    assert {} == found.problems
    np.testing.assert_array_equal(expected(stream), samples(found))


def test_what_is_compressed_too_often_is_named(tmp_path: Path) -> None:
    raw = write(record(seconds=90), tmp_path / "file").read_bytes()
    (tmp_path / "file").unlink()
    for depth in range(5):
        raw = zipped({f"{depth}": raw})
        (tmp_path / f"{depth}.zip").write_bytes(raw)
    assert {"XX.ABC..HH"} == {instrument.name for instrument in Archive(tmp_path / "3.zip").instruments}
    found = Archive(tmp_path / "4.zip")
    reason = f"{tmp_path / '4.zip'}: 1: skipped: it is within 4 other compressed files; expand it yourself"
    assert ([], [reason]) == (found.instruments, list(found.problems))


def test_a_name_without_end_in_a_tar_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(long_name_tar(10**10))
    assert [
        f"{tmp_path / 'a.tar'}: damaged, and only what comes before the damage is read: ReadError: a name of 10000000000 bytes"
    ] == list(Archive(tmp_path).problems)


def test_a_damaged_header_in_a_tar_archive_is_not_its_end(tmp_path: Path) -> None:
    parts = {}
    for trace in record(seconds=90):
        Stream([trace]).write(str(tmp_path / "one"), "MSEED")
        parts[trace.stats.channel] = (tmp_path / "one").read_bytes()
    (tmp_path / "one").unlink()
    raw = bytearray(PACKERS["a.tar"](parts))
    raw[raw.index(b"HHN\0")] ^= 1
    (tmp_path / "a.tar").write_bytes(raw)
    found = Archive(tmp_path)
    assert ["HHE"] == [seed_id[-3:] for seed_id in found.seen]
    damage = "damaged, and only what comes before the damage is read: ReadError: a header is damaged: bad checksum"
    assert [f"{tmp_path / 'a.tar'}: {damage}"] == list(found.problems)


def test_a_damaged_member_costs_that_member(tmp_path: Path) -> None:
    parts = {}
    for trace in record(seconds=90):
        Stream([trace]).write(str(tmp_path / "one"), "MSEED")
        parts[trace.stats.channel] = (tmp_path / "one").read_bytes()
    (tmp_path / "one").unlink()
    raw = bytearray(zipped(parts))
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        raw[archive.getinfo("HHN").header_offset] ^= 1
    (tmp_path / "a.zip").write_bytes(raw)
    found = Archive(tmp_path)
    assert ["HHE", "HHZ"] == [seed_id[-3:] for seed_id in found.seen]
    damage = "damaged, and only what comes before the damage is read: BadZipFile: Bad magic number for file header"
    assert [f"{tmp_path / 'a.zip'}: HHN: {damage}"] == list(found.problems)


def test_what_is_no_waveform_is_named_also_within_an_archive(tmp_path: Path) -> None:
    path = write(record(seconds=90), tmp_path / "file")
    (tmp_path / "a.zip").write_bytes(zipped({"day.mseed": path.read_bytes(), "log.txt": b"all is well\n" * 99}))
    path.unlink()
    (tmp_path / "station.log").write_bytes(b"all is well\n" * 99)
    (tmp_path / "zeros").write_bytes(bytes(10**6))
    found = Archive(tmp_path)
    names = (f"{tmp_path / 'a.zip'}: log.txt", tmp_path / "station.log", tmp_path / "zeros")
    assert [f"{name}: {UNKNOWN}" for name in names] == list(found.problems)
    np.testing.assert_array_equal(expected(record(seconds=90)), samples(found))


def test_a_file_that_changes_into_another_is_a_gap(tmp_path: Path) -> None:
    record(seconds=90).write(str(tmp_path / "file"), "GSE2")
    found = Archive(tmp_path)
    record(seconds=20).write(str(tmp_path / "file"), "GSE2")
    assert np.isnan(samples(found)).all()
    expected = [f"{tmp_path / 'file'}: XX.ABC..HH{code}: found 2000 samples of int32; wanted 9000 real numbers" for code in "ENZ"]
    assert expected == [problem.partition(" of XX")[0] for problem in found.problems]


def test_obspy_is_imported_only_for_other_formats(tmp_path: Path) -> None:
    path = write(record(seconds=90), tmp_path / "file")
    (tmp_path / "file.gz").write_bytes(gzip.compress(path.read_bytes()))
    record(seconds=90).write(str(tmp_path / "gse"), "GSE2")
    code = "import sys; from xiaonet.io.archive import Archive; found = Archive(sys.argv[1:]); one = found.instruments[0]; "
    code += "part = one.segments[0]; one.waveform(part, part.first, part.end); print('obspy' in sys.modules)"
    for names, needed in ((["file", "file.gz"], "False"), (["gse"], "True")):
        done = subprocess.run(
            [sys.executable, "-c", code, *(tmp_path / name for name in names)], capture_output=True, text=True, check=True
        )
        assert needed == done.stdout.strip()


def test_a_log_is_named_as_one(tmp_path: Path) -> None:
    letters = np.frombuffer(b"clock locked at noon" * 20, dtype="S1")
    header = {"network": "XX", "station": "ABC", "channel": "LOG", "sampling_rate": 1.0}
    Stream([Trace(letters, header)]).write(str(tmp_path / "log"), "MSEED", encoding="ASCII", reclen=512)
    raw = bytearray((tmp_path / "log").read_bytes())
    raw[32:36] = bytes(4)  # the sampling rate
    (tmp_path / "log").write_bytes(raw)
    found = Archive([tmp_path])
    reason = f"{tmp_path / 'log'}: MSEED of XX.ABC..LOG without samples at a rate above 0 Hz, such as a log"
    assert ([], [reason]) == (found.files, list(found.problems))
