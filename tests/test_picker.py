import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import obspy
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from obspy import Stream, Trace, UTCDateTime

from peaks_by_hand import onset_by_hand
from strategies import cut, cuts, spans, stream, trace
from xiaonet import Picker
from xiaonet.errors import CheckpointError, ConfigError, WaveformError, WaveformWarning
from xiaonet.picking.annotation import CHUNK
from xiaonet.picking.cleaning import BRIDGE
from xiaonet.picking.picks import Pick
from xiaonet.runtime.predictor import around_by_places

MINUTES = 6
SAMPLES = MINUTES * 6000
REACH = 31 * 10**9  # ns: farther from a cut, picks are as if there were none
QUAKES = [(20.0, 23.0), (45.0, 52.0), (80.0, 81.5), (95.0, 101.0)]  # s: P and S of the made-up record


class StandIn:
    """Picks where the vertical, for P, and the horizontals, for S, suddenly swing wider."""

    stacking = "probabilities"
    runtime, description, note, digest, thresholds = "stand-in", "two ratios", "", "0" * 64, {"P": 0.6, "S": 0.7}
    around = around_by_places

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        power = windows.astype(np.float64) ** 2
        p, s = self._onset(power[:, 2]), self._onset(power[:, 0] + power[:, 1])
        scale = np.maximum(p + s, 1)
        return np.stack([p / scale, s / scale, 1 - (p + s) / scale], axis=1).astype(np.float32)

    @staticmethod
    def _onset(power: np.ndarray) -> np.ndarray:
        total = np.cumsum(power, axis=-1)
        ratio = np.zeros_like(power)
        before, after = total[:, 200:-50] - total[:, :-250], total[:, 250:] - total[:, 200:-50]
        ratio[:, 200:-50] = after / (after + 2 * before + 1e-12)  # 50 samples against the 200 before
        return ratio


@pytest.fixture
def picker(monkeypatch: pytest.MonkeyPatch) -> Picker:
    """A picker that needs no weights."""
    monkeypatch.setattr("xiaonet.picker.load_predictor", lambda *_: StandIn())
    return Picker()


@pytest.fixture(scope="module")
def xiaonet() -> Picker:
    """The shipped model."""
    return Picker("xiaonet", runtime="onnxruntime")


# Seconds after the beginning of `ridgecrest` at which P is clear on the vertical
P_ON_THE_VERTICAL = [42.6, 91.0, 99.7, 130.5, 151.0, 191.9, 215.4, 249.7, 280.5, 307.3, 316.8, 323.6, 355.7]


@pytest.fixture(scope="module")
def ridgecrest(sds: Path) -> Stream:
    """Six minutes of aftershocks at PB.B918, moved to run over midnight."""
    record = Stream([obspy.read(path)[0] for path in sorted((sds / "2019").glob("PB/B918/*/*"))])
    late = UTCDateTime(2019, 7, 7, 23, 57) - UTCDateTime(2019, 7, 7, 7, 50)
    for component in record:
        component.data = component.data[:SAMPLES]
        component.stats.starttime += late
    return record


@pytest.fixture(scope="module")
def at_ridgecrest(xiaonet: Picker, ridgecrest: Stream) -> list[Pick]:
    """What the shipped model picks there: enough for tests to mean something."""
    picks = xiaonet.pick(ridgecrest)
    assert len(picks) >= 20
    return picks


def motion(times: np.ndarray, component: str) -> np.ndarray:
    """Ground motion as a formula, so that it can be sampled at any times: noise up to 8 Hz, and quakes."""
    rng = np.random.default_rng("ENZ".index(component))
    total = np.zeros(len(times))
    for frequency, phase in zip(rng.uniform(1, 8, 60), rng.uniform(0, 2 * np.pi, 60), strict=True):
        total += np.sin(2 * np.pi * frequency * times + phase)
    for p, s in QUAKES:
        onset, size = (p, 900) if component == "Z" else (s, 1400)
        since = np.clip(times - onset, 0, None)
        total += size * since * np.exp(-since / 0.6) * np.sin(2 * np.pi * 5 * since)
    return total


def record(rate: float = 100.0, start_ns: int = 0, letters: str = "ENZ") -> Stream:
    times = np.arange(int(120 * rate)) / rate
    components = {letter: motion(times, {"1": "N", "2": "E", "3": "Z"}.get(letter, letter)) for letter in letters}
    return Stream(stream(components, start_ns, rate))


def in_parts(whole: Stream, bounds: Sequence[int]) -> list[Trace]:
    return [part for component in whole for part in cut(component, bounds)]


