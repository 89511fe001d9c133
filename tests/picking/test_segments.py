from collections.abc import Sequence
from fractions import Fraction
from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obspy import Stream, Trace, UTCDateTime

from strategies import RATES, TYPES, cut, cuts, records, spans, stream, times_ns, trace
from xiaonet.picking.cleaning import BRIDGE, DISPUTED, FLAT, SMOOTH
from xiaonet.picking.segments import Grid, Instrument, Piece, Segment, nominal_rate, sort_stream, split_drifting, why_unusable

HUNDRED = Fraction(100)
WANTED = "wanted a code that ends in E, 2, T, X, U, N, 1, R, Y, V, Z, 3, W, or components such as E=HHX,N=HHY,Z=HHZ"
WHOLE_RATES = [20.0, 31.25, 40.0, 50.0, 62.5, 80.0, 100.0, 125.0, 128.0, 200.0, 250.0, 500.0]  # whole nanoseconds a sample


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(samples)


def only_instrument(traces: Sequence[Trace]) -> Instrument:
    (instrument,), skipped = sort_stream(Stream(list(traces)))
    assert [] == skipped
    return instrument


def whole(traces: Sequence[Trace]) -> tuple[np.ndarray, np.ndarray]:
    """The waveform of a stream of one instrument and one segment, and what of it was made up."""
    instrument = only_instrument(traces)
    (segment,) = instrument.segments
    return instrument.waveform(segment, segment.first, segment.end)


def vertical(traces: Sequence[Trace]) -> np.ndarray:
    return whole(traces)[0][2]


def spans_of(mask: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(mask.astype(int), prepend=0, append=0)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def cleaned(samples: np.ndarray, rate: float = 100.0) -> tuple[np.ndarray, np.ndarray]:
    """The rules for stretches that stand still and for gaps, sample by sample."""
    kept, at = samples.copy(), 0
    for value, group in groupby(samples.tolist()):
        length = len(list(group))
        if value == value and length > int(FLAT * rate) + 1:
            kept[at : at + length] = np.nan
        at += length
    bridged = np.zeros(len(samples), dtype=bool)
    data = kept.copy()
    for first, end in spans_of(np.isnan(data)):
        if first > 0 and end < len(data) and end - first <= int(BRIDGE * rate):
            for sample in range(first, end):
                kept[sample] = data[first - 1] + (data[end] - data[first - 1]) * (sample - first + 1) / (end - first + 1)
            bridged[first:end] = end - first > int(SMOOTH * rate)
    return kept, bridged


@settings(max_examples=100, deadline=None, derandomize=True)
@given(start_ns=times_ns, rate=st.sampled_from(RATES), samples=st.integers(-1000, 10**9))
def test_a_grid_goes_through_the_sample_that_it_is_made_for(start_ns: int, rate: float, samples: int) -> None:
    grid = Grid.of(start_ns, nominal_rate(rate))
    first = grid.index(start_ns)
    period = 10**9 / nominal_rate(rate)
    assert start_ns == grid.time_ns(first)
    assert abs(grid.phase_ns) <= 0.52 * period
    later = start_ns + round(samples * period)
    assert first + samples == grid.index(later)
    assert abs(later - grid.time_ns(first + samples)) <= 1


@settings(max_examples=100, deadline=None, derandomize=True)
@given(start_ns=times_ns, rate=st.sampled_from(WHOLE_RATES), samples=st.integers(-(10**9), 10**9))
def test_every_sample_of_a_record_gives_the_same_grid(start_ns: int, rate: float, samples: int) -> None:
    exact = nominal_rate(rate)
    assert Grid.of(start_ns, exact) == Grid.of(start_ns + int(samples * 10**9 / exact), exact)


@pytest.mark.parametrize("rate", [100.0, 200.0, 128.0])
@pytest.mark.parametrize("jitter_ns", [-1000, -1, 1, 1000])
def test_a_microsecond_does_not_decide_for_records_sampled_midway_between_grid_points(rate: float, jitter_ns: int) -> None:
    exact = nominal_rate(rate)
    midway = 10**9 * 1_400_000_000 + int(5 * 10**8 / exact)
    assert Grid.of(midway, exact).index(midway) == Grid.of(midway + jitter_ns, exact).index(midway + jitter_ns)
    grid = Grid(exact, 0)
    assert 1 == grid.index(midway + int(10**9 / exact) + jitter_ns) - grid.index(midway)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (100.0, Fraction(100)),
        (99.99, Fraction(100)),
        (100.0003, Fraction(100)),
        (19.9999, Fraction(20)),
        (62.5, Fraction(125, 2)),
        (31.25, Fraction(125, 4)),
        (33.3333, Fraction(100, 3)),
        (128.0, Fraction(128)),
        (float(np.float32(99.99999)), Fraction(100)),
    ],
)
def test_a_rate_in_a_header_stands_for_a_ratio_of_small_integers(rate: float, expected: Fraction) -> None:
    assert expected == nominal_rate(rate)


