from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obspy import Stream

from strategies import records, spans, stream
from xiaonet.constants import WINDOW_SAMPLES
from xiaonet.picking.annotation import CHUNK, GUARD, MARGIN, WINDOW_BATCH, WINDOW_STEP, Annotation, Network, annotate_chunk, chunks
from xiaonet.picking.cleaning import BRIDGE, FLAT
from xiaonet.picking.segments import Grid, Instrument, Segment, sort_stream
from xiaonet.picking.stacking import TAPER_SAMPLES
from xiaonet.picking.windows import normalize

SAMPLES = 9000
START = 1_400_000_123  # of a record, in samples from 1970


def network(windows: np.ndarray) -> np.ndarray:
    """A stand-in that says something else at each place of a window: probabilities `(batch, 3, 3001)`."""
    place = np.sin(np.arange(WINDOW_SAMPLES) / 50)
    near = np.apply_along_axis(np.convolve, -1, windows.astype(np.float64), np.ones(7), mode="same")
    logits = np.stack([near[:, 2] + place, near[:, 0] - near[:, 1] * place, near.sum(axis=1) ** 2 / 9], axis=1)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def instrument_of(components: Mapping[str, np.ndarray], start: int = START) -> tuple[Instrument, Segment]:
    (instrument,), _ = sort_stream(Stream(stream(components, start * 10**7)))
    (segment,) = instrument.segments
    return instrument, segment


def seen(components: Mapping[str, np.ndarray], start: int = START, model: Network = network) -> Annotation:
    instrument, segment = instrument_of(components, start)
    return annotate_chunk(instrument, segment, start, start + len(next(iter(components.values()))), model)


