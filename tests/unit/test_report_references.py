"""The publications in the report: those of the methods that a study uses, and of the papers that it cites."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_run import make, settings

from codebackdoor.config.base import Reference
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.fine_tuning.settings import FineTuningSettings
from codebackdoor.defenses.filtering.onion.settings import OnionFilterSettings
from codebackdoor.report import papers, stage
from codebackdoor.report.references import references
from codebackdoor.report.study import Study

TUNING = Reference("A. Author and B. Author", 2021, "Tuning", "https://example.org/tuning")


def test_methods_and_papers_are_cited_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(tmp_path)
    elibadcode = papers.papers()["elibadcode"].reference
    monkeypatch.setattr(FineTuningSettings, "reference", TUNING)
    monkeypatch.setattr(EliBadCodeSettings, "reference", elibadcode)
    # of a method that the study does not use
    monkeypatch.setattr(OnionFilterSettings, "reference", Reference("C", 2020, "Unused", "https://example.org/unused"))
    citations = references([Study(config, name) for name in config["experiments"]])
    by_url = {citation.reference.url: citation for citation in citations}
    assert len(by_url) == len(citations)
    assert {TUNING.url, *(paper.reference.url for paper in papers.papers().values())} <= by_url.keys()
    assert "https://example.org/unused" not in by_url
    assert by_url[TUNING.url].names == ("Clean fine-tuning",)
    # the paper and its method are one entry
    assert by_url[elibadcode.url].names == ("EliBadCode",)
    assert by_url[elibadcode.url].venue == "Proc. ACM Softw. Eng. 2, FSE, Article FSE063"


def test_the_page_prints_titles_and_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(tmp_path)
    for experiment in config["experiments"].values():
        experiment["figures"] = []
    make(config)
    monkeypatch.setattr(FineTuningSettings, "reference", TUNING)
    stage.html(config, [], None, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    link = f'<cite><a href="{TUNING.url}">Tuning</a></cite>'
    assert f"<li>Clean fine-tuning: A. Author and B. Author (2021). {link}.</li>" in page
    for paper in papers.papers().values():
        link = f'<cite><a href="{paper.reference.url}">{paper.reference.title}</a></cite>'
        assert f"{link}. {paper.venue}." in page


def test_every_paper_has_a_whole_reference() -> None:
    for paper in papers.papers().values():
        assert paper.reference.url.startswith("https://")
        assert paper.reference.authors
        assert paper.reference.title
        assert 2000 < paper.reference.year < 2100
        assert paper.venue