@pytest.mark.parametrize(
    ("seed_id", "rate", "reason"),
    [
        ("CX.PB01..HHZ", 100.0, ""),
        ("CX.PB01.10.HH1", 20.0, ""),
        ("CX.PB01..HH3", 19.9999, ""),
        ("CX.PB01..HHZ", 10.0, "sampled at 10 Hz; wanted at least 20 Hz"),
        ("CX.PB01..HHZ", float("nan"), "sampled at nan Hz; wanted at least 20 Hz"),
        ("CX.PB01..HHZ", float("inf"), "sampled at inf Hz; wanted at least 20 Hz"),
        ("CX.PB01..BDF", 100.0, "channel code 'BDF' is that of a hydrophone or another pressure sensor; wanted ground motion"),
        (
            "CX.PB01..",
            100.0,
            f"channel code '' has no component; {WANTED}",
        ),
        ("CX.PB.01..HHZ", 100.0, "wanted a name NET.STA.LOC.CHA with three dots"),
    ],
)
def test_what_cannot_be_used_is_told_with_the_reason(seed_id: str, rate: float, reason: str) -> None:
    assert reason == why_unusable(seed_id, rate)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(rate=st.floats(99.9, 100.1), samples=st.integers(1, 500_000), start_ns=times_ns)
def test_parts_of_a_drifting_record_are_on_time_to_a_tenth_of_a_sample(rate: float, samples: int, start_ns: int) -> None:
    data = np.arange(samples)
    parts = split_drifting(Piece("XX.STA..HHZ", start_ns, samples, rate, lambda: data))
    np.testing.assert_array_equal(data, np.concatenate([part.load() for part in parts]))
    for part in parts:
        first, last = part.load()[[0, -1]].tolist()
        assert (part.samples - 1, rate) == (last - first, rate)
        assert abs(part.start_ns - start_ns - first * Fraction(10**9) / Fraction(rate)) <= 2
        assert abs(part.samples / Fraction(rate) - part.samples / nominal_rate(rate)) * 100 <= 0.11


def test_a_record_with_a_steady_clock_stays_whole() -> None:
    piece = Piece("XX.STA..HHZ", 0, 10**7, 100.0, lambda: np.zeros(0))
    assert [piece] == split_drifting(piece)


