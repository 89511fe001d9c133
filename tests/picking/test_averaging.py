import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xiaonet.picking import averaging
from xiaonet.picking.averaging import average, average_in_numpy, find_lines, find_lines_in_numpy
from xiaonet.picking.blending import blend
from xiaonet.picking.windows import straighten

SOURCE = Path(__file__).parents[2]
COMPILER = shutil.which("gcc") or shutil.which("clang")
Compile = Callable[..., Path]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compiles `averaging.c` with the flags in `pyproject.toml` and more. Gives the folder of the library."""
    extensions = tomllib.loads((SOURCE / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    (mine,) = [extension for extension in extensions if extension["name"] == "xiaonet.picking._averaging"]

    def build(*flags: str) -> Path:
        folder = tmp_path_factory.mktemp("averaging")
        sources = [SOURCE / source for source in mine["sources"]]
        command = [str(COMPILER), *mine["extra-compile-args"], *flags, "-shared", "-fPIC", *sources, "-o", folder / "_averaging.so"]
        subprocess.run(command, check=True)
        return folder

    return build


@pytest.fixture(scope="module", autouse=True)
def library(compiled: Compile) -> Iterator[None]:
    """The library, freshly compiled."""
    folder = compiled()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(averaging, "FOLDER", folder)
        loaded = averaging.load_library()
        assert averaging.INTERFACE == getattr(loaded, "xa_interface", lambda: averaging.problem())()
        yield


def record(seed: int, samples: int = 12_000) -> np.ndarray:
    """A random walk of any unit, with a constant part."""
    random = np.random.default_rng(seed)
    walk = random.standard_normal(samples).cumsum() * 10.0 ** random.integers(-9, 7) + random.normal() * 1e5
    low = random.integers(samples // 2)
    walk[low : low + random.integers(samples // 2)] = walk[low]
    return walk


@given(seed=st.integers(0, 2**32), starts=st.lists(st.integers(0, 12_000 - 3001), min_size=1, max_size=70))
@settings(max_examples=30, deadline=None)
def test_the_library_and_numpy_find_the_same_bits(seed: int, starts: list[int]) -> None:
    samples, places = record(seed), np.array(sorted(starts))
    for mine, theirs in zip(find_lines(samples, places), find_lines_in_numpy(samples, places), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@given(seed=st.integers(0, 2**32), places=st.lists(st.integers(0, 12_000), min_size=2, max_size=90))
@settings(max_examples=30, deadline=None)
def test_the_library_and_numpy_average_to_the_same_bits(seed: int, places: list[int]) -> None:
    random, samples = np.random.default_rng(seed), record(seed)
    scales, lines = random.standard_normal((len(places) - 1, 2)), random.standard_normal((len(places) - 1, 3))
    mine, theirs = np.zeros((2, len(samples)), np.float32)
    average(samples, np.array(sorted(places)), scales, lines, mine)
    average_in_numpy(samples, np.array(sorted(places)), scales, lines, theirs)
    np.testing.assert_array_equal(mine, theirs)


def test_the_lines_are_those_of_straighten() -> None:
    samples, places = record(1), np.arange(0, 9000, 750)
    wanted = straighten(np.stack([samples[at : at + 3001] for at in places]))
    for mine, theirs in zip(find_lines(samples, places), wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9)


@pytest.mark.parametrize("values", [np.zeros(3001), np.full(3001, 7.0), 3 * np.arange(3001.0) - 1e6], ids=["zeros", "constant", "drift"])
def test_a_dead_component_has_the_scale_0(values: np.ndarray) -> None:
    places = np.zeros(1, np.int64)
    assert [0] == find_lines(values, places).scale.tolist() == find_lines_in_numpy(values, places).scale.tolist()


def test_a_record_is_averaged_between_places_only() -> None:
    out = np.full(10, -1, np.float32)
    average(np.arange(10.0), np.array([2, 4, 8]), np.array([[1.0, 1], [2, 0]]), np.array([[1.0, 2, 4], [0, 0, 4]]), out)
    # 2 * 1 - 1, 3 * 1.5 - (1 + 1 + 1), then 2 * x - 4 * share ** 2
    np.testing.assert_array_equal([-1, -1, 1, 1.5, 8, 9.75, 11, 11.75, -1, -1], out)


@pytest.mark.parametrize("content", ["nothing", "missing", "other version"])
def test_a_library_that_is_damaged_missing_or_of_another_version_changes_nothing(
    compiled: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    samples = np.stack([record(seed) for seed in range(3)])
    wanted = blend(samples, 0, 0, 12_000)
    if content == "nothing":
        (tmp_path / "_averaging.so").write_bytes(b"nothing")
    monkeypatch.setattr(averaging, "FOLDER", compiled("-DINTERFACE=99") if content == "other version" else tmp_path)
    assert averaging.load_library() is None
    told = {
        "nothing": r"the averaging in C cannot be loaded from .*; install XiaoNet again where there is a C compiler \(gcc or clang\)",
        "missing": "",
        "other version": r".*_averaging\.so was built from another version of XiaoNet: its interface is 99, wanted 1; install .*",
    }
    assert re.fullmatch(told[content], averaging.problem())
    np.testing.assert_array_equal(wanted, blend(samples, 0, 0, 12_000))
