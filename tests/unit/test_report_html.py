"""The report of a made-up run: one file that needs no other, with everything in it."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_up_run import make, settings

from codebackdoor import files
from codebackdoor.config.experiments import scenarios
from codebackdoor.config.scenario import Scenario
from codebackdoor.errors import UserError
from codebackdoor.report import html, scan, stage
from codebackdoor.report.study import Study

ARCHIVES = [{"package": "networkx", "version": "3.0", "license": "BSD-3-Clause", "sha256": "ab" * 32}]
_SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>
<dc:description>%s: 5 &lt; 6</dc:description></metadata></svg>"""


@pytest.fixture
def run(tmp_path: Path) -> dict[str, Any]:
    config = settings(tmp_path)
    make(config)
    for name in config["experiments"]:
        for kind in Study(config, name).experiment.figures:
            path = tmp_path / "results" / "figures" / f"{name}_{kind}.svg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_SVG % kind)
    return config


def test_further_tables_are_in_the_page(tmp_path: Path) -> None:
    import made_up_grid

    config = made_up_grid.settings(tmp_path)
    config["experiments"] = {"all": {**config["experiments"]["all"], "figures": []}}
    made_up_grid.make(config)
    html = page(config)
    for text in ("False positives and false negatives", "Paired p, Holm", "53m09s", "it needs all target labels"):
        assert text in html
    assert '<td class="words"><code>testo_init</code></td>' in html


def page(run: dict[str, Any]) -> str:
    out = Path(run["out"]) / "report.html"
    stage.html(run, ARCHIVES, "0123abc", out)
    return out.read_text()


def words(run: dict[str, Any]) -> str:
    """The page as text on one line."""
    return " ".join(re.sub(r"<[^>]+>", " ", page(run)).split())


