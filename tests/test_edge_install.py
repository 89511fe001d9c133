"""The installation without extras, as on an edge device: a wheel in an empty environment, without torch, ObsPy and SciPy."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import obspy
import pytest

from native_library import COMPILER

ROOT = Path(__file__).parents[1]
NEEDED = ["numpy", "obspy", "onnxruntime"]
EXTRA = ["obspy", "scipy", "matplotlib", "torch", "seisbench", "lightning_fabric", "openvino", "onnx"]
LARGEST = 200e6  # bytes that the packages take, without pip
HEAVY = ["torch", "seisbench", "matplotlib.pyplot", "lightning_fabric", "openvino", "onnx"]
PICK = """
import json, sys, time
started = time.perf_counter()
import obspy
from importlib.util import find_spec
from xiaonet import Picker
picks = Picker(runtime="onnxruntime").pick(obspy.read())
told = {
    "seconds": time.perf_counter() - started,
    "picks": [[pick.phase, str(pick.time)] for pick in picks],
    "there": [name for name in ("torch", "seisbench", "lightning_fabric", "openvino", "onnx") if find_spec(name)],
    "imported": sorted(sys.modules),
}
print(json.dumps(told))
"""
# The start of a program in this checkout that cannot import some packages.
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in PACKAGES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
"""
COMMAND = "from xiaonet.cli.main import app\napp(sys.argv[1:])\n"
PICK_NOTHING = """
from xiaonet import Picker
try:
    Picker().pick([])
except ModuleNotFoundError as error:
    print(error)
"""


def run(python: Path | str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}  # would count as installed
    return subprocess.run([str(python), *words], capture_output=True, text=True, check=False, env=environment)


def pip(python: Path | str, *words: str) -> subprocess.CompletedProcess[str]:
    return run(python, "-m", "pip", "--disable-pip-version-check", *words)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = pip(sys.executable, "wheel", "--no-deps", "--quiet", "-w", str(folder), str(ROOT))
    if built.returncode:
        pytest.skip(f"the wheel needs setuptools from a package registry: {built.stderr.strip().splitlines()[-1]}")
    (path,) = folder.glob("*.whl")
    return path


def environment(folder: Path, wheel: str) -> Path:
    """Python of a new environment that holds the wheel and what it asks for."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    installed = pip(python, "install", "--quiet", "-c", str(ROOT / "constraints.txt"), wheel)
    if installed.returncode:
        pytest.skip(f"needs a package registry: {installed.stderr.strip().splitlines()[-1]}")
    return python


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ObsPy's example as miniSEED."""
    path = tmp_path_factory.mktemp("record") / "example.mseed"
    obspy.read().write(str(path))
    return path


