"""The recipe of the shipped models: many crops of records that teachers looked at, and teachers asked anew about them disturbed."""

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
from torch import Tensor, nn

from xiaonet import console
from xiaonet.config.schema import Config
from xiaonet.constants import NOISE, PICKED_PHASES
from xiaonet.data.augmentation import draw_batch
from xiaonet.data.pool import Pool, TrainingRecord
from xiaonet.data.sets import open_data
from xiaonet.errors import CheckpointError, DataError, TeacherError, TrainingError
from xiaonet.files import make_folder
from xiaonet.io.archive import Archive
from xiaonet.names import split_names
from xiaonet.nn.checkpoint import load_tensors, save_model, save_tensors
from xiaonet.nn.model import XiaoNet
from xiaonet.nn.teacher import FusedTeacher, new_phasenet, remove_delay, save_phasenet
from xiaonet.training.dev_set import DevSet, picked_records
from xiaonet.training.losses import distillation_loss
from xiaonet.training.setup import git_commit, load_members, make_student, versions
from xiaonet.training.stopping import SAME_WISH
from xiaonet.training.targets import compute_targets, describe_inputs, gather, load_records, save_records

STATE = "xiaonet-recipe"
CLIP = 1.0  # largest norm of the gradient
WARMUP = 0.03  # share of the run in which the learning rate rises
LAST_RATE = 0.01  # of the peak rate, at the end
WEIGHT_DECAY = 1e-4
SAVE_SECONDS = 180.0
TOLD_STEPS = 50
USUAL = (0.015, 0.015, 0.97)  # probabilities of P, S and noise that a fresh student gives
FLOOR = 1e-7  # probability of a target from which on its logarithm is taken


class Outcome(NamedTuple):
    """What a finished run says: windows seen, and F1, threshold and recall within 0.1 s on dev, by phase.

    `data` are the sets of single records that it learnt from, joined by `+`.
    """

    model: Path
    data: str
    windows: int
    dev: dict[str, dict[str, float]]


def find_records(recipe: Config, root: Path, folder: Path) -> list[TrainingRecord]:
    """Records with the teachers' targets; worked out once and kept in the folder as `records.npz`.

    Args:
        recipe: which records, and which teachers.
        root: where the recipe's data are looked for first.
        folder: made if it is missing.

    Raises:
        XiaoNetError: data or teachers cannot be had.
    """
    labelled, unlabelled = _within(root, recipe.data.name), _within(root, recipe.data.unlabelled)
    continuous = [str(root / path) for path in recipe.data.continuous]
    data = open_data("+".join(filter(None, (labelled, unlabelled))))
    teachers = load_teachers(recipe)
    made_by = {
        "data": [recipe.data.name, recipe.data.unlabelled, list(recipe.data.continuous)],
        "teachers": [teachers.weights, teachers.delays],
        "inputs": describe_inputs(data, Archive(continuous).files, teachers.members),
    }
    make_folder(folder)
    path = folder / "records.npz"
    if (records := load_records(path, made_by)) is not None:
        console.ok("Records", f"{len(records)} read", str(path))
        return records
    with console.busy("Computing teacher predictions"):
        records = list(compute_targets(gather(labelled, unlabelled, continuous), teachers.members, teachers.weights, teachers.delays))
    if not records:
        raise DataError(f"{labelled} has no record in its train split; wanted some to learn from")
    save_records(records, path, made_by)
    console.ok("Records", f"{len(records)} with predictions of {', '.join(teachers.members)}", str(path))
    return records


def load_teachers(recipe: Config) -> FusedTeacher:
    """The recipe's teachers as one, each shifted to be on time. Raises TeacherError if one cannot be had."""
    try:
        members = load_members(recipe.distillation, recipe.training.initial_model)
    except TeacherError as error:
        raise TeacherError(f'{error}. A recipe names its teachers itself, such as "distillation": {{"teacher": "bundled"}}') from error
    return FusedTeacher(members, recipe.distillation.teacher_weights, recipe.distillation.delays)


def _within(root: Path, spec: str) -> str:
    """Data sets as found under a root; a name that is not there stays as it is."""
    return "+".join(str(root / part) if (root / part).exists() else part for part in split_names(spec)) if spec else ""


