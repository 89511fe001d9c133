import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from native_library import COMPILER
from xiaonet.errors import CheckpointError, ConfigError, WaveformError
from xiaonet.nn.checkpoint import load_model, read_model_file
from xiaonet.runtime import native_runtime
from xiaonet.runtime.loading import load_predictor
from xiaonet.runtime.predictor import Predictor
from xiaonet.shipped import WEIGHTS, model_path, shipped_models

NANO = WEIGHTS / "xiaonet-nano.onnx"
COMPILED = pytest.mark.skipif(COMPILER is None, reason="needs gcc or clang")
RUNTIMES = ["onnxruntime", "openvino", pytest.param("native", marks=COMPILED), "torch"]
NAMES = ["xiaonet", "xiaonet-int8", "xiaonet-nano", "xiaonet-nano-int8"]


@pytest.fixture(scope="module")
def predictors() -> dict[str, Predictor]:
    """The narrow model on every runtime."""
    runtimes = ["onnxruntime", "openvino", *(["native"] if COMPILER else []), "torch"]
    return {runtime: load_predictor("xiaonet-nano", runtime) for runtime in runtimes}  # type: ignore[arg-type]


def by_torch(name: str, windows: np.ndarray) -> np.ndarray:
    """Probabilities in float64, whose own rounding leaves the tolerance to the runtime."""
    with torch.inference_mode():
        return load_model(WEIGHTS / f"{name}.pth").double()(torch.from_numpy(windows).double()).numpy()


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


@pytest.mark.parametrize(
    ("runtime", "tolerance"), [("onnxruntime", 0), ("openvino", 0), pytest.param("native", 0, marks=COMPILED), ("torch", 1e-5)]
)
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
def test_windows_of_other_lengths_give_as_many_probabilities(windows: np.ndarray, predictors: dict[str, Predictor], runtime: str) -> None:
    long = predictors[runtime](np.concatenate([windows[:2, :, :3000], windows[2:4, :, :3000]], axis=2))
    assert (2, 3, 6000) == long.shape
    # Half of the receptive field away from the join, the join makes no difference.
    np.testing.assert_allclose(predictors[runtime](windows[:2])[:, :, :2480], long[:, :, :2480], rtol=0, atol=1e-5)


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
    ("shape", "dtype"),
    [((3, 3001), "float32"), ((2, 3, 3002), "float32"), ((2, 3, 0), "float32"), ((2, 1, 3001), "float32"), ((2, 3, 3001), "float64")],
)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_windows_that_do_not_fit_are_refused(predictors: dict[str, Predictor], runtime: str, shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(WaveformError, match=re.escape(f"windows are {dtype} {shape}; wanted float32 (batch, 3, 3001)")):
        predictors[runtime](np.zeros(shape, dtype))


@pytest.mark.parametrize(
    ("runtime", "file"),
    [
        ("onnxruntime", "xiaonet-nano.onnx"),
        ("openvino", "xiaonet-nano.onnx"),
        pytest.param("native", "xiaonet-nano.onnx", marks=COMPILED),
        ("torch", "xiaonet-nano.pth"),
    ],
)
def test_a_predictor_tells_what_a_run_is_to_note(predictors: dict[str, Predictor], runtime: str, file: str) -> None:
    predictor = predictors[runtime]
    assert runtime == predictor.runtime
    assert read_model_file(WEIGHTS / "xiaonet-nano.pth")["thresholds"] == predictor.thresholds
    assert hashlib.sha256((WEIGHTS / file).read_bytes()).hexdigest() == predictor.digest
    assert re.fullmatch(
        rf"{file}, 16,578 parameters, {runtime} \d+\.\d+\.\d+\S*( \((portable|avx2|avxvnni|avx512)\))?", predictor.description
    )


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


@COMPILED
@pytest.mark.parametrize(("instructions", "runtime"), [("portable", "onnxruntime"), ("avx2", "native"), ("avx512", "native")])
def test_auto_takes_torch_for_its_files_and_native_for_all_else_where_it_is_fast(
    monkeypatch: pytest.MonkeyPatch, instructions: str, runtime: str
) -> None:
    monkeypatch.setattr(native_runtime, "usable_instructions", lambda library: ["portable", "avx2", "avx512"])
    monkeypatch.setattr(native_runtime, "_Model", lambda *arguments: None)  # this processor may lack them
    monkeypatch.setenv("XIAONET_INSTRUCTIONS", instructions)
    for model in ("xiaonet-nano", NANO):
        assert runtime == load_predictor(model).runtime
        assert "onnxruntime" == load_predictor(model, "onnxruntime").runtime
    assert "torch" == load_predictor(str(WEIGHTS / "xiaonet-nano.pth")).runtime


def test_auto_takes_onnxruntime_where_native_was_not_built_and_the_model_line_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(native_runtime, "FOLDER", tmp_path)
    predictor, asked = load_predictor("xiaonet-nano"), load_predictor("xiaonet-nano", "onnxruntime")
    assert "onnxruntime" == predictor.runtime
    assert predictor.description == asked.description
    assert predictor.note == "the runtime native was not built, because there was no C compiler or it failed"
    with pytest.raises(ConfigError, match="or it failed: install XiaoNet again where there is a C compiler"):
        load_predictor("xiaonet-nano", "native")


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
    assert "runtime is 'onnx-runtime'; did you mean onnxruntime? There are auto, onnxruntime, openvino, native, torch" == str(caught.value)


def test_no_threads_are_refused() -> None:
    with pytest.raises(ConfigError, match="threads is 0; wanted an integer from 1 to 1024"):
        load_predictor("xiaonet-nano", threads=0)


@pytest.mark.parametrize("threads", ["two", None, 1.5, [1]])
def test_threads_that_are_no_integer_are_refused(threads: Any) -> None:
    with pytest.raises(ConfigError, match=f"threads is {re.escape(repr(threads))}; wanted an integer from 1 to 1024"):
        load_predictor("xiaonet-nano", threads=threads)


@pytest.mark.parametrize("model", [None, 5, b"xiaonet", ["xiaonet"], NANO.open])
def test_a_model_that_is_neither_name_nor_path_is_refused(model: Any) -> None:
    with pytest.raises(ConfigError, match=f"model is {re.escape(repr(model))}; wanted the name of a shipped model or the path"):
        load_predictor(model)


@pytest.mark.parametrize("runtime", [None, 5, [], {}])
def test_a_runtime_that_is_no_name_is_refused(runtime: Any) -> None:
    with pytest.raises(ConfigError, match=f"runtime is {re.escape(repr(runtime))}; there are auto, onnxruntime"):
        load_predictor("xiaonet-nano", runtime)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "~nobody-here/model", ".", "~", "no/such/folder"])
