"""The effect of each part of a recipe: short runs of the narrow student, with one setting changed in each.

    python benchmarks/recipe.py --steps 800 --out runs/parts
    python benchmarks/recipe.py --steps 800 --out runs/elsewhere --unseen
    python benchmarks/recipe.py --steps 7000 --out runs/simulated --unseen --recipe recipes/xiaonet-nano.json \\
        --only "the recipe" "simulated earthquakes"

Runs learn from the train split of `labelled`, without 70 of the records that analysts picked, from `unlabelled` and
from Chile. They are scored on those 70 records and on the analysts' records of the dev split. They are also scored on
ten minutes of each station of Ridgecrest, a region that no run has seen. There, a peak of the fused teachers of 0.5 or
more counts as an arrival, and a pick where they stay below 0.15 counts as false. With --unseen, runs learn nothing of
N. California, and are scored on all records that analysts picked there. With --recipe, they have the teachers, records
and settings of that recipe, from fresh weights. No run uses `benchmark`. Finished runs are kept, so you can repeat the
command, or choose runs with --only.
"""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
SHARED = Path(os.environ.get("XIAONET_SHARED", "../shared"))

import numpy as np
import torch
from numpy.typing import NDArray

from xiaonet.config.schema import Config
from xiaonet.constants import DISTANCE, PICKED_PHASES, WINDOW_SAMPLES
from xiaonet.data.augmentation import NO_AUGMENTATION
from xiaonet.data.pool import Pool, TrainingRecord
from xiaonet.picking.picks import find_picks
from xiaonet.picking.windows import normalize
from xiaonet.training.dev_set import THRESHOLDS, TOLERANCE, DevSet, picked_records
from xiaonet.training.drawn_windows import DrawnWindows, load_online_teachers, load_teachers, make_network
from xiaonet.training.run_folder import RunFolder
from xiaonet.training.setup import make_fabric
from xiaonet.training.targets import find_records

HELD_OUT = 70  # records of analysts that no run learns from
MINUTES = 10  # of each station of Ridgecrest
PRESENT, ABSENT = 0.5, 0.15  # fused probability from which a phase counts as present, and below which as absent
EDGE = 250  # samples at a window's ends that are not scored
COLUMNS = ("P", "S", "P at 0.1 s", "S at 0.1 s", "Ridgecrest P", "Ridgecrest S")