def run_here(blocked: list[str], program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program with this checkout, which cannot import some packages."""
    start = f"import sys\nPACKAGES = {blocked}\nsys.path.insert(0, {str(ROOT / 'src')!r})\n{BLOCK}"
    return run(sys.executable, "-c", start + program, *words)


@pytest.fixture(scope="module")
def picks(record: Path) -> bytes:
    """Its picks as CSV, where all packages are there."""
    assert 0 == run_here([], COMMAND, "pick", str(record), "--runtime", "onnxruntime", "--out", f"{record}.csv").returncode
    return Path(f"{record}.csv").read_bytes()


def test_miniseed_at_100_hz_is_picked_without_any_extra_to_the_same_bytes(record: Path, picks: bytes, tmp_path: Path) -> None:
    done = run_here(EXTRA, COMMAND, "pick", str(record), "--runtime", "onnxruntime", "--out", str(tmp_path / "picks.csv"))
    assert 0 == done.returncode, done.stdout + done.stderr
    assert picks.count(b"\n") == 3  # the head, P and S
    assert picks == (tmp_path / "picks.csv").read_bytes()


def test_what_needs_obspy_or_scipy_names_the_extra(record: Path, tmp_path: Path) -> None:
    slow, sac = tmp_path / "slow.mseed", tmp_path / "one.sac"
    stream = obspy.read()
    stream[0].write(str(sac), format="SAC")
    stream.decimate(2).write(str(slow))
    missing = "which is not installed: pip install 'xiaonet[obspy]'"
    for words, reason in (
        (["pick", str(slow), "--out", str(tmp_path / "picks.csv")], f"BW.RJOB..EHE at 50 Hz (not 100 Hz) needs scipy, {missing}"),
        (
            ["pick", str(sac), "--out", str(tmp_path / "picks.csv")],
            f"one.sac: no waveforms in miniSEED; another format needs obspy, {missing}",
        ),
        (
            ["pick", str(record), "--runtime", "onnxruntime", "--out", str(tmp_path / "picks.xml")],
            f"picks.xml needs obspy, {missing}, or write .csv",
        ),
    ):
        done = run_here(EXTRA, COMMAND, *words)
        assert (1, True) == (done.returncode, reason in " ".join(done.stdout.split())), done.stdout + done.stderr
    done = run_here(EXTRA, PICK_NOTHING)
    assert f"picking a stream needs obspy, {missing}\n" == done.stdout, done.stderr


def test_the_wheel_holds_all_models_and_stays_below_3_mb(wheel: Path) -> None:
    assert wheel.stat().st_size < 3_000_000
    models = {f"xiaonet{nano}{int8}.{kind}" for nano in ("", "-nano") for int8 in ("", "-int8") for kind in ("onnx", "pth")}
    assert models | {"teacher.pth"} == {Path(name).name for name in ZipFile(wheel).namelist() if name.endswith((".onnx", ".pth"))}


def test_the_wheel_alone_picks_miniseed_to_the_same_bytes(wheel: Path, record: Path, picks: bytes, tmp_path: Path) -> None:
    python = environment(tmp_path / "lean", str(wheel))
    done = run(python, "-I", "-m", "xiaonet", "pick", str(record), "--runtime", "onnxruntime", "--out", str(tmp_path / "picks.csv"))
    assert 0 == done.returncode, done.stdout + done.stderr
    assert picks == (tmp_path / "picks.csv").read_bytes()
    if COMPILER:  # the wheel holds the runtime native, which picks the same times
        done = run(python, "-I", "-m", "xiaonet", "pick", str(record), "--runtime", "native", "--out", str(tmp_path / "native.csv"))
        assert 0 == done.returncode, done.stdout + done.stderr
        found = (tmp_path / "native.csv").read_bytes()
        assert [row.split(b",")[:3] for row in picks.splitlines()] == [row.split(b",")[:3] for row in found.splitlines()]
    finder = "import sys; from importlib.util import find_spec; print([name for name in sys.argv[1:] if find_spec(name)])"
    assert "[]\n" == run(python, "-I", "-c", finder, *EXTRA).stdout
    packages = Path(run(python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
    folders = [folder for folder in packages.iterdir() if folder.name.partition("-")[0] not in ("pip", "setuptools")]
    files = [file for folder in folders for file in (folder.rglob("*") if folder.is_dir() else [folder])]
    assert sum(file.stat().st_size for file in files if file.is_file()) < LARGEST


def test_with_obspy_a_stream_is_picked_without_torch(wheel: Path, tmp_path: Path) -> None:
    done = run(environment(tmp_path / "obspy", f"{wheel}[obspy]"), "-I", "-c", PICK)
    assert 0 == done.returncode, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert [] == told["there"]
    assert set(NEEDED) <= set(told["imported"])
    assert set(HEAVY).isdisjoint(told["imported"])
    # ObsPy's record: SeisBench's PhaseNets see P 4.70 to 4.73 s and S 5.66 to 5.71 s after its start at 00:20:03
    times = {phase: float(time[-10:-1]) - 3.0 for phase, time in told["picks"]}
    assert {"P", "S"} == times.keys()
    assert 4.7 == pytest.approx(times["P"], abs=0.2)
    assert 5.7 == pytest.approx(times["S"], abs=0.2)
