"""The objective of the recipes: steps or minutes over windows drawn at random from a pool of records.

Teachers predict whole records once, beforehand. A window is a crop of a record, disturbed at random, and its target
is a crop of the record's. With `distillation.online_weight`, those teachers that take such a window also predict it,
with all its components, even where the student gets the vertical alone.
"""

import functools
import json
import math
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader

from xiaonet import console
from xiaonet.config.schema import AugmentationSettings, Config, LabelSettings
from xiaonet.constants import NOISE, PICKED_PHASES, SAMPLING_RATE, WINDOW_SAMPLES
from xiaonet.data.augmentation import draw_batch
from xiaonet.data.loaders import DrawnBatches, load_drawn, stop_workers
from xiaonet.data.pool import Pool
from xiaonet.errors import ConfigError, DataError, TeacherError, TrainingError
from xiaonet.nn.model import XiaoNet
from xiaonet.nn.record_teacher import open_teacher
from xiaonet.nn.teacher import FusedTeacher, new_phasenet, remove_delays
from xiaonet.training.calibration import ContinuousRecords, calibrate, choose_thresholds
from xiaonet.training.dev_set import DevSet, picked_records
from xiaonet.training.losses import soft_target_loss
from xiaonet.training.objective import AfterBatch, Objective, TrainingResult
from xiaonet.training.run_folder import RunFolder, notes
from xiaonet.training.setup import load_members, locate_data, make_student
from xiaonet.training.targets import find_records

WARM_UP = 0.03  # share of the run in which the learning rate rises
LAST_RATE = 0.01  # of the highest learning rate, at the end
WEIGHT_DECAY = 1e-4
NORMALIZING_WINDOWS = 8192  # that measure the means and variances of a mixture of two networks
SHOWN_STEPS = 50  # whose mean loss is shown
USUAL_PROBABILITIES = (0.015, 0.015, 0.97)  # of P, S and noise, for a fresh student


def open_drawn_windows(config: Config, fabric: Fabric, run: RunFolder, records: Path) -> "DrawnWindows":
    """Open data and teachers of the settings.

    Args:
        config: all settings.
        fabric: device and precision.
        run: files of the run.
        records: file that keeps the teachers' targets.

    Raises:
        XiaoNetError: data, teachers or settings do not fit.
    """
    if fabric.world_size > 1:
        raise ConfigError(f"there are {fabric.world_size} processes, but drawn windows are trained by one; start without a launcher")
    network = make_network(config)  # a model that does not fit is told before the teachers work for minutes
    labelled = locate_data(config.data)[0]
    try:
        dev_set = DevSet(picked_records(labelled, "dev"))
    except DataError as error:
        raise DataError(f"{error}. A recipe names its data itself, here {config.data.name}; --data is their folder") from error
    teachers = load_teachers(config)
    online = load_online_teachers(config, teachers) if np.any(config.distillation.online_weight) else None
    pool = Pool(find_records(config, teachers, records), config.data.source_weights)
    return DrawnWindows(config, fabric, run, network, pool, teachers, online, dev_set)


def load_teachers(config: Config) -> FusedTeacher:
    """Load the teachers as one, also a single one, with the delay of each removed. Raises TeacherError if one could not be loaded."""
    settings = config.distillation
    try:
        members = load_members(settings, config.training.initial_model)
    except TeacherError as error:
        raise TeacherError(f'{error}. A recipe names its teachers itself, such as "distillation": {{"teacher": "bundled"}}') from error
    return FusedTeacher(members, settings.teacher_weights, settings.delays)


def load_online_teachers(config: Config, teachers: FusedTeacher) -> FusedTeacher:
    """Load the teachers that predict disturbed windows: those of `distillation.online_teachers`, otherwise all.

    Raises:
        TeacherError: one could not be loaded, or predicts whole records only.
    """
    settings = config.distillation
    online = teachers
    if weights := settings.online_teachers:
        members = {name: teachers.members.get(name) or open_teacher(name) for name in weights}
        online = FusedTeacher(members, weights, settings.delays)
    if refused := [name for name, member in online.members.items() if not member.predicts_windows]:
        able = [name for name, member in online.members.items() if member.predicts_windows]
        raise TeacherError(
            f"distillation.online_weight is above 0, but {', '.join(refused)} cannot predict single windows of {WINDOW_SAMPLES} samples at "
            f"{SAMPLING_RATE:g} Hz. Name those that can in distillation.online_teachers, such as "
            f"{json.dumps(dict.fromkeys(able or ['original'], 1))}; or set distillation.online_weight to 0"
        )
    return online


