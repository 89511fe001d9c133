"""How well teachers and their means pick whole records, and how late each of them reads P and S.

    SEISBENCH_CACHE_ROOT=../shared/teachers python benchmarks/teachers.py --out runs/teachers

Every teacher predicts each picked record of `labelled` and `labelled_more`, in overlapping windows and with both
polarities, as for the targets of a recipe. A teacher's delay is the median of its picks minus the analysts' picks of
`labelled`, in samples. The means are made after the delays are removed. F1 is the best over all thresholds, for
picks within 0.5 s of the label; the recall is that within 0.1 s at the same threshold. Only records of `labelled` that
an analyst picked count; of `labelled_more` also those with automatic picks. No record of `benchmark` is used.
Predictions are kept, so you can repeat the command with other means: --mean original=0.5 stead=0.5
"""

import argparse
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
SHARED = Path(os.environ.get("XIAONET_SHARED", "../shared"))

import numpy as np
import torch
from numpy.typing import NDArray

from xiaonet import console
from xiaonet.constants import DISTANCE, PICKED_PHASES
from xiaonet.data.columns import first_picks
from xiaonet.data.sets import open_data
from xiaonet.nn.record_teacher import open_teacher
from xiaonet.scoring.matching import NOT_MATCHED, match
from xiaonet.scoring.peaks import Peaks, find_peaks
from xiaonet.scoring.thresholds import f1_by_threshold
from xiaonet.training.dev_set import SHARP_TOLERANCE, THRESHOLDS, TOLERANCE
from xiaonet.training.reading import predict_record
from xiaonet.training.targets import fuse

TEACHERS = (
    "EQTransformer/volpick",
    "EQTransformer/volpick_95train",
    "original",
    "stead",
    "okla",
    "volpick",
    "volpick_95train",
    *(f"ustc_{region}{rate}" for region in ("neasia", "sichuan", "cses", "tibetplateau") for rate in ("", "@50")),
)
MEANS = (
    "stead=0.25 original=0.5 okla=0.25",
    "EQTransformer/volpick=0.5 original=0.2 stead=0.15 volpick=0.15",
    "EQTransformer/volpick_95train=0.5 original=0.5",
    "EQTransformer/volpick=0.35 ustc_neasia=0.3 ustc_sichuan@50=0.2 original=0.15",
    "EQTransformer/volpick=0.35 ustc_neasia=0.15 ustc_sichuan@50=0.2 original=0.3",
)
SETS = ("labelled", "labelled_more")
Onsets = tuple[float, float]  # samples of P and S; NaN where nobody looked


class Picked:
    """The picked records of a data set."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waveforms: list[NDArray[np.float32]] = []
        self.onsets: list[Onsets] = []
        data = open_data(str(SHARED / "data" / name))
        for row in np.flatnonzero(data.metadata["split"] != "test").tolist():
            waveform, metadata = data.get_sample(row)
            (p, manual_p), (s, manual_s) = first_picks(metadata, waveform.shape[1])
            if (manual_p or manual_s or name != "labelled") and not np.isnan([p, s]).all():
                self.waveforms.append(np.asarray(waveform, dtype=np.float32))
                self.onsets.append((p, s))

    def predictions(self, teacher: str, out: Path) -> list[NDArray[np.float16]]:
        """`(2, samples)` of each record, computed once and kept."""
        path = out / f"{self.name}-{re.sub(r'[^A-Za-z0-9._@-]+', '_', teacher)}.npz"
        if not path.exists():
            model = open_teacher(teacher)
            with console.busy(f"{teacher} predicts {self.name}"):
                np.savez(path, *[predict_record(waveform, model) for waveform in self.waveforms])
        with np.load(path) as file:
            return [file[key] for key in file]

    def peaks(self, predictions: list[NDArray[np.float16]]) -> dict[str, Peaks]:
        """Peaks of P and S, read as in the picker."""
        longest = max(curve.shape[1] for curve in predictions)

        def padded() -> Iterator[NDArray[np.float64]]:
            for curve in predictions:
                picked = np.pad(curve.astype(float), ((0, 0), (0, longest - curve.shape[1])))
                yield np.concatenate([picked, 1 - picked.sum(axis=0, keepdims=True)])[None]

        return find_peaks(padded(), DISTANCE)

    def scores(self, predictions: list[NDArray[np.float16]]) -> list[tuple[float, float, float, float]]:
        """For P and S: best F1, recall within 0.1 s, median of pick minus label in samples, threshold."""
        found = []
        peaks = self.peaks(predictions)
        for phase, onsets in zip(PICKED_PHASES, zip(*self.onsets, strict=True), strict=True):
            labels = np.array(onsets)
            judged = peaks[phase].keep(~np.isnan(labels)[peaks[phase].window])
            wanted = int((~np.isnan(labels)).sum())
            right, sharp = (match(judged, labels[:, None], tolerance) != NOT_MATCHED for tolerance in (TOLERANCE, SHARP_TOLERANCE))
            f1 = f1_by_threshold(THRESHOLDS, judged.height, right, wanted)
            threshold = float(THRESHOLDS[f1.argmax()])
            chosen = judged.height >= threshold
            late = judged.sample[chosen & right] - labels[judged.window[chosen & right]]
            found.append((float(f1.max()), (chosen & sharp).sum() / wanted, float(np.median(late)), threshold))
        return found


def row(name: str, scored: list[list[tuple[float, float, float, float]]]) -> str:
    """A row of the table: for each data set F1, recall and delay of P and S."""
    cells = [f"{p[0]:.3f} / {s[0]:.3f} | {p[1]:.3f} / {s[1]:.3f} | {p[2]:+.1f} / {s[2]:+.1f}" for p, s in scored]
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teachers", nargs="+", default=list(TEACHERS), metavar="NAME")
    parser.add_argument("--mean", nargs="+", action="append", metavar="NAME=WEIGHT", help="of teachers; may be given several times")
    parser.add_argument("--out", type=Path, default=Path("runs/teachers"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    sets = [Picked(name) for name in SETS]
    print("| | " + " | ".join(f"{part.name}: F1 P / S | recall within 0.1 s | delay" for part in sets) + " |\n|" + "---|" * 7, flush=True)
    delays: dict[str, tuple[int, int]] = {}
    kept: dict[str, list[list[NDArray[np.float16]]]] = {}
    for name in arguments.teachers:
        kept[name] = [part.predictions(name, arguments.out) for part in sets]
        scored = [part.scores(found) for part, found in zip(sets, kept[name], strict=True)]
        delays[name] = (round(scored[0][0][2]), round(scored[0][1][2]))
        print(row(name, scored), flush=True)
    for mean in arguments.mean or [text.split() for text in MEANS]:
        weights: Mapping[str, float] = {name: float(weight) for name, _, weight in (part.rpartition("=") for part in mean)}
        if missing := weights.keys() - kept.keys():
            print(f"left out {' '.join(mean)}: {', '.join(sorted(missing))} is not among --teachers")
            continue
        total = sum(weights.values())
        shares = {name: weight / total for name, weight in weights.items()}
        fused = [
            [fuse({n: kept[n][number][row_] for n in shares}, shares, delays) for row_ in range(len(part.waveforms))]
            for number, part in enumerate(sets)
        ]
        print(row(" + ".join(mean), [part.scores(found) for part, found in zip(sets, fused, strict=True)]), flush=True)
    print(f"\nDelays in samples, P and S: {delays}")


if __name__ == "__main__":
    main()
