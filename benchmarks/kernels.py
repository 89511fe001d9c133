"""Measure every runtime and model: ms a window, and the share of what the core could do.

    python benchmarks/kernels.py [--windows 16] [--turns 15]

Times are medians of processor time on one thread; all take turns. The share is that of the multiply-adds of the network, as it is
written down, in the multiply-adds that the core does in the same time from registers and the nearest cache. Kernels that save
multiplications can exceed 100 %. The peak is that of float32 or of bytes, with the set of instructions in the table; onnxruntime,
OpenVINO and torch choose their instructions themselves, and are compared with the best. `native` is measured with each set.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from xiaonet.constants import Runtime
from xiaonet.deploy.comparison import milliseconds
from xiaonet.nn.checkpoint import load_model
from xiaonet.nn.model import XiaoNet, count_multiply_adds
from xiaonet.runtime.loading import load_predictor
from xiaonet.runtime.native_runtime import VARIABLE, load_library, number_of, usable_instructions
from xiaonet.shipped import model_path, shipped_models

OTHERS: tuple[Runtime, ...] = ("onnxruntime", "openvino", "torch")
ROUNDS = 2_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--turns", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    windows = np.random.default_rng(0).uniform(-1, 1, (arguments.windows, 3, 3001)).astype(np.float32)
    sets = usable_instructions(load_library())
    peaks = measured_peaks(sets, arguments.turns)
    for (name, int8), peak in peaks.items():
        print(f"peak of {name}, {'bytes' if int8 else 'float32'}: {peak / 1e9:.1f} thousand million multiply-adds a second")
    print("\n| model | runtime | ms a window | share of the peak | onnxruntime = 1 |\n|---|---|---|---|---|")
    for model in shipped_models():
        work = count_multiply_adds(XiaoNet(**load_model(model_path(model, ".pth")).arguments))  # type: ignore[arg-type]
        times = milliseconds(runners(model, sets), windows, arguments.turns)
        for name, own in times.items():
            peak = peaks[name.partition(", ")[2] or sets[-1], "int8" in model]
            print(f"| {model} | {name} | {own:.3f} | {work / peak / own * 1e5:.0f} % | {own / times['onnxruntime']:.2f} |")


def runners(model: str, sets: list[str]) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    own = {}
    for name in sets:
        os.environ[VARIABLE] = name
        own[f"native, {name}"] = load_predictor(model, "native")
    del os.environ[VARIABLE]
    return {name: load_predictor(model, name) for name in OTHERS} | own


def measured_peaks(sets: list[str], turns: int) -> dict[tuple[str, bool], float]:
    """Multiply-adds a second: the median of several turns."""
    library = load_library()
    speeds: dict[tuple[str, bool], list[float]] = {(name, int8): [] for name in sets for int8 in (False, True)}
    for _ in range(turns):
        for name, int8 in speeds:
            started = time.process_time()
            done = library.xn_peak(number_of(library, name), int8, ROUNDS)
            speeds[name, int8].append(done / (time.process_time() - started))
    return {key: statistics.median(own) for key, own in speeds.items()}


if __name__ == "__main__":
    main()
