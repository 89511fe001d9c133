import re
from collections.abc import Callable

import numpy as np
import pytest

from xiaonet.errors import ConfigError
from xiaonet.runtime.cascade import Cascade
from xiaonet.runtime.ensemble import Ensemble
from xiaonet.runtime.loading import load_predictor
from xiaonet.runtime.predictor import around_by_places


class Drawn:
    """A stand-in for a network: gives the same curves to every window, and keeps what it was called with."""

    runtime, version, note = "drawn", "1", ""
    stacking = "waveforms"

    def __init__(self, name: str, thresholds: dict[str, float], curves: Callable[[np.ndarray], np.ndarray]) -> None:
        self.description, self.digest, self.thresholds, self.curves = name, name * 2, thresholds, curves
        self.seen: list[np.ndarray] = []

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        self.seen.append(windows)
        return self.curves(windows)


class DrawnRecord(Drawn):
    """A stand-in for a network on a record: gives its curves in the tiles that are wanted, and zeros elsewhere."""

    def curves(self, record: np.ndarray, wanted: np.ndarray) -> np.ndarray:  # type: ignore[override]
        self.seen.append(wanted)
        return np.where(np.repeat(wanted, 512), self.drawn(record), 0).astype(np.float32)

    def __init__(self, name: str, drawn: Callable[[np.ndarray], np.ndarray]) -> None:
        self.description, self.digest, self.thresholds, self.drawn = name, name, {"P": 0.2, "S": 0.3}, drawn
        self.seen = []


def numbered(*peaks: tuple[float, float]) -> np.ndarray:
    """A window for each pair; the pair is what the prefilter below makes of it."""
    windows = np.zeros((len(peaks), 3, 3001), np.float32)
    windows[:, :2, 1234] = np.array(peaks).reshape(-1, 2)
    return windows


def cascade(height: float = 0.25) -> Cascade:
    prefilter = Drawn("prefilter", {"P": 0.9, "S": 0.9}, lambda windows: np.concatenate([windows[:, :2], 1 - windows[:, 2:]], axis=1))
    return Cascade(prefilter, Drawn("model", {"P": 0.2, "S": 0.3}, lambda windows: windows + 5), height)


def test_the_model_sees_only_windows_in_which_the_prefilter_sees_p_or_s() -> None:
    pair, windows = cascade(), numbered((0.0, 0.0), (0.25, 0.0), (0.2, 0.24), (0.0, 0.25), (0.9, 0.9), (0.1, 0.0))
    probabilities = pair(windows)
    (seen,) = pair.model.seen  # type: ignore[attr-defined]
    np.testing.assert_array_equal(windows[[1, 3, 4]], seen)
    np.testing.assert_array_equal(windows[[1, 3, 4]] + 5, probabilities[[1, 3, 4]])
    np.testing.assert_array_equal(pair.prefilter(windows[[0, 2, 5]]), probabilities[[0, 2, 5]])


def test_where_the_prefilter_sees_nothing_the_model_is_not_called() -> None:
    pair = cascade()
    assert (2, 3, 3001) == pair(numbered((0.1, 0.1), (0.2, 0.0))).shape
    assert (0, 3, 3001) == pair(numbered()).shape
    assert [] == pair.model.seen  # type: ignore[attr-defined]


def test_the_probabilities_of_the_prefilter_are_left_as_they_are() -> None:
    given_curves = numbered((0.9, 0.9))
    pair = Cascade(Drawn("prefilter", {}, lambda windows: given_curves), Drawn("model", {}, lambda windows: windows + 5), 0.5)
    assert np.float32(5.9) == pair(numbered((0.9, 0.9)))[0, 0, 1234]
    assert np.float32(0.9) == given_curves[0, 0, 1234]


def test_a_cascade_speaks_for_its_model_and_tells_of_both() -> None:
    pair = cascade(0.05)
    assert ("drawn", {"P": 0.2, "S": 0.3}) == (pair.runtime, pair.thresholds)
    assert "model, where prefilter gives P or S 0.05" == pair.description
    assert 64 == len(pair.digest)
    digests = {pair.digest, cascade(0.06).digest, Cascade(pair.model, pair.prefilter, 0.05).digest}
    assert 3 == len(digests)
    assert pair.digest == cascade(0.05).digest


@pytest.mark.parametrize("height", [-0.1, 1.1, float("nan")])
def test_a_prefilter_threshold_that_is_no_probability_is_refused(height: float) -> None:
    with pytest.raises(ConfigError, match=r"threshold of the cascade is .*; wanted a probability from 0 to 1"):
        cascade(height)


def test_a_cascade_of_real_networks_mixes_their_curves(windows: np.ndarray) -> None:
    prefilter, model = load_predictor("xiaonet-nano", "onnxruntime"), load_predictor("xiaonet", "onnxruntime")
    called = (prefilter(windows)[:, :2] >= 0.3).any(axis=(1, 2))
    assert 0 < called.sum() < len(windows)
    expected = np.where(called[:, None, None], model(windows), prefilter(windows))
    np.testing.assert_array_equal(expected, Cascade(prefilter, model, 0.3)(windows))


