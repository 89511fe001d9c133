"""The installation without extras, as on an edge device: a wheel in an empty environment, without torch."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = ["numpy", "obspy", "onnxruntime"]
HEAVY = ["torch", "seisbench", "matplotlib.pyplot", "lightning_fabric", "openvino", "onnx"]
PICK = """
import json, sys, time
started = time.perf_counter()
import obspy
from importlib.util import find_spec
from xiaonet import Picker
picks = Picker().pick(obspy.read())
told = {
    "seconds": time.perf_counter() - started,
    "picks": [[pick.phase, str(pick.time)] for pick in picks],
    "there": [name for name in ("torch", "seisbench", "lightning_fabric", "openvino", "onnx") if find_spec(name)],
    "imported": sorted(sys.modules),
}
print(json.dumps(told))
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


@pytest.fixture(scope="module")
def lean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that holds the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("lean")
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    installed = pip(python, "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(wheel))
    if installed.returncode:
        pytest.skip(f"needs a package registry: {installed.stderr.strip().splitlines()[-1]}")
    return python


def test_the_wheel_holds_all_models_and_stays_below_3_mb(wheel: Path) -> None:
    assert wheel.stat().st_size < 3_000_000
    models = {f"xiaonet{nano}{int8}.{kind}" for nano in ("", "-nano") for int8 in ("", "-int8") for kind in ("onnx", "pth")}
    assert models | {"teacher.pth"} == {Path(name).name for name in ZipFile(wheel).namelist() if name.endswith((".onnx", ".pth"))}


def test_the_lean_install_picks_a_real_record_without_torch(lean_python: Path) -> None:
    done = run(lean_python, "-I", "-c", PICK)
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
