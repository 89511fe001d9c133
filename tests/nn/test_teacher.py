import json
import shutil
from pathlib import Path

import numpy as np
import obspy
import pytest
import requests
import seisbench
import seisbench.data as sbd
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seisbench.models import PhaseNet, VariableLengthPhaseNet
from torch import nn

from xiaonet.errors import CheckpointError, ConfigError, TeacherError
from xiaonet.nn.checkpoint import load_tensors, save_tensors
from xiaonet.nn.teacher import WEIGHTS, FusedTeacher, PhaseNetTeacher, load_phasenet, new_phasenet, save_phasenet
from xiaonet.picking.windows import normalize
from xiaonet.training.losses import distillation_loss

THRESHOLD = 0.3


@pytest.fixture(scope="module")
def ncedc(labelled: Path) -> np.ndarray:
    """A window of each three-component record of N. California, cut at a random place around both picks."""
    data = sbd.WaveformDataset(labelled, component_order="ENZ", dimension_order="NCW")
    data.filter((data["trace_dataset"] == "ncedc").to_numpy())
    waveforms = data.get_waveforms()
    waveforms = waveforms[waveforms[:, :2].any(axis=(1, 2))]
    first = np.random.default_rng(0).integers(1200, 2900, len(waveforms))  # P at sample 3000, S at 4074 or before
    return np.stack([waveform[:, start : start + 3001] for waveform, start in zip(waveforms, first, strict=True)])


@pytest.fixture(scope="module")
def windows() -> torch.Tensor:
    """Five made-up windows, each a burst in noise."""
    rng = np.random.default_rng(1)
    burst = np.exp(-np.maximum(np.arange(3001) - 1000, 0) / 300) * (np.arange(3001) >= 1000)
    return torch.from_numpy((rng.standard_normal((5, 3, 3001)) * (0.1 + burst)).astype(np.float32))


def phasenet(**arguments: object) -> PhaseNet:
    torch.manual_seed(0)
    return PhaseNet(**{"component_order": "ENZ", "phases": "PSN", "norm": "peak", **arguments}).eval()


def reordered(model: PhaseNet, components: str, phases: str) -> PhaseNet:
    """The same network with other orders of its channels."""
    twin = PhaseNet(component_order=components, phases=phases, norm=model.norm, norm_detrend=model.norm_detrend).eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    state["inc.weight"] = state["inc.weight"][:, [model.component_order.index(c) for c in components]]
    rows = [list(model.labels).index(phase) for phase in phases]
    state["out.weight"], state["out.bias"] = state["out.weight"][rows], state["out.bias"][rows]
    twin.load_state_dict(state)
    return twin


def stream_of(window: np.ndarray) -> obspy.Stream:
    header = {"station": "STA", "sampling_rate": 100.0}
    return obspy.Stream([obspy.Trace(samples.copy(), {**header, "channel": f"HH{c}"}) for c, samples in zip("ENZ", window, strict=True)])


def picks_of(picks: list) -> list[tuple[str, float]]:
    return sorted((pick.phase, pick.peak_time.timestamp) for pick in picks)


@pytest.mark.parametrize("name", ["stead", "original", "okla"])
def test_curves_and_picks_are_those_of_seisbench_on_115_real_records(name: str, teachers: Path, ncedc: np.ndarray) -> None:
    model = PhaseNet.from_pretrained(name)
    ours = PhaseNetTeacher.from_pretrained(name)(torch.from_numpy(ncedc)).numpy()
    assert len(ncedc) == 115
    picked = 0
    for window, curves in zip(ncedc, ours, strict=True):
        stream = stream_of(window)
        annotation = model.annotate(stream, blinding=(0, 0))
        theirs = np.stack([annotation.select(channel=f"PhaseNet_{phase}")[0].data for phase in "PSN"])
        np.testing.assert_allclose(curves, theirs, rtol=0, atol=1e-5)
        expected = model.classify(stream, blinding=(0, 0), P_threshold=THRESHOLD, S_threshold=THRESHOLD).picks
        for trace in annotation:
            trace.data = curves["PSN".index(trace.stats.channel[-1])]
        actual = model.classify_aggregate(annotation, {"P_threshold": THRESHOLD, "S_threshold": THRESHOLD}).picks
        assert picks_of(expected) == picks_of(actual)
        picked += len(expected)
    assert picked > 115  # more than a pick a record, so that the comparison compares something