def test_instruments_are_told_apart_by_network_station_location_band_and_rate() -> None:
    names = ["AA.STA..HHZ", "BB.STA..HHZ", "AA.STA.00.HHZ", "AA.STA.10.HHZ", "AA.STA..HNZ", "AA.STA..EHZ", "AA.TWO..HHZ", "AA.STA..Z"]
    traces = [trace(noise(100), seed_id=name) for name in names] + [trace(noise(100), rate=200.0, seed_id="AA.STA..HHZ")]
    instruments, _ = sort_stream(Stream(traces[::-1]))
    assert [
        ("AA.STA..", 100),
        ("AA.STA..EH", 100),
        ("AA.STA..HH", 100),
        ("AA.STA..HH", 200),
        ("AA.STA..HN", 100),
        ("AA.STA.00.HH", 100),
        ("AA.STA.10.HH", 100),
        ("AA.TWO..HH", 100),
        ("BB.STA..HH", 100),
    ] == sorted((instrument.name, instrument.rate) for instrument in instruments)


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ("ENZ", {"E": "E", "N": "N", "Z": "Z"}),
        ("12Z", {"E": "2", "N": "1", "Z": "Z"}),
        ("123", {"E": "2", "N": "1", "Z": "3"}),
        ("Z", {"Z": "Z"}),
        ("N", {"N": "N"}),
        ("E1Z", {"E": "E", "N": "1", "Z": "Z"}),
        ("E2N1Z3", {"E": "E", "N": "N", "Z": "Z"}),
        ("EXNYZW", {"E": "E", "N": "N", "Z": "Z"}),
        ("XYZ", {"E": "X", "N": "Y", "Z": "Z"}),
        ("UVW", {"E": "U", "N": "V", "Z": "W"}),
        ("UVZ", {"E": "U", "N": "V", "Z": "Z"}),
        ("ENU", {"E": "E", "N": "N", "Z": "U"}),
        ("TRZ", {"E": "T", "N": "R", "Z": "Z"}),
    ],
)
def test_orientation_codes_become_components(letters: str, expected: dict[str, str]) -> None:
    components = {letter: noise(100, seed) for seed, letter in enumerate(letters)}
    (instrument,), spare = sort_stream(stream(components))
    beside = {"E2N1Z3": ["2E", "1N", "3Z"], "EXNYZW": ["XE", "YN", "WZ"]}.get(letters, [])
    assert [f"XX.STA..HH{one}: used only where XX.STA..HH{other} has no data" for one, other in beside] == spare
    assert {component: f"XX.STA..HH{letter}" for component, letter in expected.items()} == instrument.channels
    waveform, _ = instrument.waveform(instrument.segments[0], 0, 100)
    for row, component in enumerate("ENZ"):
        wanted = components[expected[component]] if component in expected else np.full(100, np.nan)
        np.testing.assert_array_equal(wanted, waveform[row])


@pytest.mark.parametrize("rates", [(50, 50, 100), (100, 100, 50), (200, 40, 100), (20, 125, 62.5)])
@pytest.mark.parametrize("late_ns", [0, 10_000_000, -7_000_000])
def test_components_at_different_rates_are_one_instrument_on_time(rates: tuple[float, ...], late_ns: int) -> None:
    # The record says at every sample what time it is.
    start_ns = 1_400_000_000 * 10**9 + 1_234_567
    starts = {"E": start_ns + late_ns, "N": start_ns - late_ns, "Z": start_ns}
    traces = [
        trace(np.arange(int(60 * rate)) / rate + (starts[letter] - start_ns) / 1e9, starts[letter], rate, f"XX.STA..HH{letter}")
        for letter, rate in zip("ENZ", rates, strict=True)
    ]
    instrument = only_instrument(traces)
    (segment,) = instrument.segments
    waveform, _ = instrument.waveform(segment, segment.first, segment.end)
    times = np.array([segment.time_ns(sample) - start_ns for sample in range(segment.first, segment.end)]) / 1e9
    for row, rate in enumerate(rates):
        known = ~np.isnan(waveform[row])
        assert 5900 < known.sum()
        assert np.abs(waveform[row] - times)[known].max() <= 0.0051, rate


def test_a_component_at_two_rates_makes_two_instruments_and_a_broken_record_takes_no_component_away() -> None:
    traces = [trace(noise(1000), seed_id=f"XX.STA..HH{letter}") for letter in "ENZ"]
    traces.append(trace(noise(50), 3 * 10**9, 228.0, "XX.STA..HHZ"))
    whole, broken = sort_stream(Stream(traces))[0]
    assert ((HUNDRED, set("ENZ")), (228, {"Z"})) == ((whole.rate, set(whole.channels)), (broken.rate, set(broken.channels)))


def test_another_channel_of_a_component_takes_over_after_a_gap_of_a_sample() -> None:
    record, other = noise(1000), noise(1000, 1)
    traces = [trace(record[:600]), trace(other[400:], 400 * 10**7, seed_id="XX.STA..HH3")]
    (instrument,), spare = sort_stream(Stream(traces))
    (segment,) = instrument.segments
    expected = np.concatenate([record[:600], [np.nan], other[601:]])
    np.testing.assert_array_equal(expected, instrument.waveform(segment, 0, 1000)[0][2])
    assert (["XX.STA..HH3: used only where XX.STA..HHZ has no data"], {"Z": "XX.STA..HHZ"}) == (spare, instrument.channels)