def cook(recipe: Config, name: str, root: Path, folder: Path) -> Outcome:
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
    if not root.is_dir():
        raise DataError(f"there is no folder {root} to look for the recipe's data in; give --data the one that holds {recipe.data.name}")
    if "+" in str(root):
        raise DataError(f"--data is {root}, and + joins data sets; wanted a folder without + in its path, such as a link to it")
    commit = git_commit()  # of the code that trains
    try:
        dev = DevSet(picked_records(_within(root, recipe.data.name), "dev"))
    except DataError as error:
        raise DataError(f"{error}. A recipe names its data itself, here {recipe.data.name}; --data is their folder") from error
    pool = Pool(find_records(recipe, root, folder), recipe.data.source_weights)
    run = Run(recipe, pool, folder / f"{name}.state", load_teachers(recipe) if recipe.distillation.online_weight else None)
    run.execute()
    model = run.average.model
    scores = dev.scores(model)
    provenance: dict[str, Any] = {
        "note": recipe.note,
        "config": recipe.model_dump(mode="json"),
        "steps": run.step,
        "windows": run.step * recipe.training.batch_size,
        "minutes": round(run.seconds / 60, 1),
        "dev": scores,
        "records": {source: len(rows) for source, rows in pool.rows.items()},
        "versions": versions(),
        "commit": commit,
    }
    path = folder / f"{name}.pth"
    if isinstance(model, XiaoNet):
        save_model(model, path, provenance, {phase: scores[phase]["threshold"] for phase in PICKED_PHASES})
    else:
        save_phasenet(model, path, provenance)
    data = "+".join(_within(root, spec) for spec in (recipe.data.name, recipe.data.unlabelled) if spec)
    return Outcome(path, data, run.step * recipe.training.batch_size, scores)


def _fresh_network(recipe: Config) -> nn.Module:
    if recipe.model.network == "phasenet":
        return new_phasenet()
    student = make_student(recipe)
    return student if recipe.training.initial_model != "none" else _with_usual_bias(student)


class Average:
    """An exponential average of a model's weights and running statistics, quick to forget at the start."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move a little towards a model after its `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, other in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(other, 1 - decay)
            else:
                mine.copy_(other)


def soft_loss(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(target ‖ student) · T² for soft targets `(batch, 3, samples)`, which are what they are at temperature 1."""
    return distillation_loss(logits, target.clamp_min(FLOOR).log(), temperature)


def mix_online_targets(teachers: FusedTeacher, windows: Tensor, target: Tensor, share: float, draw: float) -> Tensor:
    """Targets mixed with what teachers say of the windows themselves; a window of noise alone keeps its own.

    A student that learns a teacher's answer to every disturbed window learns what the teacher does, rather than the few
    records (Beyer et al. 2022, doi:10.1109/CVPR52688.2022.01065). One teacher is asked about each window, each about its
    share of them: on average over draws from 0 to 1 that is the fused answer, at the cost of one.
    """
    parts = torch.split(windows, _counts(len(windows), list(teachers.weights.values()), draw))
    answers = [
        remove_delay(teacher(part), teachers.delays[name]) for (name, teacher), part in zip(teachers.members.items(), parts, strict=True)
    ]
    noise_alone = target[:, :NOISE].amax(dim=(1, 2), keepdim=True) == 0
    return torch.where(noise_alone, target, torch.lerp(target, torch.cat(answers), share))


def _counts(total: int, shares: list[float], draw: float) -> list[int]:
    """Whole numbers next to shares of a total, which sum to it; over draws from 0 to 1 they are the shares on average."""
    bounds = np.floor(np.cumsum(shares) * total + draw)
    bounds[-1] = total
    return [int(count) for count in np.diff(bounds, prepend=0)]


def rate_at(progress: float, peak: float) -> float:
    """Learning rate at a share of the run: a straight rise, then half a cosine down to a hundredth of the peak."""
    if progress < WARMUP:
        return peak * max(progress / WARMUP, 0.01)
    done = min((progress - WARMUP) / (1 - WARMUP), 1.0)
    return peak * (LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * done)) / 2)


