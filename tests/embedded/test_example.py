"""The example in examples/cortex_m: a real record, sample by sample, on emulated boards, beside the picker."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import obspy
import pytest
from emulation import BOARDS, MORE, missing

from xiaonet import Picker

EXAMPLE = Path(__file__).parents[2] / "examples" / "cortex_m"
MODEL = "xiaonet-nano-int8"

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.skipif(shutil.which("make") is None, reason="needs make"),
]


@pytest.fixture(scope="module")
def files(sds: Path) -> list[Path]:
    return sorted(path for path in sds.glob("2019/PB/B916/EH?.D/*") if path.is_file())


@pytest.fixture(scope="module")
def short(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five minutes of the record."""
    path = tmp_path_factory.mktemp("short") / "short.mseed"
    stream = obspy.Stream([obspy.read(file)[0] for file in files])
    begin = stream[0].stats.starttime + 605.37
    stream.slice(begin, begin + 300).write(str(path), format="MSEED", encoding="INT32")
    return [path]


def make(board: str, files: list[Path], build: Path) -> str:
    """What the example prints on a board."""
    machine, processor, _ = BOARDS[board]
    variables = {"MACHINE": machine, "CPU": processor, "FLAGS": " ".join(MORE.get(board, [])), "BUILD": build, "PYTHON": sys.executable}
    words = [*(f"{name}={value}" for name, value in variables.items()), f"RECORD={' '.join(map(str, files))}"]
    done = subprocess.run(["make", "-s", "-C", EXAMPLE, "run", *words], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def as_printed(files: list[Path]) -> list[str]:
    """The picks of the picker, as the example prints them."""
    picks = Picker(MODEL, centred=False, stacking="probabilities").pick(
        obspy.Stream([trace for file in files for trace in obspy.read(file)])
    )
    return [f"{pick.phase} {str(pick.time)[11:23]}  {pick.probability:.2f}" for pick in picks]


def same(expected: list[str], printed: str) -> int:
    """Check that both have the same picks, times within 1 ms and probabilities within 0.01. Returns how many times differ."""
    found = sorted(re.findall(r"^([PS]) (\d+):(\d+):(\d+)\.(\d+)  ([\d.]+)$", printed, re.M))
    wanted = sorted(re.findall(r"^([PS]) (\d+):(\d+):(\d+)\.(\d+)  ([\d.]+)$", "\n".join(expected), re.M))
    assert len(expected) == len(wanted)
    assert [phase for phase, *_ in wanted] == [phase for phase, *_ in found]
    numbers = [
        np.array([list(map(float, row[1:])) for row in rows]) @ np.array([[3.6e6, 6e4, 1e3, 1, 0], [0, 0, 0, 0, 1]]).T
        for rows in (wanted, found)
    ]
    away = np.abs(numbers[0] - numbers[1])
    assert away[:, 0].max() <= 1
    assert away[:, 1].max() <= 0.011
    return int((away[:, 0] > 0).sum())


@pytest.mark.parametrize("board", BOARDS)
def test_boards_give_the_picks_of_the_picker_for_samples_pushed_one_by_one(board: str, short: list[Path], tmp_path: Path) -> None:
    expected = as_printed(short)
    assert len(expected) > 10
    assert same(expected, make(board, short, tmp_path)) <= 2


def test_80_minutes_give_what_the_readme_of_the_example_shows(files: list[Path], tmp_path: Path) -> None:
    expected, printed = as_printed(files), make("M4", files, tmp_path)
    assert (357, 10) == (len(expected), same(expected, printed))
    here, there = re.findall(r"```text\n(.*?)```", (EXAMPLE / "README.md").read_text(encoding="utf-8"), re.S)
    lines = [line for line in printed.splitlines() if line[:2] in ("P ", "S ") or "picks in" in line]
    assert [*lines[:4], lines[-1]] == here.splitlines()
    assert expected[:4] == there.splitlines()


def test_another_record_is_refused_with_what_was_found(tmp_path: Path) -> None:
    stream = obspy.read()
    stream[:2].write(str(tmp_path / "two.mseed"))
    command = [sys.executable, EXAMPLE / "record.py", tmp_path / "two.mseed", tmp_path / "record.bin"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (1, True) == (done.returncode, "wanted E or 2, N or 1, and Z at 100 Hz" in done.stderr)
    assert "BW.RJOB..EHN" in done.stderr