def seconds(picks: Sequence[Pick], phase: str, start_ns: int = 0) -> list[float]:
    return [(pick.time_ns - start_ns) / 1e9 for pick in picks if pick.phase == phase]


def inner(picks: Sequence[Pick], first_ns: int, end_ns: int) -> list[Pick]:
    """Picks far enough from both ends."""
    return [pick for pick in picks if first_ns + REACH <= pick.time_ns < end_ns - REACH]


def assert_same(expected: Sequence[Pick], actual: Sequence[Pick], factor: float = 1.0) -> None:
    """To the sample and to 1e-6 in probability; amplitudes differ by a factor."""
    assert [(pick.time_ns, pick.seed_id, pick.phase) for pick in expected] == [(pick.time_ns, pick.seed_id, pick.phase) for pick in actual]
    for name, scale, tolerance in (("probability", 1, 1e-6), ("uncertainty", 1, 1e-4), ("amplitude", factor, None), ("snr", 1, 1e-6)):
        numbers = ([getattr(pick, name) for pick in picks] for picks in (actual, expected))
        values, wanted = (np.array(column) for column in numbers)
        np.testing.assert_allclose(values, wanted * scale, rtol=1e-9, atol=tolerance or 0, err_msg=name)


def lost(picks: Sequence[Pick], among: Sequence[Pick], seconds: float) -> list[Pick]:
    """Those without a like one within so many seconds."""
    return [
        pick
        for pick in picks
        if not any(other.phase == pick.phase and abs(other.time_ns - pick.time_ns) <= seconds * 1e9 for other in among)
    ]


# With a stand-in for the network.


def test_made_up_quakes_are_found_where_they_are(picker: Picker) -> None:
    picks = picker.pick(record())
    assert [p for p, _ in QUAKES] == pytest.approx(seconds(picks, "P"), abs=0.25)
    assert [s for _, s in QUAKES] == pytest.approx(seconds(picks, "S"), abs=0.25)
    assert sorted(picks) == picks


@pytest.mark.parametrize("start", [UTCDateTime(1970, 1, 1), UTCDateTime(1965, 3, 3, 1, 2, 3, 456789), UTCDateTime(2100, 2, 28, 23, 59)])
def test_the_year_does_not_matter(picker: Picker, start: UTCDateTime) -> None:
    assert [p for p, _ in QUAKES] == pytest.approx(seconds(picker.pick(record(start_ns=start.ns)), "P", start.ns), abs=0.25)


@pytest.mark.parametrize("rate", [20.0, 31.25, 40.0, 62.5, 99.99, 100.01, 128.0, 250.0, 500.0, 100 / 3])
def test_the_sampling_rate_does_not_matter(picker: Picker, rate: float) -> None:
    # Motion is sampled from its formula: no resampler but ours is at work.
    expected, picks = picker.pick(record()), picker.pick(record(rate))
    for phase in "PS":
        assert len(QUAKES) == len(seconds(picks, phase))
        assert seconds(expected, phase) == pytest.approx(seconds(picks, phase), abs=0.0201)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(rate=st.sampled_from([62.5, 100.0, 128.0, 200.0]), late=st.integers(0, 1500), start_ns=st.integers(0, 10**10))
