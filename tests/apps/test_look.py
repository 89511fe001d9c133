import json
import re
from datetime import date
from pathlib import Path

import numpy as np
import obspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from browser import CHROMIUM, Outline, open_page
from stand_in import MIDNIGHT, record, write, write_days
from xiaonet.apps.look import BLOCK, NO_DATA, choose_day, encode, find_views, write_page
from xiaonet.errors import ConfigError, OutputError, WaveformError
from xiaonet.picking.picks import Pick

DAY = date(2020, 9, 15)
# Steps of a script in the page. Each waits until the page has drawn.
TOOLS = """
const $ = (id) => document.getElementById(id), told = [];
const drawn = () => new Promise((done) => setTimeout(done, 20));
const mouse = (id, kind, x) => {
  const { left, top } = $(id).getBoundingClientRect();
  $(id).dispatchEvent(new PointerEvent(kind, { clientX: left + x, clientY: top + 99, pointerId: 1, bubbles: true }));
};
const drag = async (id, from, to) => {
  mouse(id, "pointerdown", from); mouse(id, "pointermove", to); mouse(id, "pointerup", to); await drawn();
};
const key = async (name) => { document.body.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true })); await drawn(); };
const slide = async (id, value) => { $(id).value = value; $(id).dispatchEvent(new Event("input")); await drawn(); };
const shows = (...colour) => {
  const { width, height } = $("traces"), copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage($("traces"), 0, 0);
  const { data } = copy.getImageData(0, 0, width, height);
  for (let i = 0; i < data.length; i += 4) if (colour.every((part, place) => data[i + place] === part)) return true;
  return false;
};
const look = (name) => told.push([name, $("shown").value, $("view").value, shows(0, 114, 178), shows(213, 94, 0)]);
"""


def pick(second: float, phase: str, probability: float, instrument: str = "XX.ABC..HH") -> Pick:
    return Pick((MIDNIGHT + second).ns, instrument + {"P": "Z", "S": "N"}[phase], phase, probability, 0.1, 1234.0, float("nan"))


