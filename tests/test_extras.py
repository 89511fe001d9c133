import ast
import sys
import tomllib
from pathlib import Path

import pytest

from xiaonet.extras import EXTRAS, install_command

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WITH_SEISBENCH = {"pandas"}  # comes with it
BY_HAND = {"executorch"}  # no extra brings it; the command that needs it says so


def packages(requirements: list[str]) -> set[str]:
    """Packages that a list of requirements brings, ours with their extras."""
    found = set()
    for requirement in requirements:
        name, _, extras = requirement.partition(">=")[0].rstrip("]").partition("[")
        if name == "xiaonet":
            for extra in extras.split(","):
                found |= packages(PROJECT["optional-dependencies"][extra])
        else:
            found.add(name.replace("-", "_"))
    return found


def imported() -> set[str]:
    """Packages other than our own and the standard library that the sources import."""
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {name.partition(".")[0] for name in names}
    return found - sys.stdlib_module_names - {"xiaonet"}


def test_every_imported_package_is_required_or_has_an_extra() -> None:
    assert imported() - packages(PROJECT["dependencies"]) - EXTRAS.keys() == BY_HAND


@pytest.mark.parametrize("package", sorted(EXTRAS.keys() - WITH_SEISBENCH))
def test_the_extra_of_a_package_brings_it(package: str) -> None:
    assert package in packages([f"xiaonet[{EXTRAS[package]}]"])


def test_a_module_has_the_command_of_its_package() -> None:
    assert "pip install 'xiaonet[plots]'" == install_command("matplotlib.pyplot")
    assert "pip install executorch" == install_command("executorch")