def test_with_any_rate_and_start_the_same_samples_give_the_same_picks(rate: float, late: int, start_ns: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xiaonet.picker.load_predictor", lambda *_: StandIn())
        picker = Picker()
    whole = record(rate, start_ns)
    later = Stream([trace(one.data[late:], start_ns + round(late * 1e9 / rate), rate, one.id) for one in whole])
    end_ns = start_ns + 120 * 10**9
    picks = inner(picker.pick(whole), start_ns + round(late * 1e9 / rate), end_ns)
    assert len(picks) >= 2
    assert_same(picks, inner(picker.pick(later), start_ns + round(late * 1e9 / rate), end_ns))


@pytest.mark.parametrize(
    ("letters", "p_channel", "s_channel"), [("12Z", "HHZ", "HH1"), ("123", "HH3", "HH1"), ("ENZ", "HHZ", "HHN"), ("2Z", "HHZ", "HH2")]
)
def test_any_orientation_code_will_do(picker: Picker, letters: str, p_channel: str, s_channel: str) -> None:
    picks = picker.pick(record(letters=letters))
    assert {("P", f"XX.STA..{p_channel}"), ("S", f"XX.STA..{s_channel}")} == {(pick.phase, pick.seed_id) for pick in picks}
    assert len(QUAKES) == len(seconds(picks, "P")) == len(seconds(picks, "S"))


def test_the_vertical_alone_gives_p_and_horizontals_alone_give_s(picker: Picker) -> None:
    assert [("XX.STA..HHZ", "P")] * 4 == [(pick.seed_id, pick.phase) for pick in picker.pick(record(letters="Z"))]
    assert [("XX.STA..HHN", "S")] * 4 == [(pick.seed_id, pick.phase) for pick in picker.pick(record(letters="EN"))]


@pytest.mark.parametrize("value", [0.0, 12345.0, np.nan, np.inf])
def test_a_dead_component_is_as_good_as_none(picker: Picker, value: float) -> None:
    dead = record()
    for component in dead[:2]:
        component.data = np.full(12_000, value)
    assert_same(picker.pick(record(letters="Z")), picker.pick(dead))


def test_each_instrument_gets_its_own_picks(picker: Picker) -> None:
    names = ["AA.STA..HH", "BB.STA..HH", "AA.STA.00.HH", "AA.STA.10.HH", "AA.STA..EH", "AA.STA..HN", "AA.TWO..HH"]
    everything = Stream()
    for name in names:
        for component in record(letters="Z"):
            everything += trace(component.data, seed_id=name + "Z")
    picks = picker.pick(everything)
    assert sorted(f"{name}Z" for name in names for _ in QUAKES) == sorted(pick.seed_id for pick in picks)
    assert {"AA.STA", "BB.STA", "AA.TWO"} == {pick.station for pick in picks}
    assert sorted(picks) == picks


@pytest.mark.parametrize("offset_ms", [1, 4, -4])
def test_components_that_are_sampled_milliseconds_apart_give_the_same_picks(picker: Picker, offset_ms: int) -> None:
    apart = record()
    for component in apart.select(channel="HH[EN]"):
        component.data = motion(np.arange(12_000) / 100 + offset_ms / 1000, component.id[-1])
        component.stats.starttime += offset_ms / 1000
    expected, picks = picker.pick(record()), picker.pick(apart)
    assert seconds(expected, "P") == pytest.approx(seconds(picks, "P"), abs=0.0101)
    assert seconds(expected, "S") == pytest.approx(seconds(picks, "S"), abs=0.0101)


def test_annotations_are_probabilities_with_times_and_names(picker: Picker) -> None:
    start = UTCDateTime(2014, 5, 1, 23, 59, 59, 998393)
    annotation = picker.annotate(record(start_ns=start.ns, letters="Z"))
    assert ["XX.STA..HH_P", "XX.STA..HH_S", "XX.STA..HH_N"] == [curve.id for curve in annotation]
    assert {(start.ns, 100.0, 12_000, "float32")} == {
        (curve.stats.starttime.ns, curve.stats.sampling_rate, curve.stats.npts, str(curve.data.dtype)) for curve in annotation
    }
    np.testing.assert_allclose(sum(curve.data for curve in annotation), 1, rtol=0, atol=1e-6)


def test_annotations_leave_gaps_out(picker: Picker) -> None:
    gappy = record()
    end = 4000 + round(100 * BRIDGE) + 1
    for component in gappy:
        component.data[4000:end] = np.nan
    p_curves = picker.annotate(gappy).select(channel="HH_P")
    assert [(0, 4000), (end * 10**7, 12_000 - end)] == [(curve.stats.starttime.ns, curve.stats.npts) for curve in p_curves]


def test_picks_are_the_peaks_of_the_annotation_if_they_are_not_read_again() -> None:
    xiaonet = Picker(centred=False)
    annotation = xiaonet.annotate(obspy.read())
    found = []
    for phase in "PS":
        (curve,) = annotation.select(channel=f"EH_{phase}")
        peaks, _ = scipy.signal.find_peaks(curve.data, height=xiaonet.thresholds[phase], distance=100)
        found += [
            ((curve.stats.starttime + onset_by_hand(curve.data, peak) / 100).ns, phase) for peak in peaks.tolist() if 50 <= peak < 2950
        ]
    times, phases = zip(*sorted(found), strict=True)
    # After 00:20:00; SeisBench's PhaseNets see P at 7.70 to 7.73 s and S at 8.66 to 8.71 s.
    assert "PS" == "".join(phases)
    assert [7.71, 8.69] == pytest.approx([time / 1e9 - 1251073200 for time in times], abs=0.05)
    assert sorted(found) == [(pick.time_ns, pick.phase) for pick in xiaonet.pick(obspy.read())]


def test_a_record_of_hours_is_picked_in_chunks_without_a_seam(picker: Picker) -> None:
    # Quakes straddle the fixed samples at which chunks are cut.
    long = Stream([trace(np.tile(component.data, 10), CHUNK * 10**7 - 10**11, seed_id=component.id) for component in record()])
    start_ns = CHUNK * 10**7 - 10**11
    expected = [120 * repeat + p for repeat in range(10) for p, _ in QUAKES]
    assert expected == pytest.approx(seconds(picker.pick(long), "P", start_ns), abs=0.25)


def test_the_threshold_is_one_for_both_phases_or_one_for_each(picker: Picker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaonet.picker.load_predictor", lambda *_: StandIn())
    assert {"P": 0.6, "S": 0.7} == picker.thresholds
    assert {"P": 0.8, "S": 0.8} == Picker(threshold=0.8).thresholds
    assert {"P": 0.6, "S": 0.9} == Picker(threshold={"S": 0.9}).thresholds
    assert [] == Picker(threshold=1.0).pick(record())


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_numpy_numbers_are_thresholds(picker: Picker, kind: type) -> None:
    assert {"P": 0.25, "S": 0.25} == Picker(threshold=kind(0.25)).thresholds
    assert {"P": 0.25, "S": 0.7} == Picker(threshold={"P": kind(0.25)}).thresholds
    assert {float} == {type(value) for value in Picker(threshold=kind(0.25)).thresholds.values()}


@pytest.mark.parametrize(
    "threshold",
    [0, -0.1, 1.1, float("nan"), {"P": 2.0}, {"N": 0.5}, {"p": 0.5}, "high", "0.3", {"P": None}, {"P": "high"}, [0.3, 0.3], True, 0.3 + 0j],
)
def test_a_threshold_that_is_no_probability_is_refused(picker: Picker, threshold: object) -> None:
    with pytest.raises(ConfigError, match=r"wanted a probability above 0 and up to 1 for P and S, e\.g\. 0\.3") as caught:
        Picker(threshold=threshold)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"threshold is {threshold!r}; ")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": 3}, ConfigError, "model is 3; wanted the name of a shipped model or the path of a model file"),
        ({"model": None}, ConfigError, "model is None; wanted the name of a shipped model or the path of a model file"),
        ({"prefilter": 3}, ConfigError, "model is 3; wanted the name of a shipped model or the path of a model file"),
        ({"threads": "x"}, ConfigError, "threads is 'x'; wanted an integer from 1 to 1024"),
        ({"threads": 1.5}, ConfigError, "threads is 1.5; wanted an integer from 1 to 1024"),
        ({"threads": 10**30}, ConfigError, f"threads is {10**30}; wanted an integer from 1 to 1024"),
        ({"runtime": []}, ConfigError, "runtime is []; there are auto, onnxruntime, openvino, native, torch"),
        ({"model": "a" * 5000}, CheckpointError, f"there is no model '{'a' * 5000}'; there are xiaonet, "),
        ({"model": "\0.onnx"}, CheckpointError, r"there is no model '\x00.onnx'; "),
        ({"model": "~nobody-of-this-name/m.onnx"}, CheckpointError, "there is no file ~nobody-of-this-name/m.onnx"),
    ],
)
def test_an_argument_of_a_wrong_type_or_value_is_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        Picker(**arguments)
    assert str(caught.value).startswith(message)


