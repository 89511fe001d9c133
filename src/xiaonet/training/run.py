"""A training run: a folder that says what was done, and goes on where it was interrupted."""

import json
import os
import platform
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from torch.utils.data import default_collate

from xiaonet import console
from xiaonet.config.schema import Config
from xiaonet.constants import DEFAULT_THRESHOLDS
from xiaonet.data.columns import STATUS_COLUMN, phase_columns
from xiaonet.data.loaders import Batches, make_loader
from xiaonet.data.pipeline import Windows
from xiaonet.data.sets import WaveformData, fingerprint, open_data, split_data
from xiaonet.errors import CheckpointError, DataError, OutputError, TrainingError
from xiaonet.files import write_atomically
from xiaonet.names import split_names
from xiaonet.nn.checkpoint import digest, load_model, load_tensors, read_model_file, save_model, save_tensors
from xiaonet.nn.model import XiaoNet
from xiaonet.shipped import model_path
from xiaonet.training.checks import validate_setup
from xiaonet.training.diagnostics import Advice, EpochRecord, diagnose
from xiaonet.training.distributed import share_batch_norm
from xiaonet.training.loop import Totals, evaluate_student_model, train_one_epoch_distillation
from xiaonet.training.memory import keep_freed_memory
from xiaonet.training.run_folder import history_csv, history_png, notes, read_manifest
from xiaonet.training.setup import git_commit, load_teacher, make_fabric, make_student, resolve_precision, versions
from xiaonet.training.stopping import SAME_WISH, EarlyStopping

RESUME_FORMAT = "xiaonet-run"
CHECK_WINDOWS = 8  # windows that the checks before training look at
MAY_CHANGE = ("training.epochs", "training.patience", "training.num_workers", "training.checkpoint_minutes", "device.")


@dataclass
class Progress:
    """Where a run stands: all that `resume.pt` holds beside the weights."""

    epoch: int = 0  # epochs completed
    totals: Totals = field(default_factory=Totals)
    history: list[EpochRecord] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """What a finished run gives back."""

    folder: Path
    history: list[EpochRecord]
    best_epoch: int
    best_dev_loss: float
    test_loss: float | None


def start_run(config: Config, folder: Path, *, note: str = "") -> Result:
    """Train a student in a new folder.

    Args:
        config: all settings.
        folder: of the run; made if it is missing.
        note: why the settings differ from the defaults.

    Raises:
        OutputError: the folder holds a run already, or cannot be written to.
        XiaoNetError: data, teacher or settings do not fit; the message names the fix.
        KeyboardInterrupt: after Ctrl-C, when the run is safely on disk.
    """
    was_there = folder.exists()
    if os.environ.get("RANK", "0") == "0":  # the first process makes what all share
        _make_folder(folder)
    try:
        run = _Run(config, folder, note)
    except BaseException:
        with suppress(OSError):
            if not was_there:
                folder.rmdir()  # nothing was begun
        raise
    return run.execute()


def _make_folder(folder: Path) -> None:
    try:
        if (folder / "manifest.json").exists():
            raise OutputError(f"{folder} holds a run already: go on with it by --resume {folder}, or choose another --out")
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass  # it can be written to
    except OSError as error:
        raise OutputError(f"{folder} cannot be made or written to: {error}; choose another --out") from error


def resume_run(folder: Path, *, assignments: list[str] | None = None, note: str = "") -> Result:
    """Go on with an interrupted run, or with a finished one for more epochs.

    Args:
        folder: of the run.
        assignments: settings to change, such as `training.epochs=80`.
        note: why they change; added to the note of the run.

    Raises:
        CheckpointError: there is no run in the folder, its state is damaged, it is finished, or a
            setting that would change what was done is to be changed.
    """
    manifest = read_manifest(folder)
    before = Config.read(folder / "config.json")
    config = before.override(assignments or [])
    changed = [key for key in config.changes(before) if not key.startswith(MAY_CHANGE)]
    if changed:
        raise CheckpointError(f"{', '.join(changed)} cannot change within a run; start a new one with --out, or leave it as it is")
    return _Run(config, folder, "; ".join(filter(None, (manifest["note"], note))), manifest).execute()


