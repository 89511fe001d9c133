import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import obspy
import pytest
import requests
import seisbench
import torch
from seisbench.models import PhaseNet

import xiaonet.seisbench
from peaks_by_hand import onset_by_hand
from xiaonet.errors import CheckpointError, WaveformWarning
from xiaonet.nn.checkpoint import load_model, read_model_file, save_model
from xiaonet.picking.windows import normalize
from xiaonet.runtime.loading import load_predictor
from xiaonet.seisbench import XiaoNet
from xiaonet.shipped import WEIGHTS, model_path

SHIPPED = ["xiaonet", "xiaonet-int8", "xiaonet-nano", "xiaonet-nano-int8"]


@pytest.fixture(scope="module")
def model() -> XiaoNet:
    return XiaoNet.from_pretrained("xiaonet")


@pytest.fixture(scope="module")
def record(sds: Path) -> obspy.Stream:
    """Five minutes of Ridgecrest aftershocks at one station, components 1, 2, Z."""
    stream = obspy.read(str(sds / "2019" / "PB" / "B916" / "*" / "*"))
    start = stream[0].stats.starttime + 600
    return stream.slice(start, start + 300)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise requests.ConnectionError("no network in this test")

    monkeypatch.setattr(requests, "request", refuse)
    monkeypatch.setattr(requests.Session, "request", refuse)


def curves(stream: obspy.Stream) -> np.ndarray:
    """P, S and noise of one instrument, `(3, samples)`."""
    assert 3 == len(stream)
    return np.stack([stream.select(channel=f"XiaoNet_{phase}")[0].data for phase in "PSN"])


def picks(model: XiaoNet, stream: obspy.Stream, **options: float) -> list[tuple[str, str, str]]:
    return [(pick.trace_id, pick.phase, str(pick.peak_time)) for pick in model.classify(stream, **options).picks]


def test_it_is_what_seisbench_wants_of_a_picker(model: XiaoNet) -> None:
    assert ("ENZ", "PSN", 100.0, 3001) == (model.component_order, model.labels, model.sampling_rate, model.in_samples)
    assert ("XiaoNet", "array", (0, 3001)) == (model.name, model.output_type, model.pred_sample)
    assert not model.training
    assert "10.1093/gji/ggy423" in model.citation


def test_the_local_earthquake_of_obspy_is_picked(model: XiaoNet) -> None:
    expected = [("BW.RJOB.", "P", "2009-08-24T00:20:07"), ("BW.RJOB.", "S", "2009-08-24T00:20:08")]
    assert expected == [(trace_id, phase, time[:19]) for trace_id, phase, time in picks(model, obspy.read())]


def test_an_annotation_ends_where_a_short_record_ends(model: XiaoNet) -> None:
    stream = obspy.read()
    for seconds in (30, 12):
        cut = stream.slice(endtime=stream[0].stats.starttime + seconds)
        annotation = model.annotate(cut)
        assert ["XiaoNet_P", "XiaoNet_S", "XiaoNet_N"] == [trace.stats.channel for trace in annotation]
        for trace in annotation:
            assert (cut[0].stats.starttime, cut[0].stats.endtime, cut[0].stats.npts) == (
                trace.stats.starttime,
                trace.stats.endtime,
                trace.stats.npts,
            )


def test_short_records_of_two_stations_keep_their_own_ends(model: XiaoNet) -> None:
    first, second = obspy.read(), obspy.read()
    for trace in second:
        trace.stats.station = "OTHER"
    second.trim(endtime=second[0].stats.endtime - 10)
    annotation = model.annotate(first + second)
    ends = {trace.stats.station: trace.stats.endtime for trace in annotation}
    assert {"RJOB": first[0].stats.endtime, "OTHER": second[0].stats.endtime} == ends


def test_a_stream_is_left_as_it_was(model: XiaoNet) -> None:
    stream = obspy.read()
    model.annotate(stream)
    assert obspy.read() == stream


def test_without_a_stream_there_is_nothing(model: XiaoNet) -> None:
    assert 0 == len(model.annotate(obspy.Stream()))
    assert 0 == len(model.classify(obspy.Stream()).picks)


def told(model: XiaoNet, stream: obspy.Stream) -> list[str]:
    """What `classify` and `annotate` warn of, which is the same."""
    found = []
    for method in (model.classify, model.annotate):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            method(stream)
        found.append([str(one.message) for one in caught if one.category is WaveformWarning])
    assert found[0] == found[1]
    return found[0]