def test_a_trace_and_a_list_of_traces_are_picked_as_a_stream(picker: Picker) -> None:
    whole = record()
    [vertical] = whole.select(channel="HHZ")
    expected = picker.pick(Stream([vertical]))
    assert 4 == len(expected)
    assert expected == picker.pick(vertical)
    assert picker.pick(whole) == picker.pick(list(whole))
    assert [trace.id for trace in picker.annotate(Stream([vertical]))] == [trace.id for trace in picker.annotate(vertical)]


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (None, "NoneType"),
        (3, "int"),
        ("a.mseed", "str of str"),
        (np.zeros((3, 3001)), "ndarray of ndarray"),
        (np.zeros((1, 3001)), "ndarray of ndarray"),
        (Stream([1, 2]), "Stream of int"),
        ([trace(np.ones(500)), "a.mseed"], "list of str"),
    ],
)
def test_what_is_no_stream_is_refused(picker: Picker, stream: Any, kind: str) -> None:
    for act in (picker.pick, picker.annotate, picker.plot):
        with pytest.raises(WaveformError) as caught:
            act(stream)
        expected = f"the type of stream is {kind}; wanted an obspy.Stream or an obspy.Trace, e.g. obspy.read('file.mseed')"
        assert expected == str(caught.value)


def test_the_old_name_of_the_prefilter_is_accepted_with_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = Picker("xiaonet", runtime="onnxruntime", prefilter="xiaonet-nano")
    with pytest.warns(FutureWarning, match=r"Picker\(scout=…\) is now Picker\(prefilter=…\)"):
        found = Picker("xiaonet", runtime="onnxruntime", scout="xiaonet-nano")
    assert expected.provenance == found.provenance
    assert "where xiaonet-nano" in found.provenance["model"]


