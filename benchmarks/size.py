"""Compare the sizes of XiaoNet and PhaseNet: parameters, bytes, multiply-adds and time.

    python benchmarks/size.py

Times are medians over rounds, in float32 on one thread of torch; the models take turns. PhaseNet is SeisBench's,
unchanged.
"""

import argparse
import io
import statistics
import time

import torch
from seisbench.models import PhaseNet

from xiaonet import PLAIN, XiaoNet
from xiaonet.nn.model import count_multiply_adds

NANO = 5  # the widest net with at least 93 % fewer parameters than PhaseNet


def file_size(model: torch.nn.Module) -> int:
    """Bytes of the weights as `torch.save` writes them."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.getbuffer().nbytes


def times(models: dict[str, torch.nn.Module], batch: int, rounds: int) -> dict[str, float]:
    """Milliseconds a window."""
    windows = torch.randn(batch, 3, 3001)
    found: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode():
        for _ in range(rounds):
            for name, model in models.items():
                model(windows)  # warms the caches after the previous model
                started = time.perf_counter()
                model(windows)
                found[name].append(1e3 * (time.perf_counter() - started) / batch)
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    models = {
        "PhaseNet (SeisBench)": PhaseNet(),
        "XiaoNet, 16 channels": XiaoNet(),
        "XiaoNet, 16 channels, plain": XiaoNet(dilations=PLAIN),
        f"XiaoNet, {NANO} channels": XiaoNet(base_channels=NANO),
        f"XiaoNet, {NANO + 1} channels": XiaoNet(base_channels=NANO + 1),
    }
    for model in models.values():
        model.eval()
    single, many = (times(models, batch, arguments.rounds) for batch in (1, 64))
    peer = sum(p.numel() for p in models["PhaseNet (SeisBench)"].parameters())
    print("| model | parameters | fewer than PhaseNet | weights, KB | multiply-adds, million | ms a window, batch 1 | batch 64 |")
    print("|---|---|---|---|---|---|---|")
    for name, model in models.items():
        size = sum(p.numel() for p in model.parameters())
        print(
            f"| {name} | {size:,} | {1 - size / peer:.0%} | {file_size(model) / 1000:.0f} | "
            f"{count_multiply_adds(model) / 1e6:.1f} | {single[name]:.2f} | {many[name]:.2f} |"
        )


if __name__ == "__main__":
    main()
