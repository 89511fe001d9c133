import numpy as np
import pytest

from xiaonet.picking.stacking import Stack, taper


def test_the_taper_is_one_in_the_middle_and_falls_linearly_over_500_samples() -> None:
    assert 3001 == len(taper(3001))
    assert [0.002, 0.004, 0.998, 1, 1, 1, 0.998, 0.002] == taper(3001)[[0, 1, 498, 499, 1500, 2501, 2502, 3000]].tolist()


def test_overlapping_windows_are_averaged_by_their_tapers() -> None:
    stack = Stack(2, 5101)
    stack.add(np.full((2, 3001), 1.0), 100)
    stack.add(np.full((2, 3001), 4.0), 2100)
    mean = stack.mean()
    assert np.isnan(mean[:, :100]).all()
    assert not np.isnan(mean[:, 100:5101]).any()
    assert (1 == mean[:, 100:2100]).all()
    assert (4 == mean[:, 3101:]).all()
    # At sample 2150 the first window counts fully and the second 51/500; at 3050, 51/500 and fully.
    assert [(1 + 4 * 0.102) / 1.102, (1 * 0.102 + 4) / 1.102] == pytest.approx(mean[0, [2150, 3050]].tolist(), rel=1e-12)


def test_a_part_of_a_window_keeps_its_place_and_its_weight() -> None:
    stack, window = Stack(1, 4000), np.arange(3001.0)[None]
    stack.add(np.zeros((1, 3001)), 500)
    stack.add(window, 500, 600, 700)
    mean = stack.mean()[0]
    np.testing.assert_allclose(mean[600:700], np.arange(100, 200) / 2, rtol=1e-12)
    assert (0 == mean[[500, 599, 700, 3500]]).all()
    assert np.isnan(mean[[499, 3501]]).all()
