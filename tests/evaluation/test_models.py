import numpy as np
import obspy
import pytest
import seisbench
import seisbench.models as sbm
import torch

from stand_in import MIDNIGHT, record
from xiaonet import Picker, XiaoNet, save_model
from xiaonet.errors import CheckpointError, ConfigError, TeacherError
from xiaonet.evaluation.models import SeisBenchModel, StaLtaModel, TriggerSettings, load_models
from xiaonet.nn.teacher import PhaseNetTeacher


@pytest.fixture
def windows() -> np.ndarray:
    """The 30 s of ObsPy's example, `(1, 3, 3001)`, and the same with the horizontals swapped."""
    stream = obspy.read()
    window = np.stack([stream.select(component=component)[0].data for component in "ENZ"])
    window = np.pad(window, ((0, 0), (0, 1)), mode="edge")
    return np.stack([window, window[[1, 0, 2]]])


@pytest.fixture
def phasenet(monkeypatch) -> sbm.PhaseNet:
    """A PhaseNet of random weights, which SeisBench gives for any name."""
    torch.manual_seed(0)
    model = sbm.PhaseNet(phases="NPS", norm="std", component_order="ENZ", default_args={"P_threshold": 0.4}).eval()
    monkeypatch.setattr(sbm.PhaseNet, "from_pretrained", classmethod(lambda cls, name, *words, **options: model))
    return model


def test_ours_are_as_in_the_picker(windows):
    [ours] = load_models(["xiaonet"])
    stream = obspy.read()
    assert Picker("xiaonet").predictor.thresholds == ours.thresholds
    expected = [(pick.time_ns, pick.phase, pick.probability) for pick in Picker("xiaonet", 0.2).pick(stream)]
    assert expected == [tuple(reading) for reading in ours.pick(stream, {"P": 0.2, "S": 0.2})]
    annotation = Picker("xiaonet").annotate(stream)
    at = int(annotation.select(channel="*_P")[0].data.argmax())
    assert abs(at - int(ours.annotate(windows)[0, 0].argmax())) <= 2


def test_phasenet_gives_what_seisbench_gives(windows, phasenet):
    [theirs] = load_models(["seisbench:PhaseNet/any"])
    assert (0.4, 0.3) == (theirs.thresholds["P"], theirs.thresholds["S"])
    window = windows[0] - windows[0].mean(axis=-1, keepdims=True)
    with torch.no_grad():
        expected = phasenet(torch.from_numpy((window / window.std(axis=-1, keepdims=True)).astype(np.float32))[None])[0, [1, 2, 0]]
    np.testing.assert_allclose(expected, theirs.annotate(windows)[0], atol=1e-4)


def test_the_bundled_teacher_is_evaluated_by_its_name(windows):
    [ours] = load_models(["seisbench:PhaseNet/bundled"])
    expected = PhaseNetTeacher.from_pretrained("bundled")(torch.from_numpy(windows.astype(np.float32))).numpy()
    assert ("bundled", {"P": 0.3, "S": 0.3}) == (ours.name, ours.thresholds)
    np.testing.assert_allclose(expected, ours.annotate(windows), atol=1e-4)


def test_models_other_than_phasenet_use_annotate(windows, phasenet, monkeypatch):
    """PhaseNet's own annotate stands for that of any other model: the picks are those of the batches."""
    direct = SeisBenchModel("PhaseNet/any")
    other = SeisBenchModel("PhaseNet/any")
    other._batched = None
    expected, found = direct.annotate(windows)[0], other.annotate(windows)[0]
    assert (3, 3001) == found.shape
    # There, windows overlap and reach beyond: the same place of the highest value within a few samples.
    for row in (0, 1):
        assert abs(int(expected[row, 300:-300].argmax()) - int(found[row, 300:-300].argmax())) < 60
    assert (0 <= found).all()
    assert (found <= 1).all()


def test_another_class_of_seisbench(windows, monkeypatch):
    model = sbm.EQTransformer().eval()
    monkeypatch.setattr(sbm.EQTransformer, "from_pretrained", classmethod(lambda cls, name: model))
    [theirs] = load_models(["seisbench:EQTransformer/any"])
    found = theirs.annotate(windows)
    assert (2, 3, 3001) == found.shape
    assert (0.1, 0.1) == (theirs.thresholds["P"], theirs.thresholds["S"])
    assert found[:, :2].max() > 0
    np.testing.assert_allclose(1, found.sum(axis=1).clip(1, None), atol=1)


@pytest.mark.parametrize("spec", ["xiaonet", "seisbench:PhaseNet/any", "stalta"])
def test_units_change_nothing(windows, phasenet, spec):
    [model] = load_models([spec])
    np.testing.assert_allclose(model.annotate(windows), model.annotate(windows * 1e-12), atol=2e-4)


def test_sta_lta_marks_onsets(windows):
    curves = StaLtaModel().annotate(windows)
    p, s = int(curves[0, 0].argmax()), int(curves[0, 1].argmax())
    assert (True, True) == (460 <= p <= 480, 460 <= s <= 580)  # P at 4.7 s; on the horizontals too, and S at 5.7 s
    assert 1 > curves[0, 0, p] > 0.8
    np.testing.assert_array_equal(curves[0, 1], curves[1, 1])  # the better of the horizontals
    assert (0 == StaLtaModel().annotate(np.zeros((1, 3, 3001)))[:, :2]).all()


