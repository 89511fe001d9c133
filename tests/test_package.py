import ast
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import obspy
import pytest

import xiaonet
from xiaonet import errors, picker
from xiaonet.config import schema as config
from xiaonet.nn import checkpoint, model
from xiaonet.picking import picks

HEAVY = ["torch", "seisbench", "matplotlib", "lightning_fabric"]
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None\n"


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new Python process."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def imported_by(statement: str) -> list[str]:
    """Heavy packages that a statement imports."""
    done = run(f"{statement}\nimport json, sys; print(json.dumps(sorted(sys.modules)))")
    assert "" == done.stderr
    modules = json.loads(done.stdout)
    return [name for name in HEAVY if name in modules]


def test_public_names_are_these() -> None:
    expected = ["PLAIN", "WIDE", "Config", "Pick", "Picker", "XiaoNet", "XiaoNetError", "__version__", "load_model", "save_model"]
    assert expected == xiaonet.__all__
    assert sorted(expected) == dir(xiaonet)


@pytest.mark.parametrize(
    ("name", "home"),
    [
        ("PLAIN", model),
        ("Pick", picks),
        ("Picker", picker),
        ("WIDE", model),
        ("Config", config),
        ("XiaoNet", model),
        ("XiaoNetError", errors),
        ("load_model", checkpoint),
        ("save_model", checkpoint),
    ],
)
def test_public_names_are_the_objects_of_their_modules(name: str, home: ModuleType) -> None:
    assert getattr(home, name) is getattr(xiaonet, name)


def test_the_version_is_that_of_the_installed_package() -> None:
    assert importlib.metadata.version("xiaonet") == xiaonet.__version__


def test_an_unknown_name_lists_those_that_exist() -> None:
    expected = (
        "module 'xiaonet' has no attribute 'Xiaonet'; it has "
        "PLAIN, WIDE, Config, Pick, Picker, XiaoNet, XiaoNetError, __version__, load_model, save_model"
    )
    with pytest.raises(AttributeError) as caught:
        xiaonet.Xiaonet  # noqa: B018
    assert expected == str(caught.value)
    assert not hasattr(xiaonet, "predict")


@pytest.mark.parametrize(
    "statement",
    [
        "import xiaonet",
        "import xiaonet; dir(xiaonet), xiaonet.Config, xiaonet.XiaoNetError, xiaonet.__version__",
        "import xiaonet.cli.main",
        "import xiaonet.constants, xiaonet.errors, xiaonet.console, xiaonet.config.schema",
        "import xiaonet.picking.windows, xiaonet.picking.picks",
        "import xiaonet.picker, xiaonet.apps.pick_archive, xiaonet.apps.day_plots; xiaonet.Picker(runtime='onnxruntime')",
    ],
)
def test_these_imports_need_no_heavy_package(statement: str) -> None:
    assert [] == imported_by(statement)


def test_importing_the_package_imports_nothing_else() -> None:
    done = run("import sys; before = {*sys.modules}; import xiaonet; print(*sorted({*sys.modules} - before))")
    assert {"xiaonet"} == {name.partition(".")[0] for name in done.stdout.split()} - {"importlib", "warnings"}


def test_the_command_line_starts_without_numpy() -> None:
    done = run("import sys; from xiaonet.cli.main import app; print(*sys.modules)")
    slow = {"numpy", "scipy", "obspy", "pydantic", "onnxruntime", "pandas", "torch", "seisbench", "matplotlib", "rich.progress"}
    assert ("", True, set()) == (done.stderr, "typer" in done.stdout.split(), slow & set(done.stdout.split()))


def test_picking_miniseed_without_a_terminal_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    obspy.read().write(str(tmp_path / "record.mseed"), "MSEED")
    arguments = ["pick", str(tmp_path / "record.mseed"), "--out", str(tmp_path / "picks.csv")]
    done = run(f"import sys; from xiaonet.cli.main import app; app({arguments}, standalone_mode=False); print(*sys.modules)")
    slow = {"numpy.ma", "scipy", "obspy", "pandas", "torch", "matplotlib", "asyncio", "rich.progress", "xiaonet.archives.planning"}
    assert ("", True, set()) == (done.stderr, "xiaonet.picker" in done.stdout.split(), slow & set(done.stdout.split()))


def test_the_model_needs_only_torch() -> None:
    assert ["torch"] == imported_by("from xiaonet import *")


@pytest.mark.parametrize("name", ["XiaoNet", "WIDE", "PLAIN", "load_model", "save_model"])
def test_without_torch_a_name_that_needs_it_names_the_extra(name: str) -> None:
    done = run(f"{WITHOUT_TORCH}import xiaonet; xiaonet.{name}")
    assert f"ModuleNotFoundError: xiaonet.{name} needs torch: pip install 'xiaonet[train]'" == done.stderr.splitlines()[-1]


def test_without_torch_settings_and_errors_work() -> None:
    done = run(f"{WITHOUT_TORCH}import xiaonet; print(xiaonet.Config().training.epochs, xiaonet.XiaoNetError.__name__)")
    assert ("50 XiaoNetError\n", "") == (done.stdout, done.stderr)


def test_another_missing_module_keeps_its_error() -> None:
    done = run("import sys; sys.modules['pydantic'] = None\nimport xiaonet; xiaonet.Config")
    assert "ModuleNotFoundError" in done.stderr
    assert "pydantic" in done.stderr.splitlines()[-1]
    assert "needs torch" not in done.stderr


def test_it_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "xiaonet", "--version"], capture_output=True, text=True, check=False)
    assert (0, "0.1.0\n", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "name", ["ConfigError", "DataError", "TeacherError", "CheckpointError", "OutputError", "TrainingError", "WaveformError"]
)
def test_errors_have_one_base(name: str) -> None:
    assert xiaonet.XiaoNetError in getattr(errors, name).__mro__


def test_no_module_is_long_no_function_is_long_and_no_two_classes_share_a_name() -> None:
    long: list[str] = []
    classes: list[str] = []
    for path in Path(xiaonet.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        long += [path.name] if len(text.splitlines()) > 400 else []
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= 60:
                long.append(f"{path.name}: {node.name}")
            elif isinstance(node, ast.ClassDef):
                classes.append(node.name)
    assert [] == long
    assert {"XiaoNet"} == {name for name in classes if classes.count(name) > 1}  # SeisBench's form has the name of ours