TEACHERS = ("stead", "original", "okla")
# Without --recipe, the runs have three PhaseNets and fewer records than the recipes, so that they stay short.
THREE = [
    f"distillation.teacher={'+'.join(TEACHERS)}",
    'distillation.teacher_weights={"stead": 0.25, "original": 0.5, "okla": 0.25}',
    'distillation.delays={"stead": -1, "original": 2, "okla": -1}',
    "distillation.online_teachers={}",
    "distillation.online_weight=0.5",
    "data.name=labelled",
    "data.unlabelled=unlabelled",
    'data.continuous=["sds/2014/CX/*/*/*.2014.091", "sds/2014/CX/*/*/*.2014.121", "sds/2019"]',
]
FRESH = ["training.initial_model=none", "training.learning_rate=0.003"]
# Four pickers of whole records, with delays from benchmarks/teachers.py. Only three PhaseNets can predict disturbed windows.
FOUR = {"EQTransformer/volpick": 0.35, "ustc_neasia": 0.3, "ustc_sichuan@50": 0.2, "original": 0.15}
DELAYS = {
    "EQTransformer/volpick": (-1, 0),
    "ustc_neasia": (-1, -3),
    "ustc_sichuan@50": (-4, -6),
    "original": (2, 3),
    "volpick": (0, -2),
}
ONLINE = {"ustc_neasia": 0.4, "volpick": 0.35, "original": 0.25}
OF_FOUR = [
    f"distillation.teacher={'+'.join(FOUR)}",
    f"distillation.teacher_weights={json.dumps(FOUR)}",
    f"distillation.delays={json.dumps(DELAYS)}",
    f"distillation.online_teachers={json.dumps(ONLINE)}",
]
PARTS: Mapping[str, list[str]] = {
    "the recipe": [],
    "the recipe, seed 1": ["training.seed=1"],
    "the recipe, seed 2": ["training.seed=2"],
    "float32, seed 1": ["training.precision=32-true", "training.seed=1"],
    **{f"{name} alone": [f"distillation.teacher={name}", "distillation.teacher_weights={}"] for name in TEACHERS},
    "equal weights of the three": [f"distillation.teacher_weights={json.dumps(dict.fromkeys(TEACHERS, 1))}"],
    "four teachers, online 0.5 and 0.15": [*OF_FOUR, "distillation.online_weight=[0.5, 0.15]"],
    "four teachers, online 0.5": [*OF_FOUR, "distillation.online_weight=0.5"],
    "four teachers, not online": [*OF_FOUR, "distillation.online_weight=0"],
    "delays of the teachers not removed": ["distillation.delays={}"],
    "labels 0.3 of the target": ["labels.weight=0.3"],
    "labels 0.7 of the target": ["labels.weight=0.7"],
    "temperature 2": ["distillation.temperature=2"],
    "temperature 3": ["distillation.temperature=3"],
    "temperature 5": ["distillation.temperature=5"],
    "labels 10 wide": ["labels.manual_sigma=[10, 10]", "labels.automatic_sigma=10"],
    "labels 20 wide": ["labels.manual_sigma=[20, 20]"],
    "labels 30 wide": ["labels.manual_sigma=[30, 30]", "labels.automatic_sigma=30"],
    "labelled records alone": ['data.source_weights={"manual": 0.72, "automatic": 0.28}'],
    "no filters, no synthetic noise": ["augmentation.filtered=0", "augmentation.synthetic_noise=0"],
    "simulated earthquakes": ["augmentation.simulated=0.3"],
    "no online teacher": ["distillation.online_weight=0"],
    "no online teacher, seed 1": ["distillation.online_weight=0", "training.seed=1"],
    "no online teacher, seed 2": ["distillation.online_weight=0", "training.seed=2"],
    "online teacher alone": ["distillation.online_weight=1"],
    "crops around onsets, no other augmentation": [
        f"augmentation={NO_AUGMENTATION.model_dump_json()}",
        "augmentation.onset_centred=0.75",
    ],
    "weights of the last step, not averaged": ["objective.averaging_decay=0"],
    "four times as long": [],
}
LONG = 4


def fused(recipe: Config, out: Path) -> list[TrainingRecord]:
    """The records with the targets of the recipe's teachers. Records and predictions are computed once and kept."""
    return find_records(recipe, load_teachers(recipe), out / "records.npz")


def is_ridgecrest(record: TrainingRecord) -> bool:
    return record.source == "continuous" and record.samples == 480_001


class Ridgecrest:
    """Windows of Ridgecrest, with the predictions of the fused teachers."""

    def __init__(self, records: list[TrainingRecord]) -> None:
        places = [(record, start) for record in records for start in range(0, 6000 * MINUTES - WINDOW_SAMPLES, 2000)]
        self.windows = torch.from_numpy(np.stack([normalize(r.waveform[:, at : at + WINDOW_SAMPLES]) for r, at in places]))
        self.predicted = [r.target[:, at : at + WINDOW_SAMPLES].astype(np.float32) for r, at in places]

    @torch.inference_mode()
    def f1(self, model: torch.nn.Module, row: int) -> float:
        """F1 of a phase within 0.5 s, at the best threshold for these windows."""
        curves = torch.cat([model(batch) for batch in self.windows.split(32)])[:, row].numpy()
        return max(self._f1(curves, row, height) for height in THRESHOLDS)

    def _f1(self, curves: NDArray[np.float32], row: int, height: float) -> float:
        right = wrong = present = 0
        for curve, predicted in zip(curves, self.predicted, strict=True):
            heights = (predicted[row], PRESENT), (predicted[row], ABSENT), (curve, height)
            onsets, perhaps, picks = (find_picks(probability, least, DISTANCE)[0] for probability, least in heights)
            onsets = onsets[_inside(onsets)]
            present += len(onsets)
            right += sum(bool((np.abs(picks - onset) <= TOLERANCE).any()) for onset in onsets)
            wrong += sum(not (np.abs(perhaps - pick) <= TOLERANCE).any() for pick in picks[_inside(picks)])
        return 2 * right / max(right + wrong + present, 1)