@pytest.mark.parametrize("name", ["stead", "original", "okla"])
def test_real_weights_fed_by_hand_in_their_own_order_agree(name: str, teachers: Path, ncedc: np.ndarray) -> None:
    model = PhaseNet.from_pretrained(name).eval()
    batch = torch.from_numpy(ncedc[:8])[:, ["ENZ".index(c) for c in model.component_order]]
    with torch.no_grad():
        theirs = model(model.annotate_batch_pre(batch, {}))
    theirs = theirs[:, [list(model.labels).index(phase) for phase in "PSN"]]
    torch.testing.assert_close(PhaseNetTeacher(model)(torch.from_numpy(ncedc[:8])), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", ["peak", "std"])
@pytest.mark.parametrize(("components", "phases"), [("ZNE", "NPS"), ("NEZ", "SNP"), ("Z12", "PSN")])
def test_the_order_inside_the_model_does_not_matter(components: str, phases: str, norm: str, windows: torch.Tensor) -> None:
    plain = phasenet(norm=norm, norm_detrend=True)
    twin = reordered(plain, components.replace("1", "N").replace("2", "E"), phases)
    twin._component_order = components
    torch.testing.assert_close(PhaseNetTeacher(twin)(windows), PhaseNetTeacher(plain)(windows), rtol=0, atol=1e-6)


@pytest.mark.parametrize("phases", [["Noise", "P", "S"], "NPS"])
def test_spelt_out_phases_are_known_by_their_first_letter(phases: object, windows: torch.Tensor) -> None:
    model = phasenet(phases=phases)
    with torch.no_grad():
        expected = model(model.annotate_batch_pre(windows, {}))[:, [1, 2, 0]]
    torch.testing.assert_close(PhaseNetTeacher(model)(windows), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", ["peak", "std"])
@settings(max_examples=8, deadline=None)
@given(exponent=st.integers(-12, 9), sign=st.sampled_from([-1, 1]), data=st.data())
def test_the_unit_of_the_samples_does_not_matter(norm: str, exponent: int, sign: int, data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 99))
    window = torch.randn(1, 3, 3001, generator=torch.Generator().manual_seed(seed))
    teacher = PhaseNetTeacher(phasenet(norm=norm))
    torch.testing.assert_close(teacher(10.0**exponent * window), teacher(window), rtol=0, atol=1e-5)


@pytest.mark.parametrize("gain", [1e-9, 1e6])
@pytest.mark.parametrize("name", ["stead", "original", "okla"])
def test_real_records_in_metres_or_counts_give_the_same_curves(name: str, gain: float, teachers: Path, ncedc: np.ndarray) -> None:
    teacher, window = PhaseNetTeacher.from_pretrained(name), torch.from_numpy(ncedc[:10])
    torch.testing.assert_close(teacher(gain * window), teacher(window), rtol=0, atol=1e-5)


def test_probabilities_are_the_softmax_of_the_logits_and_sum_to_one(windows: torch.Tensor) -> None:
    teacher = PhaseNetTeacher(phasenet())
    probabilities = teacher(windows)
    assert probabilities.shape == (5, 3, 3001)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(5, 3001))
    torch.testing.assert_close(probabilities, teacher.logits(windows).softmax(dim=1))


def test_a_window_of_zeros_gives_finite_probabilities() -> None:
    for norm in ("peak", "std"):
        assert torch.isfinite(PhaseNetTeacher(phasenet(norm=norm))(torch.zeros(1, 3, 3001))).all()


def test_a_component_that_we_lack_is_fed_zeros(windows: torch.Tensor) -> None:
    ocean = phasenet(component_order="ZNEH", in_channels=4)
    batch = torch.stack([windows[:, 2], windows[:, 1], windows[:, 0], torch.zeros(5, 3001)], dim=1)
    with torch.no_grad():
        expected = ocean(ocean.annotate_batch_pre(batch, {}))
    torch.testing.assert_close(PhaseNetTeacher(ocean)(windows), expected, rtol=0, atol=1e-6)


