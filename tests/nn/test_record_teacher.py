import numpy as np
import obspy
import pytest
import torch
from seisbench.models import GPD, EQTransformer, PhaseNet, VariableLengthPhaseNet

from xiaonet.config.schema import Config
from xiaonet.errors import TeacherError
from xiaonet.nn.record_teacher import RecordTeacher, open_teacher
from xiaonet.nn.teacher import FusedTeacher, PhaseNetTeacher, remove_delays
from xiaonet.training.setup import load_teacher


@pytest.fixture(scope="module")
def windows() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 6000)).astype(np.float32))


@pytest.mark.parametrize("components", ["ZNE", "ENZ", "NEZ"])
def test_an_eqtransformer_gives_the_curves_of_seisbench(components: str, windows: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = EQTransformer(component_order=components).eval()
    curves = RecordTeacher(model, "untrained").annotate(windows).numpy()
    assert (2, 2, 6000) == curves.shape
    for window, curve in zip(windows.numpy(), curves, strict=True):
        header = {"sampling_rate": 100.0}
        stream = obspy.Stream([obspy.Trace(w.copy(), {**header, "channel": f"HH{c}"}) for c, w in zip("ENZ", window, strict=True)])
        annotation = model.annotate(stream, blinding=(0, 0))
        for phase, row in zip("PS", curve, strict=True):
            np.testing.assert_allclose(row, annotation.select(channel=f"EQTransformer_{phase}")[0].data, atol=1e-4)


def test_a_phasenet_that_takes_whole_records_gives_the_curves_of_the_one_that_takes_windows(windows: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = PhaseNet(component_order="ZNE", phases="NPS")
    given = 1e-9 * windows[..., :3001]
    one, other = RecordTeacher(model, "it"), PhaseNetTeacher(model, "it")
    torch.testing.assert_close(one.annotate(given), other(given)[:, :2], rtol=0, atol=1e-5)
    assert one.predicts_windows
    torch.testing.assert_close(one(given), other(given), rtol=0, atol=1e-5)


def test_a_teacher_of_other_windows_refuses_a_window_of_3001_samples(windows: torch.Tensor) -> None:
    teacher = RecordTeacher(EQTransformer(), "EQTransformer/mine")
    assert not teacher.predicts_windows
    with pytest.raises(TeacherError, match="has windows of 6000 samples at 100 Hz and predicts whole records only; wanted 3001 at 100 Hz"):
        teacher(windows[..., :3001])


def test_a_teacher_at_half_the_rate_is_described_and_predicts_whole_records_only() -> None:
    teacher = RecordTeacher(PhaseNet(phases="PSN"), "mine@50", 50.0)
    assert (50.0, False, "3001 samples at 50 Hz") == (teacher.sampling_rate, teacher.predicts_windows, teacher.describe()["window"])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (PhaseNet(phases="PN", classes=2), r"it has the phases \['P', 'N'\]; wanted one P and one S"),
        (PhaseNet(phases=["P", "Pn", "S"]), r"it has the phases \['P', 'Pn', 'S'\]; wanted one P and one S"),
        (GPD(phases="PSN"), "it gives no probability for each sample of its window; choose one that does, such as PhaseNet"),
        (PhaseNet(component_order="Z", in_channels=1, phases="PSN"), "it has the components 'Z'; wanted 'ENZ' in any order"),
    ],
)
def test_models_that_cannot_be_teachers(model: torch.nn.Module, message: str) -> None:
    with pytest.raises(TeacherError, match=message):
        RecordTeacher(model, "it")


@pytest.mark.parametrize("rate", ["fifty", "", "-50", "0", "nan", "inf", "1e9", "50@50"])
def test_a_rate_that_cannot_be_read_is_named(rate: str) -> None:
    with pytest.raises(TeacherError) as caught:
        open_teacher(f"stead@{rate}")
    assert f"teacher 'stead@{rate}' has '{rate}' after the @; wanted a rate from 10 to 1000 Hz" in str(caught.value)


def test_weights_of_another_model_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(cls: type, name: str) -> None:
        raise ValueError(f"no {name}")

    monkeypatch.setattr(EQTransformer, "from_pretrained", classmethod(offline))
    with pytest.raises(TeacherError, match=r"weights EQTransformer/nothing could not be loaded: no nothing\. Set SEISBENCH_CACHE_ROOT"):
        open_teacher("EQTransformer/nothing")


def test_the_shared_weights_by_name_and_rate(teachers: object) -> None:
    assert ["EQTransformer/volpick", "ustc_cses@50", "stead", "stead"] == [
        open_teacher(name).name for name in ("EQTransformer/volpick", "ustc_cses@50", "PhaseNet/stead", "stead@100")
    ]


def test_a_short_phasenet_is_a_teacher_of_whole_records() -> None:
    teacher = RecordTeacher(VariableLengthPhaseNet(in_samples=600, component_order="ENZ"), "short")
    assert (600, False) == (teacher.window_samples, teacher.predicts_windows)
    assert (4, 2, 600) == teacher.annotate(torch.randn(4, 3, 600)).shape


def test_p_and_s_have_delays_of_their_own() -> None:
    probabilities = torch.zeros(1, 3, 100)
    probabilities[0, 0, 50], probabilities[0, 1, 60] = 0.75, 0.5
    probabilities[:, 2] = 1 - probabilities[:, :2].sum(dim=1)
    p, s, noise = remove_delays(probabilities, (2, -3))[0]
    assert ([48], [63], [48, 63]) == tuple(torch.nonzero(row).flatten().tolist() for row in (p, s, 1 - noise))


def test_fused_teachers_of_windows_remove_a_delay_of_each_phase(windows: torch.Tensor) -> None:
    teacher = PhaseNetTeacher(PhaseNet(phases="PSN", component_order="ENZ"), "it")
    given = windows[..., :3001]
    fused = FusedTeacher({"it": teacher}, {}, {"it": (3, -2)})
    torch.testing.assert_close(fused(given), remove_delays(teacher(given), (3, -2)), rtol=0, atol=1e-6)
    assert "delay 3 samples for P and -2 for S" in fused.describe()["it"]


def test_the_prescribed_epochs_refuse_a_teacher_of_whole_records(teachers: object) -> None:
    settings = Config().override(["distillation.teacher=EQTransformer/volpick"]).distillation
    with pytest.raises(TeacherError, match=r"EQTransformer/volpick predicts whole records only; .* Use it in a recipe"):
        load_teacher(settings)
