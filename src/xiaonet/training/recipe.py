"""The recipe of the shipped models: fused teachers looked at once, then many crops, for so many steps or minutes."""

import copy
import functools
import json
import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, StrictInt, model_validator
from torch import Tensor

from xiaonet import console
from xiaonet.checkpoint import load_float, load_tensors, save_model, save_tensors
from xiaonet.config import SettingsFile
from xiaonet.data.extended import Chances, Labels, Pool, Record, draw_batch
from xiaonet.data.sets import open_data
from xiaonet.errors import CheckpointError, ConfigError, DataError
from xiaonet.model import XiaoNet
from xiaonet.picking.picks import find_picks
from xiaonet.picking.windows import normalize
from xiaonet.predictors import model_path
from xiaonet.spec import BASE_CHANNELS, NOISE, PHASES, WINDOW_SAMPLES
from xiaonet.teacher import PhaseNetTeacher
from xiaonet.training.losses import distillation_loss
from xiaonet.training.parts import git_commit, versions
from xiaonet.training.planar import planar_logits
from xiaonet.training.targets import gather, load_records, look, save_records

STATE = "xiaonet-recipe"
CLIP = 1.0  # largest norm of the gradient
WARMUP = 0.03  # share of the run in which the learning rate rises
LAST_RATE = 0.01  # of the peak rate, at the end
WEIGHT_DECAY = 1e-4
SAVE_SECONDS = 180.0
TOLD_STEPS = 50
FLOOR = 1e-7  # probability of a target from which on its logarithm is taken

DEV_WINDOWS = 5  # of each record, at random positions
TOLERANCE = 50  # samples: 0.5 s between a pick and its label
DISTANCE = 100  # samples between two picks of a phase, as the picker has it
HEIGHTS = np.round(np.arange(0.05, 0.96, 0.05), 2)
AS_GOOD = 0.005  # of F1: within this of the best, the highest threshold is taken, for quiet records