def test_provenance_tells_one_run_from_another(picker: Picker) -> None:
    assert {
        "model": "two ratios",
        "digest": "0" * 64,
        "runtime": "stand-in",
        "windows": "centred, probabilities averaged",
        "thresholds": "P 0.6, S 0.7",
    } == {key: value for key, value in picker.provenance.items() if key != "xiaonet"}


@pytest.mark.parametrize(
    ("traces", "reason"),
    [
        ([], "nothing to pick: the stream is empty"),
        ([trace(np.zeros(0))], "nothing to pick: XX.STA..HHZ: no samples"),
        ([trace(np.ones(500), rate=1.0)], "nothing to pick: XX.STA..HHZ: sampled at 1 Hz; wanted at least 20 Hz"),
        ([trace(np.ones(500), rate=1e9)], "nothing to pick: XX.STA..HHZ: sampled at 1e+09 Hz; wanted at most 5000 Hz"),
        (
            [trace(np.ones(500), seed_id="XX.STA..HDF"), trace(np.zeros(0))],
            "nothing to pick: XX.STA..HDF: channel code 'HDF' is that of a hydrophone or another pressure sensor; wanted ground motion; "
            "XX.STA..HHZ: no samples",
        ),
    ],
)
def test_a_stream_in_which_nothing_can_be_picked_is_refused_with_the_reasons(picker: Picker, traces: list[Trace], reason: str) -> None:
    for act in (picker.pick, picker.annotate):
        with pytest.raises(WaveformError) as caught:
            act(Stream(traces))
        assert reason == str(caught.value)


