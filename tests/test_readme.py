import re
from pathlib import Path

import pytest
import torch

from xiaonet import XiaoNet, save_model

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs(tmp_path, monkeypatch):
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    save_model(XiaoNet(base_channels=2), tmp_path / "runs" / "demo" / "saved_model_fp32.pth")
    monkeypatch.chdir(tmp_path)
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    probabilities = names["probabilities"]
    assert (1, 3, 3000) == tuple(probabilities.shape)
    assert torch.allclose(torch.ones(1, 3000), probabilities.sum(dim=1))


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/decisions/{p.name}" for p in (ROOT / "docs/decisions").glob("*.md"))]
)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    assert [] == [target for target in targets if not ((ROOT / page).parent / target).exists()]


def test_every_option_of_the_readme_exists():
    from typer.testing import CliRunner

    from xiaonet.cli import app

    known = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "200"}).output
    commands = re.sub(r"`python benchmarks/[^`]*`", "", README)  # these have options of their own
    named = set(re.findall(r"(?<![\w-])--[a-z]+(?![\w-])", commands)) - {"--standalone", "--nproc"}
    assert [] == sorted(option for option in named if option not in known)
