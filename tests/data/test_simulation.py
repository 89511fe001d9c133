"""Simulated earthquakes: when they begin, how strong they are, and on which components."""

import numpy as np
import pytest

from xiaonet.data.simulation import Wave, draw_earthquake, ray_axes

UP = np.array([0.0, 0.0, 1.0])


@pytest.mark.parametrize("onset", [-200, 0, 1, 1999, 2000.5, 2900])
def test_a_wave_is_zero_up_to_its_onset_and_has_its_height_after(onset: float) -> None:
    direct, scattered = (
        Wave(onset, axis, 3.0, share, (2.0, 10.0), 0.05, 2.0).draw(np.random.default_rng(0), 3001)
        for axis, share in ((UP, 0.0), (0 * UP, 1.0))
    )
    for motion in (direct, scattered):
        assert ((3, 3001), 0.0) == (motion.shape, np.abs(motion[:, : max(int(onset) + 1, 0)]).max(initial=0))
    highest = max(np.abs(direct).max(), np.abs(scattered).max())
    assert (pytest.approx(3) == highest) == (onset >= 0)  # that of an earlier wave is before the window
    assert 0 < highest < 3.001
    assert direct[2].any()
    assert not direct[:2].any()


def test_what_is_left_of_a_wave_from_before_the_window_is_as_weak_as_its_coda() -> None:
    left = Wave(-1000, UP, 3.0, 0.3, (2.0, 10.0), 0.05, 2.0).draw(np.random.default_rng(0), 3001)
    assert 0 < np.abs(left).max() < 3 * 1.3 * np.exp(-10 / 2.0)  # 10 s after the onset


def test_a_wave_after_the_end_is_not_in_the_window() -> None:
    assert not Wave(3001, UP, 1.0, 0.3, (2.0, 10.0), 0.05, 2.0).draw(np.random.default_rng(0), 3001).any()


def test_a_wave_has_the_power_of_its_band() -> None:
    motion = Wave(0, UP, 1.0, 0.0, (4.0, 8.0), 0.05, 1e6).draw(np.random.default_rng(0), 30000)[2]
    power = np.abs(np.fft.rfft(motion)) ** 2
    frequency = np.fft.rfftfreq(30000, 0.01)
    inside = power[(frequency >= 4) & (frequency <= 8)].mean()
    assert power[frequency < 1].mean() < 0.01 * inside
    assert power[frequency > 25].mean() < 0.01 * inside


def test_a_coda_falls_by_its_decay() -> None:
    motion = Wave(0, UP, 1.0, 0.0, (4.0, 20.0), 0.01, 5.0).draw(np.random.default_rng(0), 3001)[2]
    first, later = (float(np.sqrt((motion[start : start + 500] ** 2).mean())) for start in (500, 1500))
    assert pytest.approx(np.exp(-10 / 5), rel=0.2) == later / first  # 10 s later


def test_axes_have_length_one_and_s_is_transverse() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        p_axis, s_axis = ray_axes(rng.uniform(0, 0.9), rng.uniform(0, 6), rng.uniform(0, 6))
        assert pytest.approx((1, 1, 0)) == (p_axis @ p_axis, s_axis @ s_axis, p_axis @ s_axis)


def test_earthquakes_vary_and_one_of_their_onsets_is_in_the_window() -> None:
    rng = np.random.default_rng(2)
    drawn = [draw_earthquake(rng, 3001) for _ in range(300)]
    p, s = np.array([onsets for _, onsets in drawn]).T
    between = (s - p) / 100
    assert (True, True) == (bool(between.min() >= 0.5), bool(between.max() <= 40))
    assert (True, True) == (bool(between.min() < 1), bool(between.max() > 30))
    near = [(-61 <= onset) & (onset <= 3062) for onset in (p, s)]
    assert (near[0] | near[1]).all()
    for (motion, _), first in zip(drawn, p, strict=True):
        assert (np.float32, (3, 3001)) == (motion.dtype, motion.shape)
        assert not motion[:, : max(int(first) + 1, 0)].any()


def test_the_same_seed_draws_the_same_earthquake() -> None:
    first, again, other = (draw_earthquake(np.random.default_rng(seed), 3001)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