def test_traces_that_cannot_be_picked_are_named_as_the_picker_names_them(model: XiaoNet) -> None:
    stream = obspy.read()
    for code, rate in (("BDH", 100.0), ("HHA", 100.0), ("LHZ", 1.0)):
        [trace] = stream.select(channel="EHZ").copy()
        trace.stats.channel, trace.stats.sampling_rate = code, rate
        stream += trace
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        xiaonet.Picker("xiaonet").pick(stream)
    expected = [str(one.message) for one in caught]
    assert 3 == len(expected)
    assert expected == told(model, stream)
    assert picks(model, obspy.read()) == picks(model, stream)


def test_a_stream_in_order_gives_no_warning(model: XiaoNet, record: obspy.Stream) -> None:
    assert [] == told(model, obspy.read()) == told(model, record)


def test_dead_channels_are_named(model: XiaoNet) -> None:
    stream = obspy.read()
    stream[1].data[:] = 7
    stream[2].data = np.full(3000, np.nan)
    names = [trace.id for trace in stream]
    expected = [f"{names[2]}: no sample in the picked time is a number; no data", f"{names[1]}: all samples are equal (7); no data"]
    assert expected == told(model, stream)


@pytest.mark.parametrize("codes", ["XYZ", "12Z", "UVW", ("EW1", "NS1", "UD1")])
def test_channels_of_other_names_are_the_components_that_the_picker_takes_them_for(model: XiaoNet, codes: Sequence[str]) -> None:
    stream = obspy.read()
    expected = model.annotate(stream)
    for code, component in zip(codes, "NEZ" if codes == "12Z" else "ENZ", strict=True):
        [trace] = stream.select(component=component)
        trace.stats.channel = code if len(code) == 3 else f"HH{code}"
    assert [] == told(model, stream)
    found = model.annotate(stream)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.data, other.data)


def test_a_second_channel_of_a_component_is_named(model: XiaoNet) -> None:
    stream = obspy.read()
    [other] = stream.select(component="N").copy()
    other.stats.channel, other.data = "EH1", other.data[::-1]
    expected = [f"{other.id}: left out; {other.id[:-1]}N records the same component"]
    assert expected == told(model, stream + obspy.Stream([other]))
    assert picks(model, stream) == picks(model, stream + obspy.Stream([other]))


def test_instruments_that_seisbench_mixes_are_named(model: XiaoNet) -> None:
    stream = obspy.read()
    for trace in obspy.read():
        trace.stats.channel = f"HN{trace.stats.channel[-1]}"
        stream += trace
    note = "BW.RJOB: 2 instruments have data at the same time (BW.RJOB..EH, BW.RJOB..HN)"
    assert [f"{note}; SeisBench mixes those of one location: choose one with stream.select(channel='HH?')"] == told(model, stream)


def test_pieces_that_disagree_are_named(model: XiaoNet) -> None:
    stream = obspy.read()
    [copy] = stream.select(component="Z").copy()
    copy.data = copy.data[::-1]
    start = stream[0].stats.starttime
    reason = f"{copy.id}: 30.0 s from {start} left out because two pieces disagree; SeisBench uses neither"
    assert [reason] == told(model, stream + obspy.Stream([copy]))


def test_parts_that_are_too_short_for_seisbench_are_named(model: XiaoNet, record: obspy.Stream) -> None:
    start = record[0].stats.starttime
    stream = record.slice(start, start + 100) + record.slice(start + 120, start + 130) + record.slice(start + 200, start + 300)
    expected = [f"{trace.id}: 10.0 s from {start + 120} left out because SeisBench picks no part of less than 30 s" for trace in record]
    assert sorted(expected) == sorted(told(model, stream))


def test_probabilities_equal_those_of_our_own_predictor(model: XiaoNet, record: obspy.Stream) -> None:
    predictor = load_predictor("xiaonet", "onnxruntime")
    waveform = np.stack([record.select(component=component)[0].data for component in "21Z"])  # as E, N, Z
    for start in range(0, 27001, 4500):
        window = record.slice(record[0].stats.starttime + start / 100, record[0].stats.starttime + start / 100 + 30)
        expected = predictor(normalize(waveform[None, :, start : start + 3001]))[0]
        np.testing.assert_allclose(expected, curves(model.annotate(window)), rtol=0, atol=1e-4)