class DrawnWindows(Objective):
    """Distillation over drawn windows. What is kept is an average of the weights over the last steps.

    Args:
        config: all settings.
        fabric: device and precision.
        run: files of the run.
        network: is trained; of `make_network`.
        pool: records to draw windows from.
        teachers: whose predictions of whole records are the targets.
        online: predict each window; None where `distillation.online_weight` is 0.
        dev_set: windows that the thresholds are chosen on.
    """

    def __init__(
        self,
        config: Config,
        fabric: Fabric,
        run: RunFolder,
        network: nn.Module,
        pool: Pool,
        teachers: FusedTeacher,
        online: FusedTeacher | None,
        dev_set: DevSet,
    ) -> None:
        self.pool, self.online, self.dev_set = pool, online, dev_set
        self.steps, self.seconds = 0, 0.0
        self.loader: DataLoader[tuple[Tensor, ...]] | None = None
        super().__init__(config, fabric, run, network.train(), teachers)
        run.manifest["data"] = {"name": config.data.name, "fingerprint": pool.digest()}
        run.manifest["records"] = {source: len(rows) for source, rows in pool.rows.items()}
        rate = config.training.learning_rate
        optimizer = torch.optim.AdamW(self.student.parameters(), lr=rate, weight_decay=WEIGHT_DECAY, fused=True)
        self.scheduler = LambdaLR(optimizer, lambda _: learning_rate_factor(self.share_done))
        _, self.optimizer = fabric.setup(self.student, optimizer)
        if online is not None:
            run.manifest["online teacher"] = online.describe()
            online.to(fabric.device)
        self.average = make_average(self.student, config.objective.averaging_decay)
        if isinstance(self.student, XiaoNet):
            forward = functools.partial(self.student.logits, planar=True)
        else:
            forward = functools.partial(self.student, logits=True)
        self.forward = torch.compile(forward) if config.training.compile else forward
        self.losses: deque[float] = deque(maxlen=SHOWN_STEPS)
        self.print_parts()

    @property
    def share_done(self) -> float:
        """Share of the run that is done."""
        settings = self.config.objective
        return self.steps / settings.steps if settings.steps else self.seconds / (60 * settings.minutes)

    @property
    def done(self) -> bool:
        """Whether all steps are done, or the time is over."""
        return self.share_done >= 1

    def advance(self, after_batch: AfterBatch) -> None:
        """Train to the end."""
        torch.set_flush_denormal(True)  # tiny numbers take processors a hundred times as long
        counted = not self.config.training.compile  # the first step compiles, which is not training time
        try:
            with console.ShareProgress("Training") as bar:
                batches = iter(self._start_loader())
                while not self.done:
                    started = time.monotonic()
                    self.losses.append(self._step(*next(batches)))
                    self.seconds += counted * (time.monotonic() - started)
                    counted = True
                    self.scheduler.step()
                    bar.update(self.share_done, self.windows, float(np.mean(self.losses)))
                    after_batch()
        finally:
            torch.set_flush_denormal(False)

    @property
    def windows(self) -> int:
        """Number of windows seen."""
        return self.steps * self.config.training.batch_size

    def _start_loader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Let the loader processes draw the batches of the steps that follow."""
        settings = self.config.training
        draw = functools.partial(draw_step, self.pool, settings.batch_size, settings.seed, self.config.augmentation, self.config.labels)
        pin_memory = self.fabric.device.type == "cuda"
        self.loader = load_drawn(DrawnBatches(draw), self.steps, num_workers=settings.num_workers, pin_memory=pin_memory)
        return self.loader

    def close(self) -> None:
        """Stop the loader processes."""
        if self.loader is not None:
            stop_workers(self.loader)

    def _step(self, windows: Tensor, target: Tensor, given: Tensor) -> float:
        settings, distillation = self.config.training, self.config.distillation
        self.seed_dropout(self.steps)
        windows, target, given = (part.to(self.fabric.device, non_blocking=True) for part in (windows, target, given))
        with self.fabric.autocast():
            if self.online is not None:
                draw = np.random.default_rng((settings.seed, self.steps, 1)).random()
                target = mix_online_targets(self.online, windows, target, distillation.online_weight, draw)
            logits = self.forward(windows * given)
        loss = soft_target_loss(logits.float(), target, distillation.temperature)
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.student.parameters(), settings.gradient_clip)
        if not (torch.isfinite(norm) and torch.isfinite(loss)):
            raise TrainingError(
                f"step {self.steps + 1} gave loss {float(loss.detach())} and gradient norm {float(norm)}; both must be finite. "
                f"Choose a training.learning_rate below {settings.learning_rate:g}, or training.precision 32-true, and another --out"
            )
        self.optimizer.step()
        self.steps += 1
        self.average.update_parameters(self.student)
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        """Return the averaged weights, and how far the run is."""
        return {"average": self.average.state_dict(), "steps": self.steps, "seconds": self.seconds}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from such a state."""
        self.average.load_state_dict(state["average"])
        self.steps, self.seconds = state["steps"], state["seconds"]
        console.ok("Run", "resumed", f"{self.run.path} after {self.steps} steps")

    def write_records(self, picture: bool = False) -> None:
        """Write notes, then the manifest, which tells that a run is finished."""
        self.run.write("notes.md", notes(self.run.path.name, self.config, self.run.manifest, [], []))
        self.run.write_manifest()

    def finish(self) -> TrainingResult:
        """Calibrate the averaged network on the dev split, choose its thresholds and write it."""
        network = self._network_to_keep()
        if isinstance(network, XiaoNet):
            self.run.manifest["calibration"] = calibrate(network, self.dev_set)
        records = [record.waveform for record in self.pool.records if record.source == "continuous"]
        counted = ContinuousRecords(records).peaks(network) if records else None
        scores = self.dev_set.scores(network, lambda f1: choose_thresholds(f1, counted))
        minutes = round(self.seconds / 60, 1)
        self.run.manifest |= {"steps": self.steps, "windows": self.windows, "minutes": minutes, "dev": scores}
        path = self.run.path / "saved_model_fp32.pth"
        self.run.save_model(network, path, {phase: scores[phase]["threshold"] for phase in PICKED_PHASES})
        self.write_records()
        data = "+".join(filter(None, locate_data(self.config.data)[:2]))
        return TrainingResult(self.run.path, path, data, self.windows, dev=scores)

    def _network_to_keep(self) -> nn.Module:
        """The averaged network. With `objective.initial_share`, its weights are mixed with those of the initial model.

        Between a model and what further training makes of it, such a mixture is often better than both (Wortsman et al.
        2022, doi:10.1109/CVPR52688.2022.00780). Its activations have other means and variances than those of either, so
        they are measured anew on drawn windows (Izmailov et al. 2018, arXiv:1803.05407).
        """
        network: nn.Module = self.average.module.cpu()
        if share := self.config.objective.initial_share:
            with torch.no_grad():
                for kept, initial in zip(network.parameters(), make_student(self.config).parameters(), strict=True):
                    kept.lerp_(initial, share)
            update_bn(self._windows_to_normalize(), network)
        return network

    def _windows_to_normalize(self) -> Iterator[Tensor]:
        """Batches of windows as after the last step, drawn the same way every time."""
        settings = self.config.training
        batches = math.ceil(NORMALIZING_WINDOWS / settings.batch_size)
        with console.WindowProgress("Means and variances", batches * settings.batch_size) as bar:
            for step in range(self.steps, self.steps + batches):
                self.seed_dropout(step)
                windows, _, given = draw_step(
                    self.pool, settings.batch_size, settings.seed, self.config.augmentation, self.config.labels, step
                )
                yield torch.from_numpy(windows * given)
                bar.update(settings.batch_size)