def inside(found: Annotation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    part = slice(found.first - found.start, found.end - found.start)
    return found.probabilities[:, part], found.waveform[:, part], found.trusted[part]


def by_hand(record: np.ndarray, start: int) -> np.ndarray:
    """Windows at multiples of the hop and at both ends of a record without gaps, averaged one by one."""
    last = start + record.shape[1] - WINDOW_SAMPLES
    total, weight = np.zeros(record.shape), np.zeros(record.shape[1])
    for at in {start, last} | {at for at in range(start, last + 1) if at % WINDOW_STEP == 0}:
        part = slice(at - start, at - start + WINDOW_SAMPLES)
        (probabilities,) = network(normalize(record[None, :, part]))
        for sample in range(WINDOW_SAMPLES):
            own = min((min(sample, WINDOW_SAMPLES - 1 - sample) + 1) / TAPER_SAMPLES, 1)
            total[:, at - start + sample] += own * probabilities[:, sample]
            weight[at - start + sample] += own
    return total / weight


@pytest.mark.parametrize("start", [0, 1, -4001, START, 2 * WINDOW_STEP, 10**12])
def test_windows_at_fixed_samples_from_1970_are_averaged_with_fading_weights(start: int) -> None:
    record = noise(3, SAMPLES)
    probabilities, waveform, _ = inside(seen(dict(zip("ENZ", record, strict=True)), start))
    np.testing.assert_allclose(probabilities, by_hand(record, start), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(record, waveform)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_part_of_the_curves_is_that_part_of_the_whole_whatever_is_missing(data: st.DataObject) -> None:
    components = {letter: data.draw(records(SAMPLES)) for letter in data.draw(st.sampled_from(["ENZ", "Z", "NZ", "EN"]))}
    instrument, segment = instrument_of(components)
    everything = annotate_chunk(instrument, segment, START - 3 * MARGIN, START + SAMPLES + 3 * MARGIN, network)
    first, end = sorted(data.draw(st.tuples(*2 * [st.integers(START - MARGIN, START + SAMPLES + MARGIN)])))
    part = annotate_chunk(instrument, segment, first, end, network)
    assert (first, end, first - MARGIN) == (part.first, part.end, part.start)
    same = slice(part.start - everything.start, part.start - everything.start + len(part.trusted))
    np.testing.assert_allclose(part.probabilities, everything.probabilities[:, same], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(everything.waveform[:, same], part.waveform)
    np.testing.assert_array_equal(everything.trusted[same], part.trusted)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data(), cut=st.integers(0, SAMPLES // 3))
def test_where_a_record_begins_matters_near_its_beginning_alone(data: st.DataObject, cut: int) -> None:
    record = np.stack([data.draw(records(SAMPLES)) for _ in range(3)])
    full, *_ = inside(seen(dict(zip("ENZ", record, strict=True))))
    late, *_ = inside(seen(dict(zip("ENZ", record[:, cut:], strict=True)), START + cut))
    reach = WINDOW_SAMPLES + round(100 * (BRIDGE + FLAT))  # a window, beside a gap that is crossed in one and not in the other
    np.testing.assert_allclose(full[:, cut + reach :], late[:, reach:], rtol=0, atol=1e-6)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_every_sample_of_data_has_probabilities_and_no_other_has(data: st.DataObject) -> None:
    components = {letter: data.draw(records(SAMPLES)) for letter in data.draw(st.sampled_from(["ENZ", "Z", "N"]))}
    probabilities, waveform, trusted = inside(seen(components))
    there = ~np.isnan(waveform).all(axis=0)
    np.testing.assert_array_equal(there, ~np.isnan(probabilities).any(axis=0))
    np.testing.assert_allclose(probabilities[:, there].sum(axis=0), 1, rtol=0, atol=1e-6)
    assert not trusted[~there].any()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_the_network_gets_whole_normalised_windows_in_small_batches(data: st.DataObject) -> None:
    batches: list[np.ndarray] = []

    def spy(windows: np.ndarray) -> np.ndarray:
        batches.append(windows)
        return network(windows)

    seen({letter: data.draw(records(SAMPLES)) for letter in "ENZ"}, model=spy)
    for batch in batches:
        assert (np.float32, (3, WINDOW_SAMPLES)) == (batch.dtype, batch.shape[1:])
        assert 1 <= len(batch) <= WINDOW_BATCH
        assert set() == set(np.abs(batch).max(axis=-1).round(6).ravel().tolist()) - {0.0, 1.0}


@pytest.mark.parametrize("missing", ["E", "N", "Z", "EN", "EZ"])
@pytest.mark.parametrize("how", ["absent", "NaN", "constant", "masked"])
def test_a_component_that_holds_no_data_is_zeros_however_it_is_missing(missing: str, how: str) -> None:
    components = dict(zip("ENZ", noise(3, SAMPLES), strict=True))
    for letter in missing:
        components[letter] = {
            "absent": np.zeros(0),
            "NaN": np.full(SAMPLES, np.nan),
            "constant": np.full(SAMPLES, 4321.0),
            "masked": np.ma.masked_all(SAMPLES),
        }[how]
    batches: list[np.ndarray] = []

    def spy(windows: np.ndarray) -> np.ndarray:
        batches.append(windows)
        return network(windows)

    kept = {letter: samples for letter, samples in components.items() if len(samples)}
    _, _, trusted = inside(seen(kept, model=spy))
    peaks = np.abs(np.concatenate(batches)).max(axis=-1).round(6)
    assert [0.0 if letter in missing else 1.0 for letter in "ENZ"] == np.unique(peaks, axis=0).ravel().tolist()
    assert [(GUARD, SAMPLES - GUARD)] == spans_of(trusted)


@pytest.mark.parametrize("component", "ENZ")
def test_nothing_is_trusted_within_half_a_second_of_where_a_component_comes_or_goes(component: str) -> None:
    components = dict(zip("ENZ", noise(3, SAMPLES), strict=True))
    components[component][4000:7000] = np.nan
    _, _, trusted = inside(seen(components))
    assert [(50, 3950), (4050, 6950), (7050, SAMPLES - 50)] == spans_of(trusted)


def test_nothing_is_trusted_within_half_a_second_of_a_gap_or_of_what_was_made_up_to_cross_one() -> None:
    components = dict(zip("ENZ", noise(3, SAMPLES), strict=True))
    for samples in components.values():
        samples[4000:7000] = np.nan
    components["N"][2000:2030] = np.nan  # crossed by a line
    components["N"][2500:2505] = np.nan  # too short to matter
    _, _, trusted = inside(seen(components))
    assert [(50, 1950), (2080, 3950), (7050, SAMPLES - 50)] == spans_of(trusted)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_network_that_picks_every_change_of_amplitude_finds_none_beside_gaps(data: st.DataObject) -> None:
    # Sines of 5 Hz have the same amplitude throughout; gaps and ends are all that could be seen.
    def changes(windows: np.ndarray) -> np.ndarray:
        power = np.apply_along_axis(np.convolve, -1, windows.astype(np.float64) ** 2, np.full(20, 1 / 20), mode="same")
        change = np.abs(np.roll(power, 12, axis=-1) - np.roll(power, -12, axis=-1)).max(axis=1)
        change[:, :30] = change[:, -30:] = 0  # what the roll brings from the other end
        return np.stack([change, change, 1 - change], axis=1).astype(np.float32)

    wave = np.sin(2 * np.pi * 5 * np.arange(SAMPLES) / 100)
    components = {letter: wave.copy() for letter in "ENZ"}
    for samples in components.values():
        for first, end in data.draw(spans(SAMPLES, 4000)):
            samples[first:end] = np.nan
    probabilities, _, trusted = inside(seen(components, model=changes))
    assert (probabilities[0, trusted] < 0.1).all()


@pytest.mark.parametrize("factor", [1e-12, 1e-9, 1e6])
def test_counts_and_metres_per_second_give_the_same_curves(factor: float) -> None:
    counts = (1000 * noise(3, SAMPLES) + 10_000).round()
    counts[:, 5000:6000] = np.nan
    in_counts, *_ = inside(seen(dict(zip("ENZ", counts, strict=True))))
    in_metres, *_ = inside(seen(dict(zip("ENZ", counts * factor, strict=True))))
    np.testing.assert_allclose(in_metres, in_counts, rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(first=st.integers(-(10**12), 10**12), samples=st.integers(0, 10 * CHUNK))
def test_chunks_cover_a_run_and_are_cut_at_fixed_samples(first: int, samples: int) -> None:
    parts = list(chunks(Segment(Grid.of(0, 100), first, first + samples)))  # type: ignore[arg-type]
    covered = [parts[0][0], *[end for _, end in parts]] if parts else [first]
    assert [first, *range(first - first % CHUNK + CHUNK, first + samples, CHUNK), first + samples][: 1 if not samples else None] == covered
    assert all(end == begin for (_, end), (begin, _) in pairwise(parts))


def spans_of(mask: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(mask.astype(int), prepend=0, append=0)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))
