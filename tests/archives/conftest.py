"""Days of records around midnights, and the picks that one machine makes of them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import obspy
import pytest

from archives.servers import Proxy, make_bucket, s3_server, upload
from stand_in import MIDNIGHT, write_days
from xiaonet.archives.planning import Request
from xiaonet.archives.worker import storage_of
from xiaonet.picker import Picker

MODEL = "xiaonet-nano"


def shaken(
    name: str, start: obspy.UTCDateTime, seconds: float, onsets: list[float], shift: float = 0.0, rate: float = 100.0
) -> obspy.Stream:
    """Noise with real earthquakes that begin some seconds after midnight; samples are taken `shift` s after the full hundredths."""
    network, station, location, code = name.split(".")
    rng = np.random.default_rng(sum(map(ord, name)))
    stream = obspy.Stream()
    for trace in obspy.read():  # an earthquake at 100 Hz, with P at 4.5 s
        quake = trace.copy().resample(rate).data
        samples = rng.normal(0, 20, round(seconds * rate))
        samples[round(300 * rate) : -round(300 * rate)] = 0  # no data for the picker, which saves time
        for onset in onsets:
            at = round((MIDNIGHT + onset - start) * rate)
            samples[at : at + len(quake)] += quake[: len(samples) - at]
        header = {"network": network, "station": station, "location": location, "channel": code + trace.stats.channel[-1]}
        stream.append(obspy.Trace(samples.astype(np.int32), {**header, "sampling_rate": rate, "starttime": start + shift}))
    return stream


@pytest.fixture(scope="session")
def days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SDS archive of two stations and five days: continuous over two midnights, with a gap, and with samples off the full hundredths."""
    folder = tmp_path_factory.mktemp("days")
    onsets = [-40.0, -6.0, 30.0, 86400 - 9.0, 86400 + 25]
    write_days(shaken("XX.ABC..HH", MIDNIGHT - 60, 86400 + 120, onsets, shift=0.0042), folder)
    write_days(shaken("XX.ABC..HH", MIDNIGHT + 3 * 86400 - 60, 120, [3 * 86400 - 5.0], shift=0.0013), folder)
    write_days(shaken("YY.DEF.10.EH", MIDNIGHT - 300, 600, [-100.0, -4.0, 90.0], shift=0.002, rate=62.5), folder)
    return folder


@pytest.fixture(scope="session")
def expected(days: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The CSV of `xiaonet pick` on one machine."""
    from typer.testing import CliRunner

    from xiaonet.cli import main as cli

    out = tmp_path_factory.mktemp("expected") / "picks.csv"
    ended = CliRunner().invoke(cli.app, ["pick", str(days), "--model", MODEL, "--out", str(out)])
    assert 0 == ended.exit_code, ended.output
    content = out.read_bytes()
    assert content.count(b"\n") > 12
    return content


@pytest.fixture(scope="session")
def picker() -> Picker:
    return Picker(MODEL)


@pytest.fixture
def ask(days: Path, picker: Picker, tmp_path: Path):
    """A function that makes a request: `ask(days=1)`."""

    def make(**changes: object) -> Request:
        usual = {"source": str(days), "layout": "sds", "out": str(tmp_path / "out"), "model": MODEL, "thresholds": picker.thresholds}
        return Request(**{**usual, "how": {"prefilter": None}, "provenance": picker.provenance, **changes})

    return make


@pytest.fixture
def s3(days: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """An S3 server that holds the days in `s3://data/sds` and an empty bucket `s3://mine`."""
    pytest.importorskip("moto", reason="needs moto, an S3 server for tests: pip install 'xiaonet[dev]'")
    for name, value in {"ACCESS_KEY_ID": "me", "SECRET_ACCESS_KEY": "secret", "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with s3_server() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT", proxy.url)
        make_bucket(proxy, "data")
        make_bucket(proxy, "mine")
        upload(days, "s3://data/sds")
        storage_of.cache_clear()
        yield proxy
        storage_of.cache_clear()