def test_a_model_with_a_longer_window_is_padded_and_cut_back(windows: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = VariableLengthPhaseNet(in_samples=4001, component_order="ENZ").eval()
    padded = torch.nn.functional.pad(windows, (500, 500))
    with torch.no_grad():
        expected = model(model.annotate_batch_pre(padded, {}))[..., 500:3501]
    torch.testing.assert_close(PhaseNetTeacher(model)(windows), expected, rtol=0, atol=1e-5)


class Parent(nn.Module):
    def __init__(self, teacher: PhaseNetTeacher) -> None:
        super().__init__()
        self.teacher, self.student = teacher, nn.Conv1d(3, 3, 1)


@pytest.mark.parametrize(
    "thaw",
    [
        lambda parent: parent.train(),
        lambda parent: parent.teacher.train(),
        lambda parent: parent.teacher.train(True).train(),
        lambda parent: parent.requires_grad_(True),
        lambda parent: parent.teacher.requires_grad_(True),
    ],
    ids=["train of a parent", "train", "train twice", "requires_grad_ of a parent", "requires_grad_"],
)
def test_nothing_thaws_the_teacher(thaw, windows: torch.Tensor) -> None:
    parent = Parent(PhaseNetTeacher(phasenet()))
    before = parent.teacher(windows)
    statistics = parent.teacher.model.in_bn.running_mean.clone()
    thaw(parent)
    assert {False} == {module.training for module in parent.teacher.modules()}
    tensors = [*parent.teacher.parameters(), *parent.teacher.buffers()]
    assert [False] * len(parent.teacher.state_dict()) == [tensor.requires_grad for tensor in tensors]
    torch.testing.assert_close(parent.teacher(windows), before, rtol=0, atol=0)
    assert torch.equal(statistics, parent.teacher.model.in_bn.running_mean)


def test_a_parent_in_training_still_trains_its_student() -> None:
    parent = Parent(PhaseNetTeacher(phasenet())).eval().requires_grad_(False)
    parent.train().requires_grad_(True)
    assert (True, True) == (parent.student.training, parent.student.weight.requires_grad)


def test_no_gradient_flows_into_teacher_or_windows(windows: torch.Tensor) -> None:
    teacher, live = PhaseNetTeacher(phasenet()), windows.clone().requires_grad_()
    assert (False, False) == (teacher(live).requires_grad, teacher.logits(live).requires_grad)


def test_a_model_loaded_in_training_mode_is_frozen_when_wrapped(windows: torch.Tensor) -> None:
    model = phasenet().train().requires_grad_(True)
    expected = PhaseNetTeacher(phasenet())(windows)
    torch.testing.assert_close(PhaseNetTeacher(model)(windows), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampling_rate": 50}, r"50 Hz; wanted 100 Hz"),
        ({"phases": "PN", "classes": 2}, r"phases \['P', 'N'\]; wanted \['P', 'S', 'N'\]"),
        ({"phases": "PSD"}, r"phases \['P', 'S', 'D'\]; wanted \['P', 'S', 'N'\]"),
        ({"component_order": "ZN", "in_channels": 2}, r"components 'ZN'; wanted 'ENZ'"),
        ({"component_order": "Z", "in_channels": 1}, r"components 'Z'; wanted 'ENZ'"),
    ],
)
def test_a_model_that_does_not_fit_is_rejected_with_the_reason(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(TeacherError, match=message):
        PhaseNetTeacher(phasenet(**arguments))


def test_a_model_with_a_short_window_is_rejected() -> None:
    with pytest.raises(TeacherError, match="has windows of 600 samples; wanted at least 3001"):
        PhaseNetTeacher(VariableLengthPhaseNet(in_samples=600, component_order="ENZ"), "short")


@pytest.mark.parametrize("shape", [(3, 3001), (1, 2, 3001), (1, 3, 3000), (1, 3, 3002), (1, 3001, 3), (1, 1, 3, 3001)])
def test_windows_of_another_shape_are_rejected(shape: tuple[int, ...]) -> None:
    with pytest.raises(TeacherError, match=r"wanted \(batch, 3, 3001\)") as caught:
        PhaseNetTeacher(phasenet())(torch.zeros(shape))
    assert str(shape) in str(caught.value)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """`here.pt` and `here.json`, as SeisBench saves a model."""
    phasenet(norm="std", norm_detrend=True, phases="NPS", component_order="ZNE").save(tmp_path / "here")
    return tmp_path / "here.pt"


def test_a_local_file_gives_the_saved_model(saved: Path, windows: torch.Tensor) -> None:
    teacher = PhaseNetTeacher.from_pretrained(str(saved))
    model = phasenet(norm="std", norm_detrend=True, phases="NPS", component_order="ZNE")
    torch.testing.assert_close(teacher(windows), PhaseNetTeacher(model)(windows), rtol=0, atol=0)
    assert ("ZNE", "NPS", "std", True) == (
        teacher.model.component_order,
        "".join(teacher.model.labels),
        teacher.model.norm,
        teacher.model.norm_detrend,
    )


@pytest.mark.parametrize("name", ["here", "here.pt", "here.json"])
def test_a_local_file_may_be_named_with_or_without_its_ending(saved: Path, name: str) -> None:
    assert "ZNE" == PhaseNetTeacher.from_pretrained(str(saved.with_name(name))).model.component_order


@pytest.mark.parametrize("name", ["there.pt.v2", "there.json.v2"])
def test_a_local_file_may_carry_a_version(tmp_path: Path, name: str) -> None:
    phasenet(component_order="NEZ").save(tmp_path / "there", version_str="2")
    assert "NEZ" == PhaseNetTeacher.from_pretrained(str(tmp_path / name)).model.component_order


def test_the_shared_weights_load_by_path_under_their_versioned_name(teachers: Path, windows: torch.Tensor) -> None:
    by_path = PhaseNetTeacher.from_pretrained(str(teachers / "stead.pt.v2"))
    assert torch.equal(PhaseNetTeacher.from_pretrained("stead")(windows), by_path(windows))


def test_a_local_file_in_the_working_folder_needs_no_folder_name(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved.parent)
    assert "here.pt" == PhaseNetTeacher.from_pretrained("here.pt").name


def test_a_folder_called_like_the_weights_does_not_hide_them(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stead").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(PhaseNet, "from_pretrained", classmethod(lambda cls, name: phasenet(component_order="NZE")))
    assert "NZE" == PhaseNetTeacher.from_pretrained("stead").model.component_order


def assert_names_remedies(name: str, reason: str) -> None:
    remedies = ("--teacher bundled", f"--teacher PATH/{Path(name).stem}.pt", "SEISBENCH_CACHE_ROOT", "--teacher none")
    with pytest.raises(TeacherError) as caught:
        PhaseNetTeacher.from_pretrained(name)
    assert [] == [wanted for wanted in (reason, *remedies) if wanted not in str(caught.value)]


def test_without_a_network_the_error_names_the_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(cls: type, name: str) -> None:
        raise requests.exceptions.ConnectionError("name resolution failed")

    monkeypatch.setattr(PhaseNet, "from_pretrained", classmethod(offline))
    assert_names_remedies("stead", "name resolution failed")


def test_a_cold_cache_without_a_network_names_the_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(url: str, **_: object) -> list[str]:
        raise ValueError(f"{url} cannot be reached")

    monkeypatch.setattr(seisbench, "cache_model_root", tmp_path / "models")
    monkeypatch.setattr(seisbench.util, "ls_webdav", offline)
    assert_names_remedies("stead", "cannot be reached")


@pytest.mark.parametrize("missing", ["pt", "json"])
def test_a_missing_file_is_named(saved: Path, missing: str) -> None:
    saved.with_suffix(f".{missing}").unlink()
    assert_names_remedies(str(saved), f"no file {saved.with_suffix('.' + missing)}")


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other pickle"])
def test_damaged_weights_are_a_teacher_error(saved: Path, damage: str) -> None:
    whole = saved.read_bytes()
    if damage == "other pickle":
        torch.save({"inc.weight": torch.zeros(1)}, saved)
    else:
        saved.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"not a model"}[damage])
    with pytest.raises(TeacherError, match=r"here\.pt"):
        PhaseNetTeacher.from_pretrained(str(saved))


