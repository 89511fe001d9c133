"""Damaged files of records: no traceback, no hang, little memory, and every intact record is picked."""

import csv
from pathlib import Path

import numpy as np
import pytest
from commands import call
from damage import KINDS, RECORD, Damaged
from pymseed import MS3Record

from conftest import dice, rounds
from stand_in import MIDNIGHT, record, write

EACH = rounds("RECORDS", len(KINDS)) // len(KINDS)  # files of each kind
SPARSE = "sparse, 1 GB"
ADDRESS_SPACE = 2 * 10**9  # bytes
PROCESSOR_S = 20
NEAR = 31  # s; the length of a window, which sees nothing of damage so far away
ONSETS = np.arange(-290.0, 290.0, 10.0)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Ten minutes of three components, with an onset every ten seconds on the vertical."""
    stream = record(onsets={"Z": ONSETS.tolist()})
    return write(stream, tmp_path_factory.mktemp("intact") / "file", RECORD).read_bytes()


def spans(content: bytes) -> list[tuple[float, float]]:
    """Start and end of each record, in seconds after midnight."""
    found = []
    for one in MS3Record.from_buffer(content):
        start = one.starttime / 1e9 - MIDNIGHT.timestamp
        found.append((start, start + one.samplecnt / one.samprate))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_costs_what_is_damaged(intact: bytes, tmp_path: Path, kind: str) -> None:
    times = spans(intact)
    assert len(intact) == RECORD * len(times)
    number = EACH if kind != SPARSE else max(1, EACH // 50)  # each takes seconds
    expected = 0
    for trial in range(number):
        damaged = KINDS[kind](dice(3, *kind.encode(), trial), intact)
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        write_damaged(damaged, tmp_path / "file")
        done = call(["pick", tmp_path / "file"], folder, stand_in=True, address_space=ADDRESS_SPACE, processor_s=PROCESSOR_S)
        assert done.status in (0, 1), (trial, done.told)
        assert "Traceback" not in done.told, (trial, done.told)
        wanted = [second for second in ONSETS if all(abs_distance(second, *times[lost]) > NEAR for lost in damaged.lost)]
        wanted = [second for second in wanted if -285 < second < 285]
        found = picked(folder / "picks.csv")
        assert [] == [second for second in wanted if not np.isclose(found, second, rtol=0, atol=0.02).any()], (trial, done.told)
        assert not list(folder.glob("*.journal"))
        expected += len(wanted)
        (folder / "picks.csv").unlink(missing_ok=True)
    print(f"{kind}: {number} files, {expected} onsets in intact records, all picked")


def write_damaged(damaged: Damaged, path: Path) -> None:
    with path.open("wb") as file:
        file.write(damaged.content)
        file.seek(damaged.zeros, 1)
        file.write(damaged.rest)
        file.truncate()


def abs_distance(second: float, start: float, end: float) -> float:
    """Seconds from a time to a time range; 0 within it."""
    return max(start - second, second - end, 0.0)


def picked(path: Path) -> np.ndarray:
    """Seconds after midnight of the P picks on the right channel."""
    if not path.exists():
        return np.zeros(0)
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["seed_id"] == "XX.ABC..HHZ" and row["phase"] == "P"]
    return np.array([float(row["time"]) - MIDNIGHT.timestamp for row in rows])
