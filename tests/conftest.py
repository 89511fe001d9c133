"""What tests share: real records where they are to be had, made-up ones where not."""

import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# SeisBench reads this when it is imported, and writes to it: a scratch copy of the shared teachers.
SHARED = Path(os.environ.get("XIAONET_SHARED", Path(__file__).parents[2] / "shared"))
CACHE = Path(tempfile.mkdtemp(prefix="xiaonet-tests-"))
os.environ["SEISBENCH_CACHE_ROOT"] = str(CACHE)
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # also where a test imports onnxruntime itself
if (SHARED / "teachers").is_dir():
    shutil.copytree(SHARED / "teachers", CACHE, dirs_exist_ok=True)
    for path in CACHE.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)

import numpy as np
import pandas as pd
import seisbench.data as sbd
import torch

from xiaonet.data import synthetic
from xiaonet.memory import keep_freed_memory

torch.set_num_threads(1)  # of each test worker
keep_freed_memory()


def pytest_sessionfinish() -> None:
    shutil.rmtree(CACHE, ignore_errors=True)


def _shared(*parts: str) -> Path:
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(parts)} below XIAONET_SHARED (here {SHARED})")
    return path


@pytest.fixture(scope="session")
def labelled() -> Path:
    """Folder of real records with picks."""
    return _shared("data", "labelled")


@pytest.fixture(scope="session")
def unlabelled() -> Path:
    """Folder of real records without picks."""
    return _shared("data", "unlabelled")


@pytest.fixture(scope="session")
def cases() -> Path:
    """Folder of small inputs that once went wrong."""
    return _shared("cases")


@pytest.fixture(scope="session")
def benchmark() -> Path:
    """Folder of real records to measure on."""
    return _shared("data", "benchmark")


@pytest.fixture(scope="session")
def teachers() -> Path:
    """Folder of the PhaseNet weights stead, original and okla; SeisBench finds them by name too."""
    return _shared("teachers", "models", "v3", "phasenet")


@pytest.fixture(scope="session")
def sds() -> Path:
    """Folder of three SDS archives, `2014`, `2019` and `2020`, of real continuous records."""
    return _shared("data", "sds")


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 40 synthetic records from 10 events, without a split; not to be changed."""
    folder = tmp_path_factory.mktemp("data") / "made_up"
    folder.mkdir()
    synthetic.write(folder, 40, seed=3)
    return folder


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A function that calls the command line in an empty folder: `status, lines = run("train", …)`."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str]:
        from typer.testing import CliRunner

        from xiaonet.cli import main as cli

        result = CliRunner().invoke(cli.app, list(words), env={"COLUMNS": "250"})
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return call


@pytest.fixture
def write_limit() -> Iterator[Callable[[int], None]]:
    """A function that limits the size of files, as a full disk does; lifted after the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def write_set(tmp_path: Path):
    """A function that writes a SeisBench data set: `write_set(waveforms, name="set", **columns)`.

    `waveforms` are arrays `(components, samples)`; each column is a list with a value a record.
    """

    def write(waveforms: list[np.ndarray], name: str = "set", components: str = "ENZ", **columns: list[object]) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        with sbd.WaveformDataWriter(folder / "metadata.csv", folder / "waveforms.hdf5") as writer:
            writer.data_format = {"dimension_order": "CW", "component_order": components}
            for row, waveform in enumerate(waveforms):
                metadata = {key: values[row] for key, values in columns.items()}
                writer.add_trace(
                    {"source_id": f"event{row}", "trace_sampling_rate_hz": 100.0, "trace_npts": waveform.shape[-1], **metadata}, waveform
                )
        assert len(pd.read_csv(folder / "metadata.csv")) == len(waveforms)
        return folder

    return write
