"""The prescribed objective: epochs over a data set, with early stopping and one look at the test split."""

import time
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.utils.data import DataLoader, default_collate

from xiaonet import console
from xiaonet.config.schema import Config
from xiaonet.constants import DEFAULT_THRESHOLDS
from xiaonet.data.columns import STATUS_COLUMN, phase_columns
from xiaonet.data.loaders import Batches, make_loader, stop_workers
from xiaonet.data.pipeline import Windows
from xiaonet.data.sets import fingerprint, open_data, split_data
from xiaonet.errors import CheckpointError, DataError, TrainingError
from xiaonet.names import split_names
from xiaonet.nn.checkpoint import load_model, read_model_file
from xiaonet.nn.model import XiaoNet
from xiaonet.shipped import model_path
from xiaonet.training.checks import validate_setup
from xiaonet.training.diagnostics import Advice, EpochRecord, diagnose
from xiaonet.training.distributed import share_batch_norm
from xiaonet.training.loop import Totals, evaluate_student_model, train_one_epoch_distillation
from xiaonet.training.objective import AfterBatch, Objective, TrainingResult
from xiaonet.training.run_folder import RunFolder, history_csv, history_png, notes
from xiaonet.training.setup import load_teacher, locate_data, make_student
from xiaonet.training.stopping import EarlyStopping

CHECK_WINDOWS = 8  # windows of the checks before training


@dataclass
class Progress:
    """How far a run is: completed epochs, sums of the current one, and the history."""

    epoch: int = 0
    totals: Totals = field(default_factory=Totals)
    history: list[EpochRecord] = field(default_factory=list)


