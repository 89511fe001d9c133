"""`native.c` compiled for 64-bit Arm and run by QEMU."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from native_library import SOURCE
from xiaonet.nn.checkpoint import load_model
from xiaonet.runtime.native_weights import read_weights
from xiaonet.shipped import WEIGHTS

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
FLAGS = ["-O3", "-ffp-contract=fast", "-fno-strict-aliasing", "-static", "-Wall", "-Wextra", "-Werror"]
MAIN = """
#include "native.c"
#include <stdio.h>

static float *numbers(int count)
{
    float *all = malloc(sizeof *all * count);
    return fread(all, sizeof *all, count, stdin) == (size_t)count ? all : NULL;
}

int main(void)
{
    int head[3 + 14]; /* int8, windows, samples, dilations */
    const float *parts[3][LAYERS] = {{0}};
    if (fread(head, sizeof head, 1, stdin) != 1)
        return 1;
    int sizes[2], base = 0;
    for (int layer = 0; layer < LAYERS; layer++) {
        if (fread(sizes, sizeof sizes, 1, stdin) != 1)
            return 1;
        for (int part = 0; part < 2 + head[0]; part++)
            parts[part][layer] = numbers(sizes[part > 0]);
        base = layer ? base : sizes[1];
    }
    int size = COMPONENTS * head[1] * head[2];
    float *windows = numbers(size), *results = malloc(sizeof *results * size);
    struct model *model = xn_new(0, base, head + 3, head[0], parts[0], parts[1], parts[2]);
    if (!windows || !model || !xn_run(model, windows, results, head[1], head[2], 0, COMPONENTS * head[2], head[2], head[2], 0))
        return 1;
    fwrite(results, sizeof *results, size, stdout);
    xn_free(model);
    return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if missing := [name for name in (COMPILER, EMULATOR) if shutil.which(name) is None]:
        pytest.skip(f"needs {' and '.join(missing)}: packages gcc-aarch64-linux-gnu and qemu-user")
    folder = tmp_path_factory.mktemp("arm")
    (folder / "main.c").write_text(MAIN)
    subprocess.run([COMPILER, *FLAGS, f"-I{SOURCE / 'src/xiaonet/runtime'}", folder / "main.c", "-o", folder / "program"], check=True)
    return folder / "program"


@pytest.mark.parametrize("name", ["xiaonet-nano", "xiaonet-nano-int8"])
def test_arm_gives_the_probabilities_of_torch(program: Path, name: str) -> None:
    _, weights = read_weights(WEIGHTS / f"{name}.onnx")
    windows = np.random.default_rng(0).uniform(-1, 1, (2, 3, 1001)).astype(np.float32)
    given = np.array([name.endswith("int8"), 2, 1001, *weights.dilations[:-1]], np.int32).tobytes()
    for weight, bias, scale in zip(weights.weights, weights.biases, weights.scales, strict=True):
        given += np.array([weight.size, bias.size], np.int32).tobytes() + weight.tobytes() + bias.tobytes()
        given += (np.ones_like(bias) if scale is None else scale).tobytes() if name.endswith("int8") else b""
    done = subprocess.run([EMULATOR, program], input=given + windows.tobytes(), capture_output=True, check=True)
    found = np.frombuffer(done.stdout, np.float32).reshape(windows.shape)
    with torch.inference_mode():
        expected = load_model(WEIGHTS / f"{name}.pth")(torch.from_numpy(windows)).numpy()
    np.testing.assert_allclose(expected, found, rtol=0, atol=1e-6)