def test_a_stream_read_without_its_samples_has_none() -> None:
    header = Trace(header={"station": "STA", "channel": "HHZ", "npts": 500, "sampling_rate": 100.0})
    assert (500, ([], [".STA..HHZ: no samples"])) == (header.stats.npts, sort_stream(Stream([header])))


def test_skipped_traces_are_listed_and_the_rest_is_used() -> None:
    traces = [
        trace(noise(100)),
        trace(np.zeros(0), seed_id="XX.STA..HHN"),
        trace(noise(100), seed_id="XX.STA..LDO"),
        trace(noise(100), rate=1.0, seed_id="XX.STA..LHZ"),
        trace(noise(100).astype(complex), seed_id="XX.STA..HHE"),
    ]
    instruments, skipped = sort_stream(Stream(traces))
    assert ["XX.STA..HH"] == [instrument.name for instrument in instruments]
    assert [
        "XX.STA..HHN: no samples",
        "XX.STA..LDO: channel code 'LDO' is that of a hydrophone or another pressure sensor; wanted ground motion",
        "XX.STA..LHZ: sampled at 1 Hz; wanted at least 20 Hz",
        "XX.STA..HHE: samples are complex128; wanted real numbers",
    ] == skipped


@pytest.mark.parametrize(("gap_s", "segments"), [(0.01, 1), (29.99, 1), (30.0, 1), (30.01, 2), (86400, 2)])
def test_traces_at_most_30_s_apart_share_a_segment(gap_s: float, segments: int) -> None:
    after = 1000 + round(100 * gap_s)
    instrument = only_instrument([trace(noise(1000)), trace(noise(500), after * 10**7)])
    spans = [(0, after + 500)] if segments == 1 else [(0, 1000), (after, after + 500)]
    assert spans == [(segment.first, segment.end) for segment in instrument.segments]


def test_a_segment_begins_with_the_first_component_and_ends_with_the_last() -> None:
    instrument = only_instrument([trace(noise(100), 7 * 10**7), trace(noise(200), 2 * 10**7, seed_id="XX.STA..HHN")])
    assert [Segment(Grid(HUNDRED, 0), 2, 202)] == instrument.segments


def test_the_vertical_sets_the_grid_and_other_components_go_to_the_nearest_sample() -> None:
    early, late = noise(100, 1), noise(100, 2)
    traces = [
        trace(noise(100), 2_000_000),
        trace(early, -1_000_000, seed_id="XX.STA..HHN"),  # 3 ms before
        trace(late, 6_000_000, seed_id="XX.STA..HHE"),  # 4 ms after
    ]
    instrument = only_instrument(traces)
    (segment,) = instrument.segments
    assert (2_000_000, 12_000_000) == (segment.time_ns(0), segment.time_ns(1))
    waveform, _ = instrument.waveform(segment, 0, 100)
    np.testing.assert_array_equal([late, early, noise(100)], waveform)


@pytest.mark.parametrize("year", [1900, 1969, 1970, 2014, 2100])
def test_times_are_those_of_the_record_in_any_year(year: int) -> None:
    start = UTCDateTime(year, 12, 31, 23, 59, 59, 998393)
    instrument = only_instrument([trace(noise(100), start.ns)])
    (segment,) = instrument.segments
    assert (start.ns, 100) == (segment.time_ns(segment.first), segment.end - segment.first)
    np.testing.assert_array_equal(noise(100), instrument.waveform(segment, segment.first, segment.end)[0][2])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data(), record=records(1500), start_ns=times_ns)
