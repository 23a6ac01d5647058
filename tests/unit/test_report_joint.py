"""One page of two made-up runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import made_up_grid
import made_up_run
import pytest

from codebackdoor.config.products import inputs
from codebackdoor.errors import UserError
from codebackdoor.report import stage
from codebackdoor.report.study import Study


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("runs")
    first = made_up_run.settings(folder / "first")
    first["experiments"]["repair"]["title"] = "Repair <script>"
    second = made_up_grid.settings(folder / "second")
    products = {"figures": ["matrix"], "tables": ["cross"], "tested": None, "differences": []}
    second["experiments"] = {"all": {**second["experiments"]["all"], **products}}
    made_up_run.make(first)
    made_up_grid.make(second)
    for run in (first, second):
        (Path(run["out"]) / "report.html").write_text("its own page")
    study = Study(second, "all")
    out = Path(second["out"])
    stage.figure(second, "all", "matrix", inputs(study.experiment, "matrix", out), out / "results/figures")
    return [first, second]


def page(runs: list[dict[str, Any]], folder: Path) -> str:
    stage.joint(runs, "0123abc", folder / "report.html", "codebackdoor join")
    return (folder / "report.html").read_text()


def test_a_page_of_two_runs_has_what_each_shows_and_links_to_their_own(runs: list[dict[str, Any]]) -> None:
    text = page(runs, Path(runs[0]["out"]).parent)
    assert 'href="first/report.html"' in text
    assert 'href="second/report.html#all"' in text
    assert text.count("Undefended: ") == 2
    # the run that compares all defenses is shown whole
    assert "data:image/svg+xml;base64," in text
    assert "ASRD" in text
    # a reader who begins here needs the words, too
    assert "<summary>How to read this</summary>" in text
    assert "<script>" not in text


def test_claims_of_all_runs_stand_in_one_table(runs: list[dict[str, Any]]) -> None:
    text = page(runs, Path(runs[0]["out"]).parent)
    claims = text[text.index('id="claims"') : text.index('id="runs"')]
    experiments = dict(re.findall(r'<th scope="rowgroup"[^>]*><span><a href="([^"]+)">(.*?)</a>', claims))
    # DeCE and CodePurify are in the first run, the baselines of EliBadCode in the second
    assert {"first/report.html#defects", "first/report.html#repair", "second/report.html#all"} == experiments.keys()
    assert experiments["first/report.html#defects"] == "first: Defect detection, defenses against two attacks"
    assert 'class="words right">holds' in claims
    assert 'class="words long">CodePurify costs at most 1.49 points on clean inputs (section V-B)<' in claims


def test_a_run_that_is_not_finished_is_named(runs: list[dict[str, Any]], tmp_path: Path) -> None:
    unfinished = {**runs[0], "out": str(tmp_path / "third")}
    with pytest.raises(UserError, match=r"third/report.html: not made yet; finish this run first"):
        page([runs[1], unfinished], tmp_path)
    assert not (tmp_path / "report.html").exists()
