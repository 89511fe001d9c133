import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import obspy
import onnx
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xiaonet.errors import CheckpointError, ConfigError, WaveformError
from xiaonet.nn.checkpoint import load_model, read_model_file
from xiaonet.picker import Picker
from xiaonet.picking.windows import normalize
from xiaonet.runtime.cascade import Cascade
from xiaonet.runtime.checksum import add_checksum
from xiaonet.runtime.ensemble import Ensemble
from xiaonet.runtime.loading import load_predictor
from xiaonet.runtime.predictor import Predictor
from xiaonet.shipped import WEIGHTS, model_path, shipped_models

NANO = WEIGHTS / "xiaonet-nano.onnx"
RUNTIMES = ["onnxruntime", "openvino", "torch"]
NAMES = ["xiaonet", "xiaonet-int8", "xiaonet-nano", "xiaonet-nano-int8"]


@pytest.fixture(scope="module")
def windows() -> np.ndarray:
    """17 windows: a local earthquake at several places in noise, then noise alone, then nothing."""
    stream = obspy.read()
    record = np.stack([stream.select(component=component)[0].data for component in "ENZ"])
    rng = np.random.default_rng(0)
    shifted = [np.roll(np.pad(record, ((0, 0), (0, 1)), mode="edge"), 173 * shift, axis=1) for shift in range(12)]
    return normalize(np.stack([*shifted, *rng.standard_normal((4, 3, 3001)), np.zeros((3, 3001))]))


@pytest.fixture(scope="module")
def predictors() -> dict[str, Predictor]:
    """The narrow model on every runtime."""
    return {runtime: load_predictor("xiaonet-nano", runtime) for runtime in RUNTIMES}  # type: ignore[arg-type]


