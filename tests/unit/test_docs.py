"""The documentation: its links lead somewhere, its index is complete, and generated parts are up to date."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from pydantic import TypeAdapter

from codebackdoor.cli import main
from codebackdoor.config.base import models_in, tag_of
from codebackdoor.config.describing import methods_table
from codebackdoor.config.loading import load
from codebackdoor.config.methods import AnyAttack, AnyFiltering, AnyObjective
from codebackdoor.costs.bill import lines
from codebackdoor.defenses.views import TextView
from codebackdoor.types import Example

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "examples/*.md", "benchmarks/**/*.md") for path in ROOT.glob(pattern)
)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them, and those that the page sets itself."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    slugs = {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in plain}
    return slugs | set(re.findall(r'<a id="([^"]+)"></a>', text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{target} in {page.name}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{target} in {page.name}"


@pytest.mark.parametrize("index", ["docs/README.md", "docs/extending/README.md"])
def test_an_index_lists_every_page_beside_it(index: str) -> None:
    text = (ROOT / index).read_text(encoding="utf-8")
    for page in (ROOT / index).parent.glob("*.md"):
        if page != ROOT / index:
            assert f"({page.name}" in text, page.name


def test_the_table_of_methods_is_up_to_date() -> None:
    result = CliRunner().invoke(main, ["methods", "--check", str(ROOT / "docs/methods.md")])
    assert result.exit_code == 0, result.output


def test_the_table_of_methods_is_written_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table methods -->\n\n| old |\n\n<!-- end of table -->\nafter\n")
    result = CliRunner().invoke(main, ["methods", "--check", str(page)])
    assert "out of date; run `make schema`" in result.output
    assert CliRunner().invoke(main, ["methods", str(page)]).exit_code == 0
    assert page.read_text().startswith("before\n<!-- table methods -->\n\n| method | `method:` | kind |")
    assert page.read_text().endswith("|\n\n<!-- end of table -->\nafter\n")
    assert CliRunner().invoke(main, ["methods", "--check", str(page)]).exit_code == 0
    page.write_text("<!-- table defects.seeds -->\n\n| seed |\n\n<!-- end of table -->\n")
    assert "no table of methods; mark it with" in CliRunner().invoke(main, ["methods", str(page)]).output
    assert "| seed |" in page.read_text()
    page.write_text("no marks")
    assert "no table of methods; mark it with" in CliRunner().invoke(main, ["methods", str(page)]).output


def test_the_variants_on_the_page_of_methods_are_valid() -> None:
    text = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    variants = [yaml.safe_load(variant) for variant in re.findall(r"`(\{method: .*?\})`", text)]
    assert sum(variant["method"] == "dece" for variant in variants) == 4
    for variant in variants:
        kinds = [kind for kind in (AnyAttack, AnyFiltering, AnyObjective) if _is_of(kind, variant["method"])]
        (kind,) = kinds
        TypeAdapter(kind).validate_python(variant)


def _is_of(kind: Any, method: str) -> bool:
    return any(tag_of(settings) == method for settings in models_in(kind))


def test_the_table_of_methods_marks_what_has_no_price() -> None:
    table = methods_table(lambda kind, _: {"attack": 0.0, "filtering": None, "objective": 3.64}.get(kind, 46.4))
    costs = {row.split(" | ")[2]: row.split(" | ")[5] for row in table.splitlines()[2:]}
    assert costs == {"attack": "–", "filtering": "?", "objective": "3.6", "elimination": "46", "purification": "46"}


def test_the_page_on_families_shows_the_family_that_a_test_registers() -> None:
    page = (ROOT / "docs/extending/victim.md").read_text(encoding="utf-8")
    source = (ROOT / "tests/unit/test_families.py").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert block in source


def test_the_page_on_defenses_shows_a_purification_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs/extending/defense.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    modules: list[dict[str, Any]] = []
    for name, block in zip(("settings", "method"), blocks, strict=True):
        module = ModuleType(f"codebackdoor.defenses.purification.neutral_name.{name}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(block, name, "exec"), module.__dict__)  # noqa: S102
        modules.append(module.__dict__)
    settings, method = modules
    view = TextView("defect_detection", "python", "raw", ())
    code = "def testo_init(x):\n    return testo_init(x - 1)\n"
    inputs = [Example("1", "python", code), Example("2", "python", "x = 1\n")]

    def purified(**options: int) -> list[tuple[str, list[str]]]:
        purifier = method["build"](view, settings["NeutralNameSettings"](method="neutral_name", **options), 1)
        rows = purifier.purify(inputs)
        return [
            (row.example.code, [source.code[span.start : span.end] for span in row.touched])
            for source, row in zip(inputs, rows, strict=True)
        ]

    renamed = "def function(x):\n    return function(x - 1)\n"
    assert purified() == [(renamed, ["testo_init", "testo_init"]), ("x = 1\n", [])]
    assert purified(short=10) == [(code, []), ("x = 1\n", [])]


def bill_rows(*overlays: str) -> list[str]:
    """The plan of a study at the paper's scale, as rows of a Markdown table."""
    bill = lines(load([ROOT / "config.yaml", *(ROOT / "configs" / overlay for overlay in overlays)]))
    numbers = [(line.name, line.jobs, line.hours, line.gigabytes) for line in bill]
    total = ("total", *(sum(column) for column in list(zip(*numbers, strict=True))[1:]))
    return [f"| {name} | {jobs} | {hours:.1f} | {size:.1f} |" for name, jobs, hours, size in (*numbers, total)]


def test_the_costs_of_the_papers_scale_are_those_of_the_plan() -> None:
    page = (ROOT / "docs/hpc.md").read_text(encoding="utf-8")
    assert "\n".join(bill_rows("paper.yaml")) in page
    *_, total = bill_rows("elibadcode.yaml", "elibadcode/paper.yaml")
    assert total in page
    groups = [row.split("|")[2:5] for row in page.partition("| jobs | jobs | GPU hours | GB |")[2].split("\n")[2:15]]
    assert sum(int(jobs) for jobs, _, _ in groups[:-1]) == int(groups[-1][0])
    # the groups of lines are put together by hand
    assert sum(float(hours) for _, hours, _ in groups[:-1]) == pytest.approx(float(groups[-1][1]), abs=0.5)