def test_overlapping_windows_are_averaged_over_a_real_record(model: XiaoNet, record: obspy.Stream) -> None:
    waveform = np.stack([record.select(component=component)[0].data for component in "21Z"])
    predictor = load_predictor("xiaonet", "onnxruntime")
    starts = [*range(0, 27000, 1501), 27000]  # SeisBench's windows: 1500 samples of overlap, the last one flush
    total, count = np.zeros((3, 30001)), np.zeros(30001)
    for start in starts:
        total[:, start : start + 3001] += predictor(normalize(waveform[None, :, start : start + 3001]))[0]
        count[start : start + 3001] += 1
    np.testing.assert_allclose(total / count, curves(model.annotate(record)), rtol=0, atol=1e-4)


def test_onsets_are_read_between_samples_as_in_the_picker(model: XiaoNet, record: obspy.Stream) -> None:
    found, curve = model.classify(record).picks, model.annotate(record)
    assert len(found) >= 10
    for pick in found:
        [own] = curve.select(channel=f"XiaoNet_{pick.phase}")
        first, last = (round((time - own.stats.starttime) * 100) for time in (pick.start_time, pick.end_time))
        peak = first + int(own.data[first : last + 1].argmax())
        onset = min(max(onset_by_hand(own.data, peak), first), last)
        assert (own.stats.starttime + onset / 100).ns == pick.peak_time.ns
        assert own.data[peak] == pick.peak_value


def test_a_real_record_gives_picks_like_those_of_its_teacher(model: XiaoNet, record: obspy.Stream, teachers: Path) -> None:
    ours, theirs = model.classify(record).picks, PhaseNet.from_pretrained("stead").classify(record, P_threshold=0.3, S_threshold=0.3).picks
    assert 4 <= len(theirs)
    near = [any(one.phase == other.phase and abs(one.peak_time - other.peak_time) < 0.5 for one in ours) for other in theirs]
    assert 0.7 <= np.mean(near)


@pytest.mark.parametrize("factor", [1e-12, 3.7e-6, 1e6])
def test_a_change_of_units_changes_nothing(model: XiaoNet, record: obspy.Stream, factor: float) -> None:
    scaled = record.copy()
    for trace in scaled:
        trace.data = trace.data * factor
    np.testing.assert_allclose(curves(model.annotate(record)), curves(model.annotate(scaled)), rtol=0, atol=1e-4)
    assert picks(model, record) == picks(model, scaled)


def test_a_large_offset_changes_nothing(model: XiaoNet, record: obspy.Stream) -> None:
    shifted = record.copy()
    for trace in shifted:
        trace.data = trace.data + 10**8
    np.testing.assert_allclose(curves(model.annotate(record)), curves(model.annotate(shifted)), rtol=0, atol=1e-4)


def test_samples_that_are_not_finite_spoil_only_themselves(model: XiaoNet, record: obspy.Stream) -> None:
    broken = record.copy()
    for trace in broken:
        trace.data = trace.data.astype(float)
        trace.data[20_000:20_003] = np.nan
    probabilities = curves(model.annotate(broken))
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(curves(model.annotate(record))[:, :15_000], probabilities[:, :15_000], rtol=0, atol=0.02)


def test_another_sampling_rate_is_resampled(model: XiaoNet, record: obspy.Stream) -> None:
    double = record.copy().resample(200.0)
    annotation = model.annotate(double)
    assert {100.0} == {trace.stats.sampling_rate for trace in annotation}
    assert picks(model, double)


def test_thresholds_of_the_weights_hold_unless_others_are_given(model: XiaoNet, record: obspy.Stream) -> None:
    heights = {f"{phase}_threshold": height for phase, height in read_model_file(model_path("xiaonet", ".pth"))["thresholds"].items()}
    assert heights == model.default_args
    assert picks(model, record) == picks(model, record, **heights)
    assert len(picks(model, record, P_threshold=0.9, S_threshold=0.9)) < len(picks(model, record))


def test_blinding_discards_the_edges_of_windows(model: XiaoNet, record: obspy.Stream) -> None:
    annotation = model.annotate(record, blinding=(250, 250))
    assert 30_001 - 500 == curves(annotation).shape[1]


def test_what_is_saved_comes_back(tmp_path: Path, record: obspy.Stream) -> None:
    torch.manual_seed(0)
    fresh = XiaoNet(base_channels=3, dropout=0.25, dilations=((1, 2),) * 7).eval()
    fresh.default_args["P_threshold"] = 0.4
    fresh.save(tmp_path / "mine", weights_docstring="for a test", version_str="2")
    loaded = XiaoNet.load(tmp_path / "mine", version_str="2").eval()
    assert (fresh.network.arguments, {"P_threshold": 0.4}, "for a test") == (
        loaded.network.arguments,
        loaded.default_args,
        loaded.weights_docstring,
    )
    np.testing.assert_array_equal(curves(fresh.annotate(record)), curves(loaded.annotate(record)))