class Recipe(SettingsFile):
    """All that makes a model, but the records and the teachers themselves.

    Either `steps` or `minutes` says how long: steps can be repeated to the digit, minutes end on time.
    """

    note: str = Field("", description="what the model is, in a line; SeisBench shows it")
    labelled: str = Field("labelled", min_length=1, description="SeisBench set with splits; train is learnt, dev chooses thresholds")
    unlabelled: str = Field("", description="SeisBench set without picks")
    continuous: tuple[str, ...] = Field((), description="miniSEED files, folders and globs")
    teachers: dict[str, float] = Field({"stead": 1.0}, min_length=1, description="PhaseNet weights, and the share of each")
    late: dict[str, StrictInt] = Field({}, description="samples by which a teacher reads late; it is shifted early by them")
    shares: dict[str, float] = Field({"manual": 1.0}, min_length=1, description="windows from each source of records")
    labels: Labels = Labels()
    chances: Chances = Chances()
    base_channels: StrictInt = Field(BASE_CHANNELS, ge=1)
    start: str = Field("", description="a shipped name or a model file to start from; fresh weights if empty")
    steps: StrictInt = Field(0, ge=0)
    minutes: float = Field(0.0, ge=0)
    batch_size: StrictInt = Field(32, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    average: float = Field(0.998, ge=0, lt=1, description="decay of the averaged weights, which are those kept")
    compile: bool = Field(False, description="let torch compile the student: faster where it is narrow, and needs a C++ compiler")
    seed: StrictInt = Field(0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if bool(self.steps) and bool(self.minutes):
            raise ValueError(f"steps is {self.steps} and minutes is {self.minutes}; give one of them")
        if abs(sum(self.teachers.values()) - 1) > 1e-6:
            raise ValueError(f"the shares of the teachers {self.teachers} do not sum to 1")
        return self


class Outcome(NamedTuple):
    """What a finished run says: windows seen, and F1, threshold and recall within 0.1 s on dev, by phase.

    `data` are the sets of single records that it learnt from, joined by `+`.
    """

    model: Path
    data: str
    windows: int
    dev: dict[str, dict[str, float]]


def find_records(recipe: Recipe, root: Path, folder: Path) -> list[Record]:
    """Records with the teachers' targets; worked out once and kept in the folder as `records.npz`.

    Args:
        recipe: which records, and which teachers.
        root: where the recipe's data are looked for first.
        folder: made if it is missing.

    Raises:
        XiaoNetError: data or teachers cannot be had.
    """
    made_by = recipe.model_dump(mode="json", include={"labelled", "unlabelled", "continuous", "teachers", "late"})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "records.npz"
    if (records := load_records(path, made_by)) is not None:
        console.ok("Records", f"{len(records)} read", str(path))
        return records
    teachers = {name: PhaseNetTeacher.from_pretrained(name) for name in recipe.teachers}
    with console.busy("Asking the teachers"):
        continuous = [str(root / path) for path in recipe.continuous]
        raw = gather(_within(root, recipe.labelled), _within(root, recipe.unlabelled), continuous)
        records = list(look(raw, teachers, recipe.teachers, recipe.late))
    save_records(records, path, made_by)
    console.ok("Records", f"{len(records)} looked at by {', '.join(teachers)}", str(path))
    return records


def _within(root: Path, spec: str) -> str:
    """A data set as found under a root; a name that is not there stays as it is."""
    return str(root / spec) if spec and (root / spec).exists() else spec


def cook(recipe: Recipe, name: str, root: Path, folder: Path) -> Outcome:
    """Train by a recipe and write `NAME.pth`; what was interrupted goes on where it was.

    Args:
        recipe: what to do.
        name: of the model.
        root: where the recipe's data are looked for first.
        folder: of the model, of what is needed to go on, and of `records.npz`, which recipes can share.

    Raises:
        XiaoNetError: data, teachers or settings do not fit, or the folder cannot be written to.
        KeyboardInterrupt: after Ctrl-C, when the run is safely on disk.
    """
    if not recipe.steps and not recipe.minutes:
        raise ConfigError(f"the recipe {name} says neither steps nor minutes; wanted one of them, such as minutes: 18")
    dev = DevSet(_within(root, recipe.labelled))
    pool = Pool(find_records(recipe, root, folder), recipe.shares)
    run = _Run(recipe, pool, folder / f"{name}.state")
    run.execute()
    model = run.average.model
    scores = dev.scores(model)
    provenance: dict[str, Any] = {
        "note": recipe.note,
        "recipe": json.loads(recipe.model_dump_json()),
        "steps": run.step,
        "windows": run.step * recipe.batch_size,
        "minutes": round(run.seconds / 60, 1),
        "dev": scores,
        "records": {source: len(rows) for source, rows in pool.rows.items()},
        "versions": versions(),
        "commit": git_commit(),
    }
    path = folder / f"{name}.pth"
    save_model(model, path, provenance, {phase: scores[phase]["threshold"] for phase in PHASES[:NOISE]})
    data = "+".join(_within(root, spec) for spec in (recipe.labelled, recipe.unlabelled) if spec)
    return Outcome(path, data, run.step * recipe.batch_size, scores)


class Average:
    """An exponential average of a model's weights and running statistics, quick to forget at the start."""

    def __init__(self, model: XiaoNet, decay: float) -> None:
        self.model = copy.deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: XiaoNet, step: int) -> None:
        """Move a little towards a model after its `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, other in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(other, 1 - decay)
            else:
                mine.copy_(other)


def soft_loss(logits: Tensor, target: Tensor) -> Tensor:
    """KL(target ‖ student) at temperature 1, for soft targets `(batch, 3, samples)`."""
    return distillation_loss(logits, target.clamp_min(FLOOR).log(), 1.0)


def rate_at(progress: float, peak: float) -> float:
    """Learning rate at a share of the run: a straight rise, then half a cosine down to a hundredth of the peak."""
    if progress < WARMUP:
        return peak * max(progress / WARMUP, 0.01)
    done = min((progress - WARMUP) / (1 - WARMUP), 1.0)
    return peak * (LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * done)) / 2)


class DevSet:
    """Windows of the dev records that analysts picked, to choose thresholds on.

    Raises:
        DataError: there are none.
    """

    def __init__(self, labelled: str, seed: int = 0) -> None:
        data = open_data(labelled)
        rng = np.random.default_rng(seed)
        windows, self.onsets = [], []
        for row in np.flatnonzero((data.metadata["split"] == "dev") & (data.metadata["trace_p_status"] == "manual")):
            waveform, metadata = data.get_sample(int(row))
            p, s = (float(metadata[f"trace_{phase}_arrival_sample"]) for phase in "ps")
            last = s if s - p < WINDOW_SAMPLES - 400 else p
            high = max(min(int(p) - 100, waveform.shape[-1] - WINDOW_SAMPLES), 0)
            low = min(max(0, int(last) + 100 - WINDOW_SAMPLES), high)
            for start in rng.integers(low, high + 1, DEV_WINDOWS):
                windows.append(normalize(waveform[:, start : start + WINDOW_SAMPLES]))
                self.onsets.append((p - start, s - start if s - start < WINDOW_SAMPLES else np.nan))
        if not windows:
            raise DataError(f"{labelled} has no record with a manual P in its dev split; wanted some to choose thresholds on")
        self.windows = torch.from_numpy(np.stack(windows))

    @torch.inference_mode()
    def scores(self, model: XiaoNet) -> dict[str, dict[str, float]]:
        """F1 within 0.5 s, its threshold, and the recall within 0.1 s there, for P and S."""
        probabilities = torch.cat([model(batch) for batch in torch.split(self.windows, 32)]).numpy()
        return {phase: self._scores(probabilities[:, row], row) for row, phase in enumerate(PHASES[:NOISE])}

    def _scores(self, curves: NDArray[np.float32], row: int) -> dict[str, float]:
        counted = [(curve, onsets[row]) for curve, onsets in zip(curves, self.onsets, strict=True) if not np.isnan(onsets[row])]
        values = [f1(counted, height) for height in HEIGHTS]
        height = float(HEIGHTS[np.flatnonzero(np.array(values) >= max(values) - AS_GOOD)[-1]])
        sharp = sum(bool((np.abs(find_picks(curve, height, DISTANCE)[0] - onset) <= 10).any()) for curve, onset in counted)
        return {"F1": round(max(values), 3), "threshold": height, "recall within 0.1 s": round(sharp / max(len(counted), 1), 3)}


def f1(counted: list[tuple[NDArray[np.float32], float]], height: float) -> float:
    """F1 of curves of a phase, each with its one onset: the first pick within 0.5 s is right, any other is wrong."""
    right = wrong = missed = 0
    for curve, onset in counted:
        picks, _ = find_picks(curve, height, DISTANCE)
        hit = bool((np.abs(picks - onset) <= TOLERANCE).any())
        right, missed, wrong = right + hit, missed + (not hit), wrong + len(picks) - hit
    return 2 * right / max(2 * right + wrong + missed, 1)


@contextmanager
def stop_asked() -> Iterator[Callable[[], bool]]:
    """Take Ctrl-C and SIGTERM as a wish to stop after the step at hand; half a step cannot be gone on with."""
    asked: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda number, _: asked.append(number)) for kind in kinds]
    try:
        yield lambda: bool(asked)
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


class _Run:
    """Student, averaged student and optimizer, and how far they are."""

    def __init__(self, recipe: Recipe, pool: Pool, state: Path) -> None:
        self.recipe, self.pool, self.state = recipe, pool, state
        torch.manual_seed(recipe.seed)
        self.model = (load_float(model_path(recipe.start, ".pth")) if recipe.start else XiaoNet(base_channels=recipe.base_channels)).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=recipe.learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
        self.average = Average(self.model, recipe.average)
        self.step, self.seconds = 0, 0.0
        forward = functools.partial(planar_logits, self.model)
        self.forward = torch.compile(forward) if recipe.compile else forward
        if state.exists():
            self._load()

    @property
    def progress(self) -> float:
        """The share of the run that is done."""
        return self.step / self.recipe.steps if self.recipe.steps else self.seconds / (60 * self.recipe.minutes)

    def execute(self) -> None:
        """Train to the end; save now and then, and when stopped."""
        torch.set_flush_denormal(True)  # tiny numbers take processors a hundred times as long
        try:
            self._train()
        finally:
            torch.set_flush_denormal(False)
        self._save()

    def _train(self) -> None:
        saved = time.monotonic()
        losses: deque[float] = deque(maxlen=TOLD_STEPS)
        with console.ShareProgress("Training") as bar, stop_asked() as stopped:
            while self.progress < 1:
                started = time.monotonic()
                losses.append(self._step())
                self.seconds += time.monotonic() - started
                bar.update(self.progress, self.step * self.recipe.batch_size, float(np.mean(losses)))
                if stopped():
                    self._save()
                    console.warn("Training", "stopped", "nothing is lost; the same command goes on")
                    raise KeyboardInterrupt
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()

    def _step(self) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.progress, self.recipe.learning_rate)
        seed = (self.recipe.seed, self.step)
        windows, target = draw_batch(self.pool, self.recipe.batch_size, seed, self.recipe.chances, self.recipe.labels)
        loss = soft_loss(self.forward(torch.from_numpy(windows)), torch.from_numpy(target))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        self.step += 1
        self.average.update(self.model, self.step)
        return float(loss.detach())

    def _save(self) -> None:
        content = {
            "recipe": self.recipe.model_dump_json(),
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        save_tensors(self.state, STATE, content)

    def _load(self) -> None:
        content = load_tensors(self.state, STATE)
        if content["recipe"] != self.recipe.model_dump_json():
            raise CheckpointError(f"{self.state} was begun by another recipe; delete it, or choose another --out")
        self.model.load_state_dict(content["model"])
        self.average.model.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.seconds = content["step"], content["seconds"]
        console.ok("Training", "goes on", f"{self.step} steps were done")