def test_names_that_no_file_can_have_are_unknown_models(name: str) -> None:
    with pytest.raises(CheckpointError, match="there is no model"):
        load_predictor(name)
    with pytest.raises(CheckpointError, match=r"there is no (file|model)|could not be read"):
        load_predictor(f"{name}.onnx")


def test_a_runtime_that_cannot_read_the_file_says_what_it_reads() -> None:
    with pytest.raises(ConfigError, match=r"torch cannot read .*xiaonet-nano\.onnx; wanted a \.pth file"):
        load_predictor(NANO, "torch")
    with pytest.raises(
        ConfigError, match=r"openvino cannot read .*xiaonet\.pth; wanted a \.onnx or \.xml file, as xiaonet export writes it"
    ):
        load_predictor(WEIGHTS / "xiaonet.pth", "openvino")


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(NANO, tmp_path / "mine.onnx")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "mine.onnx" in load_predictor("~/mine.onnx").description


def test_importing_loads_no_runtime_and_a_predictor_only_its_own(tmp_path: Path) -> None:
    code = """
import sys
from xiaonet.runtime import native_runtime
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
from xiaonet.runtime import native_runtime
from xiaonet.runtime.loading import load_predictor
print(load_predictor("xiaonet-nano", "{runtime}")(np.zeros((1, 3, 3001), np.float32)).shape)
print(sys.modules.get("openvino_telemetry", "absent"))
"""
    done = run(code, tmp_path)
    assert ("", ["(1, 3, 3001)", "absent"]) == (done.stderr, done.stdout.splitlines())
    assert [] == list(tmp_path.rglob("*"))  # onnxruntime's telemetry keeps a device's identifier below the home


def test_signals_arrive_after_openvino_was_closed(tmp_path: Path) -> None:
    code = """
import gc, signal
from xiaonet.runtime.loading import load_predictor
predictors = [load_predictor("xiaonet-nano", "openvino") for _ in range(2)]
while predictors:  # the first is closed first
    del predictors[0]
    gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("interrupted"))
signal.raise_signal(signal.SIGINT)
"""
    done = run(code, tmp_path)
    assert (0, "", "interrupted\n") == (done.returncode, done.stderr, done.stdout)


def test_openvino_stays_whole_for_others(tmp_path: Path) -> None:
    code = """
from xiaonet.runtime import native_runtime
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
from xiaonet.runtime import native_runtime
from xiaonet.runtime.loading import load_predictor
load_predictor("xiaonet-nano", "openvino")
print(sys.modules["openvino_telemetry"] is mine)
"""
    done = run(code, tmp_path)
    assert ("", "True\n") == (done.stderr, done.stdout)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_tile_of_a_record_is_computed_alike_whatever_else_is_wanted(
    windows: np.ndarray, predictors: dict[str, Predictor], runtime: str
) -> None:
    tiles, predictor = 70, predictors[runtime]
    record = np.ascontiguousarray(np.concatenate(list(windows[:13]), axis=1)[:, : tiles * 512])
    whole = predictor.infer(record[None])[0]  # type: ignore[attr-defined]
    some = np.zeros(tiles, dtype=bool)
    some[[1, 2, 3, 5, 20, 21, 68]] = True
    every = np.ones(tiles, dtype=bool)
    every[[0, -1]] = False
    for wanted in (some, every):
        found, inside = predictor.curves(record, wanted), np.repeat(wanted, 512)
        np.testing.assert_allclose(found[:, inside], whole[:, inside], rtol=0, atol=1e-5)
        assert not found[:, ~inside].any()
    assert not predictor.curves(record, np.zeros(tiles, dtype=bool)).any()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_around_a_candidate_all_runtimes_give_the_same(windows: np.ndarray, predictors: dict[str, Predictor], runtime: str) -> None:
    cuts = np.ascontiguousarray(windows[:3, :, 500:1739])
    found = predictors[runtime].around(cuts)
    expected = np.mean(
        [predictors["torch"](windows[:3, :, 500 + place : 1732 + place])[..., 523 - place : 724 - place] for place in range(8)], axis=0
    )
    np.testing.assert_allclose(expected, found, rtol=0, atol=1e-5)
    assert (0, 3, 201) == predictors[runtime].around(cuts[:0]).shape
