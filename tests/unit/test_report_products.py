"""The registry of products is all there is to register: each entry is complete, and a new one needs two files."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from made_up_run import make, settings
from pydantic import ValidationError

from codebackdoor.cli import main
from codebackdoor.config.experiments import Experiment, scenarios
from codebackdoor.config.products import inputs
from codebackdoor.dag.fingerprint import ROOT
from codebackdoor.report import figures, papers, tables
from codebackdoor.report.products import FIGURES, LISTINGS, PRODUCTS
from codebackdoor.report.study import Study, scenario_of

REPOSITORY = ROOT.parents[1]
GRID = {
    "datasets": ["d"],
    "models": ["m"],
    "attacks": ["none", "a"],
    "filterings": ["none", "f"],
    "eliminations": ["none", "e"],
    "purifications": ["none", "p"],
    "seeds": [1],
}
#: Modules beside those of the products, shared by several of them.
SHARED = {"figures": {"style", "data", "description"}, "tables": {"results", "listing"}}
COMMAND = "from codebackdoor.cli import main; main()"
PAGES = REPOSITORY / "docs/extending"


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page of the documentation."""
    pattern = rf"^( *)```{language}\n(.*?)^ *```$"
    texts = re.findall(pattern, (PAGES / page).read_text(), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(text) for _, text in texts]


MODULE, _entry = blocks("product.md", "python")
ENTRY = "\n" + textwrap.indent(_entry.rstrip(), "    ") + ","


@pytest.mark.parametrize("name", PRODUCTS)
def test_an_entry_says_all_there_is_to_know(name: str) -> None:
    product = PRODUCTS[name]
    assert product.name == name
    # one line, as a part of a sentence
    assert "\n" not in product.help
    assert not product.help.endswith(".")
    assert product.caption.endswith(".")
    assert product.about is None or product.about in Experiment.model_fields
    paths = inputs(Experiment.model_validate({"title": "t", "grid": [GRID]}), name, "runs")
    assert paths
    # of victims, the files tell which scenarios are shown
    assert product.subject != "victims" or {scenario_of(path) for path in paths if path.name == product.file}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_by_the_module_of_its_name(name: str) -> None:
    assert callable(importlib.import_module(f"{figures.__name__}.{name}").draw)


@pytest.mark.parametrize("name", LISTINGS)
def test_a_listing_is_built_by_the_module_of_its_name(name: str) -> None:
    assert callable(importlib.import_module(f"{tables.__name__}.{name}").build)


@pytest.mark.parametrize(("folder", "names"), [("figures", FIGURES), ("tables", LISTINGS)])
def test_every_module_has_its_entry(folder: str, names: tuple[str, ...]) -> None:
    modules = {path.stem for path in (ROOT / "report" / folder).glob("*.py")}
    assert modules - {"__init__"} - SHARED[folder] == {*names}


def test_no_name_can_be_read_as_the_end_of_an_experiments_name() -> None:
    assert not [(name, suffix) for name in FIGURES for suffix in FIGURES if name.endswith(f"_{suffix}")]


def test_importing_the_registry_imports_nothing_heavy() -> None:
    program = "import sys, codebackdoor.report.products; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"matplotlib", "torch", "scipy", "numpy", "pydantic"} & {*modules}
    ours = {name for name in modules if name.startswith("codebackdoor.report.")}
    assert ours == {"codebackdoor.report.inputs", "codebackdoor.report.products"}


