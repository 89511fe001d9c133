"""Measure the C of `xiaonet export --format c` on emulated microcontrollers: flash, memory and instructions of a window.

    python benchmarks/edge.py
    python benchmarks/edge.py --data FOLDER_OF_MINISEED --windows 20

QEMU counts instructions, not cycles: a real processor also waits for memory. With `--data`, windows come from the first three
traces of a folder, and their logits are compared with the reference in whole numbers. Needs arm-none-eabi-gcc and qemu-system-arm.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "embedded"))
from emulation import BOARDS, emulate, missing

from xiaonet.deploy.c_export import self_test, to_c
from xiaonet.deploy.c_reference import layers_of, logits
from xiaonet.nn.checkpoint import load_model
from xiaonet.shipped import model_path

LIGHTEQ = "| LightEQ (detects only; published) | M4 | 593 | 193 | | |"


def real_windows(folder: Path, number: int) -> np.ndarray:
    """Counts `(windows, 3, 3001)`, evenly spread over the first three traces of a folder."""
    import obspy

    files = sorted(path for path in folder.rglob("*") if path.is_file())[:3]
    traces = [obspy.read(path)[0].data.astype(np.int64) for path in files]
    counts = np.stack([trace[: min(map(len, traces))] for trace in traces])
    starts = np.linspace(0, counts.shape[1] - 3001, number).astype(int)
    return np.stack([counts[:, start : start + 3001] for start in starts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["xiaonet-nano-int8", "xiaonet-int8"])
    parser.add_argument("--boards", nargs="+", default=list(BOARDS), choices=list(BOARDS))
    parser.add_argument("--data", type=Path, help="folder of miniSEED at 100 Hz")
    parser.add_argument("--windows", type=int, default=20, help="of --data")
    arguments = parser.parse_args()
    if missing():
        raise SystemExit(missing())
    windows = real_windows(arguments.data, arguments.windows) if arguments.data else self_test()[None]
    print(
        "| model | processor | flash, kB | memory of a continuous record, kB | million instructions a window | windows with equal logits |"
    )
    print("|---|---|---|---|---|---|")
    for model in arguments.models:
        path = model_path(model, ".pth")
        layers = layers_of(load_model(path))
        expected = np.stack([logits(layers, window) for window in windows])
        with TemporaryDirectory() as folder:
            to_c(path, Path(folder) / "c")
            for board in arguments.boards:
                found = emulate(Path(folder) / "c", board, windows, Path(folder))
                equal = sum(np.array_equal(one, other) for one, other in zip(expected, found.logits, strict=True))
                sizes = f"{found.flash / 1000:.1f} | {found.memory / 1000:.1f}"
                print(f"| {model} | {board} | {sizes} | {max(found.instructions) / 1e6:.1f} | {equal} of {len(windows)} |", flush=True)
    print(LIGHTEQ)


if __name__ == "__main__":
    main()