@pytest.mark.parametrize("text", ["", "{", '{"model_args": {"no_such_argument": 1}}', '{"model_args": {"classes": 5}}', "[1, 2]"])
def test_a_damaged_description_is_a_teacher_error(saved: Path, text: str) -> None:
    saved.with_suffix(".json").write_text(text)
    with pytest.raises(TeacherError, match=r"here\.pt"):
        PhaseNetTeacher.from_pretrained(str(saved))


def test_weights_for_a_newer_seisbench_are_a_teacher_error(saved: Path) -> None:
    description = json.loads(saved.with_suffix(".json").read_text())
    saved.with_suffix(".json").write_text(json.dumps({**description, "seisbench_requirement": "99.0"}))
    with pytest.raises(TeacherError, match=r"version at least 99\.0"):
        PhaseNetTeacher.from_pretrained(str(saved))


def test_a_file_that_would_run_code_is_refused(saved: Path, tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "harmed",))

    torch.save(Harm(), saved)
    with pytest.raises(TeacherError, match=r"here\.pt"):
        PhaseNetTeacher.from_pretrained(str(saved))
    assert not (tmp_path / "harmed").exists()


def test_a_model_that_does_not_fit_says_so_when_loaded_from_a_file(tmp_path: Path) -> None:
    phasenet(sampling_rate=50).save(tmp_path / "slow")
    with pytest.raises(TeacherError, match=r"slow\.pt has a sampling rate of 50 Hz; wanted 100 Hz"):
        PhaseNetTeacher.from_pretrained(str(tmp_path / "slow.pt"))


