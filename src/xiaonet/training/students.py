"""Training several students of one configuration, whose predictions can be averaged."""

from pathlib import Path

from xiaonet import console
from xiaonet.config.schema import Config
from xiaonet.training.run_folder import is_finished, read_manifest
from xiaonet.training.trainer import require_same_settings, train_or_resume


def train_students(config: Config, folder: Path, students: int, *, note: str = "") -> list[Path]:
    """Train one student for each seed from the configured one on, each in its own run folder.

    Finished runs of the same settings are kept, and unfinished ones are resumed.

    Returns:
        The model files of the students.

    Raises:
        ConfigError: a run in the folder has other settings. No student is trained then.
        XiaoNetError: as `train` does.
    """
    runs = {
        folder / f"student-{number + 1}": config.override([f"training.seed={config.training.seed + number}"]) for number in range(students)
    }
    existing = [run for run in runs if (run / "manifest.json").exists()]
    for run in existing:
        require_same_settings(runs[run], run)
    for run, settings in runs.items():
        if run in existing and is_finished(read_manifest(run)):
            console.ok("Student", "kept", f"{run} is finished")
        else:
            train_or_resume(settings, run, note=note)
    return [run / "saved_model_fp32.pth" for run in runs]
