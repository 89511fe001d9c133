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
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, StrictInt, field_validator, model_validator
from torch import Tensor, nn

from xiaonet import console
from xiaonet.config.schema import SettingsFile
from xiaonet.constants import BASE_CHANNELS, NOISE, PICKED_PHASES
from xiaonet.data.augmentation import AugmentationProbabilities, LabelSettings, draw_batch
from xiaonet.data.pool import Pool, TrainingRecord
from xiaonet.data.sets import open_data
from xiaonet.errors import CheckpointError, ConfigError, DataError, TeacherError, TrainingError
from xiaonet.files import make_folder
from xiaonet.io.archive import Archive
from xiaonet.names import split_names
from xiaonet.nn.checkpoint import load_float, load_tensors, save_model, save_tensors
from xiaonet.nn.model import XiaoNet
from xiaonet.nn.teacher import FusedTeacher, PhaseNetTeacher, new_phasenet, remove_delay, save_phasenet
from xiaonet.shipped import model_path
from xiaonet.training.dev_set import DevSet, picked_records
from xiaonet.training.losses import distillation_loss
from xiaonet.training.planar import planar_logits
from xiaonet.training.setup import git_commit, versions
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
OLD_PROBABILITIES = {  # names in older recipes
    "aimed": "onset_centred",
    "silent": "noise_only",
    "padded": "beyond_ends",
    "stretched": "time_stretched",
    "doubled": "superposed",
    "noisy": "real_noise",
    "coloured": "synthetic_noise",
    "vertical": "vertical_only",
    "one_horizontal": "missing_horizontal",
    "flipped": "polarity_reversed",
}


Share = Annotated[float, Field(gt=0)]


class Recipe(SettingsFile):
    """All that makes a model, but the records and the teachers themselves.

    Either `steps` or `minutes` says how long: steps can be repeated to the digit, minutes end on time.
    """

    note: str = Field("", description="what the model is, in a line; SeisBench shows it")
    labelled: str = Field("labelled", min_length=1, description="SeisBench set with splits; train is learnt, dev chooses thresholds")
    unlabelled: str = Field("", description="SeisBench set without picks")
    continuous: tuple[str, ...] = Field((), description="miniSEED files, folders and globs")
    teachers: dict[str, Share] = Field({"stead": 1.0}, min_length=1, description="PhaseNet weights, and the share of each")
    late: dict[str, StrictInt] = Field({}, description="samples by which a teacher reads late; it is shifted early by them")
    shares: dict[str, Share] = Field({"manual": 1.0}, min_length=1, description="windows from each source of records")
    temperature: float = Field(1.0, gt=0, description="at which student and target are compared")
    labels: LabelSettings = LabelSettings()
    chances: AugmentationProbabilities = AugmentationProbabilities()
    network: Literal["xiaonet", "phasenet"] = Field("xiaonet", description="what learns: a student, or a teacher for others")
    base_channels: StrictInt = Field(BASE_CHANNELS, ge=1, description="of a student")
    start: str = Field("", description="a shipped name or a model file to start from; fresh weights if empty")
    steps: StrictInt = Field(0, ge=0)
    minutes: float = Field(0.0, ge=0)
    batch_size: StrictInt = Field(32, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    average: float = Field(0.998, ge=0, lt=1, description="decay of the averaged weights, which are those kept")
    anew: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the target that the teachers give the disturbed window itself, not the record it was cropped from",
    )
    precision: Literal["32-true", "bf16-mixed"] = Field("32-true", description="bf16-mixed is faster where the processor has it")
    compile: bool = Field(False, description="let torch compile the student: faster where it is narrow, and needs a C++ compiler")
    seed: StrictInt = Field(0, ge=0)

    @field_validator("chances", mode="before")
    @classmethod
    def _rename_probabilities(cls, value: object) -> object:
        return {OLD_PROBABILITIES.get(key, key): probability for key, probability in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if bool(self.steps) and bool(self.minutes):
            raise ValueError(f"steps is {self.steps} and minutes is {self.minutes}; give one of them")
        if abs(sum(self.teachers.values()) - 1) > 1e-6:
            raise ValueError(f"the shares of the teachers {self.teachers} do not sum to 1")
        if self.network == "phasenet" and self.start:
            raise ValueError(f"start is {self.start!r}, but a phasenet starts from fresh weights; leave start out")
        return self


class Outcome(NamedTuple):
    """What a finished run says: windows seen, and F1, threshold and recall within 0.1 s on dev, by phase.

    `data` are the sets of single records that it learnt from, joined by `+`.
    """

    model: Path
    data: str
    windows: int
    dev: dict[str, dict[str, float]]


def find_records(recipe: Recipe, root: Path, folder: Path) -> list[TrainingRecord]:
    """Records with the teachers' targets; worked out once and kept in the folder as `records.npz`.

    Args:
        recipe: which records, and which teachers.
        root: where the recipe's data are looked for first.
        folder: made if it is missing.

    Raises:
        XiaoNetError: data or teachers cannot be had.
    """
    labelled, unlabelled = _within(root, recipe.labelled), _within(root, recipe.unlabelled)
    continuous = [str(root / path) for path in recipe.continuous]
    data = open_data("+".join(filter(None, (labelled, unlabelled))))
    teacher = load_teachers(recipe)
    made_by = {
        "recipe": recipe.model_dump(mode="json", include={"labelled", "unlabelled", "continuous", "teachers", "late"}),
        "inputs": describe_inputs(data, Archive(continuous).files, teacher.members),
    }
    make_folder(folder)
    path = folder / "records.npz"
    if (records := load_records(path, made_by)) is not None:
        console.ok("Records", f"{len(records)} read", str(path))
        return records
    with console.busy("Computing teacher predictions"):
        records = list(compute_targets(gather(labelled, unlabelled, continuous), teacher.members, recipe.teachers, recipe.late))
    if not records:
        raise DataError(f"{labelled} has no record in its train split; wanted some to learn from")
    save_records(records, path, made_by)
    console.ok("Records", f"{len(records)} looked at by {', '.join(teacher.members)}", str(path))
    return records


def load_teachers(recipe: Recipe) -> FusedTeacher:
    """The recipe's teachers as one, each shifted to be on time. Raises TeacherError if one cannot be had."""
    try:
        members = {name: PhaseNetTeacher.from_pretrained(name) for name in recipe.teachers}
    except TeacherError as error:
        raise TeacherError(f'{error}. A recipe names its teachers itself, such as "teachers": {{"bundled": 1}}') from error
    return FusedTeacher(members, recipe.teachers, recipe.late)


def _within(root: Path, spec: str) -> str:
    """Data sets as found under a root; a name that is not there stays as it is."""
    return "+".join(str(root / part) if (root / part).exists() else part for part in split_names(spec)) if spec else ""


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
    if not root.is_dir():
        raise DataError(f"there is no folder {root} to look for the recipe's data in; give --data the one that holds {recipe.labelled}")
    if "+" in str(root):
        raise DataError(f"--data is {root}, and + joins data sets; wanted a folder without + in its path, such as a link to it")
    commit = git_commit()  # of the code that trains
    try:
        dev = DevSet(picked_records(_within(root, recipe.labelled), "dev"))
    except DataError as error:
        raise DataError(f"{error}. A recipe names its data itself, here {recipe.labelled}; --data is the folder that holds them") from error
    pool = Pool(find_records(recipe, root, folder), recipe.shares)
    run = Run(recipe, pool, folder / f"{name}.state", load_teachers(recipe) if recipe.anew else None)
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
        "commit": commit,
    }
    path = folder / f"{name}.pth"
    if isinstance(model, XiaoNet):
        save_model(model, path, provenance, {phase: scores[phase]["threshold"] for phase in PICKED_PHASES})
    else:
        save_phasenet(model, path, provenance)
    data = "+".join(_within(root, spec) for spec in (recipe.labelled, recipe.unlabelled) if spec)
    return Outcome(path, data, run.step * recipe.batch_size, scores)