def test_home_folders_are_expanded(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(saved.parent))
    assert "here.pt" == PhaseNetTeacher.from_pretrained("~/here.pt").name


def test_a_copy_of_a_versioned_file_without_its_description_names_the_description(teachers: Path, tmp_path: Path) -> None:
    shutil.copy(teachers / "okla.pt.v1", tmp_path)
    with pytest.raises(TeacherError, match=r"no file .*okla\.json\.v1"):
        PhaseNetTeacher.from_pretrained(str(tmp_path / "okla.pt.v1"))


def test_the_teacher_tells_what_it_read_off_the_model() -> None:
    model = phasenet(component_order="ZNE", phases="NPS", norm="std", norm_detrend=True)
    assert {
        "weights": "mine",
        "parameters": "268,443",
        "component order": "ZNE",
        "phases": "NPS",
        "normalisation": "std after detrending",
        "window": "3001 samples",
    } == PhaseNetTeacher(model, "mine").describe()


@pytest.fixture
def unlike() -> dict[str, PhaseNetTeacher]:
    """Two teachers of other orders, another normalisation and other weights."""
    torch.manual_seed(3)
    other = PhaseNet(component_order="ZNE", phases="NPS", norm="std").eval()
    for model in (other, first := phasenet()):
        torch.nn.init.normal_(model.out.weight, std=3)  # so that they are sure of something
    return {"one": PhaseNetTeacher(first, "one"), "two": PhaseNetTeacher(other, "two")}


def test_fused_teachers_give_the_mean_after_the_delays_are_removed(unlike: dict[str, PhaseNetTeacher], windows: torch.Tensor) -> None:
    one, two = unlike["one"](windows).numpy(), unlike["two"](windows).numpy()
    early = np.concatenate([one[..., 2:], one[..., -1:], one[..., -1:]], axis=-1)  # delay of 2 samples
    later = np.concatenate([two[..., :1], two[..., :-1]], axis=-1)  # delay of -1 sample
    fused = FusedTeacher(unlike, {"two": 6, "one": 2}, {"one": 2, "two": -1, "three": 9})
    np.testing.assert_allclose(0.25 * early + 0.75 * later, fused(windows), rtol=0, atol=1e-6)
    np.testing.assert_allclose((one + two) / 2, FusedTeacher(unlike, {}, {})(windows), rtol=0, atol=1e-6)
    assert np.abs(one - two).max() > 0.3  # so that the mean is neither of them


def test_fused_teachers_are_softened_as_one_teacher_is(unlike: dict[str, PhaseNetTeacher], windows: torch.Tensor) -> None:
    student = torch.randn(windows.shape, generator=torch.Generator().manual_seed(5))
    mean = np.mean([teacher(windows).numpy() for teacher in unlike.values()], axis=0, dtype=np.float64)
    target = mean ** (1 / 3) / (mean ** (1 / 3)).sum(axis=1, keepdims=True)
    soft = np.exp(student.numpy() / 3.0) / np.exp(student.numpy() / 3.0).sum(axis=1, keepdims=True)
    expected = 9 * (target * np.log(target / soft)).sum(axis=1).mean()
    loss = distillation_loss(student, FusedTeacher(unlike, {}, {}).logits(windows), 3.0)
    assert expected == pytest.approx(loss.item(), rel=1e-5)


def test_nothing_thaws_fused_teachers(unlike: dict[str, PhaseNetTeacher], windows: torch.Tensor) -> None:
    fused = FusedTeacher(unlike, {}, {})
    before = fused(windows)
    parent = nn.ModuleDict({"teacher": fused})
    parent.train().requires_grad_(True)
    assert {False} == {module.training for module in fused.modules()}
    tensors = [*fused.parameters(), *fused.buffers()]
    assert [False] * 2 * len(phasenet().state_dict()) == [tensor.requires_grad for tensor in tensors]
    live = fused.logits(windows.clone().requires_grad_())
    assert not live.requires_grad
    torch.testing.assert_close(fused(windows), before, rtol=0, atol=0)