def test_sta_lta_holds_the_highest_ratio_at_the_onset():
    rng = np.random.default_rng(0)
    window = rng.normal(size=(1, 3, 3001))
    window[0, 2, 1500:1700] *= 30
    low, high = (int((StaLtaModel(TriggerSettings(on=on)).annotate(window)[0, 0] > 0).sum()) for on in (8.0, 3.0))
    curve = StaLtaModel().annotate(window)[0, 0]
    assert 1 == low <= high
    assert abs(int(curve.argmax()) - 1500) < 20
    assert curve.max() > 1 - 1 / 8


def test_sta_lta_picks_streams():
    stream = obspy.read()
    readings = StaLtaModel().pick(stream, {"P": 0.8, "S": 0.8})
    first = readings[0]
    assert abs(first.time_ns / 1e9 - (stream[0].stats.starttime.timestamp + 4.7)) < 0.1
    assert {"P", "S"} == {reading.phase for reading in readings}
    assert "HHZ" in stream[0].id or 100.0 == stream[0].stats.sampling_rate  # the stream itself stays as it was
    assert [] == StaLtaModel().pick(record(seconds=60), {"P": 0.99, "S": 0.99})


def test_sta_lta_picks_continuous_records_as_it_picks_windows():
    """Every onset is found once, at the same sample and height."""
    stream = obspy.read()
    window = np.stack([stream.select(component=component)[0].data for component in "ENZ"])[None]
    heights = StaLtaModel().annotate(window)[0]
    start = stream[0].stats.starttime
    expected = sorted(
        (int(start.ns + at * 10**7), phase, heights[row, at]) for row, phase in enumerate("PS") for at in np.flatnonzero(heights[row])
    )
    found = StaLtaModel().pick(stream, {"P": 0.01, "S": 0.01})
    assert [pick[:2] for pick in expected] == [pick[:2] for pick in found]
    np.testing.assert_allclose([pick[2] for pick in expected], [pick.probability for pick in found], rtol=1e-9)
    assert 1 == sum(pick.phase == "S" for pick in found)


def test_sta_lta_picks_one_s_where_a_horizontal_starts_later():
    stream = record(MIDNIGHT, 60, {"E": [30], "N": [30.1]})
    stream.select(component="N")[0].trim(MIDNIGHT + 10)
    found = [pick for pick in StaLtaModel().pick(stream, {"P": 0.9, "S": 0.9}) if pick.phase == "S"]
    assert [MIDNIGHT.ns + 30 * 10**9] == [pick.time_ns for pick in found]


def test_every_model_names_its_runtime(phasenet):
    import onnxruntime

    models = load_models(["xiaonet", "seisbench:PhaseNet/any", "stalta"], runtime="onnxruntime")
    expected = [
        f"onnxruntime {onnxruntime.__version__}",
        f"seisbench {seisbench.__version__}, torch {torch.__version__}",
        f"obspy {obspy.__version__}",
    ]
    assert expected == [model.runtime for model in models]
    assert f"torch {torch.__version__}" == load_models(["xiaonet"], runtime="torch")[0].runtime


def test_models_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for number, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        torch.manual_seed(number)
        save_model(XiaoNet(base_channels=2), tmp_path / folder / "saved.pth")
    loaded = load_models([str(tmp_path / "a" / "saved.pth"), str(tmp_path / "b" / "saved.pth"), "xiaonet"])
    assert ["a/saved.pth", "b/saved.pth", "xiaonet"] == [model.name for model in loaded]


@pytest.mark.parametrize(
    ("specs", "error", "message"),
    [
        ([], ConfigError, "no model is named; wanted one or more, e.g. xiaonet seisbench:PhaseNet/stead"),
        (["stalta", "stalta"], ConfigError, "stalta is named twice, or has the same content as another file; name each model once"),
        (
            ["seisbench:PhaseNot/stead"],
            ConfigError,
            "seisbench:PhaseNot/stead is not a model; wanted a class of seisbench.models",
        ),
        (["seisbench:PhaseNet"], ConfigError, "seisbench:PhaseNet is not a model; wanted a class of seisbench.models and weights"),
        (["xiaonett"], CheckpointError, "there is no model 'xiaonett'; did you mean xiaonet"),
        (["none.pth"], CheckpointError, "there is no file none.pth"),
    ],
)
def test_what_cannot_be_loaded(specs, error, message):
    with pytest.raises(error) as caught:
        load_models(specs)
    assert message in str(caught.value)


def test_a_model_of_another_input_specification_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(sbm.PhaseNet, "from_pretrained", classmethod(lambda cls, name, *words, **options: sbm.PhaseNet(sampling_rate=50)))
    with pytest.raises(TeacherError, match="any has a sampling rate of 50 Hz; wanted 100 Hz"):
        load_models(["seisbench:PhaseNet/any"])
    monkeypatch.setattr(sbm.GPD, "from_pretrained", classmethod(lambda cls, name: sbm.GPD(phases="NX", classes=2)))
    with pytest.raises(TeacherError, match=r"GPD/any has phases .*; wanted P and S, it lacks P, S"):
        load_models(["seisbench:GPD/any"])
    from xiaonet.nn import checkpoint

    monkeypatch.setattr(checkpoint, "input_specification", lambda: {"sampling_rate": 50.0})
    save_model(XiaoNet(base_channels=2), tmp_path / "slow.pth")
    with pytest.raises(CheckpointError, match=r"slow.pth has another input specification: .*'sampling_rate': 50.0"):
        load_models([str(tmp_path / "slow.pth")])
