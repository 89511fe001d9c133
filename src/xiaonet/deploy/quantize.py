"""Quantization of a trained model to INT8, calibrated with training windows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from xiaonet.constants import COMPONENTS, WINDOW_SAMPLES
from xiaonet.data.pipeline import Windows
from xiaonet.data.sets import WaveformData, fingerprint, open_data, split_data
from xiaonet.deploy.adapt import OnEpoch, adapt
from xiaonet.deploy.onnx import export_onnx
from xiaonet.errors import DataError, WaveformError
from xiaonet.files import make_folder
from xiaonet.nn.checkpoint import load_float, read_model_file, save_model
from xiaonet.nn.model import XiaoNet
from xiaonet.nn.quantized import LARGEST_SAMPLE, QuantizedXiaoNet, folded, shared_steps

CALIBRATION_WINDOWS = 512
LEAST_WINDOWS = 16
BINS = 4096
CALIBRATION_BATCH = 32  # windows
RULE = "least squares"

Seen = TypeVar("Seen")
Rule = Callable[[Tensor, float], float]  # from a histogram, which begins at 0, and its end to the largest sample to represent


@dataclass(frozen=True)
class Calibration:
    """How to calibrate a model.

    Attributes:
        windows: number of training windows for calibration, and for each epoch.
        seed: random seed of the windows.
        epochs: of quantization-aware training.
    """

    windows: int = CALIBRATION_WINDOWS
    seed: int = 0
    epochs: int = 0


def quantize(
    model_file: Path,
    data: str,
    out: Path,
    calibration: Calibration = Calibration(),
    on_epoch: OnEpoch = lambda epoch, loss: None,
) -> dict[str, Path]:
    """Write a model in float32 and INT8, each for torch and as ONNX.

    Args:
        model_file: written by `xiaonet.save_model`.
        data: class, path or name of a SeisBench data set, or several joined by `+`. Windows of its split train
            determine the range of the activations.
        out: folder of `saved_model_fp32.pth`, `saved_model_int8.pth`, `model_fp32.onnx` and `model_int8.onnx`.
        calibration: number of windows and epochs.
        on_epoch: called after each epoch.

    Returns:
        The four files by name.

    Raises:
        ConfigError: the model is already quantized.
        DataError: the data cannot be used, or there are too few windows.
        CheckpointError: the model cannot be read.
        OutputError: a file cannot be written.
    """
    model, content = load_float(model_file), read_model_file(model_file)
    make_folder(out)
    files = {name: out / name for name in ("saved_model_fp32.pth", "saved_model_int8.pth", "model_fp32.onnx", "model_int8.onnx")}
    quantize_for_torch(model_file, data, files["saved_model_int8.pth"], calibration, on_epoch)
    save_model(model.float(), files["saved_model_fp32.pth"], content["provenance"], content["thresholds"], content["stacking"])
    for precision in ("fp32", "int8"):
        export_onnx(files[f"saved_model_{precision}.pth"], files[f"model_{precision}.onnx"])
    return files


def quantize_for_torch(
    model_file: Path,
    data: str,
    out: Path,
    calibration: Calibration = Calibration(),
    on_epoch: OnEpoch = lambda epoch, loss: None,
) -> None:
    """Write a model in INT8 for torch, as the file `out`. Arguments and errors are those of `quantize`."""
    model, content = load_float(model_file).float(), read_model_file(model_file)
    whole = open_data(data)
    train = split_data(whole)[0]
    windows, seed, epochs = calibration.windows, calibration.seed, calibration.epochs
    shown = calibration_windows(train, windows, seed)
    steps = shared_steps(largest_samples(model, shown))
    convolutions = folded(model)
    if epochs:
        convolutions = adapt(model, steps, epochs, lambda epoch: calibration_windows(train, windows, seed + epoch), on_epoch)
    settings = {"data": data, "fingerprint": fingerprint(whole), "windows": len(shown), "seed": seed, "rule": RULE, "epochs": epochs}
    origin = content["provenance"]
    note = ", ".join(filter(None, (origin.get("note"), "in INT8")))
    quantized = QuantizedXiaoNet.from_convolutions(model.arguments, convolutions, steps)
    save_model(quantized, out, {**origin, "note": note, "quantization": settings}, content["thresholds"], content["stacking"])


def calibration_windows(train: WaveformData, number: int = CALIBRATION_WINDOWS, seed: int = 0) -> Tensor:
    """Draw training windows `(number, 3, 3001)`, each of another record, or several of each if there are fewer records.

    Raises:
        DataError: fewer than 16 windows contain data that are not constant.
    """
    windows, rng = Windows(train, seed=seed), np.random.default_rng(seed)
    rows = rng.permutation(len(train))
    places = [(turn, int(row)) for turn in range(-(-number // len(rows))) for row in rows][:number]
    shown = torch.from_numpy(np.stack([windows[place]["X"] for place in places]))
    shown = shown[shown.ne(0).flatten(1).any(dim=1)]
    if len(shown) < LEAST_WINDOWS:
        raise DataError(f"calibration has {len(shown)} windows that are not constant; wanted at least {LEAST_WINDOWS} of split train")
    return shown


def largest_samples(model: XiaoNet, windows: Tensor, rule: str = RULE) -> dict[str, float]:
    """The largest activation to represent, for each convolution but the last. Larger ones are clipped.

    Args:
        model: in float32 and evaluation mode.
        windows: normalised windows `(windows, 3, 3001)`.
        rule: one of `RULES`.

    Raises:
        WaveformError: there are no windows, or they have another shape.
    """
    if windows.shape[1:] != (len(COMPONENTS), WINDOW_SAMPLES) or not len(windows):
        raise WaveformError(
            f"calibration windows are {tuple(windows.shape)}; wanted (windows, {len(COMPONENTS)}, {WINDOW_SAMPLES}), 30 s at 100 Hz"
        )
    names = [name for name, _ in QuantizedXiaoNet(base_channels=1).convolutions()][:-1]
    ends = dict(zip(names, _reduce_activations(model, windows, lambda x, seen, place: max(seen, float(x.max())), 0.0), strict=True))
    if rule == "min-max":
        return ends
    tops = list(ends.values())

    def count(x: Tensor, seen: Tensor, place: int) -> Tensor:
        return seen + torch.histc(x[x > 0], BINS, 0, max(tops[place], 1e-6))

    counts = _reduce_activations(model, windows, count, torch.zeros(BINS))
    return {name: RULES[rule](histogram, ends[name]) for name, histogram in zip(names, counts, strict=True)}


def _reduce_activations(model: XiaoNet, windows: Tensor, update: Callable[[Tensor, Seen, int], Seen], start: Seen) -> list[Seen]:
    """Reduce the outputs of each ReLU over all windows."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.ReLU)]
    seen = [start] * len(layers)

    def observe(place: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def note(layer: nn.Module, given: tuple[Tensor, ...], x: Tensor) -> None:
            seen[place] = update(x, seen[place], place)

        return note

    hooks = [layer.register_forward_hook(observe(place)) for place, layer in enumerate(layers)]
    try:
        with torch.inference_mode():
            for batch in torch.split(windows, CALIBRATION_BATCH):
                model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _percentile(share: float) -> Rule:
    def rule(histogram: Tensor, end: float) -> float:
        below = histogram.cumsum(0) / histogram.sum().clamp(min=1)
        return end * (int((below < share).sum()) + 1) / BINS

    return rule


def _least_squares(histogram: Tensor, end: float) -> float:
    """The end with the smallest squared rounding error."""
    samples = (torch.arange(BINS) + 0.5) * end / BINS
    ends = [end * part / 100 for part in range(1, 101)]
    errors = [_squared_error(histogram, samples, one / LARGEST_SAMPLE) for one in ends]
    return ends[int(np.argmin(errors))]


def _squared_error(histogram: Tensor, samples: Tensor, step: float) -> float:
    rounded = (samples / step).round().clamp(0, LARGEST_SAMPLE) * step
    return float((histogram * (rounded - samples) ** 2).sum())


RULES: Mapping[str, Rule] = {
    "min-max": lambda histogram, end: end,
    "least squares": _least_squares,
    "99.999 %": _percentile(0.99999),
    "99.99 %": _percentile(0.9999),
    "99.9 %": _percentile(0.999),
}
