"""Files for other programs, read with ObsPy's or the program's own reader, or by the columns of its manual."""

import xml.etree.ElementTree as ET
from pathlib import Path

import obspy
import pytest
from obspy.io.quakeml.core import _validate
from typer.testing import CliRunner

from xiaonet.cli import main as cli
from xiaonet.errors import ConfigError, DataError
from xiaonet.events.event import Arrival, Event, Hypocentre, arrivals_path, read_events, write_events
from xiaonet.events.formats import convert
from xiaonet.io.picks import write_picks
from xiaonet.picking.picks import Pick

P = Pick(1562486930_867986000, "PB.B918..EHZ", "P", 0.95, 0.05, 1.5e-6, 21.25, "m/s")  # 2019-07-07T08:08:50.867986
S = Pick(1562486932_697986000, "PB.B918..EH1", "S", 0.60, 0.12, 2.5e-6, 12.0, "m/s")
LATE = Pick(1562543999_999900000, "CX.PB01.10.HHZ", "P", 0.30, 0.2, 10.0, 5.0)  # a tenth of a millisecond before midnight
NEXT = Pick(1562544003_000000000, "CX.PB01.10.HHN", "S", float("nan"), 0.3, 10.0, 5.0)
EVENTS = [
    Event([Arrival(P, 0.1), Arrival(S, -0.2)], Hypocentre(1562486928_123456000, 35.9336, -117.6021, 7.25)),
    Event([Arrival(LATE, 0.0), Arrival(NEXT, 0.3)], Hypocentre(1562543998_996000000, -21.0417, 69.5001, 98.7)),
]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A folder with the two events in QuakeML and all their picks as CSV."""
    write_events(EVENTS, tmp_path / "events.xml", {"model": "x"})
    write_picks([P, S, LATE, NEXT], tmp_path / "picks.csv", {})
    return tmp_path


def run(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, ["convert", *map(str, words)], env={"COLUMNS": "250", "NO_COLOR": "1", "TERM": "dumb"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_events_are_read_back_from_quakeml(written: Path) -> None:
    assert _validate(str(written / "events.xml"), verbose=True)
    back = read_events(written / "events.xml")
    assert [event.hypocentre for event in EVENTS] == [event.hypocentre for event in back]
    assert [repr(event.arrivals) for event in EVENTS] == [repr(event.arrivals) for event in back]  # repr, because NaN equals nothing
    assert [event.digest for event in EVENTS] == [event.digest for event in back]


def test_a_second_file_beside_csv_holds_the_arrivals(tmp_path: Path) -> None:
    write_events(EVENTS, tmp_path / "found.csv", {})
    assert [
        "event,time,latitude,longitude,depth_km,picks,p_picks,s_picks,rms_s",
        "1,2019-07-07T08:08:48.123456+00:00,35.9336,-117.6021,7.25,2,1,1,0.1581",
        "2,2019-07-07T23:59:58.996000+00:00,-21.0417,69.5001,98.7,2,1,1,0.2121",
    ] == (tmp_path / "found.csv").read_text().splitlines()
    lines = arrivals_path(tmp_path / "found.csv").read_text().splitlines()
    assert lines[0].startswith("event,residual_s,station,phase,time,")
    assert [("1", "0.1"), ("1", "-0.2"), ("2", "0.0"), ("2", "0.3")] == [tuple(line.split(",")[:2]) for line in lines[1:]]


def test_nonlinloc_has_a_block_an_event_and_a_line_a_pick(written: Path) -> None:
    # Columns of http://alomax.free.fr/nlloc/soft7.00/formats.html#_phase_nlloc_
    assert (0, True) == (run(written / "events.xml", "--to", "nonlinloc", "--out", written / "picks.obs")[0], True)
    blocks = [
        [line.split() for line in block.splitlines() if "PUBLIC_ID" not in line]
        for block in (written / "picks.obs").read_text().strip().split("\n\n")
    ]
    assert [2, 2] == [len(block) for block in blocks]
    fields = [field for block in blocks for field in block]
    assert [14] * 4 == [len(field) for field in fields]
    assert sorted(
        [
            ("B918", "EHZ", "P", "20190707", "0808", 50.8680, "GAU", 0.05),
            ("B918", "EH1", "S", "20190707", "0808", 52.6980, "GAU", 0.12),
            ("PB01", "HHZ", "P", "20190707", "2359", 59.9999, "GAU", 0.2),
            ("PB01", "HHN", "S", "20190708", "0000", 3.0, "GAU", 0.3),
        ]
    ) == sorted((field[0], field[2], field[4], field[6], field[7], float(field[8]), field[9], float(field[10])) for field in fields)


def fixed(line: str, first: int, last: int) -> str:
    """Columns of a line, counted from 1 as in Fortran."""
    return line[first - 1 : last]


def test_hypoinverse_has_the_columns_of_the_y2000_archive_format(written: Path) -> None:
    # Klein (2002), USGS Open-File Report 02-171; the summary line is also in scedc.caltech.edu/eq-catalogs/docs/2000hyposum_format.txt
    assert 0 == run(written / "events.xml", "--to", "hypoinverse", "--out", written / "picks.arc")[0]
    lines = (written / "picks.arc").read_text().splitlines()
    assert 8 == len(lines)
    summary, p, s, end = lines[:4]
    assert ("201907070808", 48.12) == (fixed(summary, 1, 12), float(fixed(summary, 13, 16)) / 100)
    latitude = float(fixed(summary, 17, 18)) + float(fixed(summary, 20, 23)) / 6000
    longitude = float(fixed(summary, 24, 26)) + float(fixed(summary, 28, 31)) / 6000
    assert (pytest.approx(35.9336, abs=1e-4), " ", pytest.approx(117.6021, abs=1e-4), " ") == (
        latitude,
        fixed(summary, 19, 19),
        longitude,
        fixed(summary, 27, 27),
    )
    assert (7.25, 1) == (float(fixed(summary, 32, 36)) / 100, int(fixed(summary, 137, 146)))
    assert ("B918 ", "PB", "EHZ", " P", " ", "0") == tuple(fixed(p, *at) for at in ((1, 5), (6, 7), (10, 12), (14, 15), (16, 16), (17, 17)))
    assert ("201907070808", 50.87, "  ") == (fixed(p, 18, 29), float(fixed(p, 30, 34)) / 100, fixed(p, 112, 113))
    assert ("", "") == (fixed(p, 42, 46).strip(), fixed(p, 47, 50).strip())
    assert ("EH1", "  ", "4", "201907070808") == (fixed(s, 10, 12), fixed(s, 14, 15), fixed(s, 17, 17), fixed(s, 18, 29))
    assert (52.70, " S", "1") == (float(fixed(s, 42, 46)) / 100, fixed(s, 47, 48), fixed(s, 50, 50))
    assert (62 * " ", 1) == (fixed(end, 1, 62), int(fixed(end, 63, 72)))
    south, late, after, _ = lines[4:]
    assert ("S", "E", "201907072359", "5900") == (fixed(south, 19, 19), fixed(south, 27, 27), fixed(south, 1, 12), fixed(south, 13, 16))
    assert ("201907080000", "    0", "10", "2") == (fixed(late, 18, 29), fixed(late, 30, 34), fixed(late, 112, 113), fixed(late, 17, 17))
    assert ("201907080000", "  300", "0") == (fixed(after, 18, 29), fixed(after, 42, 46), fixed(after, 50, 50))


def test_hypoinverse_of_picks_alone_has_no_place(written: Path) -> None:
    assert 0 == run(written / "picks.csv", "--to", "hypoinverse", "--out", written / "picks.arc")[0]
    lines = (written / "picks.arc").read_text().splitlines()
    assert (6, "2019070708085087", "") == (len(lines), fixed(lines[0], 1, 16), fixed(lines[0], 17, 136).strip())


def test_obspy_reads_seiscomps_xml(written: Path) -> None:
    assert 0 == run(written / "events.xml", "--to", "scml", "--out", written / "events.scml")[0]
    catalog = obspy.read_events(written / "events.scml", format="SCML")
    for event, expected in zip(catalog, EVENTS, strict=True):
        origin = event.preferred_origin() or event.origins[0]
        place = expected.hypocentre
        assert place is not None
        assert (place.time_ns, place.latitude, place.longitude, pytest.approx(place.depth * 1000)) == (
            origin.time.ns,
            origin.latitude,
            origin.longitude,
            origin.depth,
        )
        picks = {pick.resource_id.id: pick for pick in event.picks}
        assert [(one.pick.seed_id, one.pick.phase, one.residual) for one in expected.arrivals] == [
            (picks[one.pick_id.id].waveform_id.get_seed_string(), one.phase, one.time_residual) for one in origin.arrivals
        ]
        assert [one.pick.time for one in expected.arrivals] == [picks[one.pick_id.id].time for one in origin.arrivals]


def test_seiscomps_xml_of_picks_alone_holds_them(written: Path) -> None:
    assert 0 == run(written / "picks.csv", "--to", "scml", "--out", written / "picks.scml")[0]
    picks = [element for element in ET.parse(written / "picks.scml").iter() if element.tag.endswith("}pick")]
    times = [element.text for pick in picks for element in pick.iter() if element.tag.endswith("}value")]
    assert [
        "2019-07-07T08:08:50.867986Z",
        "2019-07-07T08:08:52.697986Z",
        "2019-07-07T23:59:59.999900Z",
        "2019-07-08T00:00:03.000000Z",
    ] == times


def test_real_has_a_folder_a_day_and_both_files_of_each_station(written: Path) -> None:
    assert 0 == run(written / "picks.csv", "--to", "real", "--out", written / "real")[0]
    files = {str(path.relative_to(written / "real")): path.read_text() for path in (written / "real").rglob("*.txt")}
    assert {
        "20190707/PB.B918.P.txt": "29330.8680 0.9500 0.0\n",
        "20190707/PB.B918.S.txt": "29332.6980 0.6000 0.0\n",
        "20190707/CX.PB01.P.txt": "86399.9999 0.3000 0.0\n",
        "20190707/CX.PB01.S.txt": "",
        "20190708/CX.PB01.P.txt": "",
        "20190708/CX.PB01.S.txt": "3.0000 1.0000 0.0\n",
    } == files


def test_pyrocko_markers_have_their_columns(written: Path) -> None:
    assert 0 == run(written / "events.xml", "--to", "pyrocko", "--out", written / "markers.txt")[0]
    head, *rows = (written / "markers.txt").read_text().splitlines()
    assert "# Snuffler Markers File Version 0.2" == head
    event, p, s = (row.split() for row in rows[:3])
    assert [
        "event:",
        "2019-07-07",
        "08:08:48.1235",
        "0",
        EVENTS[0].digest,
        "35.933600",
        "-117.602100",
        "7250.0",
        "None",
        "None",
        "event-1",
        "None",
    ] == event
    assert [
        "phase:",
        "2019-07-07",
        "08:08:50.8680",
        "0",
        "PB.B918..EHZ",
        EVENTS[0].digest,
        "2019-07-07",
        "08:08:48.1235",
        "P",
        "None",
        "True",
    ] == p
    assert ("S", "PB.B918..EH1", 6) == (s[8], s[4], len(rows))


def test_pyrocko_reads_its_markers(written: Path) -> None:
    marker = pytest.importorskip("pyrocko.gui.snuffler.marker", reason="needs pyrocko: pip install pyrocko")
    assert 0 == run(written / "events.xml", "--to", "pyrocko", "--out", written / "markers.txt")[0]
    markers = marker.load_markers(str(written / "markers.txt"))
    marker.associate_phases_to_events(markers)
    events = [one.get_event() for one in markers if isinstance(one, marker.EventMarker)]
    assert [(35.9336, -117.6021, 7250.0), (-21.0417, 69.5001, 98700.0)] == [(event.lat, event.lon, event.depth) for event in events]
    phases = [one for one in markers if isinstance(one, marker.PhaseMarker)]
    assert ["P", "S", "P", "S"] == [phase.get_phasename() for phase in phases]
    assert [("PB", "B918", "", "EHZ"), ("PB", "B918", "", "EH1"), ("CX", "PB01", "10", "HHZ"), ("CX", "PB01", "10", "HHN")] == [
        phase.one_nslc() for phase in phases
    ]
    assert [events[0], events[0], events[1], events[1]] == [phase.get_event() for phase in phases]
    assert [pytest.approx(pick.time_ns / 1e9, abs=6e-5) for pick in (P, S, LATE, NEXT)] == [phase.tmin for phase in phases]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("picks.csv", "seed_id,phase,time,prob,uncertainty,amp,snr\n", "picks.csv holds no picks; wanted some of xiaonet pick"),
        ("picks.csv", "", "picks.csv holds no picks of XiaoNet"),
        ("events.xml", "", "events.xml holds no picks or events: "),
        ("events.xml", "<q:quakeml", "events.xml holds no picks or events: "),
        ("missing.xml", None, "missing.xml cannot be read: "),
        ("picks.txt", "", "picks.txt ends in '.txt'; wanted one of .csv"),
    ],
)
def test_files_without_picks_are_named(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    status, told = run(tmp_path / name, "--to", "nonlinloc", "--out", tmp_path / "out.obs")
    assert (1, True) == (status, message in told), told
    assert not (tmp_path / "out.obs").exists()
    with pytest.raises((DataError, ConfigError)):
        read_events(tmp_path / name)


def test_an_unknown_format_is_refused_with_those_that_there_are(written: Path) -> None:
    status, told = run(written / "picks.csv", "--to", "hypo71", "--out", written / "out")
    assert (2, True) == (status, all(name in told for name in ("nonlinloc", "hypoinverse", "scml", "real", "pyrocko")))
    with pytest.raises(ConfigError, match="the format is 'hypo71'; wanted one of nonlinloc, hypoinverse, scml, real, pyrocko"):
        convert(EVENTS, "hypo71", written / "out")
    assert not (written / "out").exists()


def test_an_arrival_without_its_pick_is_named(written: Path) -> None:
    catalog = obspy.read_events(written / "events.xml")
    catalog[0].picks.pop()
    catalog.write(written / "events.xml", "QUAKEML")
    status, told = run(written / "events.xml", "--to", "scml", "--out", written / "out")
    assert (1, True) == (
        status,
        "an arrival names the pick smi:local/xiaonet/pick/PB.B918..EH1/S/1562486932697986000, which is not" in told,
    ), told