def by_torch(name: str, windows: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return load_model(WEIGHTS / f"{name}.pth")(torch.from_numpy(windows)).numpy()


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A file with a right checksum like the narrow model's, but with another header."""
    model = onnx.load(NANO)
    (entry,) = model.metadata_props
    header = json.loads(entry.value)
    change(header)
    entry.value = json.dumps({**header, "seal": "0" * 64})
    path.write_bytes(add_checksum(model.SerializeToString()))
    return path


def refused(path: Path, runtime: str = "onnxruntime") -> str:
    with pytest.raises(CheckpointError) as caught:
        load_predictor(path, runtime)  # type: ignore[arg-type]
    assert str(path) in str(caught.value)
    return str(caught.value)


def run(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Carry out the code in a Python of its own, as a user who has never been asked for telemetry."""
    asked = ("CI", "TF_BUILD", "JENKINS_URL", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {key: value for key, value in os.environ.items() if key not in asked}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=home, env={**environment, "HOME": str(home)}
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_gives_the_probabilities_of_torch(windows: np.ndarray, name: str, runtime: Any) -> None:
    probabilities = load_predictor(name, runtime)(windows)
    assert (np.float32, windows.shape) == (probabilities.dtype, probabilities.shape)
    np.testing.assert_allclose(by_torch(name, windows), probabilities, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("runtime", "tolerance"), [("onnxruntime", 0), ("openvino", 0), ("torch", 1e-5)])
@pytest.mark.parametrize("batch", [1, 2, 5, 8, 16])
def test_a_window_is_seen_alike_in_any_batch(
    windows: np.ndarray, predictors: dict[str, Predictor], runtime: str, tolerance: float, batch: int
) -> None:
    predictor = predictors[runtime]
    parts = np.concatenate([predictor(windows[start : start + batch]) for start in range(0, len(windows), batch)])
    np.testing.assert_allclose(predictor(windows), parts, rtol=0, atol=tolerance)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_several_threads_at_once_get_what_one_gets(windows: np.ndarray, predictors: dict[str, Predictor], runtime: str) -> None:
    predictor = predictors[runtime]
    batches = [windows[start % 12 : start % 12 + 1 + start % 5] for start in range(40)]
    expected = [predictor(batch) for batch in batches]
    with ThreadPoolExecutor(5) as pool:
        found = list(pool.map(predictor, batches))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_later_call_leaves_earlier_probabilities_and_windows_alone(
    windows: np.ndarray, predictors: dict[str, Predictor], runtime: str
) -> None:
    given_windows = windows.copy()
    first = predictors[runtime](given_windows[:4])
    kept = first.copy()
    first[0] += 1  # they belong to the caller
    predictors[runtime](given_windows[4:8])
    np.testing.assert_array_equal(kept[1:], first[1:])
    np.testing.assert_array_equal(windows, given_windows)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_windows_may_lie_anyhow_in_memory(windows: np.ndarray, predictors: dict[str, Predictor], runtime: str) -> None:
    expected = predictors[runtime](windows[:3])
    np.testing.assert_array_equal(expected, predictors[runtime](np.asfortranarray(windows[:3])))
    np.testing.assert_array_equal(expected, predictors[runtime](np.repeat(windows[:3], 2, axis=0)[::2]))
    fixed = windows[:3].copy()
    fixed.setflags(write=False)
    np.testing.assert_array_equal(expected, predictors[runtime](fixed))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_no_windows_give_no_probabilities(predictors: dict[str, Predictor], runtime: str) -> None:
    assert (0, 3, 3001) == predictors[runtime](np.empty((0, 3, 3001), np.float32)).shape


@pytest.mark.parametrize(
    ("shape", "dtype"), [((3, 3001), "float32"), ((2, 3, 3000), "float32"), ((2, 1, 3001), "float32"), ((2, 3, 3001), "float64")]
)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_windows_that_do_not_fit_are_refused(predictors: dict[str, Predictor], runtime: str, shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(WaveformError, match=re.escape(f"windows are {dtype} {shape}; wanted float32 (batch, 3, 3001)")):
        predictors[runtime](np.zeros(shape, dtype))


@pytest.mark.parametrize(
    ("runtime", "file"), [("onnxruntime", "xiaonet-nano.onnx"), ("openvino", "xiaonet-nano.onnx"), ("torch", "xiaonet-nano.pth")]
)
def test_a_predictor_tells_what_a_run_is_to_note(predictors: dict[str, Predictor], runtime: str, file: str) -> None:
    predictor = predictors[runtime]
    assert runtime == predictor.runtime
    assert read_model_file(WEIGHTS / "xiaonet-nano.pth")["thresholds"] == predictor.thresholds
    assert hashlib.sha256((WEIGHTS / file).read_bytes()).hexdigest() == predictor.digest
    assert re.fullmatch(rf"{file}, 16,578 parameters, {runtime} \d+\.\d+\.\d+\S*", predictor.description)


def test_shipped_models_are_these() -> None:
    assert NAMES == shipped_models()
    assert WEIGHTS / "xiaonet.pth" == model_path("xiaonet", ".pth")


@pytest.mark.parametrize("name", NAMES)
def test_both_files_of_a_shipped_model_say_the_same_and_name_no_folder(name: str) -> None:
    torch_file = read_model_file(WEIGHTS / f"{name}.pth")
    (entry,) = onnx.load(WEIGHTS / f"{name}.onnx").metadata_props
    header = json.loads(entry.value)
    for key in ("contract", "thresholds", "provenance"):
        assert torch_file[key] == header[key]
    assert f"by recipes/{name.removesuffix('-int8')}.json" in torch_file["provenance"]["note"]
    assert [] == [text for text in re.findall(r"[^\s\"']+", json.dumps(torch_file["provenance"])) if text.startswith(("/", "~", "\\"))]


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_and_precision_reach_the_runtime(threads: int) -> None:
    session = load_predictor("xiaonet-nano", "onnxruntime", threads)._session  # type: ignore[attr-defined]
    assert (threads, 1) == (session.get_session_options().intra_op_num_threads, session.get_session_options().inter_op_num_threads)
    assert "0" == session.get_session_options().get_session_config_entry("session.intra_op.allow_spinning")
    model = load_predictor("xiaonet-nano", "openvino", threads)._idle[0].get_compiled_model()  # type: ignore[attr-defined]
    assert (threads, False) == (model.get_property("INFERENCE_NUM_THREADS"), model.get_property("ENABLE_CPU_PINNING"))
    assert "float32" in str(model.get_property("INFERENCE_PRECISION_HINT"))


def test_torch_keeps_the_threads_that_the_process_chose(windows: np.ndarray) -> None:
    before = torch.get_num_threads()
    load_predictor("xiaonet-nano", "torch", before + 2)(windows[:1])
    assert before == torch.get_num_threads()


def test_auto_takes_torch_for_its_files_and_onnxruntime_for_all_else() -> None:
    assert "onnxruntime" == load_predictor("xiaonet-nano").runtime
    assert "onnxruntime" == load_predictor(NANO).runtime
    assert "torch" == load_predictor(str(WEIGHTS / "xiaonet-nano.pth")).runtime


@pytest.mark.parametrize(
    ("runtime", "command"),
    [
        ("onnxruntime", "pip install onnxruntime"),
        ("openvino", "pip install 'xiaonet[openvino]'"),
        ("torch", "pip install 'xiaonet[train]'"),
    ],
)
def test_a_runtime_that_is_not_installed_comes_with_its_command(monkeypatch: pytest.MonkeyPatch, runtime: Any, command: str) -> None:
    monkeypatch.setitem(sys.modules, runtime, None)
    with pytest.raises(ConfigError) as caught:
        load_predictor("xiaonet-nano", runtime)
    assert f"the runtime {runtime} is not installed: {command}" == str(caught.value)


def test_an_unknown_name_gets_near_ones_and_the_list() -> None:
    with pytest.raises(CheckpointError) as caught:
        load_predictor("xiaonet-nono")
    assert (
        "there is no model 'xiaonet-nono'; did you mean xiaonet-nano or xiaonet-nano-int8 or xiaonet-int8? "
        "There are xiaonet, xiaonet-int8, xiaonet-nano, xiaonet-nano-int8, or the path of a .onnx, .xml or .pth file"
    ) == str(caught.value)
    with pytest.raises(CheckpointError, match="there is no model 'xiaonet-int4'; did you mean xiaonet-int8 or "):
        load_predictor("xiaonet-int4")
    with pytest.raises(CheckpointError, match="there is no model 'stead'; there are xiaonet, xiaonet-int8, xiaonet-nano, "):
        load_predictor("stead")


def test_an_unknown_runtime_gets_near_ones_and_the_list() -> None:
    with pytest.raises(ConfigError) as caught:
        load_predictor("xiaonet-nano", "onnx-runtime")  # type: ignore[arg-type]
    assert "runtime is 'onnx-runtime'; did you mean onnxruntime? There are auto, onnxruntime, openvino, torch" == str(caught.value)


def test_no_threads_are_refused() -> None:
    with pytest.raises(ConfigError, match="threads is 0; wanted an integer from 1 to 1024"):
        load_predictor("xiaonet-nano", threads=0)


def test_a_runtime_that_cannot_read_the_file_says_what_it_reads() -> None:
    with pytest.raises(ConfigError, match=r"torch cannot read .*xiaonet-nano\.onnx; wanted a \.pth file"):
        load_predictor(NANO, "torch")
    with pytest.raises(
        ConfigError, match=r"openvino cannot read .*xiaonet\.pth; wanted a \.onnx or \.xml file, as xiaonet export writes it"
    ):
        load_predictor(WEIGHTS / "xiaonet.pth", "openvino")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_missing_file_is_named(tmp_path: Path, runtime: str) -> None:
    path = tmp_path / ("nowhere.pth" if runtime == "torch" else "nowhere.onnx")
    assert f"there is no file {path}" == refused(path, runtime)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    assert "could not be read" in refused(tmp_path / "folder.onnx")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("content", [b"", b"network,station\nOK,A01\n"])
def test_what_is_no_model_is_refused(tmp_path: Path, runtime: str, content: bytes) -> None:
    (tmp_path / "foreign.onnx").write_bytes(content)
    assert "damaged or not a XiaoNet model: it has no checksum; copy it again" in refused(tmp_path / "foreign.onnx", runtime)


def test_a_network_of_others_is_refused(tmp_path: Path) -> None:
    model = onnx.load(NANO)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    assert "not a XiaoNet model" in refused(tmp_path / "foreign.onnx")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.97, 0.99999])
def test_a_truncated_file_is_named(tmp_path: Path, share: float) -> None:
    raw = NANO.read_bytes()
    (tmp_path / "short.onnx").write_bytes(raw[: int(share * len(raw))])
    assert "damaged" in refused(tmp_path / "short.onnx")


@settings(max_examples=60, deadline=None)
@example(place=0.5, bit=0)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_noticed(tmp_path_factory: pytest.TempPathFactory, place: float, bit: int) -> None:
    raw = bytearray(NANO.read_bytes())
    raw[int(place * len(raw))] ^= 1 << bit
    path = tmp_path_factory.mktemp("flipped") / "flipped.onnx"
    path.write_bytes(raw)
    assert "is damaged" in refused(path)


def test_a_flipped_bit_in_the_checksum_is_noticed(tmp_path: Path) -> None:
    raw = bytearray(NANO.read_bytes())
    for at in range(raw.index(b'"seal"'), raw.index(b'"seal"') + 74):
        broken = bytes(raw[:at]) + bytes([raw[at] ^ 1]) + bytes(raw[at + 1 :])
        (tmp_path / "flipped.onnx").write_bytes(broken)
        assert "is damaged" in refused(tmp_path / "flipped.onnx")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("key", "value"), [("sampling_rate", 50.0), ("component_order", "ZNE"), ("phases", "NPS"), ("gain", 2)])
def test_a_file_of_another_input_specification_names_what_differs(tmp_path: Path, runtime: str, key: str, value: object) -> None:
    path = rewritten(tmp_path / "other.onnx", lambda header: header["contract"].update({key: value}))
    assert f"has another input specification: { ({key: value}) }; this XiaoNet wants {{'sampling_rate': 100.0" in refused(path, runtime)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_input_specification_that_lacks_an_entry_is_another(tmp_path: Path, runtime: str) -> None:
    path = rewritten(tmp_path / "other.onnx", lambda header: header["contract"].pop("normalisation"))
    assert "has another input specification: {'normalisation': None}" in refused(path, runtime)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_later_version_of_the_file_is_refused(tmp_path: Path, runtime: str) -> None:
    path = rewritten(tmp_path / "later.onnx", lambda header: header.update(version=2))
    assert "has an unknown format: found ('xiaonet-onnx', 2), wanted ('xiaonet-onnx', 1)" in refused(path, runtime)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_network_that_is_too_new_for_the_runtime_asks_for_a_newer_one(tmp_path: Path, runtime: str) -> None:
    model = onnx.load(NANO)
    model.graph.node[-1].op_type = "SofterMax"
    (entry,) = model.metadata_props
    entry.value = json.dumps({**json.loads(entry.value), "seal": "0" * 64})
    (tmp_path / "new.onnx").write_bytes(add_checksum(model.SerializeToString()))
    message = refused(tmp_path / "new.onnx", runtime)
    assert f"requires a newer {runtime}: " in message
    assert "; pip install -U " in message
    assert "Exception from" not in message


@pytest.mark.parametrize("kind", ["onnx", "pth"])
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_of_the_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str) -> None:
    """As after a broken installation: names of shipped models lead to files, which are checked like any other."""
    shutil.copytree(WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr("xiaonet.shipped.WEIGHTS", tmp_path / "weights")
    file = tmp_path / "weights" / f"{name}.{kind}"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1  # a bit of a weight
    file.write_bytes(raw)
    damage = "its content does not match its checksum" if kind == "onnx" else "the checksum of .* does not"
    message = f"{file} is damaged: {damage}"
    with pytest.raises(CheckpointError, match=message):
        Picker(name, runtime="torch" if kind == "pth" else "auto")


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(NANO, tmp_path / "mine.onnx")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "mine.onnx" in load_predictor("~/mine.onnx").description


class Drawn:
    """A stand-in for a network: gives the same curves to every window, and keeps what it was called with."""

    runtime = "drawn"

    def __init__(self, name: str, thresholds: dict[str, float], curves: Callable[[np.ndarray], np.ndarray]) -> None:
        self.description, self.digest, self.thresholds, self.curves = name, name * 2, thresholds, curves
        self.seen: list[np.ndarray] = []

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        self.seen.append(windows)
        return self.curves(windows)


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


def test_importing_loads_no_runtime_and_a_predictor_only_its_own(tmp_path: Path) -> None:
    code = """
import sys
from xiaonet.runtime.loading import load_predictor
heavy = "torch", "onnxruntime", "openvino", "onnx", "obspy", "scipy"
print([name for name in heavy if name in sys.modules])
load_predictor("xiaonet-nano", "onnxruntime")
print([name for name in heavy if name in sys.modules])
load_predictor("xiaonet-nano", "openvino")
print([name for name in heavy if name in sys.modules])
"""
    done = run(code, tmp_path)
    assert ("", ["[]", "['onnxruntime']", "['onnxruntime', 'openvino']"]) == (done.stderr, done.stdout.splitlines())


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_no_runtime_calls_home_or_leaves_files(tmp_path: Path, runtime: str) -> None:
    code = f"""
import socket, sys
def refuse(*arguments, **options):
    print("network", arguments)
    raise OSError("no network")
socket.getaddrinfo = socket.socket.connect = socket.create_connection = refuse
import numpy as np
from xiaonet.runtime.loading import load_predictor
print(load_predictor("xiaonet-nano", "{runtime}")(np.zeros((1, 3, 3001), np.float32)).shape)
print(sys.modules.get("openvino_telemetry", "absent"))
"""
    done = run(code, tmp_path)
    assert ("", ["(1, 3, 3001)", "absent"]) == (done.stderr, done.stdout.splitlines())
    assert [] == list(tmp_path.rglob("*"))  # onnxruntime's telemetry keeps a device's identifier below the home


def test_openvino_stays_whole_for_others(tmp_path: Path) -> None:
    code = """
from xiaonet.runtime.loading import load_predictor
load_predictor("xiaonet-nano", "openvino")
import openvino, openvino_telemetry
print(callable(openvino.convert_model), openvino_telemetry.__name__)
"""
    done = run(code, tmp_path)
    assert ("", "True openvino_telemetry\n") == (done.stderr, done.stdout)


def test_telemetry_that_is_loaded_already_stays_for_others(tmp_path: Path) -> None:
    code = """
import sys, types
mine = sys.modules["openvino_telemetry"] = types.ModuleType("openvino_telemetry")
from xiaonet.runtime.loading import load_predictor
load_predictor("xiaonet-nano", "openvino")
print(sys.modules["openvino_telemetry"] is mine)
"""
    done = run(code, tmp_path)
    assert ("", "True\n") == (done.stderr, done.stdout)


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


def test_a_member_of_another_input_specification_is_refused(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from xiaonet import XiaoNet, save_model
    from xiaonet.nn import checkpoint

    torch.manual_seed(0)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "input_specification", lambda: {"sampling_rate": 50.0})
        save_model(XiaoNet(base_channels=2), tmp_path / "slow.pth")
    with pytest.raises(CheckpointError, match=r"slow.pth has another input specification: .*'sampling_rate': 50.0"):
        load_predictor(f"xiaonet+{tmp_path / 'slow.pth'}")
