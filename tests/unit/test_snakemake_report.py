"""The pages of `snakemake --report`: they are valid reStructuredText and name what the run made."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docutils.core import publish_doctree
from jinja2 import Environment

from codebackdoor.config.loading import load
from codebackdoor.dag import Dag
from codebackdoor.report.products import PRODUCTS

ROOT = Path(__file__).parents[2]
EXPERIMENTS = {"mine": {"title": "My attack"}, "defects": None, "repair": {"title": "Code repair"}}


def render(page: str, **snakemake: Any) -> Any:
    # as Snakemake's own report does
    environment = Environment(trim_blocks=True, lstrip_blocks=True)
    text = (ROOT / "report" / page).read_text(encoding="utf-8")
    return publish_doctree(
        environment.from_string(text).render(snakemake=SimpleNamespace(**snakemake)),
        settings_overrides={"report_level": 1, "halt_level": 1},
    )


@pytest.mark.parametrize("experiments", [EXPERIMENTS, {"mine": {"title": "My attack"}}])
def test_the_first_page_lists_the_experiments_that_ran(experiments: dict[str, Any]) -> None:
    document = render("workflow.rst", config={"out": "runs/mine", "experiments": experiments})
    items = [item.astext() for item in document.findall() if item.tagname == "list_item"]
    assert items == [
        f"{name}: {experiment['title']}" for name, experiment in experiments.items() if experiment is not None
    ]


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_caption_of_a_table_or_figure_says_what_it_is(name: str) -> None:
    params = SimpleNamespace(help=PRODUCTS[name].help, settings='{"a_b": "*x* `y` |z| \\\\"}')
    text = render("product.rst", wildcards=SimpleNamespace(experiment="mine"), params=params).astext()
    assert f"Experiment mine: {PRODUCTS[name].help.replace('`', '')}." in text
    assert '"*x* `y` |z| \\\\"' in text


def test_the_rules_hand_on_the_help_of_their_products() -> None:
    rules = (ROOT / "rules/report.smk").read_text(encoding="utf-8")
    assert rules.count('caption="../report/product.rst"') == 4
    # the rules of further tables and figures inherit the parameters of the first one
    assert rules.count("help=dag.report.help") == rules.count("rule table:") == 1
    dag = Dag(load([ROOT / "config.yaml"]))
    for name, product in PRODUCTS.items():
        wildcard = {} if product.kind == "table" else {product.kind: name}
        assert dag.report.help({"experiment": "defects", **wildcard}) == product.help
