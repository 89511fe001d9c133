import bz2
import gzip
import io
import shutil
import subprocess
import sys
import tarfile
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
