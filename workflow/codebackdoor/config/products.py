"""The files that an experiment's tables and figures are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from codebackdoor.config.experiments import Experiment, scenarios
from codebackdoor.config.scenario import NONE
from codebackdoor.report.products import PRODUCTS


def inputs(experiment: Experiment, product: str, out: str | Path) -> list[Path]:
    """The files that the table or figure named ``product`` is made from, each once."""
    return list(dict.fromkeys(PRODUCTS[product].inputs(scenarios(experiment), Path(out))))


def victims(experiment: Experiment, out: str | Path, homes: Mapping[str, str]) -> dict[tuple[str, str], Path]:
    """The folder of one trained victim for each model and data set, since all victims of both have the same size.

    ``homes``: for data sets with only test rows, the data set that their victims are trained on.
    """
    folders: dict[tuple[str, str], Path] = {}
    for scenario in scenarios(experiment):
        dataset = homes.get(scenario.dataset, scenario.dataset)
        folder = replace(scenario, dataset=dataset, elimination=NONE, purification=NONE).victim(out)
        folders.setdefault((scenario.model, dataset), folder)
    return folders
