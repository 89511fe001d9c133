import json
import re
from pathlib import Path

import pytest
from oracle import Oracle, record

from browser import CHROMIUM, Outline, open_page
from xiaonet.errors import OutputError
from xiaonet.evaluation.evaluator import Evaluator, evaluate
from xiaonet.evaluation.metrics import Metrics, Value
from xiaonet.evaluation.report import interval, number, table, write_report


@pytest.fixture
def page(evaluator, tmp_path) -> Path:
    models = [Oracle(), Oracle("<late> & low", late=30, height=0.4, everywhere=0.35), Oracle("blind", height=0.0)]
    return write_report(evaluate(evaluator, models), tmp_path / "report")


def test_a_page_needs_nothing_but_itself(page):
    outline = Outline(page.read_text())
    assert [] == [link for link in outline.links if not link.startswith(("#", "data:"))]
    assert [] == re.findall(r"url\((?!#)|@import", page.read_text())
    assert len(outline.ids) == len(set(outline.ids))
    assert set() == {link[1:] for link in outline.links if link.startswith("#")} - set(outline.ids)


def test_a_page_shows_figures_tables_and_records(page):
    outline = Outline(page.read_text())
    keys = [one.removeprefix("figure-") for one in outline.ids if one.startswith("figure-")]
    assert ["curves", "residuals", "reliability", "snr_db", "s_minus_p_s", "magnitude"] == keys
    assert 6 + 6 == outline.counts["svg"]  # a picture each; two records of six for each kind
    text = page.read_text()
    assert "&lt;late&gt; &amp; low" in text
    assert "<late>" not in text
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL).lower().replace("finance", "")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_without_an_error(page, tmp_path, scheme):
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    dom = open_page(page, tmp_path, *dark, f"--screenshot={tmp_path / 'page.png'}", "--window-size=1200,2000")
    shown = Outline(dom)
    assert (12, 3) == (shown.counts["svg"], dom.count('class="record"') // 2)
    from PIL import Image

    with Image.open(tmp_path / "page.png") as picture:
        colours = picture.convert("RGB").getcolors(1 << 24)
        assert (1200, 2000) == picture.size
    page_colour = max(colours)[1]
    assert {"light": (255, 255, 255), "dark": (22, 24, 27)}[scheme] == page_colour
    models = {"light": (0, 114, 178), "dark": (75, 166, 224)}[scheme]  # of the first model
    assert any(colour == models for _, colour in colours)


def test_metrics_can_be_read_again(page, evaluator):
    metrics = Metrics.model_validate_json((page.parent / "metrics.json").read_bytes())
    assert ["oracle", "<late> & low", "blind"] == [model.name for model in metrics.models]
    assert None is json.loads((page.parent / "metrics.json").read_text())["models"][2]["subsets"]["all"]["P"]["precision"]["0.5"]["value"]


def test_the_schema_in_the_documents_is_that_of_the_code():
    path = Path(__file__).parents[2] / "docs" / "metrics.schema.json"
    assert Metrics.model_json_schema() == json.loads(path.read_text())


def test_the_page_warns_of_tuned_thresholds(picked, tmp_path):
    page = write_report(evaluate(Evaluator(str(picked), "dev", tune=True), [Oracle()]), tmp_path / "tuned")
    assert "The thresholds were tuned on these windows, so the scores are too good." in page.read_text()
    assert "There is only one model, so there are no differences." in page.read_text()


def test_the_page_says_which_threshold_could_not_be_tuned(write_set, tmp_path):
    p_only = write_set([record(seed=seed) for seed in range(4)], trace_p_arrival_sample=[4000.0] * 4, split=["dev"] * 4)
    page = write_report(evaluate(Evaluator(str(p_only), "dev", tune=True), [Oracle()]), tmp_path / "tuned")
    expected = r"P 0\.\d\d \(tuned on these windows\), S 0\.30 \(advised by the model, because no label of S counts here\)"
    assert re.search(expected, page.read_text())


def test_the_table_on_the_console(evaluator):
    heads, rows = table(evaluate(evaluator, [Oracle(), Oracle("late", late=30)]).metrics)
    assert ["", "F1 of P", "F1 of S", "P recall, 0.1 s", "S recall, 0.1 s", "false P, S per hour"] == heads
    expected = [
        ["all records"],
        ["  oracle", "1.00 [1.00, 1.00]", "1.00 [1.00, 1.00]", "1.00", "1.00", "0.0, 0.0"],
        ["  late", "1.00 [1.00, 1.00]", "1.00 [1.00, 1.00]", "0.00", "0.00", "0.0, 0.0"],
    ]
    assert expected == rows[:3]


def test_the_table_leaves_out_records_without_labels(write_set):
    columns = {"trace_p_arrival_sample": [4000.0, None], "trace_p_status": ["manual", "unpicked"], "trace_dataset": ["here", "there"]}
    data = write_set([record(seed=seed) for seed in range(2)], split=["dev"] * 2, **columns)
    _, rows = table(evaluate(Evaluator(str(data), "dev"), [Oracle()]).metrics)
    assert ["all records", "here, three components"] == [row[0] for row in rows if len(row) == 1]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Value(value=0.8512, low=0.79, high=0.913), "0.85 [0.79, 0.91]"),
        (Value(value=0.8512), "0.85"),
        (Value(), "–"),
        (Value(value=-0.1, low=-0.2, high=0.0), "−0.10 [−0.20, 0.00]"),
    ],
)
def test_figures_as_text(value, expected):
    assert expected == interval(value)
    assert "–" == number(None)


def test_a_full_disk_leaves_the_older_report(evaluator, tmp_path, write_limit):
    folder = tmp_path / "report"
    found = evaluate(evaluator, [Oracle()])
    page = write_report(found, folder)
    before = page.read_bytes()
    write_limit(20_000)
    with pytest.raises(OutputError, match="could not be written"):
        write_report(found, folder)
    write_limit(-1)
    assert before == page.read_bytes()
