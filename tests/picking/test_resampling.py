from fractions import Fraction

import numpy as np
import obspy
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import RATES, records
from xiaonet.picking.resampling import resample
from xiaonet.picking.segments import nominal_rate


def to_100_hz(samples: np.ndarray, rate: float) -> np.ndarray:
    """All output samples that lie within the record."""
    ratio = nominal_rate(rate) / 100
    output, _ = resample(samples, np.zeros(len(samples), dtype=bool), ratio, 0, int((len(samples) - 1) / ratio) + 1)
    return output


def fourier_resampled(samples: np.ndarray, rate: float, new_rate: float) -> np.ndarray:
    """Exact for what is periodic over the record and below both Nyquist frequencies."""
    count = Fraction(len(samples)) * nominal_rate(new_rate) / nominal_rate(rate)
    assert 1 == count.denominator
    return scipy.signal.resample(samples, int(count))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("part", [0.05, 0.4, 0.75])
def test_a_sine_below_the_nyquist_frequencies_keeps_its_height_and_its_phase(rate: float, part: float) -> None:
    frequency = part * min(rate, 100) / 2
    wave = np.sin(2 * np.pi * frequency * np.arange(int(20 * rate)) / rate + 1)
    output = to_100_hz(wave, rate)
    expected = np.sin(2 * np.pi * frequency * np.arange(len(output)) / 100 + 1)
    np.testing.assert_allclose(output[150:-150], expected[150:-150], rtol=0, atol=2e-3)


@pytest.mark.parametrize(("rate", "frequency"), [(125.0, 52.0), (125.0, 61.0), (200.0, 52.0), (200.0, 90.0), (250.0, 99.0), (500.0, 230.0)])
def test_what_100_hz_cannot_hold_is_gone(rate: float, frequency: float) -> None:
    wave = np.sin(2 * np.pi * frequency * np.arange(int(20 * rate)) / rate)
    assert np.abs(to_100_hz(wave, rate)[150:-150]).max() < 1e-3


@pytest.mark.parametrize("rate", RATES)
def test_a_constant_stays_one_however_large(rate: float) -> None:
    np.testing.assert_allclose(to_100_hz(np.full(int(10 * rate), 1e6), rate), 1e6, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rate", RATES)
def test_a_straight_line_stays_one_up_to_both_ends(rate: float) -> None:
    output = to_100_hz(np.arange(int(10 * rate)) / rate, rate)
    np.testing.assert_allclose(output, np.arange(len(output)) / 100, rtol=0, atol=1e-4)


@pytest.mark.parametrize("rate", sorted({*RATES} - {100.0}))
def test_it_is_the_windowed_sinc_sum_that_it_says_it_is(rate: float) -> None:
    # 24 samples of the slower rate on either side, a cut-off at 0.9 of its Nyquist frequency, Kaiser window of beta 8.
    ratio = float(nominal_rate(rate)) / 100
    samples = np.random.default_rng(0).standard_normal(int(6 * rate))
    slower = max(1.0, ratio)
    time = np.arange(len(to_100_hz(samples, rate)))[:, None] * ratio - np.arange(len(samples))
    kaiser = np.i0(8.0 * np.sqrt(np.clip(1 - (time / (24 * slower)) ** 2, 0, None))) / np.i0(8.0) * (np.abs(time) < 24 * slower + 1e-9)
    weights = np.sinc(0.9 * time / slower) * kaiser
    inside = slice(150, -150)
    expected = (weights / weights.sum(axis=1, keepdims=True)) @ samples
    np.testing.assert_allclose(to_100_hz(samples, rate)[inside], expected[inside], rtol=0, atol=1e-9)


@pytest.mark.parametrize("rate", [31.25, 40.0, 50.0, 62.5, 80.0, 125.0, 128.0, 200.0, 250.0, 500.0])
def test_a_real_record_comes_back_at_100_hz(rate: float) -> None:
    # The oracle is the Fourier transform; 30 s are made periodic by fading them out.
    record = obspy.read()[0].data[:2992] * scipy.signal.windows.tukey(2992, 0.2)
    spectrum = np.fft.rfft(record, 3200)
    frequency = np.fft.rfftfreq(3200, 0.01)
    spectrum[frequency > 0.75 * min(rate, 100) / 2] = 0
    wanted = np.fft.irfft(spectrum, 3200)
    output = to_100_hz(fourier_resampled(wanted, 100, rate), rate)
    assert np.abs(output[200:2800] - wanted[200:2800]).max() < 1e-3 * np.abs(wanted).max()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data(), record=records(600), rate=st.sampled_from(RATES))
def test_each_run_of_data_is_on_its_own_and_no_output_lies_in_a_gap(data: st.DataObject, record: np.ndarray, rate: float) -> None:
    ratio = nominal_rate(rate) / 100
    bridged = np.isnan(record) ^ True & (np.arange(600) % 7 == 0)
    last = int(599 / ratio)
    first, end = sorted(data.draw(st.tuples(st.integers(0, last), st.integers(0, last))))
    output, made_up = resample(record, bridged, ratio, first, end)
    assert (end - first, end - first) == (len(output), len(made_up))
    for sample in range(first, end):
        at = sample * ratio
        gap = bool(np.isnan(record[[int(at), -int(-at // 1)]]).any())
        assert gap == bool(np.isnan(output[sample - first]))
        assert (bool(bridged[int(at + Fraction(1, 2))]) and not gap) == bool(made_up[sample - first])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data(), rate=st.sampled_from(RATES), samples=st.integers(1, 400))
def test_where_a_record_begins_and_what_part_is_asked_for_does_not_matter(data: st.DataObject, rate: float, samples: int) -> None:
    ratio = nominal_rate(rate) / 100
    record = np.random.default_rng(samples).standard_normal(samples)
    periods = data.draw(st.integers(0, 3))  # both grids meet every `denominator` output samples
    late = np.concatenate([np.full(periods * ratio.numerator, np.nan), record])
    end = int((len(late) - 1) / ratio) + 1
    low, high = sorted(data.draw(st.tuples(st.integers(0, end), st.integers(0, end))))
    output, _ = resample(late, np.zeros(len(late), dtype=bool), ratio, low, high)
    expected = np.concatenate([np.full(periods * ratio.denominator, np.nan), to_100_hz(record, rate)])[low:high]
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rate", [20.0, 62.5, 500.0])
@pytest.mark.parametrize("samples", [1, 2, 3, 5])
def test_a_run_of_a_few_samples_gives_numbers(rate: float, samples: int) -> None:
    output = to_100_hz(np.arange(samples) + 1.0, rate)
    assert int((samples - 1) * 100 / rate) + 1 == len(output)
    assert np.isfinite(output).all()


def test_gaps_alone_stay_gaps() -> None:
    output, bridged = resample(np.full(50, np.nan), np.zeros(50, dtype=bool), Fraction(1, 2), 3, 40)
    np.testing.assert_array_equal(np.full(37, np.nan), output)
    np.testing.assert_array_equal(np.zeros(37, dtype=bool), bridged)
