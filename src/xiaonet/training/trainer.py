"""The trainer: one run in one folder, for either objective, with resume, signals and provenance.

Read it from the top: `train` makes a `Trainer`, which makes the objective (`epochs.py` or `drawn_windows.py`)
and calls it until it is done.
"""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from xiaonet import console
from xiaonet.config.schema import Config
from xiaonet.errors import CheckpointError, ConfigError, OutputError
from xiaonet.memory import keep_freed_memory
from xiaonet.training.drawn_windows import DrawnWindows, open_drawn_windows
from xiaonet.training.epochs import EpochObjective
from xiaonet.training.interruption import StopRequest
from xiaonet.training.objective import TrainingResult
from xiaonet.training.run_folder import RunFolder, is_finished, make_run_folder, read_manifest
from xiaonet.training.setup import git_commit, make_fabric, resolve_precision, versions

PLACE = ("device.", "data.root", "training.num_workers", "training.checkpoint_minutes")  # settings that change no result
LENGTH = ("training.epochs", "training.patience")  # settings that may change when a run is resumed


def train(config: Config, folder: Path, *, note: str = "", records: Path | None = None) -> TrainingResult:
    """Train a model in a new folder.

    Args:
        config: all settings.
        folder: of the run; it is made if it is missing.
        note: why the settings differ from the defaults.
        records: file that keeps the teachers' targets for drawn windows; `records.npz` in the folder by default.

    Raises:
        OutputError: the folder holds a run already, or cannot be written to.
        XiaoNetError: data, teacher or settings do not fit; the message names the fix.
        KeyboardInterrupt: after Ctrl-C, when the state is saved.
    """
    was_there = folder.exists()
    if os.environ.get("RANK", "0") == "0":  # the first process makes what all share
        make_run_folder(folder)
    try:
        trainer = Trainer(config, folder, note, records=records)
    except BaseException:
        with suppress(OSError):
            if not was_there:
                folder.rmdir()  # nothing was begun
        raise
    return trainer.run()


def resume(folder: Path, *, assignments: Sequence[str] = (), note: str = "") -> TrainingResult:
    """Continue an interrupted run, or train a finished one for more epochs.

    Args:
        folder: of the run.
        assignments: settings to change, such as `training.epochs=80`.
        note: why they change; added to the note of the run.

    Raises:
        CheckpointError: there is no run in the folder, its state is damaged, it is finished, or a setting that
            cannot change within a run is to be changed.
    """
    manifest = read_manifest(folder)
    before = Config.read(folder / "config.json")
    config = before.override(assignments)
    changed = [key for key in config.changes(before) if not key.startswith((*PLACE, *LENGTH))]
    if changed:
        raise CheckpointError(f"{', '.join(changed)} cannot change within a run; start a new one with --out, or leave it as it is")
    return Trainer(config, folder, "; ".join(filter(None, (manifest["note"], note))), earlier=manifest).run()


def train_or_resume(config: Config, folder: Path, *, note: str = "", records: Path | None = None) -> TrainingResult:
    """Train in a folder, or continue the run with the same settings that it holds. Arguments and errors are those of `train`.

    Raises:
        ConfigError: the folder holds a run with other settings.
    """
    if not (folder / "manifest.json").exists():
        return train(config, folder, note=note, records=records)
    require_same_settings(config, folder)
    return Trainer(config, folder, note, earlier=read_manifest(folder), records=records).run()


def require_same_settings(config: Config, folder: Path) -> None:
    """Refuse other settings than those of the run in a folder, apart from the place and the note.

    Raises:
        ConfigError: names the settings that differ.
    """
    if not (folder / "resume.pt").exists() and not is_finished(read_manifest(folder)):
        return  # nothing was trained
    changes = config.changes(Config.read(folder / "config.json"))
    differing = [f"{key} {before}, wanted {now}" for key, (before, now) in changes.items() if not key.startswith((*PLACE, "note"))]
    if differing:
        raise ConfigError(
            f"{folder} holds a run with other settings: {', '.join(differing)}; choose another --out, or repeat the earlier command"
        )