class _Run:
    """The parts of one run, put together once and used until it ends."""

    def __init__(self, config: Config, folder: Path, note: str, manifest: dict[str, Any] | None = None) -> None:
        self.config, self.note = config, note
        keep_freed_memory()
        self.fabric = make_fabric(config)
        if "LT_CLI_USED" not in os.environ:  # `fabric run` has launched already
            self.fabric.launch()
        self.folder: Path = self.fabric.broadcast(folder)
        console.silence(not self.fabric.is_global_zero)
        self._tell_device()
        with self.fabric.rank_zero_first(local=True):  # one downloads, the others find it
            self.data = open_data(config.data.name, synthetic_records=config.data.synthetic_records, seed=config.training.seed)
            self.teacher = load_teacher(config.distillation, config.training.initial_model)
        self.teacher_digest = digest(self.teacher.state_dict()) if self.teacher is not None else ""
        self.parts = dict(zip(("train", "dev", "test"), split_data(self.data), strict=True))
        if "initial" in split_names(config.distillation.teacher):
            self._require_picks()
        statuses = self.data.metadata.filter(regex=STATUS_COLUMN)
        self.incomplete_records = int(statuses.isin(config.data.incomplete_statuses).any(axis=1).sum())
        self.earlier = manifest
        self.manifest = self._manifest(manifest)
        torch.manual_seed(config.training.seed)
        self.student = make_student(config)
        start = config.training.initial_model
        self.thresholds = read_model_file(model_path(start, ".pth"))["thresholds"] if start != "none" else DEFAULT_THRESHOLDS
        if self.fabric.world_size > 1:
            share_batch_norm(self.student)
        self.windows = {name: self._windows(part) for name, part in self.parts.items()}
        settings = config.training
        self.batches = self._batches("train", shuffle=True)
        self.train_loader = self._loader("train", self.batches, settings.num_workers)
        self.dev_loader = self._loader("dev", self._batches("dev", shuffle=False), settings.num_workers)
        optimizer = torch.optim.Adam(self.student.parameters(), lr=settings.learning_rate)
        self.stopping = EarlyStopping(settings.patience, self.folder / "checkpoint.pt", self._save_model)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **settings.scheduler.model_dump())
        self._describe()
        self._validate(optimizer)
        self.wrapped, self.optimizer = self.fabric.setup(self.student, optimizer)
        self.wrapped.mark_forward_method("logits")
        if self.teacher is not None:
            self.teacher.to(self.fabric.device)
        self.progress = Progress()
        self.interrupted_at: float | None = None
        self.advised: set[Advice] = set()
        self.saved_at = time.monotonic()

    def execute(self) -> Result:
        """Train to the end, keep the best, and measure it once on the test split."""
        if (self.folder / "resume.pt").exists():
            self._restore()
        elif self.config.training.initial_model != "none":
            self.stopping.best_loss = evaluate_student_model(self.dev_loader, self.student, self.fabric.device, fabric=self.fabric)
            console.ok("Start", self.config.training.initial_model, f"dev loss {self.stopping.best_loss:.6f}")
        self._require_something_to_do()
        if self.fabric.is_global_zero:
            self._write("config.json", self.config.to_json())
            self._write_records()
        self.events = self._open_events()
        try:
            with self._interruptible():
                while not self._done():
                    self._train_epoch()
            return self._finish()
        except (CheckpointError, OutputError) as error:
            raise type(error)(f"{error}. When that is mended, go on with: xiaonet train --resume {self.folder}") from error
        finally:
            if self.events is not None:
                self.events.close()

    def _done(self) -> bool:
        return self.progress.epoch >= self.config.training.epochs or self.stopping.stop

    def _require_something_to_do(self) -> None:
        """A finished run has seen its test split; to see it again, it must have learnt something new."""
        if self.earlier and "best_dev_loss" in self.earlier and self._done():
            stopped = f" (no better dev loss for {self.stopping.patience} epochs)" if self.stopping.stop else ""
            raise CheckpointError(
                f"{self.folder} is finished after {self.progress.epoch} epochs{stopped}; train on with "
                f"--set training.epochs=N, N above {self.progress.epoch}"
                + (", and --set training.patience=M, M above " + str(self.stopping.patience) if stopped else "")
            )

    def _train_epoch(self) -> None:
        epoch, settings = self.progress.epoch, self.config.training
        started = time.monotonic()
        totals = self.progress.totals
        self.batches.start(epoch, totals.batches)
        self._seed_dropout(totals)
        size = self.batches.batch_size
        title = f"Epoch {epoch + 1}/{settings.epochs}"
        with console.EpochProgress(title, len(self.batches) * size, totals.batches * size) as bar:

            def on_batch(totals: Totals) -> None:
                bar.update(totals.batches * size, totals.means()[0])
                self._seed_dropout(totals)
                self._pause_if_asked()

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
        self.progress.epoch += 1
        self.progress.totals = Totals()
        self.progress.history.append(record)
        if self.events is not None:
            for name, value in asdict(record).items():
                self.events.add_scalar(name, value, record.epoch)
            self.events.flush()
        self._save_state()
        if self.fabric.is_global_zero:
            self._write_records()
        console.say(
            f"Epoch {record.epoch}/{self.config.training.epochs}  loss: {record.train_loss:.6f}  task: {record.train_task_loss:.6f}  "
            f"dev: {record.dev_loss:.6f}{' (best)' if better else ''}  {record.seconds:.1f} s"
        )
        if self._learning_rate() < record.learning_rate:
            console.ok(
                "Scheduler", "learning rate reduced", f"{record.learning_rate:g} to {self._learning_rate():g}, the dev loss stands still"
            )
        self._advise()

    def _finish(self) -> Result:
        """Best student, final student, the picture; then one look at the test split, and the notes."""
        self.fabric.barrier()  # the first process has written what all now read
        if self.stopping.best_epoch == 0:
            raise TrainingError(
                f"no epoch was better on dev than {self.config.training.initial_model}, whose loss is {self.stopping.best_loss:.6f}; "
                "no model is saved. Keep the model as it is, or try more records or --set training.learning_rate=1e-5"
            )
        best = load_model(self.stopping.path)
        self._save_model(self.student, self.folder / "final_model.pth")
        for name in ("best_model.pth", "saved_model_fp32.pth"):
            self._save_model(best, self.folder / name)
        self._draw_history()
        test_loss = self._test(best)
        result = Result(self.folder, self.progress.history, self.stopping.best_epoch, self.stopping.best_loss, test_loss)
        self.manifest |= {
            "best_epoch": result.best_epoch,
            "best_dev_loss": result.best_dev_loss,
            "test_loss": test_loss,
            "times_tested": self.manifest["times_tested"] + (test_loss is not None),
        }
        if self.fabric.is_global_zero:
            self._write_records()
        why = f"no better dev loss for {self.stopping.patience} epochs" if self.stopping.stop else "all epochs done"
        console.ok("Training", "finished", f"{why}; best dev loss {self.stopping.best_loss:.6f} in epoch {self.stopping.best_epoch}")
        console.ok("Files", "written", f"{self.folder}/ saved_model_fp32.pth, history.png, notes.md and more")
        self.fabric.barrier()
        return result

    def _test(self, best: XiaoNet) -> float | None:
        if len(self.parts["test"]) == 0:
            console.warn("Test", "no final test loss", f"{self.config.data.name} has no test split")
            return None
        loader = self._loader("test", self._batches("test", shuffle=False), self.config.training.num_workers)
        loss = evaluate_student_model(loader, best.to(self.fabric.device), self.fabric.device, fabric=self.fabric)
        console.ok("Test", "final test loss", f"{loss:.6f} on {len(self.parts['test'])} held-out records")
        return loss

    # What the run is made of

    def _require_picks(self) -> None:
        """An anchor alone has nothing new to teach, and a dev split without picks cannot say what is better."""
        for name in ("train", "dev"):
            metadata = self.parts[name].metadata
            if metadata[list(phase_columns(metadata))].isna().all(axis=None):
                raise DataError(
                    f"{self.config.data.name}: none of the {len(metadata)} records of split {name} has a pick; "
                    "wanted P or S picks in train and dev to adapt a model to"
                )

    def _windows(self, part: WaveformData) -> Windows:
        settings = self.config
        return Windows(part, seed=settings.training.seed, incomplete_statuses=settings.data.incomplete_statuses)

    def _batches(self, part: str, *, shuffle: bool) -> Batches:
        return Batches(
            len(self.parts[part]),
            self.config.training.batch_size,
            shuffle=shuffle,
            windows_per_record=self.config.data.windows_per_record,
            seed=self.config.training.seed,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
        )

    def _loader(self, part: str, batches: Batches, num_workers: int) -> Any:
        on_gpu = self.fabric.device.type == "cuda"
        return make_loader(self.windows[part], batches, num_workers=num_workers, pin_memory=on_gpu)

    def _validate(self, optimizer: torch.optim.Optimizer) -> None:
        windows = self.windows["train"]
        batch = default_collate([windows[row] for row in range(min(CHECK_WINDOWS, len(windows)))])
        validate_setup(batch, self.student, self.teacher, optimizer, "cpu")

    def _seed_dropout(self, totals: Totals) -> None:
        """Dropout is the one thing that draws from torch while training: seeded for each batch."""
        place = (self.config.training.seed, self.progress.epoch, totals.batches, self.fabric.global_rank)
        torch.manual_seed(hash(place) % 2**63)  # hashes of integers are the same in every process

    def _learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    # Interruptions

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Take Ctrl-C and SIGTERM as a wish to stop after the batch at hand."""
        kinds = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(kind, self._ask_to_stop) for kind in kinds]
        try:
            yield
        finally:
            for kind, handler in zip(kinds, before, strict=True):
                signal.signal(kind, handler)

    def _ask_to_stop(self, kind: int, frame: object) -> None:
        now = time.monotonic()
        if self.interrupted_at is None:
            self.interrupted_at = now
            console.warn("Training", "stopping", "after this batch; once more to stop at once")
        elif now - self.interrupted_at > SAME_WISH:
            console.warn("Training", "stopped at once", f"go on from the last save with: xiaonet train --resume {self.folder}")
            os._exit(128 + signal.SIGINT)

    def _pause_if_asked(self) -> None:
        wish = torch.tensor(float(self.interrupted_at is not None), device=self.fabric.device)
        if self.fabric.all_reduce(wish, reduce_op="sum"):  # no process may stop alone
            self._save_state()
            self._draw_history()
            console.warn("Training", "interrupted", f"nothing is lost; go on with: xiaonet train --resume {self.folder}")
            raise KeyboardInterrupt
        if time.monotonic() - self.saved_at > 60 * self.config.training.checkpoint_minutes:
            self._save_state()

    def _save_state(self) -> None:
        self.saved_at = time.monotonic()
        if not self.fabric.is_global_zero:
            return
        state = {
            "progress": asdict(self.progress),
            "fingerprint": self.manifest["data"]["fingerprint"],
            "teacher": self.teacher_digest,
            "student": self.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "stopping": self.stopping.state_dict(),
        }
        save_tensors(self.folder / "resume.pt", RESUME_FORMAT, state)

    def _restore(self) -> None:
        path = self.folder / "resume.pt"
        state = load_tensors(path, RESUME_FORMAT)
        now = self.manifest["data"]["fingerprint"]
        if state["fingerprint"] != now:
            raise CheckpointError(
                f"{path} was trained on data {state['fingerprint']}, {self.config.data.name} is now {now}: restore the data set"
            )
        if state["teacher"] != self.teacher_digest:
            raise CheckpointError(
                f"{path} was taught by other weights than {self.config.distillation.teacher} "
                f"({self.config.training.initial_model}) has now: restore the file"
            )
        self.student.load_state_dict(state["student"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.stopping.load_state_dict(state["stopping"])
        values = state["progress"]
        history = [EpochRecord(**row) for row in values["history"]]
        self.progress = Progress(values["epoch"], Totals(**values["totals"]), history)
        for leftover in self.folder.glob(".resume.pt.*"):  # of a kill within a save
            leftover.unlink(missing_ok=True)
        self._warn_of_another_machine()
        done = f"epoch {values['epoch'] + 1}, batch {self.progress.totals.batches}"
        console.ok("Run", "resumed", f"{self.folder} at {done}")

    def _warn_of_another_machine(self) -> None:
        was = self.earlier or {}
        changed = [
            f"{key} {was.get(key)} to {self.manifest[key]}"
            for key in ("processes", "precision", "device")
            if was.get(key) != self.manifest[key]
        ]
        if changed:
            console.warn("Run", "not as before", f"{', '.join(changed)}; the history will not be the same digit by digit")

    # What the run writes and says

    def _save_model(self, model: XiaoNet, path: Path) -> None:
        if self.fabric.is_global_zero:
            provenance = {**self.manifest, "config": self.config.model_dump(mode="json")}
            save_model(model, path, provenance, self.thresholds)

    def _manifest(self, earlier: dict[str, Any] | None) -> dict[str, Any]:
        counts = {name: len(part) for name, part in self.parts.items()}
        return {
            "started": earlier["started"] if earlier else datetime.now(UTC).isoformat(timespec="seconds"),
            "note": self.note,
            "times_tested": earlier.get("times_tested", 0) if earlier else 0,
            "data": {"name": self.config.data.name, "fingerprint": fingerprint(self.data), **counts},
            "teacher": self.teacher.describe() if self.teacher else "none",
            "device": str(self.fabric.device),
            "processes": self.fabric.world_size,
            "precision": resolve_precision(self.config),
            "versions": versions(),
            "git_commit": git_commit(),
            "platform": platform.platform(),
        }

    def _write(self, name: str, text: str) -> None:
        write_atomically(self.folder / name, lambda file: file.write(text.encode()))

    def _write_records(self) -> None:
        history = self.progress.history
        self._write("manifest.json", json.dumps(self.manifest, indent=2) + "\n")
        self._write("history.csv", history_csv(history))
        self._write("notes.md", notes(self.folder.name, self.config, self.manifest, history, self._diagnose()))

    def _open_events(self) -> Any:
        """TensorBoard's writer, where TensorBoard is installed."""
        if find_spec("tensorboard") is None or not self.fabric.is_global_zero:
            return None
        from torch.utils.tensorboard.writer import SummaryWriter

        return SummaryWriter(self.folder / "events", purge_step=self.progress.epoch + 1)

    def _draw_history(self) -> None:
        if not (self.progress.history and self.fabric.is_global_zero):
            return
        if find_spec("matplotlib") is None:
            console.warn("History", "no picture", "pip install 'xiaonet[plots]' for history.png")
            return
        picture = history_png(self.progress.history, f"{self.folder.name}: {self.config.data.name}")
        write_atomically(self.folder / "history.png", lambda file: file.write(picture))

    def _diagnose(self) -> list[Advice]:
        return diagnose(self.progress.history, self.config, comparable=not self.incomplete_records)

    def _advise(self) -> None:
        for advice in self._diagnose():
            if advice not in self.advised:
                self.advised.add(advice)
                console.warn("Doctor", advice.problem, str(advice).removeprefix(f"{advice.problem}: "))

    def _tell_device(self) -> None:
        device, wanted = self.fabric.device, self.config.device.use_cuda
        processes = f", {self.fabric.world_size} processes" if self.fabric.world_size > 1 else ""
        why = "; no CUDA device was found" if wanted and device.type == "cpu" else ""
        console.ok("Device", str(device), f"precision {resolve_precision(self.config)}{processes}{why}")

    def _describe(self) -> None:
        console.info("Data", {**self.manifest["data"], "with a phase left unpicked": self.incomplete_records})
        if self.teacher is None:
            console.warn("Teacher", "none", "the student learns from the labels alone; nothing is distilled")
        else:
            console.info("Teacher", self.teacher.describe())
        parameters = f"{sum(p.numel() for p in self.student.parameters()):,}"
        console.info(
            "Student", {"parameters": parameters, "receptive field": f"{self.student.receptive_field} samples", **self.student.arguments}
        )
        for text in self.config.warnings():
            console.warn("Settings", "outside the advised range", text)