def _inside(samples: NDArray[np.int64]) -> NDArray[np.bool_]:
    return (samples >= EDGE) & (samples < WINDOW_SAMPLES - EDGE)


def changed(base: Config, part: str) -> Config:
    """The recipe with one part changed."""
    steps = base.objective.steps * (LONG if part == "four times as long" else 1)
    return base.override([*PARTS[part], f"objective.steps={steps}"])


class HeldOut:
    """Records that no run learns from, and the scores on them."""

    def __init__(self, records: list[TrainingRecord], unseen: bool) -> None:
        manual = [row for row, record in enumerate(records) if record.source == "manual"]
        self.held = set(np.random.default_rng(5).permutation(manual)[: None if unseen else HELD_OUT].tolist())
        held = [(records[row].waveform, *records[row].onsets) for row in sorted(self.held)]
        self.dev = DevSet([*held, *picked_records(str(SHARED / "data" / "labelled"), "dev")], vertical_alone=False)
        self.ridgecrest = Ridgecrest([record for record in records if is_ridgecrest(record)])

    def remove_from(self, records: list[TrainingRecord]) -> list[TrainingRecord]:
        """The records that runs learn from."""
        return [record for row, record in enumerate(records) if row not in self.held and not is_ridgecrest(record)]

    def scores(self, model: torch.nn.Module) -> dict[str, float]:
        dev = self.dev.scores(model)
        return {
            **{phase: dev[phase]["F1"] for phase in PICKED_PHASES},
            **{f"{phase} at 0.1 s": dev[phase]["recall within 0.1 s"] for phase in PICKED_PHASES},
            **{f"Ridgecrest {phase}": self.ridgecrest.f1(model, row) for row, phase in enumerate(PICKED_PHASES)},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=800, help="of 32 windows")
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--out", type=Path, default=Path("runs/parts"))
    parser.add_argument("--recipe", type=Path, help="whose teachers, records and settings to take")
    parser.add_argument("--unseen", action="store_true", help="learn nothing of N. California, and score all of it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    whole = Config.read(arguments.recipe or Path("recipes/first/xiaonet-nano.json"))
    whole = whole.override([f"data.root={SHARED / 'data'}", *(FRESH if arguments.recipe else THREE)])
    base = whole.override([f"objective.steps={arguments.steps}", "objective.minutes=0", "device.use_cuda=false"])
    held_out = HeldOut(fused(whole, arguments.out), arguments.unseen)
    print("| | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (len(COLUMNS) + 1))
    for part in arguments.only:
        path = arguments.out / f"{part}.json"
        if not path.exists():
            recipe = changed(base, part)
            if arguments.unseen:
                weights = {source: weight for source, weight in recipe.data.source_weights.items() if source != "manual"}
                recipe = recipe.override([f"data.source_weights={json.dumps(weights)}"])
            pool = Pool(held_out.remove_from(fused(recipe, arguments.out)), recipe.data.source_weights)
            run = RunFolder(arguments.out, recipe, {}, writes=False, earlier=None)
            teachers = load_teachers(recipe)
            online = load_online_teachers(recipe, teachers) if np.any(recipe.distillation.online_weight) else None
            objective = DrawnWindows(recipe, make_fabric(recipe), run, make_network(recipe), pool, teachers, online, held_out.dev)
            objective.advance(lambda: None)
            path.write_text(json.dumps(held_out.scores(objective.average.module)))
        row = json.loads(path.read_text())
        print(f"| {part} | " + " | ".join(f"{row[column]:.3f}" for column in COLUMNS) + " |", flush=True)


if __name__ == "__main__":
    main()
