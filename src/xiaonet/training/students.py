"""Training several students of one configuration, whose predictions can be averaged."""

from pathlib import Path

from xiaonet import console
from xiaonet.config.schema import Config
from xiaonet.errors import ConfigError
from xiaonet.training.run import resume_run, start_run
from xiaonet.training.run_folder import read_manifest


def train_students(config: Config, folder: Path, students: int, *, note: str = "") -> list[Path]:
    """Train one student for each seed from the configured one on, each in its own run folder.

    Finished runs of the same settings are kept, and unfinished ones are resumed.

    Returns:
        The model files of the students.

    Raises:
        ConfigError: a run in the folder has other settings.
    """
    runs = {
        folder / f"student-{number + 1}": config.override([f"training.seed={config.training.seed + number}"]) for number in range(students)
    }
    existing = [run for run in runs if (run / "manifest.json").exists()]
    for run in existing:
        _require_same_settings(run, runs[run])
    for run, settings in runs.items():
        if run not in existing:
            start_run(settings, run, note=note)
        elif "best_dev_loss" in read_manifest(run):
            console.ok("Student", "kept", f"{run} is finished")
        else:
            resume_run(run)
    return [run / "saved_model_fp32.pth" for run in runs]


def _require_same_settings(run: Path, settings: Config) -> None:
    differences = settings.changes(Config.read(run / "config.json"))
    if differences:
        found = ", ".join(f"{name} {before}, wanted {now}" for name, (before, now) in differences.items())
        raise ConfigError(f"{run} holds a run with other settings: {found}; choose another --out, or repeat the earlier command")
