"""Compile the C of `xiaonet export --format c` on this machine."""

import shutil
import subprocess
from pathlib import Path

import pytest

STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror", "-O1"]
GUARDS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def compiler() -> str:
    found = shutil.which("gcc") or shutil.which("clang")
    if found is None:
        pytest.skip("needs gcc or clang")
    return found


def build(folder: Path, main: str) -> Path:
    """Compile the C in a folder with a main program. The program stops at undefined behaviour and wrong addresses."""
    (folder / "main.c").write_text(main)
    command = [compiler(), *STRICT, *GUARDS, folder / "main.c", folder / "xiaonet.c", "-o", folder / "program"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    return folder / "program"
