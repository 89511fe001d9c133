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


PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "src/xiaonet/weights/README.md",
    *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    assert [] == [target for target in targets if not ((ROOT / page).parent / target).exists()]


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist_with_their_options(page):
    from typer.testing import CliRunner

    from xiaonet.cli.main import app

    text = re.sub(r"\\\n\s*", "", (ROOT / page).read_text(encoding="utf-8"))  # lines that go on are one
    for command, words in re.findall(r"(?:^    |`)(?:torchrun .* -m )?xiaonet ([a-z]+)([^`\n]*)", text, re.MULTILINE):
        told = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
        assert told.exit_code == 0, command
        options = re.findall(r"(?<![\w-])--[a-z]+(?![\w-])", words.split("#")[0])
        assert [] == [option for option in options if option not in told.output], command


@pytest.mark.parametrize("page", ["README.md", *(page for page in PAGES if page.startswith("docs/") and "decisions" not in page)])
def test_options_that_are_spoken_of_exist(page):
    from typer.testing import CliRunner

    from xiaonet.cli.main import app

    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    known = "".join(CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output for name in names)
    text = re.sub(r"`python benchmarks/[^`]*`", "", (ROOT / page).read_text(encoding="utf-8"))  # these have options of their own
    named = set(re.findall(r"(?<![\w-])--[a-z]+(?![\w-])", text)) - {"--standalone", "--nproc", "--part"}
    assert [] == sorted(option for option in named if option not in known)
