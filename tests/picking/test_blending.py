import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from obspy import Stream

from strategies import records, stream
from xiaonet.constants import TILE_SAMPLES, WINDOW_SAMPLES
from xiaonet.picking.annotation import MARGIN, Annotation, annotate_chunk
from xiaonet.picking.blending import blend, run_over, whole_tiles
from xiaonet.picking.cleaning import BRIDGE, FLAT
from xiaonet.picking.segments import sort_stream
from xiaonet.picking.windows import normalize

SAMPLES = 9000
START = 1_400_000_123  # of a record, in samples from 1970


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def network(record: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """A stand-in that sees 504 samples on either side, and gives nothing where nothing is wanted."""
    kernel = np.sin(np.arange(1009) / 9) / 30
    seen = np.stack([scipy.signal.fftconvolve(row, kernel, mode="same") for row in record.astype(np.float64)])
    logits = np.stack([seen[2], seen[0] - seen[1], seen.sum(axis=0)])
    exponentials = np.exp(logits - logits.max(axis=0))
    return np.where(np.repeat(wanted, TILE_SAMPLES), exponentials / exponentials.sum(axis=0), 0).astype(np.float32)


def no_windows(windows: np.ndarray) -> np.ndarray:
    raise AssertionError


def annotated(components: dict[str, np.ndarray], first: int = 0, end: int = SAMPLES, start: int = START) -> Annotation:
    """Samples `first` up to `end` of a record."""
    (instrument,), _ = sort_stream(Stream(stream(components, start * 10**7)))
    (segment,) = instrument.segments
    return annotate_chunk(instrument, segment, start + first, start + end, no_windows, network)


def inside(found: Annotation) -> tuple[np.ndarray, np.ndarray]:
    part = slice(found.first - found.start, found.end - found.start)
    return found.probabilities[:, part], found.waveform[:, part]


def by_hand(record: np.ndarray, offset: int) -> np.ndarray:
    """The mean of normalised windows at multiples of 750 and at both ends, sample by sample, with triangular weights."""
    last = record.shape[1] - WINDOW_SAMPLES
    starts = sorted({0, last} | {at for at in range(last + 1) if (at + offset) % 750 == 0})
    windows = [normalize(record[:, at : at + WINDOW_SAMPLES]) for at in starts]
    total, weights = np.zeros(record.shape), np.zeros(record.shape[1])
    for at, window in zip(starts, windows, strict=True):
        weight = 1 - np.abs(np.arange(WINDOW_SAMPLES) - 1500) / 1500
        total[:, at : at + WINDOW_SAMPLES] += weight * window
        weights[at : at + WINDOW_SAMPLES] += weight
    return np.divide(total, weights, out=np.zeros_like(total), where=weights > 0)


@pytest.mark.parametrize("offset", [0, 1, -749, START, 10**12])
def test_normalised_windows_are_averaged_with_weights_that_fall_from_their_middle(offset: int) -> None:
    record = noise(3, 20_000).cumsum(axis=1) * np.linspace(1, 9, 20_000) + 1e5
    expected = by_hand(record, offset)
    full = slice(3001, -3001)  # far from the windows at the ends, which have neighbours at other distances
    np.testing.assert_allclose(blend(record, offset, 0, 20_000)[:, full], expected[:, full], rtol=0, atol=1e-6)
    np.testing.assert_allclose(blend(record, offset, 6000, 9500), expected[:, 6000:9500], rtol=0, atol=1e-6)


def test_at_the_ends_of_the_data_the_outermost_windows_count_alone() -> None:
    record = np.full((3, 12_000), np.nan)
    record[:, 2000 : 2000 + WINDOW_SAMPLES] = noise(3, WINDOW_SAMPLES).cumsum(axis=1)
    found = blend(record, 0, 0, 12_000)
    # The only other window would start at a multiple of 750 and does not fit. So it is the plain normalisation.
    np.testing.assert_allclose(found[:, 2000:5001], normalize(record[:, 2000:5001]), rtol=0, atol=1e-6)
    assert not found[:, :2000].any()
    assert not found[:, 5001:].any()


@pytest.mark.parametrize("factor", [1e-12, 1.0, 1e9])
def test_the_unit_and_the_offset_of_a_component_do_not_matter_and_no_sample_exceeds_one(factor: float) -> None:
    record = noise(3, SAMPLES, seed=3)
    found = blend(record, START, 0, SAMPLES)
    np.testing.assert_allclose(blend(factor * (record + 50), START, 0, SAMPLES), found, rtol=0, atol=1e-5)
    assert 0.3 < np.abs(found).max() <= 1


def test_a_component_that_only_drifts_is_zeros() -> None:
    record = np.stack([noise(SAMPLES), np.full(SAMPLES, 1e6 / 3), 7 + np.arange(SAMPLES) / 3])
    found = blend(record, START, 0, SAMPLES)
    assert [True, False, False] == found.any(axis=1).tolist()


def test_data_shorter_than_a_window_are_used_only_where_no_component_has_longer_ones() -> None:
    record = np.full((3, SAMPLES), np.nan)
    record[2, 3000:SAMPLES] = noise(SAMPLES - 3000)
    record[0, 1000:3500] = noise(2500, seed=1)
    record[1, 5000:6000] = noise(1000, seed=2)
    found = blend(record, START, 0, SAMPLES)
    alone = normalize(record[0, 1000:3500])
    np.testing.assert_array_equal(alone[:2000], found[0, 1000:3000])
    assert not found[0, 3000:].any()
    assert not found[1].any()
    assert np.abs(found[2, 3000:]).max() > 0.3


@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_part_of_the_curves_is_that_part_of_the_whole_whatever_is_missing(data: st.DataObject) -> None:
    components = {letter: data.draw(records(SAMPLES)) for letter in data.draw(st.sampled_from(["ENZ", "Z", "NZ", "EN"]))}
    everything = annotated(components, -3 * MARGIN, SAMPLES + 3 * MARGIN)
    first, end = sorted(data.draw(st.tuples(*2 * [st.integers(-MARGIN, SAMPLES + MARGIN)])))
    part = annotated(components, first, end)
    assert (START + first, START + end, START + first - MARGIN) == (part.first, part.end, part.start)
    same = slice(part.start - everything.start, part.start - everything.start + len(part.trusted))
    np.testing.assert_allclose(part.probabilities, everything.probabilities[:, same], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(everything.waveform[:, same], part.waveform)
    np.testing.assert_array_equal(everything.trusted[same], part.trusted)


@pytest.mark.parametrize("begin", range(1400, 4000, 65))
@pytest.mark.parametrize("mirrored", [False, True])
def test_data_that_begin_or_end_near_a_part_are_seen_as_in_the_whole(begin: int, mirrored: bool) -> None:
    record = noise(3, SAMPLES).cumsum(axis=1)
    record[0, :begin] = record[1, 20 : begin // 2] = np.nan
    record = record[:, ::-1] if mirrored else record
    first, end = (SAMPLES - 875, SAMPLES) if mirrored else (0, 875)
    components = dict(zip("ENZ", record, strict=True))
    everything, part = annotated(components, -3 * MARGIN, SAMPLES + 3 * MARGIN), annotated(components, first, end)
    same = slice(part.start - everything.start, part.start - everything.start + len(part.trusted))
    np.testing.assert_allclose(part.probabilities, everything.probabilities[:, same], rtol=0, atol=1e-6)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data(), cut=st.integers(0, SAMPLES // 3))
def test_where_a_record_begins_matters_near_its_beginning_alone(data: st.DataObject, cut: int) -> None:
    record = np.stack([data.draw(records(SAMPLES)) for _ in range(3)])
    full, _ = inside(annotated(dict(zip("ENZ", record, strict=True))))
    late, _ = inside(annotated(dict(zip("ENZ", record[:, cut:], strict=True)), end=SAMPLES - cut, start=START + cut))
    reach = 2 * WINDOW_SAMPLES + round(100 * (BRIDGE + FLAT))  # a window and what the network sees, beside a gap that is bridged in one
    np.testing.assert_allclose(full[:, cut + reach :], late[:, reach:], rtol=0, atol=1e-6)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_every_sample_of_data_has_probabilities_and_no_other_has(data: st.DataObject) -> None:
    components = {letter: data.draw(records(SAMPLES)) for letter in data.draw(st.sampled_from(["ENZ", "Z", "N"]))}
    probabilities, waveform = inside(annotated(components))
    there = ~np.isnan(waveform).all(axis=0)
    np.testing.assert_array_equal(there, ~np.isnan(probabilities).any(axis=0))
    np.testing.assert_allclose(probabilities[:, there].sum(axis=0), 1, rtol=0, atol=1e-6)


def test_tiles_are_extended_by_one_on_either_side() -> None:
    assert [(-512, 512), (-512, 1024), (0, 1536)] == [whole_tiles(0, 0), whole_tiles(0, 1), whole_tiles(512, 1024)]
    assert (-1024, 1024) == whole_tiles(-1, 512)


def test_only_tiles_with_data_are_computed_and_never_the_outermost() -> None:
    has_data = np.zeros(6 * 512, dtype=bool)
    has_data[[100, 600, 2047, 2600]] = True  # in tiles 0, 1, 3 and 5
    seen: list[np.ndarray] = []

    def spy(record: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        seen.append(wanted)
        return record

    found = run_over(np.ones((3, 6 * 512), np.float32), has_data, spy)
    assert [[False, True, False, True, False, False]] == [wanted.tolist() for wanted in seen]
    assert [600, 2047] == np.flatnonzero(~np.isnan(found[0])).tolist()
