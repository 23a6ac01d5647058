"""What EliBadCode's paper states in its text about what a table or figure shows: a reader sees it beside ours."""

from __future__ import annotations

from collections.abc import Iterator

from codebackdoor.config.experiments import scenarios
from codebackdoor.config.products import Product
from codebackdoor.config.scenario import NONE
from codebackdoor.config.study import DEFENSES
from codebackdoor.report import papers
from codebackdoor.report.collect import Study


def stated(study: Study, product: Product) -> Iterator[str]:
    """A sentence with its place in the paper; nothing where it states nothing, or where another method is shown."""
    quoted = papers.quoted("elibadcode")
    found = None
    if product in ("position", "sensitivity", "tokens", "layers"):
        found = quoted[product]
    elif product == "sweep" and "elibadcode" in _methods(study, "elimination"):
        found = quoted["swept"].get(study.experiment.swept)
    elif product == "table" and "similarity" in _methods(study, "purification"):
        found = quoted["similarity"]
    if found is not None:
        yield f"The paper on EliBadCode ({found['where']}): {found['said']}."


def _methods(study: Study, kind: str) -> set[str]:
    names = {getattr(one, kind) for one in scenarios(study.experiment)} - {NONE}
    return {str(study.variant(DEFENSES[kind], name)["method"]) for name in names}