class EpochObjective(Objective):
    """Distillation over epochs. Arguments are those of `Objective`; data, teacher and student come from the settings.

    Raises:
        XiaoNetError: data, teacher or settings do not fit.
    """

    student: XiaoNet

    def __init__(self, config: Config, fabric: Fabric, run: RunFolder) -> None:
        settings, self.data_name = config.training, locate_data(config.data)[0]
        with fabric.rank_zero_first(local=True):  # one downloads, the others find it
            data = open_data(self.data_name, synthetic_records=config.data.synthetic_records, seed=settings.seed)
            teacher = load_teacher(config.distillation, settings.initial_model)
        self.parts = dict(zip(("train", "dev", "test"), split_data(data), strict=True))
        if "initial" in split_names(config.distillation.teacher):
            self._require_picks(config.data.name)
        torch.manual_seed(settings.seed)
        super().__init__(config, fabric, run, make_student(config), teacher)
        initial = model_path(settings.initial_model, ".pth") if settings.initial_model != "none" else None
        self.thresholds = read_model_file(initial)["thresholds"] if initial else DEFAULT_THRESHOLDS
        if fabric.world_size > 1:
            share_batch_norm(self.student)
        incomplete = data.metadata.filter(regex=STATUS_COLUMN).isin(config.data.incomplete_statuses).any(axis=1).sum()
        run.manifest["times_tested"] = run.earlier.get("times_tested", 0)
        run.manifest["data"] = {
            "name": config.data.name,
            "fingerprint": fingerprint(data),
            **{name: len(part) for name, part in self.parts.items()},
            "with unpicked phases": int(incomplete),
        }
        self.windows = {
            name: Windows(part, seed=settings.seed, incomplete_statuses=config.data.incomplete_statuses)
            for name, part in self.parts.items()
        }
        self.loaders: list[DataLoader[Any]] = []
        self.batches = self._batches("train", shuffle=True)
        self.train_loader = self._loader("train", self.batches)
        self.dev_loader = self._loader("dev", self._batches("dev"))
        self._set_up()
        self.progress = Progress()
        self.shown_advice: set[Advice] = set()
        self.events: Any = None

    def _set_up(self) -> None:
        """Make optimizer, scheduler and early stopping, check them on a batch, and move everything to the device."""
        settings = self.config.training
        optimizer = torch.optim.Adam(self.student.parameters(), lr=settings.learning_rate)
        self.stopping = EarlyStopping(
            settings.patience, self.run.path / "checkpoint.pt", lambda model, path: self.run.save_model(model, path, self.thresholds)
        )
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **settings.scheduler.model_dump())
        self.print_parts()
        windows = self.windows["train"]
        batch = default_collate([windows[row] for row in range(min(CHECK_WINDOWS, len(windows)))])
        validate_setup(batch, self.student, self.teacher, optimizer, "cpu")
        self.wrapped, self.optimizer = self.fabric.setup(self.student, optimizer)
        self.wrapped.mark_forward_method("logits")
        if self.teacher is not None:
            self.teacher.to(self.fabric.device)

    @property
    def done(self) -> bool:
        """Whether all epochs are done, or the dev loss no longer falls."""
        return self.progress.epoch >= self.config.training.epochs or self.stopping.stop

    def begin(self, resumed: bool) -> None:
        """Measure the initial model, which the student has to beat.

        Raises:
            CheckpointError: the run is finished. It has seen its test split, and must learn more to see it again.
        """
        if not resumed and self.config.training.initial_model != "none":
            self.stopping.best_loss = evaluate_student_model(self.dev_loader, self.student, self.fabric.device, fabric=self.fabric)
            console.ok("Initial model", self.config.training.initial_model, f"dev loss {self.stopping.best_loss:.6f}")
        if "best_dev_loss" in self.run.earlier and self.done:
            stopped = f" (no better dev loss for {self.stopping.patience} epochs)" if self.stopping.stop else ""
            raise CheckpointError(
                f"{self.run.path} is finished after {self.progress.epoch} epochs{stopped}; train on with "
                f"--set training.epochs=N, N above {self.progress.epoch}"
                + (", and --set training.patience=M, M above " + str(self.stopping.patience) if stopped else "")
            )
        if find_spec("tensorboard") is not None and self.run.writes:
            from torch.utils.tensorboard.writer import SummaryWriter

            self.events = SummaryWriter(self.run.path / "events", purge_step=self.progress.epoch + 1)

    def advance(self, after_batch: AfterBatch) -> None:
        """Train one epoch, and measure the dev loss."""
        epoch, totals, settings = self.progress.epoch, self.progress.totals, self.config.training
        started = time.monotonic()
        self.batches.start(epoch, totals.batches)
        self.seed_dropout(epoch, totals.batches)
        size = self.batches.batch_size
        title = f"Epoch {epoch + 1}/{settings.epochs}"
        with console.EpochProgress(title, len(self.batches) * size, totals.batches * size) as bar:

            def on_batch(totals: Totals) -> None:
                bar.update(totals.batches * size, totals.means()[0])
                self.seed_dropout(epoch, totals.batches)
                after_batch()

            train_loss, task_loss = train_one_epoch_distillation(
                self.train_loader,
                self.wrapped,
                self.teacher,
                self.optimizer,
                self.fabric.device,
                self.config.distillation.temperature,
                self.config.distillation.alpha,
                fabric=self.fabric,
                gradient_clip=settings.gradient_clip,
                totals=totals,
                on_batch=on_batch,
            )
        dev_loss = evaluate_student_model(self.dev_loader, self.student, self.fabric.device, fabric=self.fabric)
        seconds = time.monotonic() - started
        self._end_epoch(EpochRecord(epoch + 1, self._learning_rate(), train_loss, task_loss, dev_loss, seconds))

    def _end_epoch(self, record: EpochRecord) -> None:
        better = self.stopping(record.dev_loss, self.student)
        self.scheduler.step(record.dev_loss)
        self.progress = Progress(self.progress.epoch + 1, history=[*self.progress.history, record])
        if self.events is not None:
            for name, value in asdict(record).items():
                self.events.add_scalar(name, value, record.epoch)
            self.events.flush()
        console.say(
            f"Epoch {record.epoch}/{self.config.training.epochs}  loss: {record.train_loss:.6f}  task: {record.train_task_loss:.6f}  "
            f"dev: {record.dev_loss:.6f}{' (best)' if better else ''}  {record.seconds:.1f} s"
        )
        before, now = record.learning_rate, self._learning_rate()
        if now < before:
            console.ok("Scheduler", "learning rate reduced", f"{before:g} to {now:g}, because the dev loss stagnates")
        for advice in self._advice():
            if advice not in self.shown_advice:
                self.shown_advice.add(advice)
                console.warn("Diagnostics", advice.problem, str(advice).removeprefix(f"{advice.problem}: "))

    def state(self) -> dict[str, Any]:
        """Return progress and early stopping."""
        return {"progress": asdict(self.progress), "stopping": self.stopping.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from such a state."""
        self.stopping.load_state_dict(state["stopping"])
        values = state["progress"]
        self.progress = Progress(values["epoch"], Totals(**values["totals"]), [EpochRecord(**row) for row in values["history"]])
        console.ok("Run", "resumed", f"{self.run.path} at epoch {values['epoch'] + 1}, batch {self.progress.totals.batches}")

    def write_records(self, picture: bool = False) -> None:
        """Write history, notes, on demand the picture of the history, and the manifest, which tells last that a run is finished."""
        if not self.run.writes:
            return
        history = self.progress.history
        self.run.write("history.csv", history_csv(history))
        self.run.write("notes.md", notes(self.run.path.name, self.config, self.run.manifest, history, self._advice()))
        image = history_png(history, f"{self.run.path.name}: {self.config.data.name}") if picture else None
        if image is not None:
            self.run.write("history.png", image)
        self.run.write_manifest()

    def finish(self) -> TrainingResult:
        """Save best and final student, measure the best once on the test split, and write the records."""
        self.fabric.barrier()  # the first process has written what all now read
        stopping = self.stopping
        if stopping.best_epoch == 0:
            raise TrainingError(
                f"no epoch was better on dev than {self.config.training.initial_model}, whose loss is {stopping.best_loss:.6f}; "
                "no model is saved. Keep the model as it is, or try more records or --set training.learning_rate=1e-5"
            )
        best, model = load_model(stopping.path), self.run.path / "saved_model_fp32.pth"
        self.run.save_model(self.student, self.run.path / "final_model.pth", self.thresholds)
        for path in (self.run.path / "best_model.pth", model):
            self.run.save_model(best, path, self.thresholds)
        test_loss = self._test(best)
        self.run.manifest |= {
            "best_epoch": stopping.best_epoch,
            "best_dev_loss": stopping.best_loss,
            "test_loss": test_loss,
            "times_tested": self.run.manifest["times_tested"] + (test_loss is not None),
        }
        self.write_records(picture=True)
        reason = f"no better dev loss for {stopping.patience} epochs" if stopping.stop else "all epochs done"
        console.ok("Training", "finished", f"{reason}; best dev loss {stopping.best_loss:.6f} in epoch {stopping.best_epoch}")
        console.ok("Files", "written", f"{self.run.path}/ saved_model_fp32.pth, history.png, notes.md and more")
        self.fabric.barrier()
        seen = self.progress.epoch * len(self.batches) * self.batches.batch_size
        history, best_epoch, best_loss = self.progress.history, stopping.best_epoch, stopping.best_loss
        return TrainingResult(self.run.path, model, self.data_name, seen, history, best_epoch, best_loss, test_loss)

    def _test(self, best: XiaoNet) -> float | None:
        if len(self.parts["test"]) == 0:
            console.warn("Test", "no final test loss", f"{self.config.data.name} has no test split")
            return None
        loader = self._loader("test", self._batches("test"))
        loss = evaluate_student_model(loader, best.to(self.fabric.device), self.fabric.device, fabric=self.fabric)
        console.ok("Test", "final test loss", f"{loss:.6f} on {len(self.parts['test'])} held-out records")
        return loss

    def close(self) -> None:
        """Stop the loader processes, and close TensorBoard's file."""
        for loader in self.loaders:
            stop_workers(loader)
        if self.events is not None:
            self.events.close()

    def _require_picks(self, name: str) -> None:
        """Fine-tuning needs picks: the initial model alone has nothing new to teach, and dev must show what is better."""
        for part in ("train", "dev"):
            metadata = self.parts[part].metadata
            if metadata[list(phase_columns(metadata))].isna().all(axis=None):
                raise DataError(
                    f"{name}: none of the {len(metadata)} records of split {part} has a pick; "
                    "wanted P or S picks in train and dev to adapt a model to"
                )

    def _batches(self, part: str, *, shuffle: bool = False) -> Batches:
        return Batches(
            len(self.parts[part]),
            self.config.training.batch_size,
            shuffle=shuffle,
            windows_per_record=self.config.data.windows_per_record,
            seed=self.config.training.seed,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
        )

    def _loader(self, part: str, batches: Batches) -> Any:
        on_gpu = self.fabric.device.type == "cuda"
        loader = make_loader(self.windows[part], batches, num_workers=self.config.training.num_workers, pin_memory=on_gpu)
        self.loaders.append(loader)
        return loader

    def _learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def _advice(self) -> list[Advice]:
        comparable = not self.run.manifest["data"]["with unpicked phases"]
        return diagnose(self.progress.history, self.config, comparable=comparable)