def test_fused_teachers_tell_of_every_member(unlike: dict[str, PhaseNetTeacher]) -> None:
    assert {
        "weights": "one+two",
        "one": "weights one, parameters 268,443, component order ENZ, phases PSN, normalisation peak, window 3001 samples, "
        "weight 0.333, delay 2 samples",
        "two": "weights two, parameters 268,443, component order ZNE, phases NPS, normalisation std, window 3001 samples, "
        "weight 0.667, delay 0 samples",
    } == FusedTeacher(unlike, {"one": 1, "two": 2}, {"one": 2}).describe()


@pytest.mark.parametrize("weights", [{"one": 1}, {"one": 1, "two": 1, "three": 1}])
def test_weights_are_for_every_member_and_nobody_else(weights: dict[str, float], unlike: dict[str, PhaseNetTeacher]) -> None:
    with pytest.raises(ConfigError, match=r"do not fit the teachers one\+two; wanted one for each of them, or none"):
        FusedTeacher(unlike, weights, {})


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """A file such as the recipe of the bundled teacher makes."""
    torch.manual_seed(4)
    save_phasenet(new_phasenet(), tmp_path / "ours.pth", {"note": "made for a test"})
    return tmp_path / "ours.pth"


def test_a_phasenet_of_ours_is_read_as_it_was_saved_but_for_the_rounding(ours: Path, windows: torch.Tensor) -> None:
    torch.manual_seed(4)
    expected = new_phasenet().eval().half().float().state_dict()
    teacher = PhaseNetTeacher.from_pretrained(str(ours))
    assert [] == [name for name, weight in teacher.model.state_dict().items() if not torch.equal(expected[name], weight)]
    assert {"component order": "ENZ", "phases": "PSN", "normalisation": "peak after detrending"}.items() <= teacher.describe().items()
    assert torch.float32 == teacher(windows).dtype
    assert {"note": "made for a test"} == load_tensors(ours, "xiaonet-phasenet")["provenance"]


def test_a_window_of_the_student_is_what_a_phasenet_of_ours_gets(windows: torch.Tensor) -> None:
    normalised = torch.from_numpy(normalize(windows.numpy()))
    torch.testing.assert_close(new_phasenet().annotate_batch_pre(windows, {}), normalised, rtol=0, atol=1e-5)


def test_a_changed_weight_is_noticed(ours: Path) -> None:
    content = load_tensors(ours, "xiaonet-phasenet")
    content["weights"]["out.bias"][0] += 1
    save_tensors(ours, "xiaonet-phasenet", content)
    with pytest.raises(CheckpointError, match=r"ours\.pth is damaged: its weights are not the ones that were saved; copy it again"):
        load_phasenet(ours)


def test_weights_that_do_not_fit_are_damage(ours: Path) -> None:
    content = load_tensors(ours, "xiaonet-phasenet")
    del content["weights"]["out.bias"]
    save_tensors(ours, "xiaonet-phasenet", content)
    with pytest.raises(CheckpointError, match=r"ours\.pth is damaged: weights and arguments do not match"):
        load_phasenet(ours)


def test_a_student_is_no_such_teacher() -> None:
    with pytest.raises(CheckpointError, match=r"xiaonet\.pth is not a XiaoNet file: found \('xiaonet-model', 1\)"):
        PhaseNetTeacher.from_pretrained(str(WEIGHTS / "xiaonet.pth"))


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_bundled_teacher_is_refused(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = bytearray((WEIGHTS / "teacher.pth").read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "teacher.pth").write_bytes(raw if damage == "flipped" else raw[: len(raw) // 2])
    monkeypatch.setattr("xiaonet.nn.teacher.WEIGHTS", tmp_path)
    with pytest.raises(CheckpointError, match=r"teacher\.pth is damaged"):
        PhaseNetTeacher.from_pretrained("bundled")


def test_the_bundled_teacher_is_small_and_picks_a_real_record() -> None:
    teacher = PhaseNetTeacher.from_pretrained("bundled")
    assert ("bundled", "268,443") == (teacher.name, teacher.describe()["parameters"])
    assert (WEIGHTS / "teacher.pth").stat().st_size <= 600_000
    stream = obspy.read()  # 30 s of a local earthquake
    window = np.stack([stream.select(component=component)[0].data for component in "ENZ"])
    curves = teacher(torch.from_numpy(np.pad(window, ((0, 0), (0, 1)), mode="edge").astype(np.float32))[None])[0].numpy()
    np.testing.assert_allclose([471, 572], curves[:2].argmax(axis=1), rtol=0, atol=10)
    assert curves[:2].max(axis=1).min() > 0.3
