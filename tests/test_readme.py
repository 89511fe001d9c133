import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_draws_a_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert 3 == len([line for line in code.splitlines() if line])
    exec(code, {})
    assert (tmp_path / "picks.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/decisions/{p.name}" for p in (ROOT / "docs/decisions").glob("*.md"))]
)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    assert [] == [target for target in targets if not ((ROOT / page).parent / target).exists()]


def test_every_option_of_the_readme_exists():
    from typer.testing import CliRunner

    from xiaonet.cli import app

    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    known = "".join(CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output for name in names)
    commands = re.sub(r"`python benchmarks/[^`]*`", "", README)  # these have options of their own
    named = set(re.findall(r"(?<![\w-])--[a-z]+(?![\w-])", commands)) - {"--standalone", "--nproc"}
    assert [] == sorted(option for option in named if option not in known)
