"""Training several students of one configuration, whose predictions are averaged."""

from pathlib import Path

from xiaonet.config.schema import Config
from xiaonet.training.run import resume_run, start_run
from xiaonet.training.run_folder import read_manifest


def train_students(config: Config, folder: Path, students: int, *, note: str = "") -> list[Path]:
    """Train one student for each seed from the configured one on, each in its own run folder.

    Finished runs are left as they are; unfinished ones are resumed.

    Returns:
        The model files of the students.
    """
    folders = [folder / f"student-{number + 1}" for number in range(students)]
    for number, own in enumerate(folders):
        if not (own / "manifest.json").exists():
            start_run(config.override([f"training.seed={config.training.seed + number}"]), own, note=note)
        elif "best_dev_loss" not in read_manifest(own):
            resume_run(own)
    return [own / "saved_model_fp32.pth" for own in folders]
