"""Training several students of one configuration, whose predictions are averaged."""

from pathlib import Path

from xiaonet.config.schema import Config
from xiaonet.training.run_folder import is_finished, read_manifest
from xiaonet.training.trainer import require_same_settings, train_or_resume


def train_students(config: Config, folder: Path, students: int, *, note: str = "") -> list[Path]:
    """Train one student for each seed from the configured one on, each in its own run folder.

    Finished runs are left as they are; unfinished ones are resumed.

    Returns:
        The model files of the students.

    Raises:
        CheckpointError: a folder holds a run with other settings. No student is trained then.
        XiaoNetError: as `train` does.
    """
    runs = {
        folder / f"student-{number + 1}": config.override([f"training.seed={config.training.seed + number}"]) for number in range(students)
    }
    there = [own for own in runs if (own / "manifest.json").exists()]
    for own in there:
        require_same_settings(runs[own], own)
    for own, settings in runs.items():
        if own not in there or not is_finished(read_manifest(own)):
            train_or_resume(settings, own, note=note)
    return [own / "saved_model_fp32.pth" for own in runs]
