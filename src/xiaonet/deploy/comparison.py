"""Comparison of FP32 and INT8 in accuracy, size and speed, for `quantization.json` and `quantization.md`."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from xiaonet.constants import PICKED_PHASES
from xiaonet.evaluation.evaluator import Evaluator, OnWindows, evaluate
from xiaonet.evaluation.models import load_models
from xiaonet.files import write_atomically
from xiaonet.nn.checkpoint import read_model_file
from xiaonet.nn.quantized import FLOAT, LARGEST_WEIGHT
from xiaonet.picking.windows import normalize
from xiaonet.runtime.loading import load_predictor
from xiaonet.runtime.predictor import Predictor, Windows

FIGURES = {"f1 0.5": "F1 within 0.5 s", "recall 0.1": "recall within 0.1 s", "f1 0.1": "F1 within 0.1 s"}
TIMED_BATCHES = (1, 16)  # windows
TURNS = 9
RUNTIMES = {"torch": "saved_model_{}.pth", "onnxruntime": "model_{}.onnx", "openvino": "model_{}.onnx"}


def compare(folder: Path, evaluator: Evaluator, on_progress: OnWindows = lambda windows: None) -> dict[str, Any]:
    """Write `quantization.json` and `quantization.md` beside the files that `quantize` wrote.

    Args:
        folder: of those files.
        evaluator: has the records. Both models are evaluated at the thresholds that the model recommends.
        on_progress: called with the number of windows that have just been done.

    Returns:
        The content of the JSON file.

    Raises:
        CheckpointError: a model cannot be read.
        OutputError: a file cannot be written.
    """
    models = load_models([str(folder / f"model_{precision}.onnx") for precision in ("int8", "fp32")])
    found = evaluate(evaluator, models, on_progress=on_progress)
    int8, fp32 = found.metrics.models
    content = read_model_file(folder / "saved_model_int8.pth")
    bytes_of = {path.name: path.stat().st_size for path in sorted(folder.glob("*model_*")) if path.suffix in (".pth", ".onnx")}
    results: dict[str, Any] = {
        "format": "xiaonet-quantization-1",
        "calibration": content["provenance"]["quantization"],
        "data": found.metrics.data,
        "split": found.metrics.split,
        "records": found.metrics.records,
        "events": found.metrics.events,
        "windows": found.metrics.windows,
        "thresholds": int8.thresholds,
        "float_convolutions": list(FLOAT),
        "largest_weight": LARGEST_WEIGHT,
        "bytes": bytes_of,
        "times_smaller": {kind: bytes_of[kind.format("fp32")] / bytes_of[kind.format("int8")] for kind in sorted(set(RUNTIMES.values()))},
        "scores": {
            model.name: {
                subset: {phase: {key: _figure(own[phase], key) for key in FIGURES} for phase in PICKED_PHASES}
                for subset, own in model.subsets.items()
            }
            for model in (fp32, int8)
        },
        "int8_less_fp32": {
            subset: {
                one.phase: {key: one.values[key].model_dump() for key in FIGURES}
                for one in found.metrics.differences
                if one.subset == subset
            }
            for subset in int8.subsets
        },
        "milliseconds": _alone(_milliseconds, folder, normalize(next(iter(evaluator.windows.batches())))),
    }
    write_atomically(folder / "quantization.json", lambda file: file.write(json.dumps(results, indent=1).encode()))
    write_atomically(folder / "quantization.md", lambda file: file.write(to_markdown(results).encode()))
    return results


def milliseconds(predictors: Mapping[str, Callable[[Windows], Windows]], windows: Windows, turns: int = TURNS) -> dict[str, float]:
    """Median processor time per window, in ms, of each predictor. They take turns, so that load affects all alike."""
    times: dict[str, list[float]] = {name: [] for name in predictors}
    for turn in range(turns + 1):
        for name, predictor in predictors.items():
            started = time.process_time()
            predictor(windows)
            if turn:  # the first warms up
                times[name].append(1000 * (time.process_time() - started) / len(windows))
    return {name: median(own) for name, own in times.items()}


def to_markdown(results: Mapping[str, Any]) -> str:
    """The results as a Markdown page."""
    calibration, size = results["calibration"], results["bytes"]
    lines = [
        "# FP32 against INT8",
        "",
        f"Calibrated on {calibration['windows']} training windows of {calibration['data']} (rule {calibration['rule']}), then "
        f"{calibration['epochs']} epochs of quantization-aware training. Evaluated on {results['data']}, split {results['split']}: "
        f"{results['windows']} windows of {results['records']} records from {results['events']} events, "
        f"thresholds P {results['thresholds']['P']:g}, S {results['thresholds']['S']:g}. Scores in points (0 to 100), with paired "
        "95 % intervals over events.",
        "",
        *_table(
            ["records", "phase", "", "FP32", "INT8", "INT8 − FP32"],
            [
                [
                    subset,
                    phase,
                    label,
                    *(_points(results["scores"][model][subset][phase][key]["value"]) for model in results["scores"]),
                    _span(values[key]),
                ]
                for subset, phases in results["int8_less_fp32"].items()
                for phase, values in phases.items()
                for key, label in FIGURES.items()
                if values[key]["value"] is not None
            ],
        ),
        "",
        f"**Size.** {' and '.join(results['float_convolutions'])} are stored as float32. All other convolutions have int8 weights "
        f"up to ±{results['largest_weight']}, with one scale for each output channel.",
        "",
        *_table(
            ["", "FP32, bytes", "INT8, bytes", "times smaller"],
            [
                [kind.partition(".")[2], f"{size[kind.format('fp32')]:,}", f"{size[kind.format('int8')]:,}", f"{ratio:.2f}"]
                for kind, ratio in results["times_smaller"].items()
            ],
        ),
        "",
        "**Speed**, ms of processor time per window on one thread: medians on this machine.",
        "",
        *_table(
            ["runtime", "batch", "FP32", "INT8", "times as fast"],
            [
                [runtime, batch, f"{own['fp32']:.2f}", f"{own['int8']:.2f}", f"{own['fp32'] / own['int8']:.2f}"]
                for runtime, batches in results["milliseconds"].items()
                for batch, own in batches.items()
            ],
        ),
        "",
    ]
    return "\n".join(lines)


def _alone(work: Callable[..., Any], *given: Any) -> Any:
    """Call a function in a separate process. A process that runs torch and OpenVINO in turns can crash after a later fork."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, *given).result()


def _milliseconds(folder: Path, windows: Windows) -> dict[str, dict[str, dict[str, float]]]:
    shown = np.resize(windows, (max(TIMED_BATCHES), *windows.shape[1:]))
    found: dict[str, dict[str, dict[str, float]]] = {}
    for runtime, name in RUNTIMES.items():
        if find_spec(runtime):
            pair: dict[str, Predictor] = {
                precision: load_predictor(folder / name.format(precision), runtime)  # type: ignore[arg-type]
                for precision in ("fp32", "int8")
            }
            found[runtime] = {str(batch): milliseconds(pair, shown[:batch]) for batch in TIMED_BATCHES}
    return found


def _figure(metrics: Any, key: str) -> Any:
    name, tolerance = key.split()
    return getattr(metrics, name)[tolerance].model_dump()


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def _points(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{100 * value:{sign}.2f}".replace("-", "−")


def _span(one: Mapping[str, float | None]) -> str:
    inside = "" if one["low"] is None else f" [{_points(one['low'], '+')}, {_points(one['high'], '+')}]"
    return f"{_points(one['value'], '+')}{inside}"
