"""Run the C of `xiaonet export --format c` on boards with a Cortex-M that QEMU emulates."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).parent
GCC, SIZE, QEMU = "arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm"
# Board, processor, and the clock of SysTick in MHz.
BOARDS = {
    "M3": ("mps2-an385", "cortex-m3", 25),
    "M4": ("mps2-an386", "cortex-m4", 25),
    "M7": ("mps2-an500", "cortex-m7", 25),
    "M55": ("mps3-an547", "cortex-m55", 32),
}
MORE = {"M55": ["-mfloat-abi=hard"]}  # or the compiler does not use Helium
SECONDS = 300  # for all windows together


class Emulated(NamedTuple):
    """What a board gave.

    Attributes:
        logits: `(windows, 3, 3001)`.
        loop: instructions of a loop of two million, as the board counts them.
        instructions: of each window.
        stack: bytes that `xn_window` uses.
        flash: bytes of code and constants.
        memory: bytes of all that a continuous record needs: `xn_stream` and the stack.
    """

    logits: np.ndarray
    loop: int
    instructions: list[int]
    stack: int
    flash: int
    memory: int


def missing() -> str:
    """The programs that are not installed, and how to install them; empty if all are there."""
    lacking = [name for name in (GCC, QEMU) if shutil.which(name) is None]
    packages = "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"
    return f"needs {' and '.join(lacking)}: {packages}" if lacking else ""


def emulate(source: Path, board: str, windows: np.ndarray, folder: Path) -> Emulated:
    """Build the C in `source` for a board, and run it on windows of counts `(windows, 3, 3001)`. Files go to `folder`."""
    machine, processor, clock = BOARDS[board]
    flags = [
        "-std=c99",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-mcpu={processor}",
        "-mthumb",
        *MORE.get(board, []),
        f"-DCLOCK_MHZ={clock}",
    ]
    subprocess.run([GCC, *flags, "-c", source / "xiaonet.c", "-o", folder / "xiaonet.o"], check=True)
    link = ["--specs=rdimon.specs", "-Wl,--gc-sections", "-nostartfiles", "-T", HERE / "board.ld", "-o", folder / "program.elf"]
    subprocess.run([GCC, *flags, "-I", source, HERE / "start.c", HERE / "main.c", folder / "xiaonet.o", *link], check=True)
    windows.astype(np.int32).tofile(folder / "windows.bin")
    options = ["-nographic", "-semihosting-config", "enable=on,target=native", "-icount", "shift=0"]
    done = subprocess.run(
        [QEMU, "-M", machine, *options, "-kernel", folder / "program.elf"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr), done.stdout
    logits = np.fromfile(folder / "logits.bin", np.int32).reshape(len(windows), 3, 3001)
    size = subprocess.run([SIZE, folder / "xiaonet.o"], capture_output=True, text=True, check=True).stdout.split()
    figures = [(int(one), int(other)) for one, other in re.findall(r"^window (\d+) (\d+)$", done.stdout, re.M)]
    loop = int(re.search(r"^loop (\d+)$", done.stdout, re.M)[1])  # type: ignore[index]
    stream = re.search(r"^stream (\d+) (\d+)$", done.stdout, re.M)
    memory = sum(map(int, stream.groups()))  # type: ignore[union-attr]
    return Emulated(logits, loop, [one for one, _ in figures], max(stack for _, stack in figures), int(size[6]) + int(size[7]), memory)