def test_an_ensemble_is_the_mean_of_its_members():
    members = [
        Drawn("one", {"P": 0.2, "S": 0.4}, lambda windows: windows + 1),
        Drawn("two", {"P": 0.4, "S": 0.4}, lambda windows: windows + 2),
    ]
    ensemble = Ensemble(members)
    windows = np.zeros((2, 3, 3001), np.float32)
    np.testing.assert_array_equal(windows + 1.5, ensemble(windows))
    assert np.float32 == ensemble(windows).dtype
    assert {"P": pytest.approx(0.3), "S": pytest.approx(0.4)} == ensemble.thresholds
    assert ensemble.digest not in {Ensemble(members[::-1]).digest, *(member.digest for member in members)}


@pytest.mark.parametrize("names", [["one"], ["one", "two", "one"]])
def test_an_ensemble_of_one_or_of_the_same_is_refused(names):
    with pytest.raises(ConfigError, match="wanted two or more different models"):
        Ensemble([Drawn(name, {"P": 0.2, "S": 0.4}, lambda windows: windows) for name in names])


def test_models_joined_by_plus_are_averaged():
    windows = np.random.default_rng(0).uniform(-1, 1, (2, 3, 3001)).astype(np.float32)
    one, two = (load_predictor(name)(windows) for name in ("xiaonet", "xiaonet-nano"))
    np.testing.assert_allclose((one + two) / 2, load_predictor("xiaonet + xiaonet-nano")(windows), atol=1e-6)


def test_the_model_sees_only_tiles_in_which_the_prefilter_sees_p_or_s() -> None:
    record = np.zeros((3, 7 * 512), np.float32)
    record[0, 512] = record[1, 3 * 512 - 1] = record[0, 5 * 512] = 0.25  # P in tile 1, S in tile 2, P in tile 5
    record[2] = 0.9  # noise
    record[0, 4 * 512] = 0.2
    wanted = np.array([False, True, True, True, True, False, False])
    pair = Cascade(DrawnRecord("prefilter", lambda record: record), DrawnRecord("model", lambda record: record + 5), 0.25)
    found = pair.curves(record, wanted)
    assert [[False, True, True, False, False, False, False]] == [seen.tolist() for seen in pair.model.seen]
    np.testing.assert_array_equal(record[:, 512:1536] + 5, found[:, 512:1536])
    np.testing.assert_array_equal(record[:, 1536:2560], found[:, 1536:2560])
    assert not found[:, :512].any()
    assert not found[:, 2560:].any()


def test_where_the_prefilter_sees_nothing_in_a_record_the_model_is_not_called() -> None:
    pair = Cascade(DrawnRecord("prefilter", lambda record: record), DrawnRecord("model", lambda record: record + 5), 0.25)
    assert not pair.curves(np.zeros((3, 3 * 512), np.float32), np.array([False, True, False])).any()
    assert [] == pair.model.seen


def test_an_ensemble_averages_curves_of_a_record() -> None:
    members = [DrawnRecord("one", lambda record: record + 1), DrawnRecord("two", lambda record: record + 2)]
    found = Ensemble(members).curves(np.zeros((3, 3 * 512), np.float32), np.array([False, True, False]))
    assert [0, 1.5, 0] == found[2, ::512].tolist()
    assert np.float32 == found.dtype


def test_around_a_candidate_an_ensemble_averages_and_a_cascade_asks_the_model() -> None:
    cuts, one, two = (
        np.random.default_rng(0).uniform(-1, 1, (3, 3, 1239)).astype(np.float32),
        Drawn("a", {}, np.sin),
        Drawn("b", {}, np.cos),
    )
    for member in (one, two):
        member.around = lambda cuts, member=member: around_by_places(member, cuts)  # type: ignore[attr-defined]
    middle = slice(623 - 100, 623 + 101)  # networks that see one sample at a time give the same at all places
    np.testing.assert_allclose((np.sin(cuts) + np.cos(cuts))[..., middle] / 2, Ensemble([one, two]).around(cuts), atol=1e-6)
    one.seen.clear()
    np.testing.assert_allclose(np.cos(cuts)[..., middle], Cascade(one, two, 0.05).around(cuts), atol=1e-6)
    assert not one.seen


@pytest.mark.parametrize("combine", [lambda one, two: Ensemble([one, two]), lambda one, two: Cascade(one, two, 0.05)])
def test_models_that_average_different_things_do_not_combine(combine: Callable[[Drawn, Drawn], object]) -> None:
    one, two = DrawnRecord("one", np.abs), DrawnRecord("two", np.abs)
    two.stacking = "probabilities"
    expected = "overlap: waveforms (one), probabilities (two); wanted models with the same stacking"
    with pytest.raises(ConfigError, match=re.escape(expected)):
        combine(one, two)