@pytest.mark.parametrize(
    "samples",
    [np.zeros(1), np.ones(3000), np.full(3000, np.nan), np.ma.masked_all(3000), np.random.default_rng(0).standard_normal(2)],
    ids=["a sample", "constant", "NaN", "masked", "two samples"],
)
def test_a_record_without_anything_in_it_has_no_picks_and_no_warnings_but_ours(picker: Picker, samples: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", WaveformWarning)
        assert [] == picker.pick(Stream([trace(samples)]))
        picker.annotate(Stream([trace(samples)]))


def told(act: Callable[[Stream], object], given: Stream) -> list[str]:
    """The warnings of a call, all of which must name this file as their place."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        act(given)
    assert {(WaveformWarning, __file__)} >= {(one.category, one.filename) for one in caught}
    return [str(one.message) for one in caught]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: data, []),
        (lambda data: np.zeros(12_000, dtype=np.int32), ["XX.STA..HHN: all samples are equal (0); no data"]),
        (lambda data: np.full(12_000, -1.5), ["XX.STA..HHN: all samples are equal (-1.5); no data"]),
        (lambda data: np.full(12_000, np.nan), ["XX.STA..HHN: no sample in the picked time is a number; no data"]),
        (
            lambda data: np.where(np.arange(12_000) < 3000, 4.0, data),
            ["XX.STA..HHN: 30.0 s without a change for more than 2 s; no data there"],
        ),
        (
            lambda data: np.where(np.arange(12_000) // 3000 == 1, 0.0, data + 1e6) * (np.arange(12_000) // 150 != 60),
            [
                "XX.STA..HHN: 30.0 s without a change for more than 2 s; no data there",
                "XX.STA..HHN: 1.5 s of zeros written into gaps; no data there",
            ],
        ),
    ],
)
def test_channels_without_data_are_named_in_a_warning(
    picker: Picker, change: Callable[[np.ndarray], np.ndarray], expected: list[str]
) -> None:
    given = record()
    given[1].data = change(given[1].data)
    for act in (picker.pick, picker.annotate, picker.plot):
        assert expected == told(act, given)


def test_traces_that_are_left_out_are_named_in_a_warning(picker: Picker) -> None:
    given = record() + Stream([trace(np.ones(500), seed_id="XX.STA..HDF"), trace(np.ones(500), rate=1.0, seed_id="XX.STA..LHZ")])
    expected = [
        "XX.STA..HDF: channel code 'HDF' is that of a hydrophone or another pressure sensor; wanted ground motion",
        "XX.STA..LHZ: sampled at 1 Hz; wanted at least 20 Hz",
    ]
    for act in (picker.pick, picker.annotate, picker.plot):
        assert expected == told(act, given)


def test_a_station_with_several_instruments_is_named_in_a_warning(picker: Picker) -> None:
    given = record() + Stream(stream({"Z": motion(np.arange(12_000) / 100, "Z")}, instrument="XX.STA..HN"))
    expected = [
        "XX.STA: 2 instruments have data at the same time (XX.STA..HH, XX.STA..HN); an arrival may have several picks; "
        "for one set each: Picker(prefer='HH,BH,EH,HN')"
    ]
    for act in (picker.pick, picker.annotate, picker.plot):
        assert expected == told(act, given)
    picker.prefer = "HH"
    assert ["XX.STA..HN: left out where XX.STA..HH has data"] == told(picker.pick, given)


def test_of_a_raw_and_a_filtered_copy_one_is_picked_and_the_other_is_told(picker: Picker) -> None:
    given = record()
    filtered = given.copy().filter("bandpass", freqmin=1, freqmax=10)
    expected = picker.pick(record())
    assert 8 == len(expected)
    reason = "120.0 s left out because two pieces disagree; the longer one is used, or of two as long the one that was read first"
    with pytest.warns(WaveformWarning) as caught:
        assert_same(expected, picker.pick(given + filtered))
    assert [f"XX.STA..HH{component}: {reason}" for component in "ENZ"] == [str(one.message) for one in caught]


def test_picks_are_a_list_with_a_table_and_provenance(picker: Picker, tmp_path: Path) -> None:
    picks = picker.pick(record())
    assert (8, picker.provenance) == (len(picks), picks.provenance)
    assert [pick.phase for pick in picks] == picks.to_dataframe()["phase"].tolist()


def test_a_notebook_shows_the_figure(picker: Picker) -> None:
    formatters = pytest.importorskip("IPython.core.formatters", reason="IPython comes with the extra notebook")
    shown, _ = formatters.DisplayFormatter().format(picker.plot(record()))
    assert b"\x89PNG\r\n\x1a\n" == shown["image/png"][:8]


def test_the_stream_is_left_as_it_was(picker: Picker) -> None:
    given_stream = record()
    given_stream[0].data[100:200] = np.nan
    before = given_stream.copy()
    picker.pick(given_stream)
    for old, new in zip(before, given_stream, strict=True):
        np.testing.assert_array_equal(old.data, new.data)
        assert old.stats == new.stats


# On real records, with the shipped model.


@settings(max_examples=8, deadline=None, derandomize=True)
@given(first=st.integers(0, 12_000), left=st.integers(0, 12_000))
def test_real_picks_do_not_depend_on_where_a_record_begins_and_ends(
    xiaonet: Picker, ridgecrest: Stream, at_ridgecrest: list[Pick], first: int, left: int
) -> None:
    shorter = Stream([cut(component, [0, first, SAMPLES - left, SAMPLES])[1] for component in ridgecrest])
    ends = shorter[0].stats.starttime.ns, shorter[0].stats.endtime.ns
    expected = inner(at_ridgecrest, *ends)
    assert len(expected) >= 3
    assert_same(expected, inner(xiaonet.pick(shorter), *ends))


@settings(max_examples=6, deadline=None, derandomize=True)
@given(data=st.data())
def test_real_picks_do_not_depend_on_cuts_copies_or_order(
    xiaonet: Picker, ridgecrest: Stream, at_ridgecrest: list[Pick], data: st.DataObject
) -> None:
    parts = [part for component in ridgecrest for part in cut(component, data.draw(cuts(SAMPLES)))]
    for first, end in data.draw(spans(SAMPLES, SAMPLES)):
        parts += [cut(component, [0, first, end, SAMPLES])[1] for component in ridgecrest[:2] if first and end < SAMPLES]
    np.random.default_rng(data.draw(st.integers(0, 99))).shuffle(parts)  # type: ignore[arg-type]
    assert_same(at_ridgecrest, xiaonet.pick(Stream(parts)))


def test_real_picks_survive_five_thousand_fragments(xiaonet: Picker, ridgecrest: Stream, at_ridgecrest: list[Pick]) -> None:
    bounds = [0, *sorted(np.random.default_rng(0).choice(np.arange(1, SAMPLES), 4999, replace=False).tolist()), SAMPLES]
    assert_same(at_ridgecrest, xiaonet.pick(Stream(in_parts(ridgecrest, bounds))))


@pytest.mark.parametrize("late_ns", [0, 3_000_000, -3_000_000])
def test_no_real_pick_is_lost_at_midnight(xiaonet: Picker, ridgecrest: Stream, at_ridgecrest: list[Pick], late_ns: int) -> None:
    # The record is moved so that its highest pick falls on midnight, where the second day's file begins.
    highest = max(at_ridgecrest[4:-4], key=lambda pick: pick.probability)
    midnight = UTCDateTime(2019, 7, 8).ns
    at = round((highest.time_ns - ridgecrest[0].stats.starttime.ns) / 1e7)
    moved = [trace(component.data, midnight - at * 10**7, seed_id=component.id) for component in ridgecrest]
    days = [part for component in moved for part in cut(component, [0, at, SAMPLES])]
    for second in days[1::2]:
        second.stats.starttime = UTCDateTime(ns=second.stats.starttime.ns + late_ns)  # the clock of another day
    picks = xiaonet.pick(Stream(days))
    assert_same(xiaonet.pick(Stream(moved)), picks)
    assert [] == lost([replace(highest, time_ns=midnight)], picks, 0.1)


@pytest.mark.parametrize("factor", [1e-9, 1e-12 / 3, 1e4])
def test_real_picks_in_counts_and_in_metres_per_second_are_the_same(
    xiaonet: Picker, ridgecrest: Stream, at_ridgecrest: list[Pick], factor: float
) -> None:
    assert_same(at_ridgecrest, xiaonet.pick(changed(ridgecrest, lambda counts: counts * factor)), factor)


@pytest.mark.parametrize("dtype", ["f4", "f8", ">i4", ">f4", "i8"])
def test_real_picks_do_not_depend_on_the_type_of_samples(
    xiaonet: Picker, ridgecrest: Stream, at_ridgecrest: list[Pick], dtype: str
) -> None:
    assert_same(at_ridgecrest, xiaonet.pick(changed(ridgecrest, lambda counts: counts.astype(dtype))))


def changed(record: Stream, change: Callable[[np.ndarray], np.ndarray]) -> Stream:
    return Stream([Trace(change(component.data), component.stats) for component in record])


def by_fourier(samples: np.ndarray, rate: float, highest: float) -> np.ndarray:
    """What is below a frequency, at another rate: the record between two mirror images, of which the middle is kept."""
    centred = samples - samples.mean()
    mirrored = np.concatenate([-centred[::-1], centred, -centred[::-1]])
    spectrum = np.fft.rfft(mirrored)
    frequency = np.fft.rfftfreq(len(mirrored), 0.01)
    spectrum *= np.clip((highest - frequency) / (0.1 * highest), 0, 1)
    count = round(len(samples) * rate / 100)
    return scipy.signal.resample(np.fft.irfft(spectrum, len(mirrored)), 3 * count)[count : 2 * count]


@pytest.mark.parametrize("rate", [20.0, 31.25, 40.0, 50.0, 62.5, 128.0, 200.0, 250.0, 500.0])
def test_real_picks_at_any_rate_are_within_two_samples_of_those_at_100_hz(xiaonet: Picker, ridgecrest: Stream, rate: float) -> None:
    # What the slower rate cannot hold is taken from both. They begin where their grids meet, so that
    # both are seen at the same instants: the network itself moves picks when it sees others.
    highest = 0.8 * min(rate, 100) / 2
    start_ns = UTCDateTime(2019, 7, 7, 23, 57, 4).ns

    def at(other: float) -> Stream:
        return Stream([trace(by_fourier(one.data, other, highest), start_ns, other, one.id) for one in ridgecrest])

    expected, picks = (inner(xiaonet.pick(at(other)), start_ns, start_ns + MINUTES * 60 * 10**9) for other in (100.0, rate))
    assert len(expected) >= 12
    higher = {phase: height + 0.01 for phase, height in xiaonet.thresholds.items()}
    for some, others in ((expected, picks), (picks, expected)):
        assert [] == lost([pick for pick in some if pick.probability > higher[pick.phase]], others, 0.0201)


def test_p_is_found_on_the_vertical_alone(xiaonet: Picker, ridgecrest: Stream) -> None:
    began = ridgecrest[0].stats.starttime.timestamp
    onsets = [pick.time_ns / 1e9 - began for pick in xiaonet.pick(ridgecrest.select(component="Z")) if pick.phase == "P"]
    assert [] == [second for second in P_ON_THE_VERTICAL if min(abs(onset - second) for onset in onsets) > 0.2]


def test_records_clipped_at_half_their_height_are_picked(ridgecrest: Stream) -> None:
    def clip(counts: np.ndarray) -> np.ndarray:
        middle, half = counts.mean(), np.abs(counts - counts.mean()).max() / 2
        return np.clip(counts, middle - half, middle + half)

    picker = Picker(threshold={"P": 0.35, "S": 0.6})
    strong = [pick for pick in picker.pick(ridgecrest) if pick.probability > 0.5]
    assert len(strong) >= 10
    assert [] == lost(strong, picker.pick(changed(ridgecrest, clip)), 0.2)


def gaps(draw: Callable[[st.SearchStrategy[list[tuple[int, int]]]], list[tuple[int, int]]]) -> list[tuple[int, int]]:
    return draw(
        st.lists(st.tuples(st.integers(3100, SAMPLES - 9100), st.sampled_from([1, 3, 10, 60, 300, 1500, 6000])), min_size=1, max_size=2)
    )


@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data(), components=st.sampled_from(["ENZ", "Z", "E"]), how=st.sampled_from(["absent", "NaN", "masked"]))
def test_gaps_change_real_picks_near_them_alone_and_make_none_beside_them(
    xiaonet: Picker, ridgecrest: Stream, at_ridgecrest: list[Pick], data: st.DataObject, components: str, how: str
) -> None:
    holes = [(first, first + length) for first, length in gaps(data.draw)]
    picks = xiaonet.pick(Stream(list(with_gaps(ridgecrest, holes, components, how))))
    start_ns = ridgecrest[0].stats.starttime.ns
    spans_ns = [(start_ns + first * 10**7, start_ns + end * 10**7) for first, end in holes]

    def far(seconds: float) -> Callable[[Pick], bool]:
        return lambda pick: all(not first - seconds * 1e9 <= pick.time_ns < end + seconds * 1e9 for first, end in spans_ns)

    assert_same(list(filter(far(61), at_ridgecrest)), list(filter(far(61), picks)))
    long = [span for span, (first, end) in zip(spans_ns, holes, strict=True) if end - first > 5]
    for first_ns, end_ns in long:
        edges = [first_ns, end_ns]
        assert [] == [pick for pick in picks if any(abs(pick.time_ns - edge) < 0.49e9 for edge in edges)]


def with_gaps(record: Stream, holes: Sequence[tuple[int, int]], components: str, how: str) -> Iterator[Trace]:
    """A record with gaps, told in any of the ways in which they come."""
    for one in record:
        letter = {"1": "N", "2": "E"}.get(one.id[-1], one.id[-1])
        hidden = np.zeros(SAMPLES, dtype=bool)
        for first, end in holes if letter in components else []:
            hidden[first:end] = True
        if how == "NaN":
            yield Trace(np.where(hidden, np.nan, one.data), one.stats)
        elif how == "masked":
            yield Trace(np.ma.array(one.data, mask=hidden), one.stats)
        else:
            yield from Stream([Trace(np.ma.array(one.data, mask=hidden), one.stats)]).split()


@pytest.fixture(scope="module")
def quiet(sds: Path) -> Stream:
    """Eleven minutes of CX.PB02 before the Iquique earthquake in which there is nothing to pick."""
    first = UTCDateTime(2014, 3, 1, 2, 14, 10)
    return Stream([obspy.read(path, starttime=first, endtime=first + 660)[0] for path in sorted((sds / "2014").glob("CX/PB02/*/*.060"))])


@pytest.mark.parametrize("components", [[0, 1, 2], [1], [2]])
@pytest.mark.parametrize("how", ["NaN", "zeros", "disagreeing"])
@pytest.mark.parametrize("longest", [5, 50, 190, 990, 4000])
def test_gaps_in_noise_are_never_picked(xiaonet: Picker, quiet: Stream, components: list[int], how: str, longest: int) -> None:
    rng = np.random.default_rng(longest)
    gappy = changed(quiet, lambda counts: counts.astype(np.float64))
    for first in range(3000, 63_000, 6000):
        at, length = first + int(rng.integers(1900)), int(rng.integers(longest // 4, longest + 1))
        for component in components:
            hole = gappy[component].data[at : at + length]
            if how == "disagreeing":
                gappy += trace(hole + 1, gappy[component].stats.starttime.ns + at * 10**7, seed_id=gappy[component].id)
            else:
                hole[:] = np.nan if how == "NaN" else 0
    assert [] == xiaonet.pick(gappy)


def test_there_is_nothing_to_pick_in_that_noise(xiaonet: Picker, quiet: Stream) -> None:
    assert [] == xiaonet.pick(quiet)
