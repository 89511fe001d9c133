"""Windows drawn from a pool, held against answers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from xiaonet.config.schema import AugmentationSettings, LabelSettings
from xiaonet.data.augmentation import NO_AUGMENTATION, draw_batch
from xiaonet.data.pool import Pool, TrainingRecord
from xiaonet.errors import DataError
from xiaonet.picking.picks import find_picks
from xiaonet.picking.windows import normalize

ONSET = 4000


def _record(source: str = "manual", samples: int = 9001, onset: float = np.nan, manual: bool = False, seed: int = 0) -> TrainingRecord:
    """Noise that is 100 times as strong from sample 4000 on, where the teacher sees P."""
    rng = np.random.default_rng(seed)
    waveform = rng.normal(size=(3, samples))
    waveform[:, ONSET:] *= 100
    target = np.zeros((2, samples))
    target[0] = 0.8 * np.exp(-0.5 * ((np.arange(samples) - ONSET) / 15) ** 2)
    return TrainingRecord(source, waveform.astype(np.float32), target.astype(np.float16), (onset, np.nan), manual)


def _only(**probabilities: float) -> AugmentationSettings:
    return AugmentationSettings(**{**NO_AUGMENTATION.model_dump(), **probabilities})


def _draw(record: TrainingRecord, size: int = 8, seed: int = 0, **probabilities: float) -> tuple[np.ndarray, np.ndarray]:
    windows, targets, given = draw_batch(Pool([record], {record.source: 1.0}), size, (seed,), _only(**probabilities))
    return windows * given, targets


def _place(record: TrainingRecord, window: np.ndarray) -> int:
    """Where in the record a plain crop was taken."""
    crops = np.lib.stride_tricks.sliding_window_view(record.waveform[2], 3001)
    scores = [np.abs(normalize(crops[start : start + 1]) - window[2]).max() for start in range(len(crops))]
    return int(np.argmin(scores))


def test_a_plain_window_is_a_crop_of_waveform_and_target() -> None:
    record = _record()
    windows, targets = _draw(record, size=1)
    start = _place(record, windows[0])
    assert_allclose(normalize(record.waveform[:, start : start + 3001]), windows[0], atol=1e-6)
    assert_array_equal(record.target[:, start : start + 3001].astype(np.float32), targets[0, :2])


def test_targets_sum_to_one_and_windows_have_a_peak_of_one_after_all_augmentations() -> None:
    pool = Pool([_record(onset=ONSET, manual=True), _record("other", seed=1)], {"manual": 0.5, "other": 0.5})
    windows, targets, given = draw_batch(pool, 64, (0,), AugmentationSettings())
    assert windows.dtype == targets.dtype == np.float32
    assert (64, 3, 3001) == windows.shape == targets.shape
    assert_allclose(1.0, targets.sum(axis=1), atol=1e-6)
    assert targets.min() >= 0
    assert {0.0, 1.0} == set(np.round(np.abs(windows * given).max(axis=2), 5).ravel())


def test_the_same_seed_gives_the_same_batch_and_another_one_another() -> None:
    pool = Pool([_record()], {"manual": 1.0})
    once, again, other = (draw_batch(pool, 4, seed, AugmentationSettings()) for seed in ((3, 7), (3, 7), (3, 8)))
    assert_array_equal(once[0], again[0])
    assert_array_equal(once[1], again[1])
    assert not np.array_equal(once[0], other[0])


def test_a_seed_draws_the_windows_that_it_always_drew() -> None:
    """At the default settings."""
    pool = Pool([_record(onset=ONSET, manual=True), _record("other", seed=1)], {"manual": 0.5, "other": 0.5})
    windows, targets, given = draw_batch(pool, 12, (0, 3), AugmentationSettings())
    spread = [0.15724, 0.15756, 0.09355, 0.27116, 0.07305, 0.14355, 0.27283, 0.25638, 0.25264, 0.15143, 0.04667, 0.26913]
    total = [30.0791, 0.0, 30.0791, 0.0, 27.5727, 30.0791, 0.0, 30.0791, 27.3154, 30.0791, 30.0791, 0.0]
    assert_allclose((windows * given).std(axis=(1, 2)), spread, atol=2e-5)
    assert_allclose(targets[:, :2].sum(axis=(1, 2)), total, atol=2e-4)


def test_an_analysts_pick_makes_half_of_the_target_and_halves_the_teacher_elsewhere() -> None:
    _, targets = _draw(_record(onset=5000, manual=True), size=64, onset_centred=1.0)
    curve = next(t[0] for t in targets if t[0].max() > 0.45 and 1500 < t[0].argmax() < 2900)  # and the teacher's, 10 s before
    place = int(curve.argmax())
    assert_allclose([0.5, 0.4], [curve[place], curve[place - 1000]], atol=1e-3)


def test_an_automatic_pick_counts_only_near_itself() -> None:
    record = _record("automatic", onset=5000)
    _, targets, _ = draw_batch(Pool([record], {"automatic": 1.0}), 64, (0,), _only(onset_centred=1.0))
    heights = {round(float(target[0].max()), 2) for target in targets if target[0].argmax() not in (0, 3000)}
    assert 0.8 in heights  # of the teacher, 10 s from the pick
    assert max(heights) <= 0.8


@pytest.mark.parametrize(("manual", "phase", "sigma"), [(True, 0, 10), (True, 1, 20), (False, 0, 20), (False, 1, 20)])
def test_width_of_the_label(manual: bool, phase: int, sigma: int) -> None:
    onsets = (7000.0, np.nan) if phase == 0 else (np.nan, 7000.0)
    record = replace(_record("some", manual=manual), onsets=onsets)
    _, targets, _ = draw_batch(Pool([record], {"some": 1.0}), 64, (1,), _only(onset_centred=1.0), LabelSettings(weight=1.0))
    curve = next(t[phase] for t in targets if t[phase].max() > 0.99 and 1200 < t[phase].argmax() < 2800)
    top = int(curve.argmax())
    assert_allclose(np.exp(-0.5), curve[top + sigma], atol=1e-3)


def test_onset_centred_windows_have_onsets_everywhere_including_the_edges() -> None:
    _, targets = _draw(_record(), size=200, onset_centred=1.0)
    places = targets[:, 0].argmax(axis=1)
    counts = np.histogram(places, bins=5, range=(0, 3001))[0]
    assert counts.min() >= 20  # 40 expected in each fifth
    assert places.min() < 100
    assert places.max() > 2900


def test_a_stretched_window_keeps_its_onset_with_its_target() -> None:
    windows, targets = _draw(_record(), size=64, onset_centred=1.0, time_stretched=1.0)
    for window, target in zip(windows, targets, strict=True):
        place = int(target[0].argmax())
        if 300 < place < 2700:
            envelope = np.abs(window[2])
            assert envelope[: place - 5].max() < 0.2 < envelope[place : place + 100].max()


def test_a_label_is_as_wide_in_a_stretched_window() -> None:
    labels = LabelSettings(weight=1.0, manual_sigma=(10, 20))
    settings = _only(onset_centred=1.0, time_stretched=1.0, largest_stretch=2.0)
    record = _record(onset=7000, manual=True)
    _, targets, _ = draw_batch(Pool([record], {record.source: 1.0}), 64, (0,), settings, labels)
    areas = targets[targets[:, 0, 200:2800].max(axis=1) > 0.9, 0].sum(axis=1)
    assert len(areas) > 30
    assert_allclose(areas, 10 * np.sqrt(2 * np.pi), rtol=0.05)


def test_time_is_stretched_as_far_as_the_settings_say() -> None:
    """Two onsets that are 1000 samples apart."""
    samples = np.arange(9000)
    curve = sum(np.exp(-0.5 * ((samples - onset) / 15) ** 2) for onset in (4000, 5000))
    record = TrainingRecord("unlabelled", np.random.default_rng(0).normal(size=(3, 9000)).astype(np.float32), np.stack([curve, 0 * curve]))
    _, targets = _draw(record, size=200, onset_centred=1.0, time_stretched=1.0, largest_stretch=2.0)
    apart = [np.diff(found)[0] for row in targets[:, 0] if len(found := find_picks(row, 0.2, 100)[0]) == 2]
    assert 495 <= min(apart) < 550 < 1800 < max(apart) <= 2005


def test_a_filter_moves_no_onset_early_and_changes_no_target() -> None:
    """Before an onset out of silence a filtered window is what detrending leaves of silence: a straight line."""
    record = _record()
    record.waveform[:, :ONSET] = 0
    plain, targets = _draw(record, size=48, onset_centred=1.0)
    filtered, same = _draw(record, size=48, onset_centred=1.0, filtered=1.0)
    assert_array_equal(targets[0], same[0])  # later ones were drawn after other random numbers
    assert np.abs(filtered[0] - plain[0]).max() > 0.05
    for window, target in zip(filtered, same, strict=True):
        if 300 < (place := int(target[0].argmax())) < 2700:
            assert_allclose(0, np.diff(window[:, : place - 1], 2), atol=2e-6)
            assert np.abs(np.diff(window[:, place - 1 : place + 3], 2)).max() > 1e-4


def test_synthetic_noise_is_at_most_a_third_of_each_component_and_adds_nothing_to_a_dead_one() -> None:
    record = _record()
    record.waveform[0] = 0
    record.waveform[1] *= 1e-3
    (plain,), _ = _draw(record, size=1)
    (noisy,), _ = _draw(record, size=1, synthetic_noise=1.0)
    assert_array_equal(np.zeros(3001), noisy[0])
    difference = np.abs(noisy - plain).max(axis=1)
    assert (difference[1:] > 0.003 / 2).all()
    assert (difference[1:] < 10**-0.5 * 2).all()  # the sum is scaled to a peak of 1 again


def test_dropped_components_are_zeros_and_the_vertical_never_is() -> None:
    windows, _ = _draw(_record(), size=400, vertical_only=0.25, missing_horizontal=0.25)
    alive = windows.any(axis=2)
    assert alive[:, 2].all()
    assert 70 <= (~alive[:, :2]).all(axis=1).sum() <= 130
    assert 70 <= (alive[:, 0] != alive[:, 1]).sum() <= 130


def test_windows_with_reversed_polarity_or_swapped_horizontals_hold_the_same_samples() -> None:
    record = _record()
    (plain,), _ = _draw(record, size=1)
    (flipped,), _ = _draw(record, size=1, polarity_reversed=1.0)
    (swapped,), _ = _draw(record, size=1, swapped=1.0)
    assert_allclose(-plain, flipped, atol=1e-6)
    assert_array_equal(plain[[1, 0, 2]], swapped)


def test_rotated_horizontals_keep_their_energy_and_the_vertical_stays() -> None:
    record = _record()
    record.waveform[1] = 0
    (plain,), _ = _draw(record, size=1)
    (turned,), _ = _draw(record, size=1, rotated=1.0)
    assert_array_equal(plain[2], turned[2])
    assert_allclose(np.abs(plain[0]), np.abs(turned[0]), atol=1e-5)  # both are the east of old, scaled to 1
    assert_allclose(np.abs(plain[0]), np.abs(turned[1]), atol=1e-5)


def test_a_window_that_reaches_beyond_the_record_keeps_its_onset_with_its_target() -> None:
    """The record is a spike at 150 of its 3100 samples, so windows that begin before it are zeros there, but for the trend."""
    record = _record(samples=3100)
    record.waveform[:] = 0
    record.waveform[:, 150] = 1
    record.target[:] = 0
    record.target[0, 150] = 1
    windows, targets = _draw(record, size=64, onset_centred=1.0, beyond_ends=1.0)
    places = targets[:, 0].argmax(axis=1)[targets[:, 0].max(axis=1) == 1]
    assert_array_equal(np.abs(windows[targets[:, 0].max(axis=1) == 1, 2]).argmax(axis=1), places)
    assert places.max() > 1000  # it begins before the record
    assert len(places) > 30


def test_real_noise_stays_below_the_peak_and_changes_no_target() -> None:
    record = _record()
    plain, targets = _draw(record, size=1, seed=4, onset_centred=1.0)
    noisy, same = _draw(record, size=1, seed=4, onset_centred=1.0, real_noise=1.0)
    assert_array_equal(targets, same)
    assert 0.001 < np.abs(noisy - plain).max() < 1


def test_an_artefact_is_a_spike_or_a_step_and_changes_no_target() -> None:
    """In a record that is a slow wave: what is added has one or two jumps, of 0.2 to 5 times the peak."""
    record = _record()
    record.waveform[:] = np.sin(2 * np.pi * np.arange(9001) / 3000)
    record.target[:] = 0
    changed = 0
    for seed in range(24):
        _, targets = _draw(record, size=1, seed=seed)
        odd, same = _draw(record, size=1, seed=seed, artefact=1.0)
        assert_array_equal(targets, same)
        jumps = np.flatnonzero(np.abs(np.diff(odd[0], 2, axis=1)).max(axis=0) > 0.01)
        assert 0 <= len(jumps) <= 8
        changed += bool(len(jumps))
    assert changed >= 20  # a step at the very start or end cannot be told from the trend


def test_nothing_is_to_be_found_in_a_gap() -> None:
    windows, targets = _draw(_record(), size=64, onset_centred=1.0, gap=1.0)
    for window, target in zip(windows, targets, strict=True):
        flat = np.abs(np.diff(window[2], 2, prepend=9, append=9)) < 1e-7
        assert target[0][flat].max(initial=0) < 1e-6


def test_a_superposed_window_adds_its_onset_to_the_target() -> None:
    _, targets = _draw(_record(), size=64, onset_centred=1.0, superposed=1.0)
    tops = [len(np.flatnonzero(np.diff((target[0] > 0.4).astype(int)) == 1)) for target in targets]
    assert 2 == max(tops)


def test_a_simulated_earthquake_lies_on_noise_and_is_in_the_target() -> None:
    windows, targets = _draw(_record(), size=64, simulated=1.0)
    tops = targets[:, :2].max(axis=2)
    assert (tops.max(axis=1) > 0.99).mean() > 0.9  # the rest begin outside the window
    louder = []
    for window, target in zip(windows, targets, strict=True):
        onset = int(target[0].argmax())
        if target[0, onset] > 0.99 and 300 < onset < 2700:
            louder.append(np.abs(window[:, onset : onset + 300]).max() / np.abs(window[:, : onset - 20]).max())
    assert len(louder) > 10
    assert np.median(louder) > 2


def test_without_noise_nothing_is_simulated() -> None:
    record = _record()
    loud = replace(record, target=np.full_like(record.target, 0.4))
    assert_array_equal(_draw(loud)[0], _draw(loud, simulated=1.0)[0])


def test_noise_is_taken_from_where_the_teachers_see_nothing() -> None:
    record = _record()
    quiet = Pool([record], {"manual": 1.0}).quiet["manual"]
    assert [0, 500, 4500, 5000, 5500, 6000] == [start for _, start, _ in quiet]  # P at 4000
    assert all(end <= ONSET - 30 or start >= ONSET + 30 for _, start, end in quiet)


def test_a_labelled_record_is_quiet_only_before_p() -> None:
    assert {"manual": [(0, 0, 2900)]} == Pool([_record(onset=3000, manual=True)], {"manual": 1.0}).quiet


def test_noise_is_drawn_equally_from_all_sources_regardless_of_their_length() -> None:
    records = [_record("short", onset=3000), _record("long", samples=90_000, seed=1)]
    records[1].waveform[:] *= 1e-3
    pool = Pool(records, {"short": 0.5, "long": 0.5})
    assert len(pool.quiet["long"]) > 50 * len(pool.quiet["short"])
    rng = np.random.default_rng(0)
    from_short = sum(int(np.abs(pool.draw_noise(rng)[:, :2000]).max() > 2) for _ in range(200))
    assert 70 <= from_short <= 130


def test_a_noise_only_window_has_no_onset() -> None:
    windows, targets = _draw(_record(), size=16, onset_centred=1.0, noise_only=1.0)
    assert_array_equal(np.zeros((16, 2, 3001)), targets[:, :2])
    # A hundred times as strong from the onset on: a window across it would have a quiet half.
    halves = np.abs(windows).mean(axis=1).reshape(16, -1)
    ratio = halves[:, :1500].mean(axis=1) / halves[:, 1501:].mean(axis=1)
    assert_allclose(1, ratio, atol=0.3)


def test_sources_are_drawn_by_their_shares_and_records_by_their_length() -> None:
    records = [_record("a", 9000), _record("a", 27000), _record("b")]
    pool = Pool(records, {"a": 0.8, "b": 0.2})
    rng = np.random.default_rng(0)
    rows = np.bincount([pool.draw_row(rng) for _ in range(4000)])
    assert_allclose([800, 2400, 800], rows, atol=120)


def test_a_share_without_records_is_refused() -> None:
    with pytest.raises(DataError, match=r"there are no continuous records among those found \(manual\)"):
        Pool([_record()], {"manual": 0.5, "continuous": 0.5})


def test_probabilities_beyond_one_are_refused() -> None:
    with pytest.raises(ValueError, match="less than or equal to 1"):
        AugmentationSettings(vertical_only=1.5)
