"""Windows per second of our training loop against a plain one, and how far their losses differ.

    python benchmarks/train_throughput.py --repeats 3

Both loops see the same windows from the same loader, start from the same weights and call the
teacher for every batch. The plain one is the simplest loop: float32, and torch with its defaults.
Ours is `train_one_epoch_distillation` as `xiaonet train` calls it. The loops alternate, each in its
own process. The ratio is the median over the pairs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from xiaonet import Config, XiaoNet
from xiaonet.data.loaders import Batches, make_loader
from xiaonet.data.pipeline import Windows
from xiaonet.data.sets import open_data
from xiaonet.nn.teacher import PhaseNetTeacher
from xiaonet.training.loop import train_one_epoch_distillation
from xiaonet.training.losses import distillation_loss, task_loss
from xiaonet.training.memory import keep_freed_memory
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--loop", choices=("plain", "ours"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
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
