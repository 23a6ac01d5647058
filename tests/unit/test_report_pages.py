"""Tables of a run in pages of the documentation: pasted between marks, and of the right form where they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from made_up_run import make, settings

from codebackdoor.cli import main
from codebackdoor.config.loading import load
from codebackdoor.config.products import inputs
from codebackdoor.dag import Dag
from codebackdoor.report import stage
from codebackdoor.report.study import Study

ROOT = Path(__file__).parents[2]
CONFIGS = [ROOT / "config.yaml", ROOT / "configs/seeds.yaml"]
BLOCK = re.compile(r"<!-- table defects\.seeds -->\n(.*?)\n<!-- end of table -->", re.DOTALL)
PAGE = """# A page

<!-- table defects.seeds -->
whatever stood here
<!-- end of table -->

Text between the tables.

<!-- table repair -->
<!-- end of table -->
The end.
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run: dict[str, Any] = settings(tmp_path_factory.mktemp("run"), seeds=(1, 2, 3))
    make(run)
    folder = Path(run["out"]) / "results/tables"
    defects, repair = (Study(run, name).experiment for name in ("defects", "repair"))
    stage.listing(run, "defects", "seeds", inputs(defects, "seeds", run["out"]), folder)
    stage.table(run, "repair", inputs(repair, "table", run["out"]), folder)
    return folder


def test_what_stands_between_the_marks_is_replaced_and_nothing_else(tables: Path, tmp_path: Path) -> None:
    page = tmp_path / "PAGE.md"
    page.write_text(PAGE)
    pasted = CliRunner().invoke(main, ["paste", str(tables), str(page)])
    assert pasted.exit_code == 0, pasted.output
    assert pasted.output == f"{page}: defects.seeds, repair\n"
    text = page.read_text()
    first, _, rest = text.partition("<!-- table defects.seeds -->")
    table, _, rest = rest.partition("<!-- end of table -->")
    assert first == "# A page\n\n"
    lines = [line for line in table.splitlines() if line]
    assert lines[0] == "| Attack | Defense | Accuracy | ASR | ASR floor | Flip rate | Flip rate, seeds 1, 2, 3 |"
    assert lines[-2:] == [
        "- Victims: CodeBERT-class, 2 layers × 128, 1.0 M parameters.",
        "- Percent. Means of 3 seeds; in brackets the smallest and the largest.",
    ]
    # of several parts each has its head, and no heading breaks into the page's own
    assert "**repair · CodeT5 · Dead code at 5%**" in rest
    assert not re.findall(r"^#", rest, re.MULTILINE)
    assert rest.startswith("\n\nText between the tables.\n")
    assert rest.endswith("<!-- end of table -->\nThe end.\n")
    CliRunner().invoke(main, ["paste", str(tables), str(page)])
    assert page.read_text() == text


def test_a_table_that_is_not_there_leaves_the_page_alone(tables: Path, tmp_path: Path) -> None:
    page = tmp_path / "PAGE.md"
    for text, message in ((PAGE.replace("repair", "repairs"), "repairs.md: no such file"), ("# A page\n", "no table")):
        page.write_text(text)
        refused = CliRunner().invoke(main, ["paste", str(tables), str(page)])
        assert refused.exit_code == 2
        assert message in refused.output
        assert page.read_text() == text


def test_the_overlay_of_seeds_adds_to_the_default_study() -> None:
    default, seeds = load(CONFIGS[:1]), load(CONFIGS)
    assert seeds.out == default.out
    assert {*default.scenarios()} < {*seeds.scenarios()}
    assert {scenario.seed for scenario in seeds.scenarios()} == {"1", "2", "3", "4", "5"}
    assert f"{default.out}/results/tables/defects.seeds.csv" in Dag(seeds).targets()