def draw_step(
    pool: Pool, size: int, seed: int, augmentation: AugmentationSettings, labels: LabelSettings, step: int
) -> tuple[NDArray[np.float32], ...]:
    """Draw the batch of a step, as `draw_batch`."""
    return draw_batch(pool, size, (seed, step), augmentation, labels)


def make_network(config: Config) -> nn.Module:
    """Make the network to train: a PhaseNet, or a student, which predicts noise nearly everywhere if it is fresh.

    A student that predicts noise, as is right nearly everywhere, learns onsets from the first step on. This is the bias of
    Lin et al. (2017, doi:10.1109/ICCV.2017.324). Without it, a student of 5 channels used them all to detect noise. Its
    last ReLU then gave zeros at every onset, and it could not recover.
    """
    torch.manual_seed(config.training.seed)
    if config.model.network == "phasenet":
        return new_phasenet()
    student = make_student(config)
    if config.training.initial_model == "none":
        with torch.no_grad():
            student.head.bias.copy_(torch.tensor(USUAL_PROBABILITIES).log())  # type: ignore[union-attr]
    return student


def make_average(network: nn.Module, decay: float) -> AveragedModel:
    """Make an exponential average of weights and running statistics, which forgets quickly at the start.

    After n updates the decay is the lower of `decay` and (1 + n) / (10 + n).
    """

    def average(averaged: Tensor, value: Tensor, updates: Tensor | int) -> Tensor:
        if not value.is_floating_point():
            return value  # a count of batches
        return averaged.lerp(value, 1 - min(decay, (1 + int(updates)) / (10 + int(updates))))

    averaged = AveragedModel(network, avg_fn=average, use_buffers=True)
    averaged.update_parameters(network)  # the first update is a copy
    return averaged.eval()


