"""Scenarios whose variants cannot be combined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codebackdoor.config.base import Helper, Settings, models_in, tag_of
from codebackdoor.config.experiments import scenarios
from codebackdoor.config.model_settings import PRETRAINED, SHIPPED
from codebackdoor.config.pretraining import HELPER_FAMILIES
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.config.sections import METHODS, SECTIONS
from codebackdoor.defenses.purification.settings import PurificationSettings
from codebackdoor.tasks.settings import DatasetSettings

if TYPE_CHECKING:
    from codebackdoor.config.study import Config


def unfit_scenarios(config: Config) -> Iterator[str]:
    """Yield a message for each scenario of an experiment whose variants cannot be combined."""
    for name, experiment in config.experiments.items():
        for scenario in scenarios(experiment):
            yield from (f"experiments.{name}: {reason}" for reason in unfit(config, scenario))


def unfit(config: Config, scenario: Scenario) -> Iterator[str]:
    """Yield the reasons why the scenario's variants cannot be combined; empty if they can."""
    dataset = config.datasets[scenario.dataset]
    if (reason := config.models[scenario.model].unavailable) is not None:
        yield f"model {scenario.model!r}: {reason}: remove it from the grid, or list it under dashes"
    for kind in ("model", "attack", "filtering", "elimination", "purification"):
        variant = getattr(scenario, kind)
        if variant == NONE:
            continue
        settings = getattr(config, SECTIONS[kind])[variant]
        heads = sorted(settings.works_on())
        if dataset.head not in heads:
            yield (
                f"{kind} {variant!r} works on {_listed(heads)} data sets, but {scenario.dataset!r} is a "
                f"{dataset.head} data set: remove this combination from the grid, or list it under dashes"
            )
        if kind != "model" and not set(settings.acts_on) & set(dataset.reads):
            yield (
                f"{kind} {variant!r} acts on the {_listed(settings.acts_on)} of an example, and victims of "
                f"{scenario.dataset!r} read only its {_listed(tuple(dataset.reads))}: remove this combination from "
                f"the grid, or list it under dashes{_fitting(METHODS[kind], dataset)}"
            )
        if (
            isinstance(settings, PurificationSettings)
            and settings.reads_trigger
            and not config.inverts(scenario.elimination)
        ):
            yield (
                f"purification {variant!r} reads the trigger that the elimination before it has inverted, but "
                f"{scenario.elimination!r} inverts none; cross it with one that does (elibadcode), in a grid of "
                "its own with `combine: all`"
            )
        if kind in ("filtering", "elimination") and dataset.clean == 0:
            yield (
                f"{kind} {variant!r} reads the defender's clean samples, and datasets.{scenario.dataset}.clean is "
                "0; write a share above 0"
            )
        if kind == "filtering":
            yield from _unfit_model(config, variant, scenario)
        if kind == "attack" and (crafting := config.crafting(variant)) is not None:
            yield from _unfit_crafting(config, variant, crafting, scenario)
        for helper in settings.helpers:
            if helper not in config.helpers:
                yield f"{kind} {variant!r} needs helpers.{helper}: write {_helper_folder(config, helper)}"


def unlabeled(config: Config) -> Iterator[str]:
    """Yield a message for each target label that the data set does not have, before a job would find out."""
    for scenario in config.scenarios():
        labels = config.datasets[scenario.dataset].labels
        if scenario.attack == NONE or not labels:
            continue
        target = config.attacks[scenario.attack].target_label
        if target not in labels:
            yield (
                f"attacks.{scenario.attack}.target_label: {target} is not a label of {scenario.dataset}; write "
                f"{' or '.join(map(str, labels))}"
            )


def _unfit_model(config: Config, filtering: str, scenario: Scenario) -> Iterator[str]:
    """Why the model that a filter names cannot be trained on the scenario's data set."""
    model, head = config.filter_model(filtering, scenario.model), config.datasets[scenario.dataset].head
    if model not in (None, scenario.model) and head not in (heads := sorted(config.models[model].works_on())):
        yield (
            f"filterings.{filtering}.model: {model!r} works on {_listed(heads)} data sets, and "
            f"{scenario.dataset!r} is a {head} data set; write null to look at each victim's own model, or name "
            "one that can be trained on it"
        )


def _unfit_crafting(config: Config, attack: str, model: str, scenario: Scenario) -> Iterator[str]:
    """Why the model with which an attack crafts its triggers cannot be trained on the scenario's data set."""
    head = config.datasets[scenario.dataset].head
    if head not in (heads := sorted(config.models[model].works_on())):
        yield (
            f"attacks.{attack}.crafting: {model!r} works on {_listed(heads)} data sets, and {scenario.dataset!r} "
            f"is a {head} data set; name a model that can be trained on it"
        )


def _helper_folder(config: Config, helper: Helper) -> str:
    """Which folder to write for a helper, as part of a message: a shipped one, or one that `make pretrain` fills."""
    family = HELPER_FAMILIES.get(helper)
    if family is None:
        return "the folder of a text-to-text model, or of a chat model with a chat template"
    shipped, recipe = Path(SHIPPED) / family, Path(config.out) / PRETRAINED / family
    pretrained = f"{recipe} after `make pretrain` (recipe pretraining.{family})"
    return f"{shipped}, or {pretrained}" if shipped.is_dir() else pretrained


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _fitting(methods: Any, dataset: DatasetSettings) -> str:
    """The methods of a kind that act on a text which victims of the data set read, as the end of an error message."""
    names = [
        f"`{tag_of(settings)}`"
        for settings in models_in(methods)
        if issubclass(settings, Settings)
        and dataset.head in settings.fits
        and set(settings.acts_on) & set(dataset.reads)
    ]
    return f"; methods that act on it: {', '.join(names)}" if names else "; no method of this kind acts on it"
