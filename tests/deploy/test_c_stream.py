"""Continuous records: the C of `xiaonet export --format c` against the picker."""

import re
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import obspy
import pytest

from c_program import build
from xiaonet import Picker
from xiaonet.deploy.c_export import to_c
from xiaonet.picking.segments import Grid
from xiaonet.shipped import model_path

MODEL = "xiaonet-nano-int8"
# Runs from the standard input: the number of the first sample and of samples, then E, N and Z of each.
MAIN = """
#include <stdio.h>
#include <string.h>
#include "xiaonet.h"
static xn_stream stream;
static void print(void *context, const xn_pick *pick)
{
    ++*(int *)context;
    printf("%c %lld %lu\\n", "PS"[pick->phase], (long long)pick->tenths, (unsigned long)pick->probability);
}
int main(void)
{
    int64_t run[2];
    int32_t counts[3];
    int picks = 0;
    memset(&stream, 0xA5, sizeof stream);
    if (xn_push(&stream, 0, 0, 0) != XN_NOT_BEGUN || xn_gap(&stream, 0) != XN_NOT_BEGUN) return 1;
    xn_begin(&stream, 0, print, &picks);
    while (fread(run, sizeof run, 1, stdin) == 1) {
        xn_gap(&stream, run[0]);
        for (int64_t i = 0; i < run[1]; i++)
            if (fread(counts, sizeof counts, 1, stdin) != 1 || xn_push(&stream, counts[0], counts[1], counts[2]) != 0) return 2;
    }
    xn_gap(&stream, 0);
    printf("%lu bytes, %d picks, %d clipped\\n", (unsigned long)sizeof stream, picks, (int)stream.clipped);
    return 0;
}
"""
# Windows from the standard input: picks from the logits of each, and those of the same counts pushed one by one.
WINDOWS = """
#include <stdio.h>
#include "xiaonet.h"
static xn_stream stream;
static xn_state state;
static xn_raw raw;
static xn_logits logits;
static xn_reader reader;
static void print(void *context, const xn_pick *pick)
{
    printf("%s %c %lld %lu\\n", (const char *)context, "PS"[pick->phase], (long long)pick->tenths, (unsigned long)pick->probability);
}
int main(void)
{
    while (fread(&raw, sizeof raw, 1, stdin) == 1) {
        xn_window(&state, &raw, &logits);
        xn_picks(&reader, &logits, print, "window");
        xn_begin(&stream, 0, print, "stream");
        for (int t = 0; t < XN_SAMPLES; t++) xn_push(&stream, raw.component[XN_E][t], raw.component[XN_N][t], raw.component[XN_Z][t]);
        xn_gap(&stream, 0);
        printf("end\\n");
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream")
    to_c(model_path(MODEL, ".pth"), folder)
    return build(folder, MAIN)


@pytest.fixture(scope="module")
def record(sds: Path) -> obspy.Stream:
    """Twenty minutes of a real record that begins in the middle of a window of the grid."""
    whole = obspy.Stream([obspy.read(next(sds.glob(f"2019/PB/B916/EH{channel}.D/*")))[0] for channel in "21Z"])
    begin = whole[0].stats.starttime + 605.37
    return whole.slice(begin, begin + 1200)


def run_c(program: Path, runs: list[tuple[int, np.ndarray]]) -> tuple[list[tuple[str, int, float]], str]:
    """Picks as phase, tenths of a sample and probability, sorted, and the last line, of runs `(first sample, (samples, 3))`."""
    given = b"".join(np.array([first, len(run)], np.int64).tobytes() + run.astype(np.int32).tobytes() for first, run in runs)
    done = subprocess.run([program], input=given, capture_output=True, check=False)
    assert (0, b"") == (done.returncode, done.stderr)
    *lines, last = done.stdout.decode().splitlines()
    return sorted((phase, int(tenths), int(p) / 2**24) for phase, tenths, p in map(str.split, lines)), last


def picked(stream: obspy.Stream) -> tuple[list[tuple[str, int, float]], int]:
    """Picks of the picker in the same form, and the number of the first sample."""
    grid = Grid.of(stream[0].stats.starttime.ns, Fraction(100))
    picks = Picker(MODEL, centred=False, stacking="probabilities").pick(stream)
    found = sorted((pick.phase, round((pick.time_ns - grid.phase_ns) / 1e6), pick.probability) for pick in picks)
    return found, grid.index(stream[0].stats.starttime.ns)


def same(expected: list[tuple[str, int, float]], found: list[tuple[str, int, float]]) -> None:
    """The same picks: at the same sample (to a tenth, where the rounding is a tie), with the same probability."""
    assert [phase for phase, *_ in expected] == [phase for phase, *_ in found]
    away = np.abs([one[1] - other[1] for one, other in zip(expected, found, strict=True)])
    assert away.max() <= 1
    assert (away > 0).mean() < 0.1
    np.testing.assert_allclose([p for *_, p in expected], [p for *_, p in found], rtol=0, atol=2e-3)


def test_a_continuous_record_gives_the_picks_of_the_picker(program: Path, record: obspy.Stream) -> None:
    expected, first = picked(record)
    found, last = run_c(program, [(first, np.stack([trace.data for trace in record], axis=1))])
    assert len(expected) > 20
    same(expected, found)
    size = int(re.match(r"(\d+) bytes", last)[1])
    stated = re.search(r"about (\d+) kB", (program.parent / "xiaonet.h").read_text())[1]
    assert f"{len(found)} picks, 0 clipped" in last
    assert int(stated) == pytest.approx(size / 1000, abs=1)


def test_after_a_gap_it_goes_on_as_the_picker_does(program: Path, record: obspy.Stream) -> None:
    begin, end = record[0].stats.starttime, record[0].stats.endtime
    parts = [record.slice(begin, begin + 200), record.slice(begin + 220, end)]
    expected, first = picked(parts[0] + parts[1])
    counts = [np.stack([trace.data for trace in part], axis=1) for part in parts]
    found, _ = run_c(program, [(first, counts[0]), (first + 22000, counts[1])])
    same(expected, found)


def test_runs_shorter_than_a_window_are_not_picked_and_forgotten(program: Path, record: obspy.Stream) -> None:
    counts = np.stack([trace.data for trace in record], axis=1)[:12000]
    alone, _ = run_c(program, [(50_000, counts)])
    found, last = run_c(program, [(0, counts[:3000]), (50_000, counts)])
    assert alone == found
    assert "0 picks, 0 clipped" in run_c(program, [(0, counts[:3000])])[1]
    assert "3 clipped" not in last


def test_clipped_counts_are_counted_once_and_silence_has_no_picks(program: Path) -> None:
    silent = np.zeros((9000, 3), np.int64)
    assert ([], "0 picks, 0 clipped") == (run_c(program, [(0, silent)])[0], run_c(program, [(0, silent)])[1].partition(", ")[2])
    silent[4000] = 2**23, -(2**23), -(2**31)  # the second is in range
    assert "2 clipped" in run_c(program, [(0, silent)])[1]


def test_a_window_has_the_picks_of_the_picker_and_of_a_stream(program: Path, record: obspy.Stream, tmp_path: Path) -> None:
    (tmp_path / "xiaonet.c").write_text((program.parent / "xiaonet.c").read_text())
    (tmp_path / "xiaonet.h").write_text((program.parent / "xiaonet.h").read_text())
    begin = record[0].stats.starttime
    parts = [record.slice(begin + second, begin + second + 30) for second in range(0, 560, 40)]
    windows = np.stack([[trace.data for trace in part] for part in parts]).astype(np.int32)
    assert (3, 3001) == windows.shape[1:]
    done = subprocess.run([build(tmp_path, WINDOWS)], input=windows.tobytes(), capture_output=True, check=False)
    assert (0, b"") == (done.returncode, done.stderr)
    found = [[line.split() for line in text.splitlines()] for text in done.stdout.decode().split("end\n")[:-1]]
    assert len(parts) == len(found)
    wanted, from_windows, from_stream = [], [], []
    for number, (part, lines) in enumerate(zip(parts, found, strict=True)):
        expected, first = picked(part)
        wanted += [(phase, tenths - 10 * first + 10**6 * number, p) for phase, tenths, p in expected]
        for way, picks in (("window", from_windows), ("stream", from_stream)):
            picks += [(phase, int(tenths) + 10**6 * number, int(p) / 2**24) for name, phase, tenths, p in lines if name == way]
    assert len(wanted) > 20
    same(sorted(wanted), sorted(from_windows))
    assert [pick[:2] for pick in from_stream] == [pick[:2] for pick in from_windows]
    np.testing.assert_allclose([pick[2] for pick in from_stream], [pick[2] for pick in from_windows], rtol=0, atol=2**-22)


def test_a_component_that_is_dead_counts_as_a_missing_one(program: Path, record: obspy.Stream) -> None:
    alive = obspy.Stream([record[0], record[2]])
    expected, first = picked(alive)
    counts = np.stack([trace.data for trace in record], axis=1).copy()
    for level in (0, -12345):
        counts[:, 1] = level
        found, last = run_c(program, [(first, counts)])
        assert len(expected) > 20
        same(expected, found)
        assert ", 0 clipped" in last