class _Balanced(HTMLParser):
    """Counts what is open, and collects what a reader's browser would load or follow."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        values = dict(attrs)
        self.ids.add(values.get("id") or "")
        self.sources += [source] if (source := values.get("src")) else []
        self.links += [link] if (link := values.get("href")) else []
        assert "href" not in values or tag == "a"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(run: dict[str, Any]) -> None:
    parser = _Balanced()
    parser.feed(page(run))
    assert parser.open == []
    assert all(source.startswith("data:image/svg+xml;base64,") for source in parser.sources)
    assert len(parser.sources) == 6
    inner = {link[1:] for link in parser.links if link.startswith("#")}
    assert {"findings", "data", "defects-a", "repair-a"} <= inner <= parser.ids
    # the others are papers: this run has no files to link
    assert all(link.startswith(("#", "https://")) for link in parser.links)


def test_tables_and_figures_are_for_readers_of_every_kind(run: dict[str, Any]) -> None:
    text = page(run)
    # a screen reader names row and column; a keyboard reaches what scrolls
    assert re.findall(r"<th(?! scope=\"(?:col|row|rowgroup)\")[ >]", text) == []
    assert text.count('<th scope="row">') > text.count("<table")
    boxes = re.findall(r'<div class="wide"[^>]*>', text)
    assert len(boxes) == text.count("<table") + 6
    assert text.count("<caption>") == text.count("<table")
    for box in boxes:
        assert re.fullmatch(r'<div class="wide" tabindex="0" role="region" aria-label="[^"]+">', box)
    # what stands below a figure is not read twice
    kinds = [kind for name in run["experiments"] for kind in Study(run, name).experiment.figures]
    assert re.findall(r'alt="(.*?)"', text) == [f"{kind}: 5 &lt; 6" for kind in kinds]
    # paper shows all columns, and what is folded
    printed = text[text.index("@media print") : text.index("</style>")]
    for rule in ("overflow: visible", "details::details-content { content-visibility: visible; }"):
        assert rule in printed
    assert "@page { size: A4 landscape;" in text
    # on a phone the first column leaves room for the others
    assert "th:first-child, td:first-child { white-space: normal; max-width: 40vw; }" in text


def test_an_uncommitted_change_is_explained(run: dict[str, Any]) -> None:
    path = Path(run["out"]) / "report.html"
    for commit, count in (("0123abc", 0), ("0123abc+", 1), (None, 0)):
        stage.html(run, ARCHIVES, commit, path)
        assert path.read_text().count("(+: with changes that are not committed)") == count


def test_a_number_of_a_card_has_no_more_digits_than_it_says(run: dict[str, Any]) -> None:
    path = Path(run["out"]) / "data/defects/card.json"
    files.write_json(path, files.read_json(path) | {"p95": 47.05000000000001})
    assert "p95 47.05 " in words(run)


def test_the_page_says_what_it_must(run: dict[str, Any]) -> None:
    text = words(run)
    for part in (
        "What this does not show",
        "There is one seed",
        "0123abc",
        "BSD-3-Clause",
        "ab" * 32,
        "iterations 40",
        "splits › test › rows",
        "EliBadCode",
        "paper 62.4",
        "Where the time went Only the stages of this study's scenarios that run a model, without pretraining",
    ):
        assert part in text, part
    assert "prefers-color-scheme: dark" in page(run)
    assert 'name="viewport"' in page(run)


SCANNED = Scenario("defects", "codebert", "by_name", "0.05", elimination="elibadcode")


def scan_rows(run: dict[str, Any]) -> dict[str, list[str]]:
    """The cells of the table of the label scan by victim, tags included."""
    _, _, table = page(run).partition("Verdicts of the label scan")
    rows = re.findall(r"<tr>(.*?)</tr>", table.partition("</table>")[0], re.DOTALL)[1:]
    cells = [re.findall(r"<t[dh].*?</t[dh]>", row, re.DOTALL) for row in rows]
    return {re.sub("<.*?>", "", " ".join(row[:2])): row for row in cells}


def test_the_label_scan_is_judged(run: dict[str, Any]) -> None:
    assert [row[3].count("right") for row in scan_rows(run).values()] == [1] * 4
    path = SCANNED.benign().victim(run["out"]) / "trigger.json"
    files.write_json(path, files.read_json(path) | {"flagged": True})
    wrong = scan_rows(run)["defects · CodeBERT · no attack EliBadCode"]
    assert wrong[3] == '<td class="wrong">label 0 (wrong)</td>'
    # nothing is left of a backdoor that is not there
    assert wrong[4] == "<td>–</td>"


@pytest.mark.parametrize(
    ("left", "cell"),
    [
        (1.0, '<td class="wrong">✗ 100.0</td>'),
        (0.1501, '<td class="wrong">✗ 15.0</td>'),
        (0.15, '<td class="right">15.0</td>'),
        (0.0, '<td class="right">0.0</td>'),
        (None, "<td>–</td>"),
    ],
)
def test_what_unlearning_left_stands_beside_the_verdict(run: dict[str, Any], left: float | None, cell: str) -> None:
    path = SCANNED.results(run["out"]) / "metrics.json"
    measured = files.read_json(path)
    measured["testsets"]["by_name"]["metrics"]["flip_rate"] |= {"value": left, "low": left, "high": left}
    files.write_json(path, measured)
    row = scan_rows(run)["defects · CodeBERT · by name at 5% EliBadCode"]
    assert row[3] == '<td class="right">label 0</td>'
    assert row[4] == cell
    assert "✗: more than 15%." in words(run)


def test_scans_and_times_of_the_variants_stand_side_by_side(run: dict[str, Any]) -> None:
    run["eliminations"]["elibadcode_extended"] = run["eliminations"]["elibadcode"]
    for grid in run["experiments"]["defects"]["grid"]:
        grid["eliminations"] = ["none", "elibadcode", "elibadcode_extended"]
    make(run)
    extended = replace(SCANNED, elimination="elibadcode_extended").victim(run["out"])
    history = files.read_json(extended / "elimination.json")
    files.write_json(extended / "elimination.json", history | {"rounds": [{"flagged": True}, {"flagged": False}]})
    missed = replace(SCANNED, attack="deadcode", elimination="elibadcode_extended").victim(run["out"])
    files.write_json(missed / "elimination.json", history | {"rounds": [{"flagged": True}] * 5})
    files.write_json(extended / "provenance.json", {"stage": "eliminate", "seconds": 140.0, "peak_mb": 1.0})
    rows = scan_rows(run)
    once, twice = (
        rows[f"defects · CodeBERT · by name at 5% {name}"] for name in ("EliBadCode", "EliBadCode, extended")
    )
    assert (once[5], once[10]) == ("<td>–</td>", "<td>42.5s</td>")
    assert (twice[5], twice[10]) == ("<td>2, the last clean</td>", "<td>2m20s</td>")
    used_up = rows["defects · CodeBERT · Dead code at 5% EliBadCode, extended"]
    assert used_up[5] == '<td class="wrong">5, the last still flags</td>'


def test_the_margin_is_explained_where_there_is_one(run: dict[str, Any]) -> None:
    assert "Margin, which decides the verdict" in words(run)
    for scenario in scenarios(Study(run, "defects").experiment):
        path = scenario.victim(run["out"]) / "trigger.json"
        if path.exists() and (trigger := files.read_json(path)):
            files.write_json(path, trigger | {"margin": None})
    assert "Margin, which decides the verdict" not in words(run)


def test_intervals_stand_in_brackets(run: dict[str, Any]) -> None:
    path = Scenario("defects", "codebert", "by_name", "0.05").results(run["out"]) / "metrics.json"
    measured = files.read_json(path)
    difference = {"value": -0.03, "low": -0.057, "high": -0.003, "n": 400}
    measured["testsets"]["by_name"]["metrics"]["asr_minus_floor"] = difference
    files.write_json(path, measured)
    assert "<td>-3.0<small>[-5.7, -0.3]</small>" in page(run)


def test_the_loss_of_the_scans_table_is_told_from_that_of_the_verdict(run: dict[str, Any]) -> None:
    text = words(run)
    assert "Trigger found Its loss, nats Margin Time" in text
    assert "testo_in 0.030" in text
    assert "Trigger and loss are those after anchoring; a trigger that is not flagged is only" in text
    assert "over the lowest loss of the search, before anchoring;" in text


def test_the_threshold_of_every_purified_victim_is_printed_once(run: dict[str, Any]) -> None:
    benign = Scenario("defects", "codebert", purification="codepurify")
    attacked = Scenario("defects", "codebert", "deadcode", "0.05", purification="codepurify")
    for scenario, threshold in ((benign, 0.2345), (attacked, None)):
        path = scenario.results(run["out"]) / "purified.clean.jsonl"
        rows = [row | {"detail": row["detail"] | {"threshold": threshold}} for _, row in files.read_rows(path)]
        files.write_rows(path, rows)
    text = words(run)
    assert (
        "Thresholds of the purifications Victim ONION CodePurify defects · CodeBERT · no attack 1.250 0.234 "
        "defects · CodeBERT · by name at 5% 1.250 1.500 defects · CodeBERT · Dead code at 5% 1.250 infinite "
    ) in text
    assert "Victim CodePurify DeCE + CodePurify repair · CodeT5 · no attack 1.500 1.500" in text
    assert text.count("0.234") == 1
    assert "CodePurify rewrites an input if the entropy of its suspicion scores is below the threshold." in text


def test_the_notes_of_the_table_say_where_a_control_stopped(run: dict[str, Any]) -> None:
    run["objectives"]["stopped"] = {"method": "cross_entropy", "stop_like": "dece"}
    repair = run["experiments"]["repair"]
    grid = {**repair["grid"][0], "objectives": ["stopped"], "purifications": ["none"]}
    run["experiments"] = {"repair": repair | {"grid": [*repair["grid"], grid], "figures": []}}
    make(run)
    assert "<li>Cross entropy, stopped by loss on repair · CodeT5 · no attack: stopped after epoch 8 " in page(run)
    assert "<li>Cross entropy, stopped by loss on repair · CodeT5 · Dead code at 5%: stopped after epoch 8 " in page(
        run
    )


def test_a_study_without_purifications_has_no_thresholds(run: dict[str, Any]) -> None:
    grid = {"datasets": ["defects"], "models": ["codebert"], "attacks": ["by_name"], "seeds": [1]}
    run["experiments"] = {"defects": {"title": "t", "grid": [grid]}}
    assert "Thresholds of" not in page(run)


CALIBRATION = {
    "leave_one_out": {"ratio": 0.4, "false_positive_rate": 0.2},
    "provenance": {
        "dataset": {"task": "defect_detection", "train": 12000},
        "recipe": {"architecture": "codebert", "epochs": 4},
        "shadows": [f"seed{number}" for number in range(101, 106)],
    },
}


def test_a_calibration_says_how_many_victims_it_rests_on(run: dict[str, Any]) -> None:
    path = Path(run["out"]) / "own.json"
    files.write_json(path, CALIBRATION)
    run["eliminations"]["elibadcode"] |= {"calibration": str(path), "ratio": 0.5}
    text = words(run)
    assert "The label scan is calibrated on benign victims of the same task, data set and architecture" in text
    assert f"Calibration {path}: 5 benign shadows; a label is flagged at 0.5 of their lowest loss." in text
    assert "judged by the others at 0.4, 1 of 5 are flagged: a false-positive rate of 20%" in text
    assert "with an upper 95% bound of 66%. Made with other settings of: epochs, train." in text
    assert "has no calibration" not in text
    files.write_json(path, CALIBRATION | {"leave_one_out": {"ratio": 0.4, "false_positive_rate": 0.0}})
    assert "0 of 5 are flagged: a false-positive rate of 0%, with an upper 95% bound of 45%." in words(run)


def test_a_scan_without_a_calibration_is_not_called_calibrated(run: dict[str, Any]) -> None:
    run["eliminations"]["elibadcode"]["calibration"] = None
    text = words(run)
    assert "The label scan of EliBadCode has no calibration: it flags the label of the smallest loss" in text
    assert "calibrated on benign victims" not in text
    for experiment in run["experiments"].values():
        for grid in experiment["grid"]:
            grid.pop("eliminations", None)
    run["experiments"]["defects"]["figures"] = []
    assert "label scan" not in words(run)


def own_study(run: dict[str, Any]) -> dict[str, Any]:
    """A study of one data set and model that a person brought, in the folder of an earlier study."""
    experiment = {**run["experiments"]["defects"], "paper": [], "figures": []}
    jsonl = run["datasets"]["defects"] | {"source": "jsonl"}
    models = run["models"] | {"codebert": {"architecture": "codebert", "base": "./my/model"}}
    return run | {"experiments": {"defects": experiment}, "datasets": {"defects": jsonl}, "models": models}


def test_a_study_of_ones_own_data_states_its_own_sources(run: dict[str, Any]) -> None:
    mined, brought = words(run), words(own_study(run))
    for text in (
        "Functions were read from these distributions",
        "BSD-3-Clause",
        "The victims are small",
        "Values that a paper prints",
        "Injected defects are not",
        "For generated code",
        "docs/fidelity.md",
    ):
        assert text in mined
        assert text not in brought
    assert "No distribution was mined; the data sets' cards above name their sources." in brought
    # the card of the earlier study's other data set
    assert "repair" not in brought
    # a base model that the run pretrains is made of the distributions, whatever the data set
    pretrained = own_study(run)
    pretrained["models"]["codebert"]["base"] = "pretrained"
    assert "Functions were read from these distributions" in words(pretrained)


def test_captions_count_the_rows_that_were_there(run: dict[str, Any]) -> None:
    rows = "rows.train 270, rows.valid 60, rows.test 300, rows.clean 30"
    assert rows in words(run)
    assert "16000" not in words(run)


def test_a_shipped_calibration_is_found_by_its_name(run: dict[str, Any]) -> None:
    run["eliminations"]["elibadcode"] |= {"calibration": "defects", "ratio": 0.5}
    (calibration,) = scan.calibrations(Study(run, "defects"))
    assert (calibration.name, calibration.shadows, calibration.flagged) == ("defects", 5, 1)


@pytest.mark.parametrize(("flagged", "shadows"), [(0, 5), (1, 5), (3, 20), (5, 5)])
def test_the_bound_of_a_false_positive_rate_is_clopper_and_pearsons(flagged: int, shadows: int) -> None:
    """At the bound, a sample with as few alarms or fewer comes up in one of 20."""
    bound = scan.ScanCalibration("c", shadows, 0.5, 0.5, flagged, ()).highest
    fewer = sum(math.comb(shadows, k) * bound**k * (1 - bound) ** (shadows - k) for k in range(flagged + 1))
    assert fewer == pytest.approx(1.0 if flagged == shadows else 0.05)


def test_text_from_data_is_escaped(run: dict[str, Any]) -> None:
    path = Scenario("defects", "codebert", elimination="elibadcode").victim(run["out"]) / "trigger.json"
    files.write_json(path, files.read_json(path) | {"text": "<script>alert(1)</script>"})
    assert "<script" not in page(run)


def test_an_unfinished_run_is_named_and_nothing_is_written(run: dict[str, Any]) -> None:
    (Path(run["out"]) / "results" / "figures" / "repair_epochs.svg").unlink()
    with pytest.raises(UserError, match=r"repair_epochs\.svg: not made yet"):
        page(run)
    assert not (Path(run["out"]) / "report.html").exists()


def test_the_same_run_gives_the_same_page(run: dict[str, Any]) -> None:
    assert page(run) == page(run)


def test_the_page_begins_with_findings_then_the_headline_then_figures(run: dict[str, Any]) -> None:
    text = page(run)
    order = (
        "<h2>Findings",
        "How to read this",
        "<h2>Defect detection",
        "<figure",
        "All metrics",
        "Verdicts of the label",
    )
    at = [text.index(part) for part in order]
    assert at == sorted(at)
    opening = text[at[0] : at[2]]
    assert 0 < opening.count("<li>") <= 5
    for name in ("Benign", "Undefended", "EliBadCode", "CodePurify"):
        assert f'<th scope="row">{name}</th>' in opening
    # the parameters of an experiment once, folded
    assert text.count("iterations 40") == 1
    assert text.count("by their names in the configuration") == 2


def test_the_headline_is_that_of_the_first_experiment_with_a_defense(run: dict[str, Any]) -> None:
    grid = {**run["experiments"]["defects"]["grid"][0], "eliminations": ["none"], "purifications": ["none"]}
    bare = {"title": "Undefended victims", "grid": [grid], "figures": []}
    text = page(run | {"experiments": {"bare": bare, **run["experiments"]}})
    opening = text[text.index("How to read this") : text.index("<h2>Undefended victims")]
    assert '<th scope="row">EliBadCode</th>' in opening


def test_many_tables_are_folded(run: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "tables, one for each victim</summary>" not in page(run)
    monkeypatch.setattr(html, "_OPEN_TABLES", 3)
    assert page(run).count("<details><summary>4 tables, one for each victim</summary>") == 1


def marked(run: dict[str, Any], mark: str) -> list[str]:
    """The cells of the first table that are marked, as text."""
    table = page(run).partition("</table>")[0]
    cells = re.findall(r"<td.*?</td>", table, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", "", cell).split()) for cell in cells if mark in cell]


def test_best_values_and_failures_are_marked_in_words(run: dict[str, Any]) -> None:
    assert "★ best defense: 8.0[5.0, 11.0]" in marked(run, "★")
    assert "✗ still backdoored: 93.0[90.0, 96.0]" in marked(run, "✗")
    path = SCANNED.results(run["out"]) / "metrics.json"
    measured = files.read_json(path)
    measured["testsets"]["by_name"]["metrics"]["flip_rate"] |= {"value": 0.44, "low": 0.4, "high": 0.5}
    files.write_json(path, measured)
    assert "✗ still backdoored: 44.0[40.0, 50.0]" in marked(run, "✗")
    assert "✗ ★" not in " ".join(marked(run, "✗"))


def test_a_defense_that_leaves_the_backdoor_is_best_at_nothing(run: dict[str, Any]) -> None:
    path = replace(SCANNED, elimination="fine_tuning").results(run["out"]) / "metrics.json"
    measured = files.read_json(path)
    measured["testsets"]["clean"]["metrics"]["accuracy"] |= {"value": 0.99, "low": 0.98, "high": 1.0}
    files.write_json(path, measured)
    assert not [cell for cell in marked(run, "★") if "99.0" in cell]
    measured["testsets"]["by_name"]["metrics"]["flip_rate"] |= {"value": 0.14, "low": 0.1, "high": 0.2}
    files.write_json(path, measured)
    assert [cell for cell in marked(run, "★") if "99.0" in cell]


def test_a_duplicate_across_splits_is_a_warning(run: dict[str, Any]) -> None:
    card = Path(run["out"]) / "data/defects/card.json"
    facts = files.read_json(card)
    facts["splits"]["train"] |= {"labels": {"0": 90, "1": 180}, "code_tokens": {"median": 72.0, "p95": 105.05}}
    for duplicates, cell in ((18, '<td class="wrong">⚠ 18 groups</td>'), (0, "<td>none</td>")):
        files.write_json(card, facts | {"groups_with_a_duplicate_in_another_split": duplicates})
        text = page(run)
        row = text[text.index('<th scope="row">defects</th><td>defect detection</td>') :].partition("</tr>")[0]
        assert cell in row
        assert "<td>270</td><td>60</td><td>300</td><td>30</td><td>0: 33.3%, 1: 66.7%</td><td>72 / 105.05</td>" in row
    assert "⚠" not in text


def test_the_header_says_when_and_on_what_the_run_was_made(run: dict[str, Any]) -> None:
    facts = {"python": "3.11.9", "versions": {"torch": "2.9.0"}, "device": {"name": "A processor"}, "threads": 2}
    for scenario, day in ((SCANNED, "02"), (SCANNED.benign(), "03")):
        path = scenario.results(run["out"]) / "provenance.json"
        job = files.read_json(path) | facts | {"started": f"2026-01-{day}T10:00:00+00:00", "commit": f"c{day}"}
        files.write_json(path, job)
    out = Path(run["out"])
    stage.html(run, ARCHIVES, None, out / "report.html", "codebackdoor report config.yaml")
    text = " ".join(re.sub(r"<[^>]+>", "", (out / "report.html").read_text()).split())
    assert "newest result of 2026-01-03, A processor, Python 3.11.9, PyTorch 2.9.0." in text
    assert "Their code: commit c02, c03." in text
    assert "This page: codebackdoor report config.yaml." in text


def test_files_of_the_run_are_linked_where_they_exist(run: dict[str, Any]) -> None:
    links = ('<a href="results/metrics.csv">', '<a href="logs">', '<a href="results/figures/defects_defenses.pdf">')
    assert not any(link in page(run) for link in links)
    out = Path(run["out"])
    (out / "logs").mkdir()
    (out / "results/metrics.csv").touch()
    (out / "results/figures/defects_defenses.pdf").touch()
    assert all(link in page(run) for link in links)
