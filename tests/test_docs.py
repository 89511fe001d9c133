"""The documentation: its code blocks run, its commands exist, its links lead somewhere, and the site builds."""

import contextlib
import importlib.util
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from xiaonet import __version__
from xiaonet.cli.main import app
from xiaonet.config.schema import Config
from xiaonet.runtime.loading import load_predictor
from xiaonet.shipped import shipped_models

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "src/xiaonet/weights/README.md",
    *(str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in page.parts),
]
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$(?:\n+```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*")
COMMANDS = typer.main.get_command(app).commands
NUMBER = re.compile(r"\d+\.\d+(?![.\d])")
CHANGES = (r"in \d+\.\d s$", r"(?:onnxruntime|native) \d+\.\d+\.\d+(?: \([^)]*\))?")  # a duration, a version


def blocks(page: str, kind: str) -> list[tuple[str, str]]:
    """Code blocks of a kind, each with the `text` block that follows it."""
    return [(code, output) for language, code, output in BLOCK.findall(TEXTS[page]) if language == kind]


def options(command: Any) -> list[str]:
    return [option for parameter in command.params for option in parameter.opts]


def pages_with(kind: str) -> list[str]:
    return [page for page in PAGES if blocks(page, kind)]


def commands(page: str) -> list[list[str]]:
    """Words of each `xiaonet …` command in the `bash` and `console` blocks."""
    code = "\n".join(code for kind in ("bash", "console") for code, _ in blocks(page, kind))
    code = code.replace("\\\n", " ").replace("-m xiaonet", "\nxiaonet")
    return [shlex.split(line, comments=True) for line in re.findall(r"^(?:\$ )?(xiaonet .*)$", code, re.MULTILINE)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", pages_with("python"))
def test_python_blocks_run_and_print_what_follows_them(page: str, folder: Path) -> None:
    names: dict[str, object] = {}
    for code, output in blocks(page, "python"):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, names)
        assert not output or output == printed.getvalue()


@pytest.mark.parametrize("page", pages_with("console"))
def test_sessions_print_what_the_page_shows(page: str, folder: Path) -> None:
    for session, _ in blocks(page, "console"):
        shown = session.split("\n$ ")
        shown[0] = shown[0].removeprefix("$ ")
        for command, _, expected in (step.partition("\n") for step in shown):
            printed = carry_out(command)
            for pattern in CHANGES:
                expected, printed = (re.sub(pattern, "…", text, flags=re.MULTILINE) for text in (expected, printed))
            assert NUMBER.sub("#", expected).rstrip() == NUMBER.sub("#", printed).rstrip()
            wanted, found = ([float(number) for number in NUMBER.findall(text)] for text in (expected, printed))
            assert wanted == pytest.approx(found, rel=1e-4)


def carry_out(command: str) -> str:
    """Standard output of a command, with the interpreter and the sources of these tests."""
    paths = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=os.environ | paths)
    assert 0 == done.returncode, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_commands_are_accepted(page: str) -> None:
    for _, name, *words in commands(page):
        context = COMMANDS[name].make_context(name, words)
        Config().override(context.params.get("assignments") or [])


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_in_the_text_exist(page: str) -> None:
    text = re.sub(r"^```.*?^```$|`(?:python|pip|torchrun) [^`]*`", "", TEXTS[page], flags=re.MULTILINE | re.DOTALL)
    for name, words in re.findall(r"`xiaonet ([a-z]+)([^`]*)`", text):
        assert [] == [option for option in OPTION.findall(words) if option not in options(COMMANDS[name])]
    named = {option for code in re.findall(r"`([^`\n]*)`", text) for option in OPTION.findall(code)}
    assert set() == named - {option for command in COMMANDS.values() for option in options(command)} - {"--unseen"}  # of a benchmark


def test_quoted_messages_are_those_of_the_program() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    quoted = re.findall(r"^\| `([^`]*…[^`]*)` \|", TEXTS["docs/troubleshooting.md"], re.MULTILINE)
    assert len(quoted) > 3
    assert [] == [part for message in quoted for part in message.split("…") if part.strip() and part.strip() not in sources]


@pytest.mark.parametrize("page", PAGES)
def test_settings_exist(page: str) -> None:
    parts = Config.model_fields
    named = re.findall(r"`(\w+)\.(\w+)(?:=[^`]*)?`", TEXTS[page])
    if page != "CHANGELOG.md":  # it names old settings too
        assert [] == [name for part, name in named if part in parts and name not in parts[part].annotation.model_fields]


@pytest.mark.parametrize("page", [page for page in PAGES if "python benchmarks/" in TEXTS[page]])
def test_benchmarks_exist_with_their_options(page: str) -> None:
    for path, words in re.findall(r"python (benchmarks/\w+\.py)([^`\n]*)", TEXTS[page]):
        source = (ROOT / path).read_text(encoding="utf-8")
        assert [] == [option for option in OPTION.findall(words) if f'"{option}"' not in source]


def test_thresholds_are_those_of_the_model_files() -> None:
    rows = re.findall(r"^\| `(xiaonet\S*)`, `(xiaonet\S*)` \| (\S+) \| (\S+) \|$", TEXTS["docs/picking.md"], re.MULTILINE)
    found = {name: {"P": float(p), "S": float(s)} for *names, p, s in rows for name in names}
    assert {name: load_predictor(name).thresholds for name in shipped_models()} == found


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", TEXTS[page]):
        path, _, anchor = target.partition("#")
        linked = (ROOT / page).parent / path if path else ROOT / page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings], target


def test_the_tutorial_is_stored_without_outputs() -> None:
    cells = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    assert [] == [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")]


def test_the_citation_agrees_with_the_package() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra docs")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # what the format requires
    assert (__version__, "MIT", "software") == (citation["version"], citation["license"], citation["type"])
    assert [author["name"] for author in citation["authors"]] == re.findall(r"\(c\) \d+ (.*)", (ROOT / "LICENSE").read_text())


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("sphinx", "myst_nb", "sphinx_rtd_theme")), reason="needs the extra docs"
)
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", tmp_path / "trees", ROOT / "docs", tmp_path / "html"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "ignore"}
    )
    assert 0 == done.returncode, done.stderr
    html = (tmp_path / "html" / "tutorial.html").read_text(encoding="utf-8")
    assert "00:20:07.714000" in html  # the notebook was executed
    assert "image/png" in html or 'src="_images/' in html
    assert "training.epochs" in (tmp_path / "html" / "settings.html").read_text(encoding="utf-8")
    assert "xiaonet.picker.Picker" in (tmp_path / "html" / "api.html").read_text(encoding="utf-8")
