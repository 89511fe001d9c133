"""Compile `native.c` as an installation of XiaoNet does, with the flags in `pyproject.toml`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[1]
SETUP = "import setuptools; setuptools.setup()"
COMPILER = shutil.which("gcc") or shutil.which("clang")


def build(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Build the extension below the folder. Returns what setuptools said."""
    command = [sys.executable, "-c", SETUP, "build_ext", "--build-lib", folder, "--build-temp", folder / "objects"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=SOURCE, env={**os.environ, **environment})


def built_folder(folder: Path) -> Path:
    """Where `build` puts the library."""
    return folder / "xiaonet" / "runtime"
