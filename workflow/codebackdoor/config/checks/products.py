"""Tables, figures and pages that cannot show the scenarios of their experiment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codebackdoor.config.base import Settings
from codebackdoor.config.experiments import Experiment, defenses, scenarios, swept_values
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.heads import HEADS
from codebackdoor.report.products import PRODUCTS

if TYPE_CHECKING:
    from codebackdoor.config.study import Config


def unfit_products(config: Config) -> Iterator[str]:
    """Yield a message for each table, figure or page that cannot show what its experiment contains."""
    for name, experiment in config.experiments.items():
        yield from (f"experiments.{name}: {reason}" for reason in _looks_away(config, experiment))
        yield from (f"experiments.{name}.swept: {reason}" for reason in _unfit_sweep(config, experiment))
        yield from (f"experiments.{name}.pages: {reason}" for reason in _ranked_pages(config, experiment))
        for scenario in scenarios(experiment) if "position" in experiment.figures else ():
            yield from (f"experiments.{name}: {reason}" for reason in _unprobed(config, scenario))


def _looks_away(config: Config, experiment: Experiment) -> Iterator[str]:
    """Yield why a table or figure that reads victims' files cannot show data sets without their own victims."""
    used = scenarios(experiment)
    models = {scenario.victim(config.out) for scenario in used if config.datasets[scenario.dataset].trained_on}
    for product in (*experiment.tables, *experiment.figures) if models else ():
        for path in PRODUCTS[product].inputs(used, Path(config.out)):
            folder = next((folder for folder in models if path.is_relative_to(folder)), None)
            if folder is not None:
                yield (
                    f"{product} looks at victims, and {path.relative_to(config.out).parts[1]!r} has none of its own; "
                    "give that data set an experiment without it"
                )
                break


def _ranked_pages(config: Config, experiment: Experiment) -> Iterator[str]:
    """Yield why the page `purified_inputs` cannot show a data set: it shows one prediction for each input."""
    datasets = dict.fromkeys(dataset for grid in experiment.grid for dataset in grid.datasets)
    for name in datasets if "purified_inputs" in experiment.pages else ():
        if HEADS[config.datasets[name].head].ranks:
            yield f"purified_inputs shows the prediction for each input, and {name!r} ranks; leave out page or data set"


def _unfit_sweep(config: Config, experiment: Experiment) -> Iterator[str]:
    """Yield why the figure `sweep` would have no points, or two defenses at the same point."""
    swept = experiment.swept
    if swept is None:
        return

    def variant(section: str, name: str) -> Mapping[str, Any]:
        settings: Settings = getattr(config, section)[name]
        return settings.model_dump()

    points: dict[tuple[Scenario, float], Scenario] = {}
    for scenario in scenarios(experiment):
        for value in swept_values(scenario, swept, variant) if scenario.attack != NONE else ():
            first = points.setdefault((scenario.undefended(), value), scenario)
            if first != scenario:
                names = " and ".join("/".join(defenses(defended)) for defended in (first, scenario))
                yield f"{names} both have {swept}: {value:g}; give one of them its own experiment"
    if not points:
        yield f"no defense against an attack in the grid has a number as {swept!r}"


def _unprobed(config: Config, scenario: Scenario) -> Iterator[str]:
    """Why the figure `position` cannot show a scenario: it needs EliBadCode's search and a label of one function."""
    if scenario.elimination != NONE and config.eliminations[scenario.elimination].method != "elibadcode":
        yield (
            f"the figure position searches with the settings of its eliminations, and {scenario.elimination!r} is "
            "not EliBadCode; give the figure an experiment of its own"
        )
    if config.datasets[scenario.dataset].head != "classification":
        yield f"the figure position asks for the label of one function, and {scenario.dataset!r} has another task"
