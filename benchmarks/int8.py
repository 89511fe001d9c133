"""Measure size and speed of FP32, bf16 and INT8 in torch, onnxruntime and OpenVINO, and of PhaseNet.

    python benchmarks/int8.py --data labelled [--model xiaonet --model xiaonet-nano]

Each model is calibrated on split train of the data. Times are medians of processor time on one thread; all models
take turns. bf16 is skipped where the processor does not support it.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
import seisbench.models as sbm
import torch

from xiaonet.deploy.comparison import RUNTIMES, TIMED_BATCHES, milliseconds
from xiaonet.deploy.export import export
from xiaonet.deploy.quantize import Calibration, quantize
from xiaonet.runtime.loading import load_predictor
from xiaonet.shipped import model_path

Runner = Callable[[np.ndarray], np.ndarray]


def ours(name: str, data: str, folder: Path) -> dict[str, tuple[int, Runner]]:
    quantize(model_path(name, ".pth"), data, folder, Calibration(windows=64))  # speed does not depend on them
    runners = {}
    for runtime, file in RUNTIMES.items():
        for precision in ("fp32", "int8"):
            files = [folder / file.format(precision)]
            if runtime == "openvino":
                files = export(folder / f"saved_model_{precision}.pth", runtime, folder / f"{precision}.xml")
            runners[f"{name}, {runtime}, {precision.upper()}"] = (
                sum(path.stat().st_size for path in files),
                load_predictor(files[0], runtime),
            )
    if torch.cpu._is_avx512_bf16_supported():
        path = folder / "saved_model_fp32.pth"
        precise = load_predictor(path, "torch")

        def half(windows: np.ndarray) -> np.ndarray:
            with torch.autocast("cpu", torch.bfloat16):
                return precise(windows)

        runners[f"{name}, torch, bf16"] = path.stat().st_size, half
    return runners


def phasenet(folder: Path) -> dict[str, tuple[int, Runner]]:
    model, path = sbm.PhaseNet(phases="PSN").eval(), folder / "phasenet.onnx"
    example = torch.zeros(2, 3, 3001)
    batch = torch.export.Dim("batch", min=1, max=1024)
    torch.onnx.export(model, (example,), path, dynamo=True, input_names=["windows"], dynamic_shapes=({0: batch},), external_data=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    torch.save(model.state_dict(), folder / "phasenet.pt")

    def by_torch(windows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(windows)).numpy()

    return {
        "PhaseNet, torch, FP32": ((folder / "phasenet.pt").stat().st_size, by_torch),
        "PhaseNet, onnxruntime, FP32": (path.stat().st_size, lambda windows: session.run(None, {"windows": windows})[0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", action="append")
    parser.add_argument("--turns", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    windows = np.random.default_rng(0).uniform(-1, 1, (max(TIMED_BATCHES), 3, 3001)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        runners = {}
        for name in arguments.model or ["xiaonet", "xiaonet-nano"]:
            runners |= ours(name, arguments.data, Path(folder) / name)
        runners |= phasenet(Path(folder))
        times = [
            milliseconds({name: run for name, (_, run) in runners.items()}, windows[:batch], arguments.turns) for batch in TIMED_BATCHES
        ]
    print(f"| | KB | {' | '.join(f'ms, batch {batch} | PhaseNet in torch = 1' for batch in TIMED_BATCHES)} |")
    print(f"|---|---|{'---|---|' * len(TIMED_BATCHES)}")
    for name, (size, _) in runners.items():
        cells = [f"{own[name]:.2f} | {own['PhaseNet, torch, FP32'] / own[name]:.2f}" for own in times]
        print(f"| {name} | {size / 1000:.0f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