PICKS = [
    pick(-60, "P", 0.9),
    pick(40, "P", 0.9),
    pick(43, "S", 0.4),
    pick(200, "P", 0.35),
    pick(100, "P", 0.5, "YY.DEF.00.EH"),
    pick(100, "P", 0.5, "ZZ.GHI..EH"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two instruments around a midnight; not to be changed."""
    stream = record(onsets={"Z": [40.0], "N": [43.0]}) + record(instrument="YY.DEF.00.EH")
    return write_days(stream, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def page(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "look.html"
    write_page(find_views(PICKS, [data], DAY), out, "</script><b>.csv")
    return out


def content(page: Path) -> dict:
    text = page.read_text()
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def carry_out(page: Path, folder: Path, script: str) -> list:
    """What a script in the page tells."""
    copy = folder / "scripted.html"
    end = 'document.body.insertAdjacentHTML("beforeend", `<pre id="told">${JSON.stringify(told).replaceAll("<", "&lt;")}</pre>`);'
    first = "<script>requestAnimationFrame = (draw) => setTimeout(draw, 0);</script>"  # a browser without a screen may draw no frames
    copy.write_text(f"{first}{page.read_text()}<script>{TOOLS}(async () => {{ await drawn(); {script} {end} }})();</script>")
    dom = open_page(copy, folder, "--window-size=1200,800", "--virtual-time-budget=20000")
    return json.loads(re.findall(r'<pre id="told">(.*?)</pre>', dom)[-1].replace("&lt;", "<"))


def test_a_page_needs_nothing_but_itself(page: Path) -> None:
    text = page.read_text()
    outline = Outline(text)
    assert ["data:,"] == outline.links
    assert [] == re.findall(
        r"https?:|url\(|@import|\bfetch\(|XMLHttpRequest|WebSocket|import\(", re.sub(r'(?s)id="data">.*?</script>', "", text)
    )
    assert "default-src 'none'" in text  # so the browser refuses whatever might be missed here
    assert (2, 2) == (outline.counts["script"], outline.counts["canvas"])  # a name in the data cannot end a script


def test_a_page_holds_the_picks_of_the_day_with_their_values(page: Path) -> None:
    found = content(page)
    assert ("2020-09-15", "</script><b>.csv") == (found["day"], found["source"])
    assert ["XX.ABC..HH", "YY.DEF.00.EH"] == [one["name"] for one in found["instruments"]]
    assert [["XX.ABC..HHZ", "XX.ABC..HHN", "XX.ABC..HHE"], ["YY.DEF.00.EHZ", "YY.DEF.00.EHN", "YY.DEF.00.EHE"]] == [
        one["channels"] for one in found["instruments"]
    ]
    assert [
        [40.0, "P", "XX.ABC..HHZ", 0.9, 0.1, 1234.0, None],
        [43.0, "S", "XX.ABC..HHN", 0.4, 0.1, 1234.0, None],
        [200.0, "P", "XX.ABC..HHZ", 0.35, 0.1, 1234.0, None],
    ] == found["instruments"][0]["picks"]
    hour, *near = found["instruments"][0]["parts"]
    assert [0.0, 0.5, 600] == hour
    assert [[28.0, 0.01, 2700], [188.0, 0.01, 2400]] == near  # 12 s on either side; what overlaps is one part


def test_picks_without_a_record_are_counted(data: Path) -> None:
    files = []
    found = find_views([*PICKS, pick(400, "P", 0.9)], [data], DAY, on_progress=lambda done, total: files.append((done, total)))
    assert (12, 12) == files[-1]
    assert {"ZZ.GHI..EH": 1, "XX.ABC..HH": 1} == found.without_record
    assert (600.0, [3, 1]) == (found.seconds, [len(view.picks) for view in found.views])
    assert ["YY.DEF.00.EH"] == [view.instrument.name for view in find_views(PICKS, [data], DAY, ["DEF"]).views]


def test_the_day_with_most_picks_is_chosen() -> None:
    assert date(2020, 9, 14) == choose_day([pick(-1, "P", 0.5), pick(-0.1, "S", 0.5), pick(0, "P", 0.5)])
    assert date(2020, 9, 14) == choose_day([pick(0, "P", 0.5), pick(-1, "P", 0.5)])  # the first of two
    with pytest.raises(ConfigError, match="there are no picks to look at, of the chosen stations; choose others, or a day with --day"):
        choose_day([])


def test_a_day_without_a_record_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(WaveformError, match=r"there is no record of 2020-09-20 in .*; choose another folder, --day or --stations"):
        find_views(PICKS, [data], date(2020, 9, 20))
    with pytest.raises(WaveformError, match=r"there is no record of 2020-09-15 in .*nowhere; .*nowhere: no such file or folder; choose"):
        find_views(PICKS, [tmp_path / "nowhere"], DAY)


def test_a_full_disk_leaves_the_older_page(data: Path, tmp_path: Path, write_limit) -> None:
    out = tmp_path / "look.html"
    out.write_text("older")
    write_limit(10_000)
    with pytest.raises(OutputError, match="could not be written"):
        write_page(find_views(PICKS, [data], DAY), out, "picks.csv")
    write_limit(-1)
    assert ("older", 1) == (out.read_text(), len(list(tmp_path.iterdir())))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 99), number=st.integers(1, 600), exponent=st.integers(-12, 9))
def test_a_value_keeps_its_size_beside_a_larger_one(seed: int, number: int, exponent: int) -> None:
    values = np.random.default_rng(seed).standard_cauchy((2, number)) * 10.0**exponent
    values[0, ::7] = np.nan
    scales, levels = encode(values)
    share = np.where(levels == NO_DATA, np.nan, levels.astype(float)) / 127
    again = share * np.abs(share) * np.repeat(scales, BLOCK, axis=1)[:, :number]
    assert (np.isnan(values) == np.isnan(again)).all()
    known = ~np.isnan(values)
    largest = np.repeat(scales, BLOCK, axis=1)[:, :number]
    step = largest * (2 * np.sqrt(np.abs(values) / largest) + 1 / 127) / 127  # between two levels at this size
    assert (np.abs(values - again)[known] <= 0.51 * step[known]).all()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_picks_hides_them_and_zooms(page: Path, tmp_path: Path) -> None:
    script = """
    look("all");
    await slide("lowest", 0.38); look("from 0.38");
    await key("p"); look("S alone");
    await key("p"); await slide("lowest", 0.95); look("none");
    await slide("lowest", 0); await drag("traces", 88 + 0.1 * (1200 - 35 - 100), 88 + 0.2 * (1200 - 35 - 100)); look("zoomed");
    await key("0"); look("all again");
    await key("ArrowRight"); told.push($("pick").textContent); look("first pick");
    await key("ArrowRight"); told.push($("pick").textContent);
    await key("ArrowLeft"); told.push($("pick").textContent);
    await key("ArrowDown"); look("next"); told.push($("station").value);
    """
    told = carry_out(page, tmp_path, script)
    everything = "5.0 min from 00:00:00.0 UTC"
    assert ["all", "3 of 3 picks", everything, True, True] == told[0]
    assert ["from 0.38", "2 of 3 picks", everything, True, True] == told[1]
    assert ["S alone", "1 of 3 picks", everything, False, True] == told[2]
    assert ["none", "0 of 3 picks", everything, False, False] == told[3]
    assert ["zoomed", "3 of 3 picks", "30.0 s from 00:00:30.0 UTC", True, True] == told[4]
    assert ["all again", "3 of 3 picks", everything, True, True] == told[5]
    assert "P 00:00:40.00 UTC · probability 0.90 · ± 0.10 s · amplitude 1234 · XX.ABC..HHZ" == told[6]
    assert ["first pick", "3 of 3 picks", "24.0 s from 00:00:28.0 UTC", True, True] == told[7]
    assert told[8].startswith("S 00:00:43.00 UTC · probability 0.40")
    assert told[6] == told[9]
    assert [["next", "1 of 1 picks", "24.0 s from 00:00:28.0 UTC", False, False], "1"] == told[10:]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_zoomed_record_is_that_of_the_file(page: Path, data: Path, tmp_path: Path) -> None:
    """The samples that the page draws, against ObsPy's filter."""
    script = "const part = parts.find((one) => !one.envelope); told.push([part.start, [...part.rows[0].map((v) => Math.round(v))]]);"
    [[start, samples]] = carry_out(page, tmp_path, script)
    [trace] = obspy.read(data / "2020/XX/ABC/HHZ.D/XX.ABC..HHZ.D.2020.259").merge()
    trace.data = trace.data - float(trace.data[1800])
    expected = trace.slice(MIDNIGHT + 18).filter("highpass", freq=1.0, corners=2).slice(MIDNIGHT + 28, MIDNIGHT + 28 + 26.99).data
    assert (28.0, 2700) == (start, len(samples))
    size = np.abs(expected).max()
    assert 1200 == np.argmax(np.abs(samples))  # the onset, 12 s after the start
    assert np.abs(expected - samples).max() < size / 100
    quiet = slice(0, 1000)  # before the onset the largest sample of a block is that of noise
    assert np.abs(expected - samples)[quiet].max() < np.abs(expected)[quiet].max() / 100


# The command


def test_the_command_writes_a_page_and_tells_what_it_shows(run, tmp_path: Path, data: Path) -> None:
    from xiaonet.io.picks import write_picks

    write_picks(sorted(PICKS), tmp_path / "picks.csv", {})
    status, told = run("look", "picks.csv", str(data), "--no-open")
    lines = told.splitlines()
    assert 0 == status
    assert f"! Picks: 1 of ZZ.GHI..EH have no record in {data} - they are not shown" == lines[0]
    assert "✓ Day: 2020-09-15 - 2 instruments, 4 picks shown; 2 others are not: choose another --day" == lines[-2]
    assert re.fullmatch(r"✓ Page: 0\.\d MB - look\.html", lines[-1])
    assert 4 == sum(len(one["picks"]) for one in content(tmp_path / "look.html")["instruments"])
    status, told = run("look", "picks.csv", str(data), "--no-open", "--day", "2020-09-14", "--stations", "ABC", "--out", "other.html")
    assert (0, "✓ Day: 2020-09-14 - 1 instrument, 1 pick shown; 3 others are not: choose another --day") == (
        status,
        told.splitlines()[-2],
    )


def test_the_channels_are_those_that_were_picked(run, tmp_path: Path) -> None:
    from xiaonet.io.picks import write_picks

    (tmp_path / "records").mkdir()
    stream = record(onsets={"Z": [40.0], "N": [43.0]})
    for trace in stream:
        trace.stats.channel = "CH" + str("ENZ".index(trace.stats.channel[-1]) + 5)
    write(stream + record(onsets={"Z": [40.0]}, instrument="XX.ABC..HN"), tmp_path / "records" / "a")
    options = ["--components", "E=CH5,N=CH6,Z=CH7", "--prefer", "CH,HN"]
    times = [(MIDNIGHT + second).ns for second in (40, 43, 50)]
    names = ["XX.ABC..CH7", "XX.ABC..CH6", "XX.ABC..HNZ"]
    write_picks([Pick(time, name, "P", 0.9, 0.1, 1.0, 1.0) for time, name in zip(times, names, strict=True)], tmp_path / "picks.csv", {})
    status, told = run("look", "picks.csv", "records", *options, "--stations", "XX.ABC..CH", "--day", "2020-09-15", "--no-open")
    assert 0 == status, told
    [one] = content(tmp_path / "look.html")["instruments"]
    assert ("XX.ABC..CH", ["XX.ABC..CH7", "XX.ABC..CH6", "XX.ABC..CH5"]) == (one["name"], one["channels"])
    assert names[:2] == [values[2] for values in one["picks"]]
    status, told = run("look", "picks.csv", "records", *options, "--day", "2020-09-15", "--no-open")
    assert ["XX.ABC..CH"] == [one["name"] for one in content(tmp_path / "look.html")["instruments"]]
    assert "! Picks: 1 of XX.ABC..HN have no record in records - they are not shown" in told.splitlines()
    assert "! Skipped: XX.ABC..HN: left out where XX.ABC..CH has data" in told.splitlines()


@pytest.mark.parametrize(("works", "line"), [(True, ""), (False, "! Browser: none found - open look.html in a browser yourself")])
def test_the_page_is_opened(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: Path, works: bool, line: str) -> None:
    from xiaonet.io.picks import write_picks

    opened = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or works)
    write_picks(sorted(PICKS), tmp_path / "picks.csv", {})
    status, told = run("look", "picks.csv", str(data))
    assert (0, [(tmp_path / "look.html").as_uri()]) == (status, opened)
    assert told.splitlines()[-1].startswith(line or "✓ Page")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["picks.csv", "--day", "Tuesday"], "Config: stopped - --day is 'Tuesday'; wanted a date such as 2014-05-01"),
        (
            ["nowhere.csv"],
            "Data: stopped - nowhere.csv cannot be read: No such file or directory; wanted a file of picks from",
        ),
        (["other.txt"], "Config: stopped - other.txt ends in '.txt'; wanted one of .csv, .xml, .quakeml, .qml, .parquet: choose another"),
        (["other.csv"], "Data: stopped - other.csv holds no picks of XiaoNet: the columns seed_id, phase, time, prob, uncertainty, amp"),
    ],
)
def test_what_cannot_be_shown_is_one_line(run, tmp_path: Path, data: Path, words: list[str], message: str) -> None:
    from xiaonet.io.picks import write_picks

    write_picks(sorted(PICKS), tmp_path / "picks.csv", {})
    (tmp_path / "other.csv").write_text("station,latitude\nABC,1.0\n")
    status, told = run("look", words[0], str(data), "--no-open", *words[1:])
    assert (1, f"✗ {message}") == (status, told.splitlines()[-1][: len(message) + 2])
    assert not (tmp_path / "look.html").exists()