def test_shipped_weights_survive_saving(model: XiaoNet, tmp_path: Path, record: obspy.Stream) -> None:
    model.save(tmp_path / "mine")
    loaded = XiaoNet.load(tmp_path / "mine")
    assert picks(model, record) == picks(loaded, record)
    assert model.default_args == loaded.default_args


def test_a_quantized_model_picks_in_seisbench_and_survives_saving(tmp_path: Path, record: obspy.Stream) -> None:
    model = XiaoNet.from_pretrained("xiaonet-int8")
    assert torch.int8 == model.network.encoder[0][1].weight.dtype
    assert (torch.device("cpu"), False) == (model.device, model.training)
    window = record.slice(record[0].stats.starttime, record[0].stats.starttime + 30)
    waveform = np.stack([window.select(component=component)[0].data for component in "21Z"])  # as E, N, Z
    expected = load_predictor("xiaonet-int8")(normalize(waveform[None]))[0]
    np.testing.assert_allclose(expected, curves(model.annotate(window)), rtol=0, atol=0.02)  # SeisBench's window is float32
    found = picks(model, record)
    assert 4 <= len(found)
    model.save(tmp_path / "rounded")
    loaded = XiaoNet.load(tmp_path / "rounded")
    assert torch.int8 == loaded.network.encoder[0][1].weight.dtype
    assert found == picks(loaded, record)


def test_a_model_file_becomes_a_model_of_seisbench(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = xiaonet.XiaoNet(base_channels=2)
    save_model(network, tmp_path / "model.pth", {"note": "trained on nothing"}, {"P": 0.6, "S": 0.7})
    model = XiaoNet.from_file(tmp_path / "model.pth")
    assert {"P_threshold": 0.6, "S_threshold": 0.7} == model.default_args
    assert ("trained on nothing", False) == (model.weights_docstring, model.training)
    windows = torch.rand(2, 3, 3001) - 0.5
    with torch.inference_mode():
        assert torch.equal(network.eval()(windows), model(windows))
        assert torch.equal(network.logits(windows), model(windows, logits=True))


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.usefixtures("no_network")
def test_shipped_weights_come_without_network(name: str) -> None:
    model = XiaoNet.from_pretrained(name, update=True)
    expected = load_model(WEIGHTS / f"{name}.pth").state_dict()
    assert expected.keys() == model.network.state_dict().keys()
    assert all(torch.equal(tensor, model.network.state_dict()[key]) for key, tensor in expected.items())
    assert ("1", ["1"]) == (model.weights_version, XiaoNet.list_versions(name))
    assert f"by recipes/{name.removesuffix('-int8')}.json" in model.weights_docstring


@pytest.mark.usefixtures("no_network")
def test_weights_in_the_cache_of_seisbench_are_found_and_listed_beside_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seisbench, "cache_model_root", tmp_path)
    assert SHIPPED == XiaoNet.list_pretrained()
    fresh = XiaoNet(base_channels=2)
    (tmp_path / "xiaonet").mkdir(exist_ok=True)
    fresh.save(tmp_path / "xiaonet" / "mine", weights_docstring="my own", version_str="3")
    assert ["mine", *SHIPPED] == XiaoNet.list_pretrained()
    assert "my own" == XiaoNet.list_pretrained(details=True)["mine"]
    assert ["3"] == XiaoNet.list_versions("mine", remote=False)
    loaded = XiaoNet.from_pretrained("mine")
    assert torch.equal(fresh.network.head.weight, loaded.network.head.weight)


@pytest.mark.usefixtures("no_network")
def test_unknown_weights_get_near_names_and_the_list() -> None:
    with pytest.raises(CheckpointError, match=r"there is no model 'xiaonet-nona'; did you mean xiaonet-nano or xiaonet-int8 or xiaonet\?"):
        XiaoNet.from_pretrained("xiaonet-nona")


def test_an_unknown_version_of_shipped_weights_is_refused() -> None:
    with pytest.raises(CheckpointError, match="xiaonet has version 1, not 7; omit version_str"):
        XiaoNet.from_pretrained("xiaonet", version_str="7")


def test_it_does_not_hide_seisbench_from_those_who_work_inside_the_package() -> None:
    folder = Path(xiaonet.__file__).parent
    done = subprocess.run([sys.executable, "-c", "import seisbench"], cwd=folder, capture_output=True, text=True, check=False)
    assert "ImportError: this is xiaonet/seisbench.py, not SeisBench: " in done.stderr
