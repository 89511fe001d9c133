"""Picking opens no socket."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import obspy
import pytest

RUNTIMES = ("onnxruntime", "openvino", "torch")
STRACE = shutil.which("strace")
# The command line with a hook that ends it at the first socket.
GUARDED = """
import os, sys
def guard(event, arguments):
    if event.startswith("socket.") and event != "socket.gethostname":
        print(event, arguments, file=sys.stderr)
        os._exit(99)
sys.addaudithook(guard)
from xiaonet.cli.main import app
app(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example record of ObsPy as miniSEED."""
    path = tmp_path_factory.mktemp("record") / "example.mseed"
    obspy.read().write(str(path), "MSEED")
    return path


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_picking_touches_no_socket_in_python(record: Path, tmp_path: Path, runtime: str) -> None:
    words = ["pick", record, "--model", "xiaonet-nano", "--runtime", runtime]
    done = subprocess.run([sys.executable, "-c", GUARDED, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    assert (tmp_path / "picks.csv").exists()


@pytest.mark.skipif(STRACE is None, reason="needs strace")
def test_picking_asks_the_kernel_for_no_socket(record: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    command = [STRACE, "-f", "-qq", "-e", "trace=%network", "-o", trace, sys.executable, "-m", "xiaonet", "pick", record]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "PTRACE" in done.stderr or "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.splitlines()[0]}")
    assert 0 == done.returncode, done.stderr
    assert (tmp_path / "picks.csv").exists()
    assert [] == re.findall(r"^.*\b(?:socket|connect|sendto|sendmsg)\(.*$", trace.read_text(), re.MULTILINE)
