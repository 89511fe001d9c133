"""Windows per second of our training loop against a plain one, and how far their losses differ.

    python benchmarks/train_throughput.py --repeats 3
    python benchmarks/train_throughput.py --part drawing

Both loops see the same windows from the same loader, start from the same weights and call the
teacher for every batch. The plain one is the simplest loop: float32, and torch with its defaults.
Ours is `train_one_epoch_distillation` as `xiaonet train` calls it. The loops alternate, each in its
own process. The ratio is the median over the pairs.

`drawing` counts the windows that loader processes draw for a recipe, with the disturbances of its settings, from made-up records.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from xiaonet import Config, XiaoNet
from xiaonet.data.loaders import Batches, DrawnBatches, load_drawn, make_loader, stop_workers
from xiaonet.data.pipeline import Windows
from xiaonet.data.pool import Pool, TrainingRecord
from xiaonet.data.sets import open_data
from xiaonet.memory import keep_freed_memory
from xiaonet.nn.teacher import PhaseNetTeacher
from xiaonet.training.drawn_windows import draw_step
from xiaonet.training.loop import train_one_epoch_distillation
from xiaonet.training.losses import distillation_loss, task_loss
from xiaonet.training.setup import make_fabric, resolve_precision

SHARED = Path(os.environ.get("XIAONET_SHARED", "../shared"))
TEMPERATURE, ALPHA, LEARNING_RATE, BATCH_SIZE, WORKERS = 3.0, 0.5, 1e-3, 64, 2
Epoch = Callable[[object], tuple[float, float]]


def plain_loop(student: XiaoNet, teacher: PhaseNetTeacher) -> Epoch:
    optimizer = torch.optim.Adam(student.parameters(), lr=LEARNING_RATE)

    def epoch(loader: object) -> tuple[float, float]:
        losses, tasks = [], []
        for batch in loader:
            with torch.no_grad():
                taught = teacher.logits(batch["X"])
            logits = student.logits(batch["X"])
            task = task_loss(logits, batch["y"], batch["incomplete"])
            loss = ALPHA * distillation_loss(logits, taught, TEMPERATURE) + (1 - ALPHA) * task
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
            tasks.append(task.item())
        return statistics.mean(losses), statistics.mean(tasks)

    return epoch


def our_loop(student: XiaoNet, teacher: PhaseNetTeacher) -> Epoch:
    keep_freed_memory()
    fabric = make_fabric(Config())
    optimizer = torch.optim.Adam(student.parameters(), lr=LEARNING_RATE)
    student, optimizer = fabric.setup(student, optimizer)
    student.mark_forward_method("logits")

    def epoch(loader: object) -> tuple[float, float]:
        return train_one_epoch_distillation(loader, student, teacher, optimizer, "cpu", TEMPERATURE, ALPHA, fabric=fabric)

    return epoch


def measure(loop: str, epochs: int) -> dict[str, object]:
    data = open_data(str(SHARED / "data" / "labelled")).train()
    batches = Batches(len(data), BATCH_SIZE, shuffle=True, windows_per_record=2)
    loader = make_loader(Windows(data), batches, num_workers=WORKERS, pin_memory=False)
    torch.manual_seed(0)
    student, teacher = XiaoNet(), PhaseNetTeacher.from_pretrained("stead")
    epoch = {"plain": plain_loop, "ours": our_loop}[loop](student, teacher)
    losses, seconds = [], []
    for number in range(epochs):
        batches.start(number)
        started = time.perf_counter()
        losses.append(epoch(loader))
        seconds.append(time.perf_counter() - started)
    windows = len(batches) * batches.batch_size
    return {"windows_per_second": windows * (epochs - 1) / sum(seconds[1:]), "losses": losses}  # the first epoch warms up


def drawn_per_second(recipe: Config, workers: int, batches: int = 100) -> float:
    """Windows per second that arrive from `workers` loader processes; 0 draws in this process."""
    rng, sources = np.random.default_rng(0), recipe.data.source_weights
    records = [
        TrainingRecord(source, rng.normal(size=(3, samples)).astype(np.float32), np.zeros((2, samples), np.float16))
        for source in sources
        for samples in [9000] * 20 + [360_000]
    ]
    draw = partial(draw_step, Pool(records, sources), BATCH_SIZE, 0, recipe.augmentation, recipe.labels)
    loader = load_drawn(DrawnBatches(draw), 0, num_workers=workers, pin_memory=False)
    arriving = iter(loader)
    for _ in range(4 * max(workers, 1) + 4):  # those that are drawn ahead
        next(arriving)
    started = time.perf_counter()
    for _ in range(batches):
        next(arriving)
    seconds = time.perf_counter() - started
    stop_workers(loader)
    return batches * BATCH_SIZE / seconds


def measure_drawing(repeats: int) -> None:
    recipe = Config.parse(json.loads((Path(__file__).parents[1] / "recipes" / "xiaonet.json").read_text()))
    print("| loader processes | windows/s, median | lowest | highest |\n|---|---|---|---|")
    for workers in (0, 1, 2, 4):
        values = [drawn_per_second(recipe, workers) for _ in range(repeats)]
        print(f"| {workers} | {statistics.median(values):.0f} | {min(values):.0f} | {max(values):.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--loop", choices=("plain", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--part", choices=("loops", "drawing"), default="loops")
    arguments = parser.parse_args()
    if arguments.part == "drawing":
        measure_drawing(arguments.repeats)
        return
    if arguments.loop:
        print(json.dumps(measure(arguments.loop, arguments.epochs)))
        return
    runs: dict[str, list[dict[str, object]]] = {"plain": [], "ours": []}
    for _ in range(arguments.repeats):
        for loop in runs:
            command = [sys.executable, __file__, "--loop", loop, "--epochs", str(arguments.epochs)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            runs[loop].append(json.loads(output.splitlines()[-1]))
            print(f"{loop}: {runs[loop][-1]['windows_per_second']:.1f} windows/s", flush=True)
    rates = {loop: [run["windows_per_second"] for run in results] for loop, results in runs.items()}
    ratios = [ours / plain for plain, ours in zip(rates["plain"], rates["ours"], strict=True)]
    print(f"\n{torch.get_num_threads()} threads, {WORKERS} loader processes, batch {BATCH_SIZE}, ours in {resolve_precision(Config())}")
    print("| loop | windows/s, median | lowest | highest |\n|---|---|---|---|")
    for loop, values in rates.items():
        print(f"| {loop} | {statistics.median(values):.1f} | {min(values):.1f} | {max(values):.1f} |")
    print(f"ratio, median of pairs: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print("\n| epoch | plain: loss, task | ours: loss, task | difference |\n|---|---|---|---|")
    for number, (plain, ours) in enumerate(zip(runs["plain"][0]["losses"], runs["ours"][0]["losses"], strict=True), 1):
        off = max(abs(o / p - 1) for p, o in zip(plain, ours, strict=True))
        print(f"| {number} | {plain[0]:.4f}, {plain[1]:.4f} | {ours[0]:.4f}, {ours[1]:.4f} | {off:.2%} |")


if __name__ == "__main__":
    main()