@contextmanager
def stop_asked() -> Iterator[Callable[[], bool]]:
    """Take Ctrl-C and SIGTERM as a wish to stop after the step at hand, a second one a while later as one to stop at once."""
    asked: list[float] = []

    def ask(*_: object) -> None:
        asked.append(time.monotonic())
        if asked[-1] - asked[0] > SAME_WISH:
            raise KeyboardInterrupt

    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, ask) for kind in kinds]
    try:
        yield lambda: bool(asked)
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def _with_usual_bias(model: XiaoNet) -> XiaoNet:
    """A student that says noise nearly everywhere, as is right, so that it learns onsets from the first step on.

    The bias of Lin et al. (2017, doi:10.1109/ICCV.2017.324). Without it a student of 5 channels spent them all on telling
    noise, where onsets are left with what is zero after the last ReLU, and could not come back.
    """
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor(USUAL).log())  # type: ignore[union-attr]
    return model


class Run:
    """Student, averaged student and optimizer, and how far they are.

    Args:
        recipe: what to do.
        pool: what to draw windows from.
        state: file in which it is kept how far the run is; what is there is gone on with.
        teachers: asked about every window where the recipe wants it.

    Raises:
        CheckpointError: the file is of another recipe or damaged.
        OutputError: it cannot be written.
    """

    def __init__(self, recipe: Config, pool: Pool, state: Path, teachers: FusedTeacher | None = None) -> None:
        self.recipe, self.pool, self.state, self.teachers = recipe, pool, state, teachers
        torch.manual_seed(recipe.training.seed)
        self.model = _fresh_network(recipe).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=recipe.training.learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
        self.average = Average(self.model, recipe.objective.averaging_decay)
        self.step, self.seconds = 0, 0.0
        self.records = pool.digest()
        if isinstance(self.model, XiaoNet):
            forward = functools.partial(self.model.logits, planar=True)
        else:
            forward = functools.partial(self.model, logits=True)
        self.forward = torch.compile(forward) if recipe.training.compile else forward
        if state.exists():
            self._load()

    @property
    def progress(self) -> float:
        """The share of the run that is done."""
        return (
            self.step / self.recipe.objective.steps if self.recipe.objective.steps else self.seconds / (60 * self.recipe.objective.minutes)
        )

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
        counted = not self.recipe.training.compile  # the first step compiles, which is no training
        losses: deque[float] = deque(maxlen=TOLD_STEPS)
        with console.ShareProgress("Training") as bar, stop_asked() as stopped:
            while self.progress < 1:
                started = time.monotonic()
                losses.append(self._step())
                self.seconds += counted * (time.monotonic() - started)
                counted = True
                bar.update(self.progress, self.step * self.recipe.training.batch_size, float(np.mean(losses)))
                if stopped():
                    self._save()
                    console.warn("Training", "stopped", "nothing is lost; the same command goes on")
                    raise KeyboardInterrupt
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()

    def _step(self) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.progress, self.recipe.training.learning_rate)
        seed = (self.recipe.training.seed, self.step)
        drawn = draw_batch(self.pool, self.recipe.training.batch_size, seed, self.recipe.augmentation, self.recipe.labels)
        windows, target = map(torch.from_numpy, drawn)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.training.precision == "bf16-mixed"):
            if self.teachers is not None:
                draw = np.random.default_rng((*seed, 1)).random()
                target = mix_online_targets(self.teachers, windows, target, self.recipe.distillation.online_weight, draw)
            logits = self.forward(windows)
        loss = soft_loss(logits.float(), target, self.recipe.distillation.temperature)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        if not (torch.isfinite(norm) and torch.isfinite(loss)):
            raise TrainingError(
                f"step {self.step + 1} gave loss {float(loss.detach())} and gradient norm {float(norm)}; both must be finite. "
                f"Choose a learning_rate below {self.recipe.training.learning_rate:g}, or precision 32-true, and another --out"
            )
        self.optimizer.step()
        self.step += 1
        self.average.update(self.model, self.step)
        return float(loss.detach())

    def _save(self) -> None:
        content = {
            "recipe": self.recipe.model_dump_json(),
            "records": self.records,
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        save_tensors(self.state, STATE, content)

    def _load(self) -> None:
        content = load_tensors(self.state, STATE)
        if Config.parse(json.loads(content["recipe"]), str(self.state)) != self.recipe:
            raise CheckpointError(f"{self.state} was begun by another recipe; delete it, or choose another --out")
        if content["records"] != self.records:
            raise CheckpointError(f"{self.state} was begun with other records; delete it, restore them, or choose another --out")
        self.model.load_state_dict(content["model"])
        self.average.model.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.seconds = content["step"], content["seconds"]
        console.ok("Training", "goes on", f"{self.step} steps were done")
