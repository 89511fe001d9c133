import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from rich.console import Console

from xiaonet import console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restore_output() -> Iterator[None]:
    console.choose_form("text")
    yield
    console.choose_form("text")


@pytest.fixture
def without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print every progress line."""
    monkeypatch.setattr(console, "PLAIN_SECONDS", -1.0)


@pytest.mark.parametrize(("show", "mark"), [(console.ok, "✓"), (console.warn, "!"), (console.fail, "✗")])
def test_a_line_has_mark_component_status_and_details(capsys: pytest.CaptureFixture[str], show: Callable[..., None], mark: str) -> None:
    show("Data", "loaded", "115 records at 100 Hz")
    show("Teacher", "frozen")
    assert f"{mark} Data: loaded - 115 records at 100 Hz\n{mark} Teacher: frozen\n" == capsys.readouterr().out


def test_information_is_a_block_of_indented_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    console.info("Model", {"parameters": 164451, "dilations": ((1, 1), (1, 2)), "dropout": 0.25})
    assert "Model information:\n  parameters: 164451\n  dilations: ((1, 1), (1, 2))\n  dropout: 0.25\n" == capsys.readouterr().out


@pytest.mark.parametrize("text", ["[red]x[/red]", "shape [1, 3]", "12:100:00", "XX:a:HHZ", "[/]", "a" * 300, "two  spaces"])
def test_text_is_printed_unchanged(capsys: pytest.CaptureFixture[str], text: str) -> None:
    console.say(text)
    console.ok("Data", text, text)
    console.info("Data", {text: text})
    assert f"{text}\n✓ Data: {text} - {text}\nData information:\n  {text}: {text}\n" == capsys.readouterr().out


def test_silence_suppresses_all_but_failures(capsys: pytest.CaptureFixture[str], without_delay: None) -> None:
    console.silence()
    console.ok("Data", "loaded")
    console.warn("Data", "loaded")
    console.fail("Data", "missing")
    console.info("Data", {"records": 3})
    console.say("hello")
    with console.EpochProgress("Epoch 1/2", 10) as bar:
        bar.update(10, 0.5)
    assert "" == console.ask("Why?")
    assert ("", "✗ Data: missing\n") == capsys.readouterr()  # failures are always printed
    console.silence(False)
    console.say("hello")
    assert "hello\n" == capsys.readouterr().out


def test_quiet_prints_warnings_and_failures_to_standard_error(capsys: pytest.CaptureFixture[str], without_delay: None) -> None:
    console.choose_form("quiet")
    console.ok("Data", "loaded")
    console.warn("Data", "flat", "XX.ABC")
    console.fail("Data", "missing")
    console.say("hello")
    console.result({"picks": 3})
    with console.DataProgress(100.0) as bar:
        bar.update(50.0)
    assert ("", "! Data: flat - XX.ABC\n✗ Data: missing\n") == capsys.readouterr()


def test_json_prints_an_object_a_line_and_nothing_else(capsys: pytest.CaptureFixture[str], without_delay: None) -> None:
    console.choose_form("json")
    console.ok("Data", "loaded")
    console.warn("Data", "flat", "Ürümqi")
    console.fail("Data", "missing")
    console.say("hello")
    console.table(["a", "b"], [["1", "2"]])
    with console.DataProgress(100.0) as bar:
        bar.update(50.0)
    console.result({"picks": 3})
    out, error = capsys.readouterr()
    assert ("", True) == (error, "Ürümqi" in out)
    assert [
        {"event": "ok", "component": "Data", "status": "loaded", "details": ""},
        {"event": "warning", "component": "Data", "status": "flat", "details": "Ürümqi"},
        {"event": "error", "component": "Data", "status": "missing", "details": ""},
        {"event": "progress", "task": "Picking", "done": 50.0, "total": 100.0},
        {"event": "result", "picks": 3},
    ] == [json.loads(line) for line in out.splitlines()]


def test_messages_that_differ_in_the_place_in_a_file_are_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    console.skipped(
        [
            "CX.PB01.2020.001: record at byte 0 skipped: last sample is 5, wanted -7",
            *[f"CX.PB01.2020.001: record at byte {512 * number} skipped: last sample is {number}, wanted 9" for number in range(1, 36)],
            "CX.PB01.2020.002: record at byte 0 skipped: last sample is 5, wanted -7",
            "CX.PB01.2020.002: 512 bytes from byte 1024 skipped: no miniSEED",
            "CX.PB01.2020.002: 9 bytes from byte 4096 skipped: no miniSEED",
            "XX.S01..HHZ: all samples are equal (0); no data",
            "XX.S02..HHZ: all samples are equal (0); no data",
        ]
    )
    assert [
        "! Skipped: CX.PB01.2020.001: record at byte 0 skipped: last sample is 5, wanted -7 (and 35 more like it in this file)",
        "! Skipped: CX.PB01.2020.002: record at byte 0 skipped: last sample is 5, wanted -7",
        "! Skipped: CX.PB01.2020.002: 512 bytes from byte 1024 skipped: no miniSEED (and 1 more like it in this file)",
        "! Skipped: XX.S01..HHZ: all samples are equal (0); no data",
        "! Skipped: XX.S02..HHZ: all samples are equal (0); no data",
    ] == capsys.readouterr().out.splitlines()


def test_without_a_terminal_no_question_is_asked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("never read"))
    assert "" == console.ask("Why?")
    assert "" == capsys.readouterr().out


@pytest.mark.parametrize("question", ["Why training.epochs?", "Why [1, 2]?", "Why [red]?"])
def test_on_a_terminal_the_answer_is_returned(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, question: str) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("  to see it work \n"))
    assert "to see it work" == console.ask(question)
    assert f"{question} " == capsys.readouterr().out


def test_progress_without_a_terminal_is_printed_as_lines(capsys: pytest.CaptureFixture[str], without_delay: None) -> None:
    with console.EpochProgress("Epoch 1/2", 5000) as bar:
        bar.update(640, 0.123456)
        bar.update(5000, 12.5)
    first, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"loss: 0\.123456  \[  640/ 5000\]  \d+ windows/s, \d+ s left", first)
    assert re.fullmatch(r"loss: 12\.500000  \[ 5000/ 5000\]  \d+ windows/s, 0 s left", last)


def test_lines_are_printed_every_few_seconds_and_at_the_end(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 101.0, 106.0, 107.0, 108.0])  # at the start, then at each update
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    bar = console.EpochProgress("Epoch 1/2", 400)
    for done in (100, 200, 300, 400):
        bar.update(done, 0.25)
    expected = ["loss: 0.250000  [  200/  400]  33 windows/s, 6 s left", "loss: 0.250000  [  400/  400]  50 windows/s, 0 s left"]
    assert expected == capsys.readouterr().out.splitlines()


def test_the_rate_counts_only_windows_of_this_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    console.EpochProgress("Epoch 2/2", 1000, done=500).update(600, 0.25)
    assert "loss: 0.250000  [  600/ 1000]  10 windows/s, 40 s left\n" == capsys.readouterr().out


def test_progress_on_a_terminal_is_a_bar_with_loss_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, without_delay: None) -> None:
    written = Terminal()
    monkeypatch.setattr(sys, "stdout", written)
    monkeypatch.setattr(console, "_console", Console(file=written, force_terminal=True, width=140, color_system=None))
    with console.EpochProgress("Epoch 3/50", 5000) as bar:
        bar.update(640, 0.123456)
        bar.bar.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue())
    assert re.search(r"Epoch 3/50 .*640/5000  loss: 0\.123456  \d+ windows/s \S*:\S*", shown)
    assert "[ 640/5000]" not in shown


DAY = 86400.0  # s


def test_data_progress_shows_station_days_rate_and_time_left(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 103.0, 106.0, 109.0, 112.0])  # at the start, then at each update
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    bar = console.DataProgress(10 * DAY)
    for _ in range(4):
        bar.update(DAY / 2)
    # A line at 106 s, more than 5 s after the start, and one at 112 s; a station-day takes 6 s.
    expected = ["1.00/10.00 station-days, 10.0 a minute, 54 s left", "2.00/10.00 station-days, 10.0 a minute, 48 s left"]
    assert expected == capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (2 * DAY, "1.00/2.00 station-days, 10.0 a minute, 6 s left"),
        (DAY, "12.00/24.00 station-hours, 120.0 a minute, 6 s left"),
        (7200.0, "1.00/2.00 station-hours, 10.0 a minute, 6 s left"),
        (90.0, "0.75/1.50 station-minutes, 7.5 a minute, 6 s left"),
    ],
)
def test_progress_of_a_short_record_is_told_in_its_own_unit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, total: float, expected: str
) -> None:
    clock = iter([100.0, 106.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    console.DataProgress(total).update(total / 2)
    assert [expected] == capsys.readouterr().out.splitlines()


def test_the_rate_of_data_counts_only_this_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0, 116.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    bar = console.DataProgress(10 * DAY)
    bar.update(6 * DAY, fresh=False)
    bar.update(DAY)
    expected = ["6.00/10.00 station-days, 0.0 a minute", "7.00/10.00 station-days, 3.8 a minute, 48 s left"]
    assert expected == capsys.readouterr().out.splitlines()


def test_a_run_of_given_length_shows_windows_loss_and_share(capsys: pytest.CaptureFixture[str]) -> None:
    bar = console.ShareProgress("Training")
    bar.update(0.5, 320, 0.25)  # too early for a line
    bar.update(1.02, 640, 0.125)
    assert "640 windows  loss: 0.1250  [100.0 %]\n" == capsys.readouterr().out


def test_a_long_run_prints_its_share_every_few_seconds(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 103.0, 106.0, 109.0])  # at the start, then at each update
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    bar = console.ShareProgress("Training")
    for share in (0.1, 0.2, 0.3):
        bar.update(share, round(share * 1000), 0.25)
    assert "200 windows  loss: 0.2500  [20.0 %]\n" == capsys.readouterr().out


def test_what_was_skipped_is_listed_up_to_a_limit(capsys: pytest.CaptureFixture[str]) -> None:
    console.skipped([f"file {number}" for number in range(22)])
    lines = capsys.readouterr().out.splitlines()
    assert ["! Skipped: file 0", "! Skipped: file 19", "! Skipped: and 2 more"] == [lines[0], *lines[19:]]
    console.skipped(["one"])
    assert "! Skipped: one\n" == capsys.readouterr().out


def test_many_threads_can_update_data_progress(capsys: pytest.CaptureFixture[str], without_delay: None) -> None:
    total = 400 * 864.0
    with console.DataProgress(total) as bar, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: bar.update(864.0), range(400)))
    lines = capsys.readouterr().out.splitlines()
    assert [f"{number / 100:.2f}/4.00 station-days" for number in range(1, 401)] == [line.partition(",")[0] for line in lines]


def test_data_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch, without_delay: None) -> None:
    written = Terminal()
    monkeypatch.setattr(sys, "stdout", written)
    monkeypatch.setattr(console, "_console", Console(file=written, force_terminal=True, width=140, color_system=None))
    with console.DataProgress(4 * DAY) as bar:
        bar.update(DAY)
        bar.bar.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue())
    assert re.search(r"Picking .*1\.00/4\.00 station-days, [\d.]+ a minute \S*:\S*", shown)
    assert "s left" not in shown


def test_silence_suppresses_data_progress(capsys: pytest.CaptureFixture[str], without_delay: None) -> None:
    console.silence()
    with console.DataProgress(DAY) as bar:
        bar.update(DAY)
    assert "" == capsys.readouterr().out