@pytest.mark.parametrize(
    ("field", "wrong", "message"),
    [
        ("figures", "defences", "figures.0\n  Value error, unknown figure 'defences'; did you mean 'defenses'?"),
        ("tables", "overviews", "tables.0\n  Value error, unknown table 'overviews'; did you mean 'overview'?"),
        # a figure is no table
        ("tables", "sweep", "unknown table 'sweep'"),
        ("figures", 1, "valid string"),
    ],
)
def test_the_configuration_refuses_names_that_are_not_registered(field: str, wrong: object, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Experiment.model_validate({"title": "t", "grid": [GRID], field: [wrong]})
    assert message in str(caught.value)


def test_the_command_line_offers_every_name() -> None:
    for command, names in (("figure", FIGURES), ("listing", LISTINGS)):
        text = CliRunner().invoke(main, [command, "--help"], terminal_width=1000).output
        assert f"{{{'|'.join(names)}}}" in text.replace("[", "{").replace("]", "}")


def run_in(package: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run Python with the copy of the package."""
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, **options
    )


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, to which things are added."""
    copy = tmp_path / "workflow" / "codebackdoor"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def changed(package: Path) -> set[str]:
    """Files of the copy that the package lacks or has otherwise."""
    copied = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    relative = ((path, path.relative_to(package)) for path in copied)
    return {
        name.as_posix()
        for path, name in relative
        if not (ROOT / name).is_file() or (ROOT / name).read_bytes() != path.read_bytes()
    }


def add_figure(package: Path) -> None:
    registry = package / "report/products.py"
    text = registry.read_text()
    assert text.count("\n_ENTRIES = (") == 1
    registry.write_text(text.replace("\n_ENTRIES = (", f"\n_ENTRIES = ({ENTRY}"))
    (package / "report/figures/bar.py").write_text(MODULE)


def test_a_new_figure_is_one_module_and_one_entry(package: Path, tmp_path: Path) -> None:
    config: dict[str, Any] = settings(tmp_path / "run")
    make(config)
    metrics = [
        str(scenario.results(config["out"]) / "metrics.json")
        for scenario in scenarios(Study(config, "repair").experiment)
    ]
    config["experiments"] = {"repair": {**config["experiments"]["repair"], "figures": ["bar"]}}
    out = tmp_path / "run/results/figures"
    command = ["-c", COMMAND, "figure", "repair", "bar", "--settings", json.dumps(config), "--out", str(out)]
    refused = run_in(package, *command, *metrics)
    assert refused.returncode == 2
    assert "bar" in refused.stderr

    add_figure(package)
    drawn = run_in(package, *command, *metrics)
    assert drawn.returncode == 0, drawn.stderr
    assert sorted(path.name for path in out.iterdir()) == ["repair_bar.pdf", "repair_bar.png", "repair_bar.svg"]
    assert changed(package) == {"report/products.py", "report/figures/bar.py"}

    # the report explains it
    page = tmp_path / "report.html"
    program = (
        "import json, sys; from pathlib import Path; from codebackdoor.report import stage; "
        f"stage.html(json.load(sys.stdin), [], None, Path({str(page)!r}))"
    )
    written = run_in(package, "-c", program, input=json.dumps(config))
    assert written.returncode == 0, written.stderr
    assert "One bar for all results." in page.read_text()


def test_the_workflow_and_the_schema_know_a_new_figure(package: Path, tmp_path: Path) -> None:
    add_figure(package)
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("experiments: {defects: {figures: [bar]}}\n")
    program = (
        "from pathlib import Path; from codebackdoor.config.loading import load; from codebackdoor.dag import Dag; "
        "from codebackdoor.config import describing; "
        f"dag = Dag(load([Path('config.yaml'), Path({str(overlay)!r})])); "
        "Job = type('Job', (dict,), {'__getattr__': dict.get}); job = Job(experiment='defects', figure='bar'); "
        "print(*dag.targets(), len(dag.report.inputs(job)['files']), dag.report.code(job)); "
        "assert 'bar: number of results' in describing.defaults(); assert '\"bar\"' in describing.schema()"
    )
    planned = run_in(package, "-c", program, cwd=REPOSITORY)
    assert planned.returncode == 0, planned.stderr
    *targets, count, _code = planned.stdout.split()
    assert f"{Path(targets[0]).parents[1]}/results/figures/defects_bar.png" in targets
    assert int(count) > 1


def test_a_new_paper_is_one_file(package: Path, tmp_path: Path) -> None:
    config: dict[str, Any] = settings(tmp_path / "run")
    make(config)
    (paper,) = blocks("paper.md", "json")
    cited = {"table": "mypaper_table3", "attacks": {"deadcode": "mine"}}
    config["experiments"] = {"repair": {**config["experiments"]["repair"], "paper": [cited], "figures": []}}
    with pytest.raises(ValidationError, match="unknown table of a paper 'mypaper_table3'"):
        _ = Study(config, "repair").experiment
    page, out = tmp_path / "report.html", tmp_path / "tables"
    program = (
        "import json, sys; from pathlib import Path; from codebackdoor.config.products import inputs; "
        "from codebackdoor.report import stage; from codebackdoor.report.study import Study; "
        "chosen = json.load(sys.stdin); paths = inputs(Study(chosen, 'repair').experiment, 'table', chosen['out']); "
        f"stage.table(chosen, 'repair', paths, Path({str(out)!r})); "
        f"stage.html(chosen, [], None, Path({str(page)!r}))"
    )
    (package / "report/papers/mypaper.json").write_text(paper)
    written = run_in(package, "-c", program, input=json.dumps(config))
    assert written.returncode == 0, written.stderr
    table = (out / "repair.md").read_text()
    assert "(paper 12.5 a)" in table
    assert "(a) MyPaper, Table 3, on the paper's data and at its scale; Dead code is its mine." in table
    assert "The paper on MyPaper (section 9): my statement." in table
    report = page.read_text()
    assert "My caveat." in report
    reference = '<cite><a href="https://example.org/paper">My title</a></cite>. My venue.</li>'
    assert f"MyPaper: A. Author (2026). {reference}" in report
    assert changed(package) == {"report/papers/mypaper.json"}


def test_every_statement_is_about_a_product_and_says_something() -> None:
    for statement in papers.statements():
        assert statement.product in PRODUCTS
        assert statement.text or statement.values
        # a sentence is made of it
        assert not (statement.text or "").endswith(".")
        assert (statement.setting is None) or PRODUCTS[statement.product].about == "swept"
