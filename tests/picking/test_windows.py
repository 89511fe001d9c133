import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xiaonet.errors import WaveformError
from xiaonet.picking.windows import fill_nonfinite, normalize, silence_dead


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape or (3, 3001))


ANY = arrays(
    np.float64, st.tuples(st.integers(1, 3), st.integers(1, 40)), elements=st.floats(allow_nan=True, allow_infinity=True, width=32)
)


@pytest.mark.parametrize("shape", [(3, 3001), (1, 100), (5, 3, 200), (400,)])
def test_it_is_demeaned_detrended_and_divided_by_its_peak(shape: tuple[int, ...]) -> None:
    window = noise(*shape) + 10 + np.linspace(0, 5, shape[-1])
    time = np.arange(shape[-1])
    rows = []
    for x in window.reshape(-1, shape[-1]):
        straight = x - np.polyval(np.polyfit(time, x, 1), time)  # the least-squares line has the mean in it
        rows.append(straight / np.abs(straight).max())
    np.testing.assert_allclose(normalize(window), np.reshape(rows, shape), rtol=0, atol=1e-6)


def test_four_samples_worked_by_hand() -> None:
    # 0 0 0 4 has the line 1 + 1.2 (t - 1.5); what is left is 0.8, -0.4, -1.6, 1.2, and its peak is 1.6.
    np.testing.assert_allclose(normalize(np.array([[0, 0, 0, 4]])), [[0.5, -0.25, -1, 0.75]], atol=1e-7)


def test_it_is_what_scipy_makes_of_it() -> None:
    window = noise() * 1e-6
    detrended = scipy.signal.detrend(window, axis=-1)
    np.testing.assert_allclose(normalize(window), detrended / np.abs(detrended).max(axis=-1, keepdims=True), rtol=0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    exponent=st.integers(-15, 15),
    offset=st.floats(-1e3, 1e3),
    slope=st.floats(-1, 1),
    seed=st.integers(0, 1000),
    samples=st.integers(20, 3001),
)
def test_unit_offset_and_drift_do_not_matter(exponent: int, offset: float, slope: float, seed: int, samples: int) -> None:
    window = noise(3, samples, seed=seed)
    changed = 10.0**exponent * (window + offset + slope * np.arange(samples))
    np.testing.assert_allclose(normalize(changed), normalize(window), rtol=0, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_turned_sign_turns_the_sign_and_nothing_else(seed: int) -> None:
    np.testing.assert_array_equal(normalize(-noise(3, 300, seed=seed)), -normalize(noise(3, 300, seed=seed)))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_what_is_normalised_stays_as_it_is(seed: int) -> None:
    once = normalize(noise(3, 300, seed=seed))
    np.testing.assert_allclose(normalize(once), once, rtol=0, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(window=ANY)
def test_whatever_comes_the_peak_is_one_or_zero(window: np.ndarray) -> None:
    peaks = np.abs(normalize(window)).max(axis=-1)
    assert set() == set(peaks.round(6).tolist()) - {0.0, 1.0}


def test_components_do_not_know_of_each_other() -> None:
    window = noise()
    together = normalize(window * np.array([[1], [1e6], [1e-6]]))
    for component in range(3):
        np.testing.assert_allclose(together[component], normalize(window[component : component + 1])[0], atol=1e-6)


def test_windows_of_a_batch_do_not_know_of_each_other() -> None:
    batch = noise(4, 3, 500)
    np.testing.assert_array_equal(normalize(batch), [normalize(window) for window in batch])


@pytest.mark.parametrize("value", [0.0, 1.0, -273.15, 1e9 / 3, 1e-12 / 3])
def test_a_dead_component_becomes_zeros(value: float) -> None:
    window = noise()
    window[1] = value
    normalised = normalize(window)
    assert (0.0, [1.0, 1.0]) == (np.abs(normalised[1]).max(), np.abs(normalised[[0, 2]]).max(axis=-1).tolist())


@pytest.mark.parametrize("slope", [1.0, 1e-6, -1e5 / 3])
def test_a_component_that_only_drifts_becomes_zeros(slope: float) -> None:
    assert 0.0 == np.abs(normalize(slope * np.arange(3001)[None] + 7)).max()


@pytest.mark.parametrize("counts", [1000.0, 1e6])
def test_small_signals_on_a_large_offset_are_kept(counts: float) -> None:
    window = np.full((1, 3001), counts)
    window[0, 1500] += 1
    assert 1500 == normalize(window)[0].argmax()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_that_are_no_numbers_count_as_the_mean(value: float, dtype: type) -> None:
    window = noise(3, 500).astype(dtype)
    window[0, 10:20], window[2] = value, value
    wanted = window.copy()
    wanted[0, 10:20], wanted[2] = np.delete(window[0], np.s_[10:20]).mean(), 0
    np.testing.assert_allclose(normalize(window), normalize(wanted), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.float16, np.float32, np.float64, bool, ">i4"]
)
def test_every_real_type_becomes_float32(dtype: object) -> None:
    counts = (50 + 20 * noise()).clip(0, 120).astype(dtype)
    normalised = normalize(counts)
    assert np.float32 == normalised.dtype
    np.testing.assert_allclose(normalised, normalize(counts.astype(np.float64)), rtol=0, atol=1e-6)


def test_the_extremes_of_integers_do_not_overflow() -> None:
    window = np.array([[-32768, 32767] * 50], dtype=np.int16)
    np.testing.assert_array_equal(normalize(window.astype(np.float64)), normalize(window))


def test_the_window_itself_is_left_alone() -> None:
    window = noise()
    window[0, 5] = np.nan
    before = window.copy()
    normalize(window)
    np.testing.assert_array_equal(before, window)


def test_a_single_sample_becomes_zero() -> None:
    np.testing.assert_array_equal(np.zeros((3, 1)), normalize(np.ones((3, 1))))


@pytest.mark.parametrize(
    "window",
    [np.zeros((3, 0)), np.float64(3.0), np.zeros((3, 10), dtype=complex), np.zeros((3, 10), dtype="U1"), np.zeros((3, 10), dtype=object)],
    ids=["no samples", "a number", "complex", "text", "objects"],
)
def test_what_is_no_window_is_rejected_with_what_came_and_what_is_wanted(window: np.ndarray) -> None:
    with pytest.raises(WaveformError, match=r"wanted real numbers \(components, samples\), e\.g\. \(3, 3001\)") as caught:
        normalize(window)
    assert f"window is {window.dtype} {window.shape}" in str(caught.value)


def test_fill_nonfinite_puts_the_mean_of_each_component() -> None:
    filled = fill_nonfinite(np.array([[1, np.nan, 3, np.inf], [np.nan] * 4, [1, 2, 3, 4]]))
    np.testing.assert_array_equal([[1, 2, 3, 2], [0, 0, 0, 0], [1, 2, 3, 4]], filled)


def test_fill_nonfinite_takes_counts() -> None:
    filled = fill_nonfinite(np.array([[1, 2]], dtype=np.int32))
    assert (np.float64, [[1.0, 2.0]]) == (filled.dtype, filled.tolist())


def test_silence_dead_tells_still_from_weak() -> None:
    still, weak = np.full(100, 1e6), 1e6 + 0.01 * np.sin(np.arange(100))
    still[7] += 1e-4
    np.testing.assert_array_equal([np.zeros(100), weak], silence_dead(np.stack([still, weak])))
