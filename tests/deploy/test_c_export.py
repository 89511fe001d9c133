"""The C of `xiaonet export --format c`, compiled and run on this machine, against torch, onnxruntime and NumPy."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import obspy
import pytest
import torch

from c_program import build, compiler
from xiaonet import XiaoNet, load_model, save_model
from xiaonet.deploy.c_export import self_test, to_c
from xiaonet.deploy.c_reference import Layer, layers_of, logits, normalize_counts, outputs
from xiaonet.deploy.onnx import export_onnx
from xiaonet.deploy.quantize import largest_samples
from xiaonet.errors import ConfigError, OutputError
from xiaonet.nn.checkpoint import read_model_file
from xiaonet.nn.quantized import QuantizedConv, QuantizedXiaoNet, folded, shared_steps
from xiaonet.picking.windows import normalize
from xiaonet.runtime.loading import load_predictor
from xiaonet.shipped import model_path

SHIPPED = ("xiaonet-nano-int8", "xiaonet-int8")
# Windows from the standard input to logits on the standard output, and the number of clipped counts of each.
MAIN = """
#include <stdio.h>
#include <string.h>
#include "xiaonet.h"
static xn_state state;
static xn_raw raw;
static xn_logits logits;
int main(void)
{
    memset(&state, 0xA5, sizeof state); /* as uninitialised as memory can be */
    while (fread(&raw, sizeof raw, 1, stdin) == 1) {
        int32_t clipped = xn_window(&state, &raw, &logits);
        fwrite(&clipped, sizeof clipped, 1, stdout);
        fwrite(&logits, sizeof logits, 1, stdout);
    }
    return 0;
}
"""


def run_c(program: Path, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits `(windows, 3, 3001)` and the number of clipped counts of each window, as the C gives them."""
    done = subprocess.run([program], input=windows.astype(np.int32).tobytes(), capture_output=True, check=False)
    assert (0, b"") == (done.returncode, done.stderr)
    found = np.frombuffer(done.stdout, np.int32).reshape(len(windows), 1 + 3 * 3001)
    return found[:, 1:].reshape(-1, 3, 3001), found[:, 0]


def torch_logits(model: QuantizedXiaoNet, layers: list[Layer], raw: np.ndarray) -> np.ndarray:
    """Logits of torch in the unit of the C, with the head in whole numbers."""
    bits = int(layers[-1].bits[0])
    model.head.weight.copy_(torch.from_numpy(layers[-1].weight / 2**bits))
    model.head.bias.copy_(torch.from_numpy(layers[-1].bias / 2**bits))
    windows = np.stack([normalize_counts(window) for window in raw]) / 2048
    with torch.inference_mode():
        return model.logits(torch.from_numpy(windows.astype(np.float32))).double().numpy() * 2**bits


