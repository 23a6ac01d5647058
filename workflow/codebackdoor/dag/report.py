"""Inputs of ``rules/report.smk``: tables and figures of the experiments."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

from codebackdoor.config import products
from codebackdoor.dag.inputs import Part
from codebackdoor.dag.paths import Wildcards, values
from codebackdoor.report.products import PRODUCTS, TEMPLATES


class Report(Part):
    """The products of the experiments: one table each, and further tables and figures."""

    def targets(self) -> list[str]:
        """Every table and figure of every experiment."""
        tables, figures = self.paths.tables, self.paths.figures
        targets = []
        for name, experiment in self.config.experiments.items():
            targets += [f"{tables}/{name}.csv"] if experiment.table else []
            targets += [f"{tables}/{name}.{listing}.csv" for listing in experiment.tables]
            targets += [f"{figures}/{name}_{figure}.png" for figure in experiment.figures]
            targets += [f"{self.paths.webpages}/{name}.{page}.html" for page in experiment.pages]
        return targets

    def product(self, wildcards: Wildcards) -> list[str]:
        """The command for one product, with its arguments: the experiment and, unless it is its table, the product."""
        further = _further(wildcards)
        return [next(iter(further), "table"), wildcards.experiment, *further.values()]

    def help(self, wildcards: Wildcards) -> str:
        """One line about the product, for Snakemake's report."""
        return PRODUCTS[next(iter(_further(wildcards).values()), "table")].help

    def inputs(self, wildcards: Wildcards) -> dict[str, list[str]]:
        """The files that a table or figure is made from, and those with the sizes of the victims."""
        experiment, out = self.parameters.experiment(wildcards.experiment), self.paths.out
        product: Any = next(iter(_further(wildcards).values()), "table")
        homes = {name: self.config.home(name) for name in self.config.datasets}
        folders = () if PRODUCTS[product].subject == "objectives" else products.victims(experiment, out, homes).values()
        return {
            "files": [str(path) for path in products.inputs(experiment, product, out)],
            "sizes": [str(folder / file) for folder in folders for file in ("config.json", "model.safetensors")],
        }

    def code(self, wildcards: Wildcards) -> str:
        further = _further(wildcards)
        code = self.parameters.code("report", **further)
        # the templates of pages are not modules, so the fingerprint lacks them
        return f"{code}-{_templates()}" if "webpage" in further else code


@cache
def _templates() -> str:
    """A hash of the templates of pages."""
    contents = (path.read_bytes() for path in sorted(TEMPLATES.glob("*.j2")))
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]


def _further(wildcards: Wildcards) -> dict[str, str]:
    """The further table, figure or page that a job makes, by its wildcard; empty for an experiment's result table."""
    return {name: value for name, value in values(wildcards).items() if name in ("listing", "figure", "webpage")}