def test_any_cut_in_any_order_with_overlaps_and_duplicates_is_the_whole_record(
    data: st.DataObject, record: np.ndarray, start_ns: int
) -> None:
    one = trace(record, start_ns)
    parts = cut(one, data.draw(cuts(1500)))
    copies = [trace(record[a:b], start_ns + a * 10**7) for a, b in data.draw(spans(1500, 700))]
    shuffled = data.draw(st.permutations(parts + copies))
    for expected, actual in zip(whole([one]), whole(shuffled), strict=True):
        np.testing.assert_array_equal(expected, actual)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_where_traces_disagree_the_longer_one_is_used_or_the_one_that_was_read_first(data: st.DataObject) -> None:
    traces, starts = [], []
    for number, (first, end) in enumerate([(0, 600), *data.draw(spans(600, 300, most=4))]):
        wrong = data.draw(st.booleans()) and number > 0
        traces.append(trace(noise(600)[first:end] + (number if wrong else 0), first * 10**7))
        starts.append(first)
    order = data.draw(st.permutations(range(len(traces))))
    placed, disputed, slips = np.full(600, np.nan), np.zeros(600, dtype=bool), np.zeros(600, dtype=bool)
    for number in sorted(order, key=lambda number: -len(traces[number].data)):  # `sorted` keeps the order of reading
        samples, first = traces[number].data, starts[number]
        for sample in range(first, first + len(samples)):
            if np.isnan(placed[sample]):
                placed[sample] = samples[sample - first]
            elif placed[sample] != samples[sample - first]:
                (slips if len(samples) <= 5 else disputed)[sample] = True  # an overlap of up to 0.05 s is a clock that was set
    placed[slips] = np.nan
    instrument = only_instrument([traces[number] for number in order])
    reading = instrument.read(instrument.segments[0], 0, 600)
    np.testing.assert_allclose(reading.waveform[2], cleaned(placed)[0], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(disputed, reading.conditions["XX.STA..HHZ"].marks & DISPUTED > 0)


@pytest.mark.parametrize("rate", [50.0, 100.0, 200.0])
@pytest.mark.parametrize(("apart", "named"), [(0.0, False), (0.1, False), (0.2, True), (-0.2, True), (0.45, True), (-0.45, True)])
def test_copies_of_one_record_that_are_a_part_of_a_sample_apart_disagree_about_the_time(rate: float, apart: float, named: bool) -> None:
    samples, length = noise(int(60 * rate)), int(40 * rate)
    copy = trace(samples[:length], round((10 * rate + apart) * 10**9 / rate), rate)
    copy.data = samples[int(10 * rate) :][:length]
    instrument = only_instrument([trace(samples, rate=rate), copy])
    reading = instrument.read(instrument.segments[0], 0, 6000)
    disputed = spans_of(reading.conditions["XX.STA..HHZ"].marks & DISPUTED > 0)
    assert len(disputed) == named
    np.testing.assert_allclose(disputed, [[1000, 5000]] * named, rtol=0, atol=1)
    assert not reading.unsafe.any()
    alone = only_instrument([trace(samples, rate=rate)])
    np.testing.assert_array_equal(alone.read(alone.segments[0], 0, 6000).waveform, reading.waveform)


@pytest.mark.parametrize("rate", [20.0, 100.0, 500.0])
def test_a_jump_between_two_pieces_that_disagree_is_unsafe(rate: float) -> None:
    raw, filtered = trace(noise(int(60 * rate)), rate=rate), trace(noise(int(40 * rate), 1), 40 * 10**9, rate)
    instrument = only_instrument([raw, filtered])
    reading = instrument.read(instrument.segments[0], 0, 8000)
    [(first, end)] = spans_of(reading.unsafe[2])
    assert 5890 <= first <= 5999 <= end <= 6110
    agreeing = only_instrument([trace(noise(6000)), trace(noise(6000)[4000:], 40 * 10**9)])
    assert not agreeing.read(agreeing.segments[0], 0, 6000).unsafe.any()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(record=records(4000))
def test_still_stretches_are_gaps_and_short_gaps_are_crossed(record: np.ndarray) -> None:
    waveform, bridged = whole([trace(record)])
    kept, made_up = cleaned(record)
    np.testing.assert_allclose(waveform[2], kept, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(made_up, bridged[2])


@pytest.mark.parametrize("value", [0.0, -7.0])
@pytest.mark.parametrize(("samples", "gap"), [(201, False), (202, True), (1500, True)])
def test_a_component_that_stands_still_for_more_than_2_s_holds_no_data(value: float, samples: int, gap: bool) -> None:
    record = noise(2000)
    record[100 : 100 + samples] = value
    waveform, bridged = whole([trace(record)])
    assert ([(100, 100 + samples)] if gap else []) == spans_of(np.isnan(waveform[2]) | bridged[2])


@pytest.mark.parametrize("samples", [1, 7, 150, 203])
@pytest.mark.parametrize("offset", [1000.0, -20.0, 1e6])
def test_zeros_written_into_a_gap_are_a_gap(samples: int, offset: float) -> None:
    record = offset + noise(1200)
    record[500 : 500 + samples], record[900 : 900 + samples] = 0, np.nan
    waveform, bridged = whole([trace(record)])
    record[500 : 500 + samples] = np.nan
    expected, made_up = cleaned(record)
    np.testing.assert_allclose(waveform[2], expected, rtol=1e-12)
    np.testing.assert_array_equal(made_up, bridged[2])


@pytest.mark.parametrize(
    "record",
    [
        np.random.default_rng(0).integers(-3, 4, 5000),  # crosses zero all the time
        (np.random.default_rng(0).random(5000) < 0.1) * 1,  # moves by a count now and then
        np.concatenate([(np.random.default_rng(0).random(2000) < 0.1) * 1, np.random.default_rng(1).integers(-500, 500, 500)]),
        np.round(20 * np.sin(np.arange(5000) / 3)),
        np.round(1e4 * np.sin(np.arange(5000) / 3) * (np.arange(5000) > 2500)) + (np.arange(5000) % 150 == 0),
        np.where(np.arange(5000) // 100 % 2, 50 + (np.random.default_rng(0).random(5000) < 0.05), 0),
    ],
    ids=["weak", "coarse", "coarse, then strong", "sine", "still, then strong", "calibration pulses"],
)
def test_zeros_that_were_recorded_are_kept(record: np.ndarray) -> None:
    np.testing.assert_array_equal(record, vertical([trace(record.astype(np.int32))]))


@pytest.mark.parametrize("samples", [1, 5, 6, 50, int(100 * BRIDGE), int(100 * BRIDGE) + 1])
def test_short_gaps_are_crossed_by_a_straight_line(samples: int) -> None:
    record = 3 + noise(samples + 400)
    record[99], record[100 + samples] = 0, samples + 1
    record[100 : 100 + samples] = np.nan
    waveform, bridged = whole([trace(record)])
    expected = np.arange(1, samples + 1) if samples <= 100 * BRIDGE else np.full(samples, np.nan)
    np.testing.assert_allclose(waveform[2, 100 : 100 + samples], expected, rtol=1e-12)
    # A clock that slips leaves a gap of some samples; longer ones could hide an onset.
    assert ([(100, 100 + samples)] if 5 < samples <= 100 * BRIDGE else []) == spans_of(bridged[2])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data(), record=records(1500), rate=st.sampled_from(RATES), start_ns=times_ns)
def test_a_part_of_a_waveform_is_that_part_of_the_whole(data: st.DataObject, record: np.ndarray, rate: float, start_ns: int) -> None:
    instrument = only_instrument([trace(record, start_ns, rate)])
    (segment,) = instrument.segments
    waveform, bridged = instrument.waveform(segment, segment.first - 100, segment.end + 100)
    low, high = sorted(data.draw(st.tuples(*2 * [st.integers(0, waveform.shape[1])])))
    part, made_up = instrument.waveform(segment, segment.first - 100 + low, segment.first - 100 + high)
    np.testing.assert_allclose(part, waveform[:, low:high], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(bridged[:, low:high], made_up)


@pytest.mark.parametrize("gap", [30, 600, 990])
@pytest.mark.parametrize(("value", "still"), [(5.0, 300), (0.0, 190)])  # zeros among samples near 1000 were written
@pytest.mark.parametrize("mirrored", [False, True])
def test_what_is_beside_a_gap_is_seen_from_within_it(gap: int, value: float, still: int, mirrored: bool) -> None:
    record = 1000 + noise(4000)
    record[1000 : 1000 + still], record[1000 + still : 1000 + still + gap] = value, np.nan
    instrument = only_instrument([trace(record[::-1] if mirrored else record)])
    (segment,) = instrument.segments
    waveform, _ = instrument.waveform(segment, 0, 4000)
    for bound in range(900, 2600, 57):
        first, end = (0, 4000 - bound) if mirrored else (bound, 4000)
        np.testing.assert_array_equal(waveform[:, first:end], instrument.waveform(segment, first, end)[0])


@pytest.mark.parametrize("dtype", TYPES)
def test_samples_of_any_type_count_as_what_they_are(dtype: str) -> None:
    counts = np.random.default_rng(0).integers(0, 100, 500).astype(dtype)
    np.testing.assert_array_equal(counts.astype(np.float64), vertical([trace(counts)]))


@pytest.mark.parametrize("dtype", ["i4", "f4", "f8"])
def test_masked_samples_are_a_gap_whatever_lies_under_the_mask(dtype: str) -> None:
    counts = np.ma.array(np.random.default_rng(0).integers(-100, 100, 500).astype(dtype), mask=False)
    counts[100:300] = np.ma.masked
    expected = counts.data.astype(np.float64)
    expected[100:300] = np.nan
    np.testing.assert_allclose(vertical([trace(counts)]), cleaned(expected)[0], rtol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_a_gap(value: float) -> None:
    record = noise(500)
    record[100:300] = value
    expected = np.concatenate([noise(500)[:100], np.full(200, np.nan), noise(500)[300:]])
    np.testing.assert_allclose(vertical([trace(record)]), cleaned(expected)[0], rtol=1e-12)


def test_what_is_masked_in_one_trace_is_taken_from_another() -> None:
    hidden = np.ma.array(noise(500), mask=False)
    hidden[100:300] = np.ma.masked
    np.testing.assert_array_equal(noise(500), vertical([trace(hidden), trace(noise(500)[50:350], 50 * 10**7)]))


@pytest.mark.parametrize("late_ns", [6_000_000, -6_000_000])
def test_a_file_that_begins_a_sample_off_is_read_on(late_ns: int) -> None:
    record = np.arange(1000.0)
    waveform, bridged = whole([trace(record[:500]), trace(record[500:], 500 * 10**7 + late_ns)])
    around = [498, 499, 499.5, 500, 501] if late_ns > 0 else [498, 499.5, 501]
    np.testing.assert_array_equal(around, waveform[2, 498 : 498 + len(around)])
    assert not bridged.any()


@pytest.mark.parametrize("rate", [99.99, 100.01, 99.95, 49.997, 200.02, 62.49])
def test_a_drifting_clock_leaves_every_sample_in_its_place(rate: float) -> None:
    # The record says at every sample what time it is.
    samples = int(400 * rate)
    instrument = only_instrument([trace(np.arange(samples) / rate, rate=rate)])
    (segment,) = instrument.segments
    waveform, _ = instrument.waveform(segment, 200, 39_800)
    times = np.array([segment.time_ns(sample) for sample in range(200, 39_800)]) / 1e9
    assert np.abs(waveform[2] - times).max() <= 0.7 / min(rate, 100)


@pytest.mark.parametrize("rate", [20.0, 62.5, 128.0, 500.0])
def test_a_record_of_any_rate_keeps_its_time(rate: float) -> None:
    start_ns = 1_400_000_000 * 10**9 + 1_234_567
    samples = int(60 * rate)
    instrument = only_instrument([trace(np.arange(samples) / rate, start_ns, rate)])
    (segment,) = instrument.segments
    waveform, _ = instrument.waveform(segment, segment.first, segment.end)
    there = np.flatnonzero(~np.isnan(waveform[2]))
    times = np.array([segment.time_ns(segment.first + int(sample)) - start_ns for sample in there]) / 1e9
    np.testing.assert_allclose(waveform[2, there], times, rtol=0, atol=1e-4)
    assert 0 <= times[0] < 0.01
    assert 0 <= (samples - 1) / rate - times[-1] < 0.01


def test_five_thousand_fragments_are_the_record_they_come_from() -> None:
    record = noise(60_000)
    bounds = [0, *np.sort(np.random.default_rng(1).choice(np.arange(1, 60_000), 4999, replace=False)).tolist(), 60_000]
    fragments = cut(trace(record), bounds)
    np.random.default_rng(2).shuffle(fragments)  # type: ignore[arg-type]
    instrument = only_instrument(fragments)
    (segment,) = instrument.segments
    parts = [instrument.waveform(segment, first, end)[0][2] for first, end in pairwise([0, 10, 20_000, 59_999, 60_000])]
    np.testing.assert_array_equal(record, np.concatenate(parts))
