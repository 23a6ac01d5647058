"""The report of a made-up run: one file that needs no other, with everything in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_up_run import make, settings

from codebackdoor import files
from codebackdoor.config.scenario import Scenario
from codebackdoor.errors import UserError
from codebackdoor.report import stage
from codebackdoor.report.collect import Study

ARCHIVES = [{"package": "networkx", "version": "3.0", "licence": "BSD-3-Clause", "sha256": "ab" * 32}]
_PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def run(tmp_path: Path) -> dict[str, Any]:
    chosen = settings(tmp_path)
    make(chosen)
    for name in chosen["experiments"]:
        for kind in Study(chosen, name).experiment.figures:
            path = tmp_path / "results" / "figures" / f"{name}_{kind}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_PNG)
    return chosen


def page(run: dict[str, Any]) -> str:
    out = Path(run["out"]) / "report.html"
    stage.html(run, ARCHIVES, "0123abc", out)
    return out.read_text()


class _Balanced(HTMLParser):
    """Counts what is open, and collects what a reader's browser would load or follow."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        values = dict(attrs)
        self.ids.add(values.get("id") or "")
        self.links += [link for key in ("src", "href") if (link := values.get(key))]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(run: dict[str, Any]) -> None:
    parser = _Balanced()
    parser.feed(page(run))
    assert parser.open == []
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in parser.links)
    assert {link[1:] for link in parser.links if link.startswith("#")} <= parser.ids
    assert sum(link.startswith("data:") for link in parser.links) == 6


def test_the_page_says_what_it_must(run: dict[str, Any]) -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page(run)))
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
        "Where the time went",
    ):
        assert part in text, part
    assert "prefers-color-scheme: dark" in page(run)
    assert 'name="viewport"' in page(run)


def test_the_label_scan_is_judged(run: dict[str, Any]) -> None:
    assert page(run).count('class="right"') == 4
    path = Scenario("defects", "codebert", elimination="elibadcode").victim(run["out"]) / "elimination.json"
    found = files.read_json(path)
    files.write_json(path, found | {"trigger": found["trigger"] | {"flagged": True}})
    text = page(run)
    assert text.count('class="right"') == 3
    assert "label 0 (wrong)" in text


def test_text_from_data_is_escaped(run: dict[str, Any]) -> None:
    path = Scenario("defects", "codebert", elimination="elibadcode").victim(run["out"]) / "elimination.json"
    found = files.read_json(path)
    files.write_json(path, found | {"trigger": found["trigger"] | {"text": "<script>alert(1)</script>"}})
    assert "<script" not in page(run)


def test_an_unfinished_run_is_named_and_nothing_is_written(run: dict[str, Any]) -> None:
    (Path(run["out"]) / "results" / "figures" / "repair_epochs.png").unlink()
    with pytest.raises(UserError, match=r"repair_epochs\.png: not made yet"):
        page(run)
    assert not (Path(run["out"]) / "report.html").exists()


def test_the_same_run_gives_the_same_page(run: dict[str, Any]) -> None:
    assert page(run) == page(run)
