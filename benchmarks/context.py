"""Plain against wide context: the same 20 minutes of training, several seeds, F1 on unseen records.

    python benchmarks/context.py --seeds 3 --epochs 9 --out runs/context

Each run distils `stead` on `labelled` + `unlabelled` with one CPU thread. The threshold of each
phase is the one with the best F1 on the dev split of `labelled`. `benchmark` is scored once, with
that threshold. Finished runs are kept, so you can repeat the command to add seeds.
"""

import argparse
import csv
import json
import os
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
SHARED = Path(os.environ.get("XIAONET_SHARED", "../shared"))
os.environ.setdefault("SEISBENCH_CACHE_ROOT", str(Path.home() / ".seisbench"))

import numpy as np
import torch

from xiaonet import Config, load_model
from xiaonet.constants import DISTANCE, WINDOW_SAMPLES
from xiaonet.data.sets import open_data
from xiaonet.nn.teacher import PhaseNetTeacher
from xiaonet.picking.windows import normalize
from xiaonet.scoring.peaks import find_peaks
from xiaonet.training.dev_set import THRESHOLDS, match_onsets
from xiaonet.training.trainer import train_or_resume

OFFSETS = 5  # windows of each record, at random positions


def labelled_windows(data: Any, seed: int = 0) -> tuple[torch.Tensor, list[dict[str, float]]]:
    """Windows that hold P, and S where it fits, with the labelled samples of each; NaN where unpicked."""
    rng = np.random.default_rng(seed)
    windows, labels = [], []
    for row in range(len(data)):
        waveform, metadata = data.get_sample(row)
        p, s = metadata["trace_p_arrival_sample"], metadata["trace_s_arrival_sample"]
        last = s if s - p < WINDOW_SAMPLES - 400 else p
        low, high = max(0, int(last) + 100 - WINDOW_SAMPLES), min(int(p) - 100, waveform.shape[-1] - WINDOW_SAMPLES)
        for start in rng.integers(low, high + 1, OFFSETS):
            windows.append(normalize(waveform[:, start : start + WINDOW_SAMPLES]))
            labels.append({"P": p - start, "S": s - start if s - start < WINDOW_SAMPLES else np.nan})
    return torch.from_numpy(np.stack(windows)), labels


@torch.inference_mode()
def curves(model: Any, windows: torch.Tensor) -> np.ndarray:
    return torch.cat([model(batch) for batch in windows.split(32)]).numpy()


def f1(probabilities: np.ndarray, labels: Iterable[dict[str, float]], phase: str, thresholds: np.ndarray) -> np.ndarray:
    """F1 within 0.5 s at each threshold; windows whose phase nobody picked do not count."""
    return match_onsets(find_peaks([probabilities], DISTANCE)[phase], [label[phase] for label in labels]).f1(thresholds)


def scores(model: Any) -> dict[str, float]:
    """Best dev thresholds, and F1 of P and S on the benchmark at those."""
    dev = open_data(str(SHARED / "data" / "labelled")).dev()
    dev = dev.filter((dev.metadata["trace_p_status"] == "manual").values, inplace=False)
    test = open_data(str(SHARED / "data" / "benchmark"))
    vertical = np.array([not test.get_sample(row)[0][:2].any() for row in range(len(test))])
    sources = test.metadata["trace_dataset"].values
    dev_windows, dev_labels = labelled_windows(dev)
    dev_curves = curves(model, dev_windows)
    result: dict[str, float] = {}
    heights = {}
    for phase in "PS":
        values = f1(dev_curves, dev_labels, phase, THRESHOLDS)
        heights[phase] = float(THRESHOLDS[values.argmax()])
        result[f"dev {phase}"], result[f"threshold {phase}"] = float(values.max()), heights[phase]
    for name, mask in (("ncedc_dev", (sources == "ncedc_dev") & ~vertical), ("corinth", sources == "corinth")):
        windows, labels = labelled_windows(test.filter(mask, inplace=False))
        probabilities = curves(model, windows)
        for phase in "PS":
            own, usual = f1(probabilities, labels, phase, np.array([heights[phase], 0.3])).tolist()
            result[f"{name} {phase}"], result[f"{name} {phase} at 0.3"] = own, usual
    return result


def train_once(folder: Path, dilations: str, seed: int, epochs: int) -> None:
    if (folder / "saved_model_fp32.pth").exists():
        return
    config = Config().override(
        [
            f"data.name={SHARED / 'data' / 'labelled'}+{SHARED / 'data' / 'unlabelled'}",
            f"model.dilations={dilations}",
            f"training.seed={seed}",
            f"training.epochs={epochs}",
            f"training.patience={epochs}",
            "training.num_workers=0",
            "data.windows_per_record=10",
        ]
    )
    train_or_resume(config, folder, note="benchmarks/context.py: plain against wide context, 20 minutes each")


def draw(out: Path, runs: dict[str, list[Path]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for colour, (name, folders) in zip(("#999999", "#0072b2"), sorted(runs.items()), strict=True):
        for number, folder in enumerate(folders):
            rows = list(csv.DictReader((folder / "history.csv").open()))
            axes.plot(
                [int(row["epoch"]) for row in rows],
                [float(row["dev_loss"]) for row in rows],
                color=colour,
                linewidth=1.2,
                label=f"{name} context" if number == 0 else None,
            )
    axes.set(xlabel="epoch", ylabel="dev loss (task)", title="Plain against wide context, one line a seed")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(out / "context.png", dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=9, help="about 20 minutes on one thread of the machine it was chosen on")
    parser.add_argument("--out", type=Path, default=Path("runs/context"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    table: dict[str, dict[str, float]] = {"teacher stead": scores(PhaseNetTeacher.from_pretrained("stead"))}
    runs: dict[str, list[Path]] = {"plain": [], "wide": []}
    for seed in range(arguments.seeds):
        for dilations in runs:
            folder = arguments.out / f"{dilations}-{seed}"
            train_once(folder, dilations, seed, arguments.epochs)
            runs[dilations].append(folder)
            seconds = sum(float(row["seconds"]) for row in csv.DictReader((folder / "history.csv").open()))
            result = scores(load_model(folder / "saved_model_fp32.pth"))
            best = json.loads((folder / "manifest.json").read_text())["best_dev_loss"]
            table[f"{dilations} {seed}"] = {"minutes": seconds / 60, "best dev loss": best, **result}
            print(folder.name, json.dumps({key: round(value, 3) for key, value in table[f"{dilations} {seed}"].items()}), flush=True)
    for dilations in runs:
        rows = [row for name, row in table.items() if name.startswith(dilations)]
        table[f"{dilations}, mean"] = {key: statistics.mean(row[key] for row in rows) for key in rows[0]}
    columns = ["minutes", "best dev loss", "threshold P", "threshold S", *(f"{d} {p}" for d in ("ncedc_dev", "corinth") for p in "PS")]
    print("| run | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
    for name, row in table.items():
        print(f"| {name} | " + " | ".join(f"{row[c]:.3f}" if c in row else "" for c in columns) + " |")
    (arguments.out / "context.json").write_text(json.dumps(table, indent=2))
    draw(arguments.out, runs)


if __name__ == "__main__":
    main()