class Trainer:
    """A run, from its settings to its result.

    Args:
        config: all settings.
        folder: of the run.
        note: why the settings differ from the defaults.
        earlier: the manifest in the folder when the run is resumed.
        records: file that keeps the teachers' targets for drawn windows.
    """

    def __init__(
        self, config: Config, folder: Path, note: str = "", *, earlier: Mapping[str, Any] | None = None, records: Path | None = None
    ) -> None:
        keep_freed_memory()
        self.config = config
        self.fabric = make_fabric(config)
        if "LT_CLI_USED" not in os.environ:  # `fabric run` has launched already
            self.fabric.launch()
        folder = self.fabric.broadcast(folder)
        console.silence(not self.fabric.is_global_zero)
        self._print_device()
        manifest = self._manifest(note or config.note, earlier or {})
        self.folder = RunFolder(folder, config, manifest, writes=self.fabric.is_global_zero, earlier=earlier)
        self.objective: EpochObjective | DrawnWindows
        if config.objective.kind == "drawn_windows":
            self.objective = open_drawn_windows(config, self.fabric, self.folder, records or folder / "records.npz")
        else:
            self.objective = EpochObjective(config, self.fabric, self.folder)
        self.saved_at = time.monotonic()

    def run(self) -> TrainingResult:
        """Train to the end and write the results."""
        try:
            self.objective.begin(resumed=self._restore())
            self.folder.write("config.json", self.config.to_json())
            self.objective.write_records()
            return self._train()
        finally:
            self.objective.close()

    def _train(self) -> TrainingResult:
        try:
            with StopRequest(self.folder.resume_command) as self.stop:
                while not self.objective.done:
                    self.objective.advance(self._after_batch)
                    self._save_state()
                    self.objective.write_records()
            return self.objective.finish()
        except (CheckpointError, OutputError) as error:
            raise type(error)(f"{error}. Then resume with: {self.folder.resume_command}") from error

    def _after_batch(self) -> None:
        asked = torch.tensor(float(self.stop.asked), device=self.fabric.device)
        if self.fabric.all_reduce(asked, reduce_op="sum"):  # no process may stop alone
            self._save_state()
            self.objective.write_records(picture=True)
            console.warn("Training", "interrupted", f"nothing is lost; resume with: {self.folder.resume_command}")
            raise KeyboardInterrupt
        if time.monotonic() - self.saved_at > 60 * self.config.training.checkpoint_minutes:
            self._save_state()

    def _save_state(self) -> None:
        self.saved_at = time.monotonic()
        objective = self.objective
        self.folder.save_state(
            {
                "fingerprint": self.folder.manifest["data"]["fingerprint"],
                "teacher": objective.teacher_digest,
                "student": objective.student.state_dict(),
                "optimizer": objective.optimizer.state_dict(),
                "scheduler": objective.scheduler.state_dict(),
                **objective.state(),
            }
        )

    def _restore(self) -> bool:
        """Continue from the saved state if there is one."""
        state, path, config = self.folder.load_state(), self.folder.state_file, self.config
        if state is None:
            return False
        now = self.folder.manifest["data"]["fingerprint"]
        if state["fingerprint"] != now:
            raise CheckpointError(
                f"{path} was trained on data {state['fingerprint']}, {config.data.name} is now {now}: restore the data set, "
                "or choose another --out"
            )
        if state["teacher"] != self.objective.teacher_digest:
            initial = f" ({config.training.initial_model})" if config.training.initial_model != "none" else ""
            raise CheckpointError(
                f"{path} was taught by other weights than {config.distillation.teacher}{initial} has now: restore the file"
            )
        self.objective.student.load_state_dict(state["student"])
        self.objective.optimizer.load_state_dict(state["optimizer"])
        self.objective.scheduler.load_state_dict(state["scheduler"])
        self.objective.restore(state)
        self._warn_of_another_machine()
        return True

    def _warn_of_another_machine(self) -> None:
        before, now = self.folder.earlier, self.folder.manifest
        changed = [f"{key} {before.get(key)} to {now[key]}" for key in ("processes", "precision", "device") if before.get(key) != now[key]]
        if changed:
            console.warn("Run", "not as before", f"{', '.join(changed)}; the losses will differ slightly")

    def _manifest(self, note: str, earlier: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "started": earlier.get("started") or datetime.now(UTC).isoformat(timespec="seconds"),
            "note": note,
            "device": str(self.fabric.device),
            "processes": self.fabric.world_size,
            "precision": resolve_precision(self.config),
            "versions": versions(),
            "git_commit": git_commit(),
            "platform": platform.platform(),
        }

    def _print_device(self) -> None:
        device, wanted = self.fabric.device, self.config.device.use_cuda
        processes = f", {self.fabric.world_size} processes" if self.fabric.world_size > 1 else ""
        reason = "; no CUDA device was found" if wanted and device.type == "cpu" else ""
        console.ok("Device", str(device), f"precision {resolve_precision(self.config)}{processes}{reason}")
