"""Windows that every runtime sees."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import obspy
import pytest

from native_library import COMPILER, build, built_folder
from xiaonet.picking.windows import normalize
from xiaonet.runtime import native_runtime


@pytest.fixture(scope="session", autouse=True)
def native_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """The runtime native, compiled from the source of this checkout, where there is a compiler."""
    if COMPILER is None:
        yield None
        return
    before, folder = native_runtime.FOLDER, tmp_path_factory.mktemp("native")
    done = build(folder)
    assert 0 == done.returncode, done.stderr
    native_runtime.FOLDER = built_folder(folder)
    yield native_runtime.FOLDER
    native_runtime.FOLDER = before


@pytest.fixture(scope="session")
def windows() -> np.ndarray:
    """17 windows: a local earthquake at several places in noise, then noise alone, then nothing."""
    stream = obspy.read()
    record = np.stack([stream.select(component=component)[0].data for component in "ENZ"])
    rng = np.random.default_rng(0)
    shifted = [np.roll(np.pad(record, ((0, 0), (0, 1)), mode="edge"), 173 * shift, axis=1) for shift in range(12)]
    return normalize(np.stack([*shifted, *rng.standard_normal((4, 3, 3001)), np.zeros((3, 3001))]))