def learning_rate_factor(share_done: float) -> float:
    """Factor of the highest learning rate: it rises on a straight line, then falls along half a cosine to a hundredth."""
    if share_done < WARM_UP:
        return max(share_done / WARM_UP, 0.01)
    falling = min((share_done - WARM_UP) / (1 - WARM_UP), 1.0)
    return LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * falling)) / 2


def mix_online_targets(teachers: FusedTeacher, windows: Tensor, target: Tensor, weight: float | tuple[float, float], draw: float) -> Tensor:
    """Mix targets with the teachers' predictions of the windows themselves. Windows of noise alone keep their target.

    A student that learns a teacher's answer to every disturbed window learns what the teacher does, rather than a few
    records (Beyer et al. 2022, doi:10.1109/CVPR52688.2022.01065). Each window goes to one teacher, and each teacher gets
    as many windows as its weight says. On average over `draw` that is the fused prediction, at the cost of one.

    Args:
        teachers: with weights and delays.
        windows: `(batch, 3, 3001)`.
        target: `(batch, 3, 3001)` in P, S, noise order.
        weight: of the predictions against the target, or one weight for P and one for S.
        draw: a random number from 0 to 1, which decides how windows are rounded to whole numbers.
    """
    parts = torch.split(windows, _counts(len(windows), list(teachers.weights.values()), draw))
    predictions = [
        remove_delays(teacher(part), teachers.delays[name]) for (name, teacher), part in zip(teachers.members.items(), parts, strict=True)
    ]
    noise_alone = target[:, :NOISE].amax(dim=(1, 2), keepdim=True) == 0
    if not isinstance(weight, tuple):
        return torch.where(noise_alone, target, torch.lerp(target, torch.cat(predictions), weight))
    by_phase = torch.tensor(weight, device=target.device).view(1, NOISE, 1)
    picked = torch.lerp(target[:, :NOISE], torch.cat(predictions)[:, :NOISE], by_phase)
    picked = picked / picked.sum(dim=1, keepdim=True).clamp_min(1)
    mixed = torch.cat([picked, 1 - picked.sum(dim=1, keepdim=True)], dim=1)
    return torch.where(noise_alone, target, mixed)


def _counts(total: int, weights: list[float], draw: float) -> list[int]:
    """Whole numbers that sum to a total, and that are in proportion to the weights on average over draws from 0 to 1."""
    bounds = np.floor(np.cumsum(weights) * total + draw)
    bounds[-1] = total
    return [int(count) for count in np.diff(bounds, prepend=0)]
