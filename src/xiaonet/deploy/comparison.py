"""What rounding a model to eight bits cost and brought, for `quantization.json` and `quantization.md`."""

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
BATCHES = (1, 16)
TURNS = 9
RUNTIMES = {"torch": "saved_model_{}.pth", "onnxruntime": "model_{}.onnx", "openvino": "model_{}.onnx"}


def compare(folder: Path, evaluator: Evaluator, on_progress: OnWindows = lambda windows: None) -> dict[str, Any]:
    """Write `quantization.json` and `quantization.md` beside the files that `quantize` wrote.

    Args:
        folder: of those files.
        evaluator: with the records on which both are judged, at the thresholds that the model advises.
        on_progress: called with the number of windows that have just been done.

    Returns:
        What the JSON file holds.

    Raises:
        CheckpointError: a model cannot be read.
        OutputError: a file cannot be written.
    """
    models = load_models([str(folder / f"model_{precision}.onnx") for precision in ("int8", "fp32")])
    found = evaluate(evaluator, models, on_progress=on_progress)
    int8, fp32 = found.metrics.models
    content = read_model_file(folder / "saved_model_int8.pth")
    bytes_of = {path.name: path.stat().st_size for path in sorted(folder.glob("*model_*")) if path.suffix in (".pth", ".onnx")}
    told: dict[str, Any] = {
        "format": "xiaonet-quantization-1",
        "calibration": content["provenance"]["calibration"],
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
    write_atomically(folder / "quantization.json", lambda file: file.write(json.dumps(told, indent=1).encode()))
    write_atomically(folder / "quantization.md", lambda file: file.write(to_markdown(told).encode()))
    return told


def milliseconds(predictors: Mapping[str, Callable[[Windows], Windows]], windows: Windows, turns: int = TURNS) -> dict[str, float]:
    """Median processor time a window in ms of each predictor on one batch, in turns, so that all meet the same machine."""
    times: dict[str, list[float]] = {name: [] for name in predictors}
    for turn in range(turns + 1):
        for name, predictor in predictors.items():
            started = time.process_time()
            predictor(windows)
            if turn:  # the first warms up
                times[name].append(1000 * (time.process_time() - started) / len(windows))
    return {name: median(own) for name, own in times.items()}


def to_markdown(told: Mapping[str, Any]) -> str:
    """The same for readers."""
    calibration, size = told["calibration"], told["bytes"]
    lines = [
        "# FP32 against INT8",
        "",
        f"Calibrated on {calibration['windows']} training windows of {calibration['data']} (rule {calibration['rule']}), then "
        f"{calibration['epochs']} epochs of training with the rounding in place. Judged on {told['data']}, split {told['split']}: "
        f"{told['windows']} windows of {told['records']} records from {told['events']} events, "
        f"thresholds P {told['thresholds']['P']:g}, S {told['thresholds']['S']:g}. Figures in points (0 to 100); intervals (95 %) over "
        "events, paired.",
        "",
        *_table(
            ["records", "phase", "", "FP32", "INT8", "INT8 − FP32"],
            [
                [
                    subset,
                    phase,
                    label,
                    *(_points(told["scores"][model][subset][phase][key]["value"]) for model in told["scores"]),
                    _span(values[key]),
                ]
                for subset, phases in told["int8_less_fp32"].items()
                for phase, values in phases.items()
                for key, label in FIGURES.items()
                if values[key]["value"] is not None
            ],
        ),
        "",
        f"**Size.** In float32 remain {', '.join(told['float_convolutions'])}; all other convolutions have int8 weights, "
        f"one scale for each output channel, up to ±{told['largest_weight']}.",
        "",
        *_table(
            ["", "FP32, bytes", "INT8, bytes", "times smaller"],
            [
                [kind.partition(".")[2], f"{size[kind.format('fp32')]:,}", f"{size[kind.format('int8')]:,}", f"{ratio:.2f}"]
                for kind, ratio in told["times_smaller"].items()
            ],
        ),
        "",
        "**Speed**, ms of processor time a window on one thread, medians, all in turns on this machine.",
        "",
        *_table(
            ["runtime", "batch", "FP32", "INT8", "times as fast"],
            [
                [runtime, batch, f"{own['fp32']:.2f}", f"{own['int8']:.2f}", f"{own['fp32'] / own['int8']:.2f}"]
                for runtime, batches in told["milliseconds"].items()
                for batch, own in batches.items()
            ],
        ),
        "",
    ]
    return "\n".join(lines)


def _alone(work: Callable[..., Any], *given: Any) -> Any:
    """What a function gives in a process of its own: one that ran torch and OpenVINO in turns crashed when it had forked later on."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, *given).result()


def _milliseconds(folder: Path, windows: Windows) -> dict[str, dict[str, dict[str, float]]]:
    shown = np.resize(windows, (max(BATCHES), *windows.shape[1:]))
    found: dict[str, dict[str, dict[str, float]]] = {}
    for runtime, name in RUNTIMES.items():
        if find_spec(runtime):
            pair: dict[str, Predictor] = {
                precision: load_predictor(folder / name.format(precision), runtime)  # type: ignore[arg-type]
                for precision in ("fp32", "int8")
            }
            found[runtime] = {str(batch): milliseconds(pair, shown[:batch]) for batch in BATCHES}
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