@pytest.fixture(scope="module")
def example() -> np.ndarray:
    """A real window of counts, and the same with its components and its time in other orders, `(3, 3, 3001)`."""
    stream = obspy.read()
    traces = np.stack([np.append(stream.select(component=component)[0].data, 0) for component in "ENZ"]).round().astype(np.int32)
    return np.stack([traces, traces[::-1], traces[:, ::-1] * 3000])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped small model, quantized here, as `int8.pth` and `int8.onnx`."""
    folder = tmp_path_factory.mktemp("c")
    model = load_model(model_path("xiaonet-nano", ".pth"))
    windows = normalize(np.random.default_rng(0).normal(size=(8, 3, 3001)).cumsum(axis=-1))
    steps = shared_steps(largest_samples(model, torch.from_numpy(windows)))
    save_model(QuantizedXiaoNet.from_convolutions(model.arguments, folded(model), steps), folder / "int8.pth", {"note": "a test"})
    export_onnx(folder / "int8.pth", folder / "int8.onnx")
    return folder


@pytest.fixture(scope="module")
def program(folder: Path) -> Path:
    """The compiled C of `int8.pth`."""
    to_c(folder / "int8.pth", folder / "c")
    return build(folder / "c", MAIN)


def test_c_gives_the_logits_of_torch_to_the_bit_and_the_probabilities_of_onnxruntime(
    folder: Path, program: Path, example: np.ndarray
) -> None:
    model = load_model(folder / "int8.pth")
    layers = layers_of(model)
    before = model.head.weight.clone()
    found, clipped = run_c(program, example)
    np.testing.assert_array_equal(torch_logits(model, layers, example), found)
    assert torch.equal(before, model.head.weight)  # the quantizer has rounded the head
    assert [0, 0, 0] == clipped.tolist()
    windows = np.stack([normalize_counts(window) for window in example]).astype(np.float32) / 2048
    given = torch.from_numpy(found / 2.0 ** layers[-1].bits[0]).softmax(dim=1).numpy()
    np.testing.assert_allclose(given, load_predictor(folder / "int8.onnx", "onnxruntime")(windows), rtol=0, atol=1e-6)


def test_numpy_gives_what_every_layer_of_torch_gives(folder: Path, example: np.ndarray) -> None:
    model = load_model(folder / "int8.pth")
    window = normalize_counts(example[0])
    seen: list[np.ndarray] = []
    for module in model.modules():
        if isinstance(module, QuantizedConv):
            module.register_forward_hook(lambda module, given, x: seen.append(x[0].double().numpy()))
    with torch.inference_mode():
        model.logits(torch.from_numpy(window / 2048).float()[None])
    layers = layers_of(model)
    found = outputs(layers, window)
    assert 15 == len(seen) == len(found)
    for layer, one, other in zip(layers, seen, found, strict=True):
        np.testing.assert_array_equal(one * (2 ** layer.bits[0] if layer.name == "head" else 1), other, err_msg=layer.name)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_give_the_logits_of_torch_on_a_real_record(name: str, sds: Path, tmp_path: Path) -> None:
    traces = [obspy.read(next(sds.glob(f"2019/PB/B916/EH{channel}.D/*")))[0] for channel in "12Z"]
    assert all(trace.data.dtype == np.int32 for trace in traces)
    counts = np.stack([trace.data[: min(map(len, traces))] for trace in traces])
    starts = np.linspace(0, counts.shape[1] - 3001, 6).astype(int)
    windows = np.stack([counts[:, start : start + 3001] for start in starts])
    to_c(model_path(name, ".pth"), tmp_path)
    model = load_model(model_path(name, ".pth"))
    found, _ = run_c(build(tmp_path, MAIN), windows)
    np.testing.assert_array_equal(torch_logits(model, layers_of(model), windows), found)


def test_the_onnx_file_makes_the_same_c(folder: Path, program: Path) -> None:
    again = to_c(folder / "int8.onnx", folder / "from-onnx")
    assert ["xiaonet.h", "xiaonet.c", "README.md"] == [path.name for path in again]
    for path in again:
        assert (folder / "c" / path.name).read_text() == path.read_text()


def test_the_example_in_the_readme_prints_what_it_says(folder: Path, program: Path, tmp_path: Path) -> None:
    for name in ("xiaonet.h", "xiaonet.c"):
        shutil.copy(folder / "c" / name, tmp_path)
    page = (folder / "c" / "README.md").read_text()
    (main,) = re.findall(r"```c\n(.*?)```", page, re.S)
    printed = subprocess.run([build(tmp_path, main)], capture_output=True, text=True, check=True).stdout
    assert re.search(r"This prints `(.*?)`", page)[1] == ", ".join(printed.split())
    found, _ = run_c(program, self_test()[None])
    assert f"The sum of all logits is {found.sum(dtype=np.int64)}." in page
    sizes = '#include <stdio.h>\n#include "xiaonet.h"\nint main(void) { return printf("%d", (int)sizeof(xn_state)) < 0; }\n'
    states = build(tmp_path, sizes)
    size = subprocess.run([states], capture_output=True, text=True, check=True).stdout
    assert f"| `xn_state`, working memory | {size} bytes |" in page


def test_the_object_has_no_variables_and_the_header_is_one_for_cpp(folder: Path, program: Path) -> None:
    made = folder / "c" / "xiaonet.o"
    subprocess.run([compiler(), "-std=c99", "-O2", "-fno-pic", "-c", folder / "c" / "xiaonet.c", "-o", made], check=True)
    if shutil.which("nm") is None or shutil.which("g++") is None:
        pytest.skip("needs nm and g++")
    symbols = [line.split()[-2:] for line in subprocess.run(["nm", made], capture_output=True, text=True, check=True).stdout.splitlines()]
    assert ["xn_begin", "xn_gap", "xn_picks", "xn_push", "xn_window"] == [name for kind, name in symbols if kind == "T"]
    assert {"memset", "memcpy", "memmove"} >= {
        name for kind, name in symbols if kind == "U"
    }  # which compilers insert and every C library has
    assert {"T", "U", "t", "r"} >= {kind for kind, _ in symbols}  # code and constants
    text = (folder / "c" / "xiaonet.c").read_text()
    assert [] == re.findall(r"\b(?:float|double|malloc|free)\b", re.sub(r"/\*.*?\*/", "", text, flags=re.S))
    header = folder / "c" / "xiaonet.h"
    subprocess.run(["g++", "-std=c++98", "-Wall", "-Werror", "-fsyntax-only", "-x", "c++", header], check=True)


@pytest.mark.parametrize("standard", ["c89", "c99", "c11", "gnu17"])
def test_a_compiler_before_c99_is_refused_with_the_reason(folder: Path, program: Path, standard: str) -> None:
    command = [compiler(), f"-std={standard}", "-fsyntax-only", folder / "c" / "xiaonet.c"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    refused = "xiaonet.c is C99; use a compiler for C99 or newer, with an option such as -std=c99" in done.stderr
    assert (standard == "c89", standard == "c89") == (done.returncode != 0, refused)


def test_counts_beyond_24_bits_are_clipped_and_counted(folder: Path, program: Path, example: np.ndarray) -> None:
    raw = example[:1].repeat(2, axis=0).copy()
    raw[0, 1, 100:103] = 2**23, -(2**23) - 1, -(2**31)
    raw[1, 1, 100:103] = 2**23 - 1, -(2**23), -(2**23)
    found, clipped = run_c(program, raw)
    assert [3, 0] == clipped.tolist()
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(logits(layers_of(load_model(folder / "int8.pth")), raw[0]), found[0])


def test_the_largest_counts_do_not_overflow(folder: Path, program: Path) -> None:
    """Address and undefined-behaviour sanitizers watch."""
    time = np.arange(3001)
    high, low = 2**23 - 1, -(2**23)
    raw = np.stack(
        [
            [np.where(time < 1500, low, high), np.where(time < 1500, high, low), np.full(3001, low)],
            [np.where(time % 2, low, high), np.where(time == 0, low, high), np.where(time == 3000, high, low)],
        ]
    )
    found, _ = run_c(program, raw)
    layers = layers_of(load_model(folder / "int8.pth"))
    np.testing.assert_array_equal(np.stack([logits(layers, window) for window in raw]), found)


def test_dead_components_are_zeros(folder: Path, program: Path, example: np.ndarray) -> None:
    layers = layers_of(load_model(folder / "int8.pth"))
    raw = np.zeros((3, 3, 3001), np.int32)
    raw[1, 0], raw[1, 1] = 7, np.arange(3001) * -5 + 2**20  # constant and drifting
    raw[2] = example[0]
    raw[2, 2] = -12345
    assert not normalize_counts(raw[1]).any()
    assert [True, True, False] == normalize_counts(raw[2]).any(axis=1).tolist()
    found, _ = run_c(program, raw)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(outputs(layers, np.zeros((3, 3001), np.int64))[-1], found[0][:, :3000])
    silent = example[0].copy()
    silent[2] = 0
    np.testing.assert_array_equal(logits(layers, silent), found[2])


def test_whole_numbers_normalize_as_the_picker_does(example: np.ndarray) -> None:
    for raw in example:
        given = (normalize(raw).astype(np.float64) * 2048).round()
        whole = normalize_counts(raw)
        assert [2048, 2048, 2048] == np.abs(whole).max(axis=1).tolist()
        assert np.abs(given - whole).max() <= 1  # where float32 crosses a half
        assert (given != whole).mean() < 1e-3


def test_halves_go_to_even() -> None:
    window = np.zeros((3, 3001), np.int64)
    window[:, 1500] = 4096  # the peak, nearly alone, so a count of 1 is about 1/2
    window[0, 0], window[0, 3000] = 1, 1
    peak, exact = 0, []
    mean = sum(window[0].tolist()) / 3001
    peak = 4096 - mean
    exact = [(1 - mean) / peak * 2048, -mean / peak * 2048]
    assert [round(value) for value in exact] == normalize_counts(window)[0, [0, 1]].tolist()


def test_a_model_in_float32_is_refused(tmp_path: Path) -> None:
    for suffix in (".pth", ".onnx"):
        with pytest.raises(ConfigError, match=r"is in float32, and format c computes in whole numbers; .* `xiaonet quantize MODEL --data"):
            to_c(model_path("xiaonet-nano", suffix), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_folder_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match=r"taken cannot be made: .*; choose another --out"):
        to_c(folder / "int8.pth", tmp_path / "taken")


def test_other_windows_are_refused(folder: Path, tmp_path: Path) -> None:
    model = QuantizedXiaoNet(window_len=6000, base_channels=1)
    save_model(model, tmp_path / "long.pth")
    with pytest.raises(ConfigError, match=r"the model has {'window_len': 6000}; format c wants {'window_len': 3001}"):
        to_c(tmp_path / "long.pth", tmp_path / "c")
    wide = ((2, 1), *XiaoNet(base_channels=1).dilations[1:])
    save_model(QuantizedXiaoNet(base_channels=1, dilations=wide), tmp_path / "wide.pth")
    with pytest.raises(ConfigError, match="the first convolution has a dilation of 2; format c wants 1"):
        to_c(tmp_path / "wide.pth", tmp_path / "c")


def test_a_model_whose_sums_may_be_too_large_is_refused(folder: Path, tmp_path: Path) -> None:
    content = load_model(folder / "int8.pth")
    content.bottleneck[1].weight.fill_(127)  # 120 weights of 127 and samples of 255 give 3,886,200; 40 more are too many
    assert 120 * 127 * 255 < 2**22 < 180 * 127 * 255
    save_model(content, tmp_path / "large.pth")
    assert to_c(tmp_path / "large.pth", tmp_path / "c")
    content.decoder[0][0].weight.fill_(-127)
    save_model(content, tmp_path / "larger.pth")
    with pytest.raises(ConfigError, match=r"sums in decoder\.0\.0 may reach 5829300; format c wants at most 4194304"):
        to_c(tmp_path / "larger.pth", tmp_path / "c")


def test_the_command_line_writes_a_folder(run, tmp_path: Path) -> None:
    status, told = run("export", "xiaonet-nano-int8", "--format", "c")
    assert status == 0, told
    assert ["README.md", "xiaonet.c", "xiaonet.h"] == sorted(path.name for path in (tmp_path / "xiaonet-nano-int8").iterdir())
    own = read_model_file(model_path("xiaonet-nano-int8", ".pth"))["thresholds"]
    page = (tmp_path / "xiaonet-nano-int8" / "README.md").read_text()
    assert f"| recommended thresholds | P {own['P']:g}, S {own['S']:g} |" in page
    status, told = run("export", "xiaonet-nano", "--format", "c")
    assert (1, True) == (status, "✗ Config: stopped" in told), told
