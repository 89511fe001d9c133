"""Compare XiaoNet's INT8 with other quantizers, and its rule for ranges with others, on the same calibration windows.

    python benchmarks/quantizers.py --data labelled+unlabelled --labelled labelled [--benchmark benchmark] [--part rules]

The table shows the change of F1 within 0.5 s against FP32 in points, with 95 % intervals over events, on split dev (five
windows of each record), split train (one of each) and optionally a benchmark; the median over the windows of dev of the
largest difference of probabilities; bytes; and processor time per window on one thread, in turns. torchao emulates its
rounding in torch, so its time is not that of its kernels. Missing packages are skipped: pip install nncf torchao.
"""

import argparse
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnx
import torch

from xiaonet.constants import PICKED_PHASES
from xiaonet.data.sets import open_data, split_data
from xiaonet.deploy.comparison import TIMED_BATCHES, milliseconds
from xiaonet.deploy.onnx import export_onnx, header_of
from xiaonet.deploy.quantize import CALIBRATION_WINDOWS, RULES, calibration_windows, largest_samples
from xiaonet.evaluation.evaluator import Evaluator
from xiaonet.evaluation.scores import PhaseScores
from xiaonet.nn.checkpoint import load_model, read_model_file, save_model
from xiaonet.nn.quantized import QuantizedXiaoNet, folded, shared_steps
from xiaonet.picking.windows import normalize
from xiaonet.runtime.checksum import add_checksum
from xiaonet.runtime.header import HEADER
from xiaonet.runtime.loading import load_predictor
from xiaonet.scoring.peaks import find_peaks
from xiaonet.shipped import model_path

Runner = Callable[[np.ndarray], np.ndarray]
BATCH = 16
PRECISE = "FP32, onnxruntime"


def ours(model_file: Path, shown: torch.Tensor, folder: Path, rule: str) -> tuple[Path, Path]:
    content, model = read_model_file(model_file), load_model(model_file)
    steps = shared_steps(largest_samples(model, shown, rule))
    path = folder / f"{len(list(folder.iterdir()))}.pth"
    save_model(QuantizedXiaoNet.from_convolutions(model.arguments, folded(model), steps), path, thresholds=content["thresholds"])
    export_onnx(path, path.with_suffix(".onnx"))
    return path, path.with_suffix(".onnx")


def of_onnxruntime(model_file: Path, float_file: Path, shown: torch.Tensor, folder: Path, method: str) -> tuple[int, Runner]:
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(torch.split(shown, BATCH))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"windows": batch.numpy()}

    out = folder / f"onnxruntime-{method}.onnx"
    quantize_static(
        float_file,
        out,
        Reader(),
        per_channel=True,
        nodes_to_exclude=[node.name for node in onnx.load(float_file).graph.node if node.op_type == "Softmax"],
        calibrate_method=CalibrationMethod[method],
        extra_options={"CalibPercentile": 99.99, "CalibMaxIntermediateOutputs": 4} if method == "Percentile" else {},
    )
    graph = onnx.load(out)
    del graph.metadata_props[:]
    graph.metadata_props.add(key=HEADER, value=json.dumps(header_of(model_file)))
    out.write_bytes(add_checksum(graph.SerializeToString()))
    return out.stat().st_size, load_predictor(out, "onnxruntime")


def of_nncf(float_file: Path, shown: torch.Tensor, folder: Path) -> tuple[int, Runner]:
    import nncf
    import openvino

    model = nncf.quantize(openvino.Core().read_model(float_file), nncf.Dataset(list(shown[:, None].numpy())), subset_size=len(shown))
    openvino.save_model(model, folder / "nncf.xml", compress_to_fp16=False)
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    size = sum((folder / f"nncf.{kind}").stat().st_size for kind in ("xml", "bin"))
    return size, lambda windows: request.infer([windows])[0]


