"""The files that an experiment's tables and figures are made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from codebackdoor.config.experiments import Experiment, scenarios
from codebackdoor.config.scenario import NONE
from codebackdoor.report.products import PRODUCTS


def inputs(experiment: Experiment, product: str, out: str | Path) -> list[Path]:
    """The files that a table or figure of the experiment is made from, each once; ``product`` is its name."""
    return list(dict.fromkeys(PRODUCTS[product].inputs(scenarios(experiment), Path(out))))


def victims(experiment: Experiment, out: str | Path) -> dict[str, Path]:
    """By model variant, the folder of one trained victim: all victims of a variant have the same size."""
    folders: dict[str, Path] = {}
    for scenario in scenarios(experiment):
        folders.setdefault(scenario.model, replace(scenario, elimination=NONE, purification=NONE).victim(out))
    return folders