def _fresh_network(recipe: Recipe) -> nn.Module:
    if recipe.network == "phasenet":
        return new_phasenet()
    return load_float(model_path(recipe.start, ".pth")) if recipe.start else _fresh(recipe.base_channels)


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
    parts = torch.split(windows, _counts(len(windows), list(teachers.shares.values()), draw))
    answers = [
        remove_delay(teacher(part), teachers.late[name]) for (name, teacher), part in zip(teachers.members.items(), parts, strict=True)
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


def _fresh(base_channels: int) -> XiaoNet:
    """A student that says noise nearly everywhere, as is right, so that it learns onsets from the first step on.

    The bias of Lin et al. (2017, doi:10.1109/ICCV.2017.324). Without it a student of 5 channels spent them all on telling
    noise, where onsets are left with what is zero after the last ReLU, and could not come back.
    """
    model = XiaoNet(base_channels=base_channels)
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
        CheckpointError: the file is of another recipe, damaged, or cannot be written.
    """

    def __init__(self, recipe: Recipe, pool: Pool, state: Path, teachers: FusedTeacher | None = None) -> None:
        self.recipe, self.pool, self.state, self.teachers = recipe, pool, state, teachers
        torch.manual_seed(recipe.seed)
        self.model = _fresh_network(recipe).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=recipe.learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
        self.average = Average(self.model, recipe.average)
        self.step, self.seconds = 0, 0.0
        self.records = pool.digest()
        if isinstance(self.model, XiaoNet):
            forward = functools.partial(planar_logits, self.model)
        else:
            forward = functools.partial(self.model, logits=True)
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
        counted = not self.recipe.compile  # the first step compiles, which is no training
        losses: deque[float] = deque(maxlen=TOLD_STEPS)
        with console.ShareProgress("Training") as bar, stop_asked() as stopped:
            while self.progress < 1:
                started = time.monotonic()
                losses.append(self._step())
                self.seconds += counted * (time.monotonic() - started)
                counted = True
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
        drawn = draw_batch(self.pool, self.recipe.batch_size, seed, self.recipe.chances, self.recipe.labels)
        windows, target = map(torch.from_numpy, drawn)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.precision == "bf16-mixed"):
            if self.teachers is not None:
                draw = np.random.default_rng((*seed, 1)).random()
                target = mix_online_targets(self.teachers, windows, target, self.recipe.anew, draw)
            logits = self.forward(windows)
        loss = soft_loss(logits.float(), target, self.recipe.temperature)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        if not (torch.isfinite(norm) and torch.isfinite(loss)):
            raise TrainingError(
                f"step {self.step + 1} gave loss {float(loss.detach())} and gradient norm {float(norm)}; both must be finite. "
                f"Choose a learning_rate below {self.recipe.learning_rate:g}, or precision 32-true, and another --out"
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
        if self.recipe.parse(json.loads(content["recipe"]), str(self.state)) != self.recipe:
            raise CheckpointError(f"{self.state} was begun by another recipe; delete it, or choose another --out")
        if content["records"] != self.records:
            raise CheckpointError(f"{self.state} was begun with other records; delete it, restore them, or choose another --out")
        self.model.load_state_dict(content["model"])
        self.average.model.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.seconds = content["step"], content["seconds"]
        console.ok("Training", "goes on", f"{self.step} steps were done")