def of_torchao(model_file: Path, shown: torch.Tensor) -> tuple[int, Runner]:
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    batch = torch.export.Dim("batch", min=1, max=1024)
    shapes = {"windows": {0: batch}}
    exported = torch.export.export(load_model(model_file), (shown[:2],), dynamic_shapes=shapes).module()
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(exported, quantizer)
    with torch.no_grad():
        for part in torch.split(shown, BATCH):
            prepared(part)
    converted = move_exported_model_to_eval(convert_pt2e(prepared))
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(converted, (shown[:2],), dynamic_shapes=({0: batch},)), buffer)

    def infer(windows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return converted(torch.from_numpy(windows)).numpy()

    return len(buffer.getvalue()), infer


def quantizers(model_file: Path, shown: torch.Tensor, folder: Path) -> Iterator[tuple[str, int, Runner]]:
    """Yield name, bytes and runner of each quantizer."""
    path, graph = ours(model_file, shown, folder, "least squares")
    float_file = folder / "float.onnx"
    export_onnx(model_file, float_file)
    yield "ours, onnxruntime", graph.stat().st_size, load_predictor(graph, "onnxruntime")
    yield "ours, torch", path.stat().st_size, load_predictor(path)
    for method in ("Percentile", "MinMax"):
        yield f"onnxruntime, {method}", *of_onnxruntime(model_file, float_file, shown, folder, method)
    if find_spec("openvino"):
        yield "ours, OpenVINO", graph.stat().st_size, load_predictor(graph, "openvino")
    if find_spec("nncf") and find_spec("openvino"):
        yield "NNCF, OpenVINO", *of_nncf(float_file, shown, folder)
    if find_spec("torchao"):
        yield "torchao PT2E, torch", *of_torchao(model_file, shown)
    for package in ("openvino", "nncf", "torchao"):
        if not find_spec(package):
            print(f"{package} is not installed: skipped")


def rules(model_file: Path, shown: torch.Tensor, folder: Path) -> Iterator[tuple[str, int, Runner]]:
    """Yield XiaoNet's quantizer with each rule for the largest sample."""
    for rule in RULES:
        _, graph = ours(model_file, shown, folder, rule)
        yield rule, graph.stat().st_size, load_predictor(graph, "onnxruntime")


class Judge:
    """Scores a model in FP32 and quantized models on one split."""

    def __init__(self, evaluator: Evaluator, precise: Runner, thresholds: dict[str, float]) -> None:
        self.evaluator, self.thresholds = evaluator, thresholds
        self.windows = np.concatenate([normalize(batch) for batch in evaluator.windows.batches()]).astype(np.float32)
        self.curves = self.run(precise)
        self.scores = self.score(self.curves)

    def run(self, runner: Runner) -> np.ndarray:
        return np.concatenate([runner(self.windows[first : first + BATCH].copy()) for first in range(0, len(self.windows), BATCH)])

    def score(self, curves: np.ndarray) -> dict[str, PhaseScores]:
        peaks = find_peaks(iter([curves]), self.evaluator.config.peak_detection.distance)
        return {phase: PhaseScores.of(peaks[phase], self.evaluator.windows, phase, self.thresholds[phase]) for phase in PICKED_PHASES}

    def alike(self, curves: np.ndarray, others: np.ndarray) -> float:
        """Fraction of windows with exactly the same picks."""
        pairs = []
        for own in (curves, others):
            peaks = find_peaks(iter([own]), self.evaluator.config.peak_detection.distance)
            above = {phase: peaks[phase].above(height) for phase, height in self.thresholds.items()}
            pairs.append({(phase, int(w), round(s)) for phase, one in above.items() for w, s in zip(one.window, one.sample, strict=True)})
        return 1 - len({window for _, window, _ in pairs[0] ^ pairs[1]}) / len(self.windows)

    def cells(self, curves: np.ndarray) -> list[str]:
        everything, found = np.ones(len(self.windows), dtype=bool), self.score(curves)
        values = [found[phase].difference(self.scores[phase], everything, self.evaluator.seed)["f1 0.5"] for phase in PICKED_PHASES]
        return [
            f"{100 * one.value:+.2f}" + ("" if one.low is None else f" [{100 * one.low:+.2f}, {100 * one.high:+.2f}]") for one in values
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["quantizers", "rules"], default="quantizers")
    parser.add_argument("--data", required=True, help="calibration, split train")
    parser.add_argument("--labelled", required=True, help="for splits dev and train")
    parser.add_argument("--benchmark", help="for split test")
    parser.add_argument("--model", default="xiaonet")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--windows", type=int, default=CALIBRATION_WINDOWS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model_file = model_path(arguments.model, ".pth")
    precise, thresholds = load_predictor(model_path(arguments.model, ".onnx")), read_model_file(model_file)["thresholds"]
    sets = {"dev": (arguments.labelled, "dev", 5), "train": (arguments.labelled, "train", 1)}
    if arguments.benchmark:
        sets["benchmark"] = (arguments.benchmark, "test", 5)
    judges = {
        name: Judge(Evaluator(data, split, windows_per_record=number), precise, thresholds) for name, (data, split, number) in sets.items()
    }
    shown = calibration_windows(split_data(open_data(arguments.data))[0], arguments.windows)
    with tempfile.TemporaryDirectory() as folder:
        runners, rows, on_dev = {}, {}, {}
        for name, size, runner in {"quantizers": quantizers, "rules": rules}[arguments.part](model_file, shown, Path(folder)):
            curves = {own: judge.run(runner) for own, judge in judges.items()}
            difference = float(np.median(np.abs(curves["dev"] - judges["dev"].curves).max(axis=(1, 2))))
            rows[name] = [*(cell for own, judge in judges.items() for cell in judge.cells(curves[own])), f"{difference:.4f}", f"{size:,}"]
            runners[name], on_dev[name] = runner, curves["dev"]
            print(name, *rows[name], sep=" | ", flush=True)
        windows = np.resize(judges["dev"].windows, (max(TIMED_BATCHES), 3, 3001))
        rows = {PRECISE: ["0"] * 2 * len(judges) + ["0", f"{model_path(arguments.model, '.onnx').stat().st_size:,}"], **rows}
        times = [milliseconds({PRECISE: precise, **runners}, windows[:batch], arguments.turns) for batch in TIMED_BATCHES]
    print(f"\nWindows: {', '.join(f'{name} {len(judge.windows)}' for name, judge in judges.items())}")
    for name in ("ours, onnxruntime", "ours, OpenVINO"):
        if name in on_dev:
            largest = np.abs(on_dev[name] - on_dev["ours, torch"]).max()
            alike = judges["dev"].alike(on_dev[name], on_dev["ours, torch"])
            print(f"{name} and torch: same picks in {100 * alike:.1f} % of windows of dev, probabilities to {largest:.1g}")
    heads = [
        *(f"{name} {phase}" for name in judges for phase in PICKED_PHASES),
        "difference",
        "bytes",
        *(f"ms, batch {one}" for one in TIMED_BATCHES),
    ]
    print(f"| | {' | '.join(heads)} |")
    print(f"|---|{'---|' * len(heads)}")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join([*cells, *(f'{own[name]:.2f}' for own in times)])} |")


if __name__ == "__main__":
    main()
