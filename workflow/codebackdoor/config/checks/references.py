"""References from one section to another: variants that no section declares, and names with a fixed meaning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, get_args

from codebackdoor.config.base import Helper
from codebackdoor.config.hub import hub_id
from codebackdoor.config.paths import LOCAL
from codebackdoor.config.pretraining import Family
from codebackdoor.config.scenario import NONE, UNDEFENDED_OBJECTIVE
from codebackdoor.config.sections import DEFENSES, SECTIONS
from codebackdoor.defenses.filtering.settings import VictimFilterSettings
from codebackdoor.errors import nearest

if TYPE_CHECKING:
    from codebackdoor.config.study import Config


def undeclared(config: Config) -> Iterator[str]:
    """Yield a message for each reference to a variant that no section declares."""
    for name, experiment in config.experiments.items():
        for index, grid in enumerate(experiment.grid):
            for section in SECTIONS.values():
                for variant in getattr(grid, section):
                    yield from missing(config, section, variant, f"experiments.{name}.grid.{index}.{section}")
        for key in ("dashes", "differences"):
            for index, selection in enumerate(getattr(experiment, key)):
                for kind, variant in selection.variants.items():
                    yield from missing(config, SECTIONS[kind], variant, f"experiments.{name}.{key}.{index}.{kind}")
        for index, difference in enumerate(experiment.differences):
            for variant in (defense for defense in difference.against if defense != NONE):
                yield from no_defense(config, variant, f"experiments.{name}.differences.{index}.against")
        for index, paper in enumerate(experiment.paper):
            for variant in paper.attacks:
                yield from missing(config, "attacks", variant, f"experiments.{name}.paper.{index}.attacks")
            for variant in paper.defenses:
                yield from no_defense(config, variant, f"experiments.{name}.paper.{index}.defenses")
        if experiment.tested is not None:
            yield from no_defense(config, experiment.tested, f"experiments.{name}.tested")

    for name in config.attacks:
        if (crafting := config.crafting(name)) is not None:
            yield from missing(config, "models", crafting, f"attacks.{name}.crafting")

    for name, filtering in config.filterings.items():
        if isinstance(filtering, VictimFilterSettings) and filtering.model is not None:
            for problem in missing(config, "models", filtering.model, f"filterings.{name}.model"):
                yield f"{problem}; write null to look at each victim's own model"


def misnamed(config: Config) -> Iterator[str]:
    """Yield a message for each pretraining recipe whose family does not match its name or the model that uses it."""
    for name, recipe in config.pretraining.items():
        if name in get_args(Family) and name != recipe.family:
            yield (
                f"pretraining.{name}: the recipe of this name is that of the family {name}, and this one's is "
                f"{recipe.family}; give it another name"
            )
    for name, model in config.models.items():
        for settings in (model, *(model.for_head(head) for head in model.on)):
            base, where = settings.small_base, f"models.{name}.small_base"
            if base is None or settings.base != "pretrained":
                continue
            yield from missing(config, "pretraining", base, where)
            base_recipe = config.pretraining.get(base)
            if base_recipe is not None and base_recipe.family != settings.family:
                yield f"{where}: {base!r} is of the family {base_recipe.family}; {name} needs one of {settings.family}"


def reserved(config: Config) -> Iterator[str]:
    for section in SECTIONS.values():
        if NONE in getattr(config, section):
            raise ValueError(f"{section}.{NONE}: this name means that nothing of the kind is used; choose another")
    if "clean" in config.attacks:
        yield "attacks.clean: this name belongs to the test set without a trigger; choose another"
    sections: dict[str, str] = {}
    for section in DEFENSES.values():
        for name in getattr(config, section):
            if sections.setdefault(name, section) != section:
                yield (
                    f"{section}.{name}: {sections[name]}.{name} has the same name, by which tables know a defense; "
                    "choose another"
                )
    for name, purification in config.purifications.items():
        value = purification.named_by and getattr(purification, purification.named_by)
        if value and not (name.endswith(f"_{value}") or f"_{value}_" in name):
            yield (
                f"purifications.{name}: tables show the name of a variant, and this one does not say its "
                f"`{purification.named_by}`: call it {name}_{value}"
            )
    for name, model in config.helpers.items():
        if name not in get_args(Helper):
            yield f"helpers.{name}: no method asks for it{nearest(name, get_args(Helper))}"
        if "@" in model and hub_id(model) is None and not model.startswith(LOCAL):
            yield f"helpers.{name}: {model}: write a hub checkpoint as owner/name@ and the 40 digits of its commit"
    reported = {int(scenario.seed) for scenario in config.scenarios()} & set(config.shadows)
    if reported:
        yield f"shadows: seed {min(reported)} is reported by an experiment; calibrate on others"
    if config.crafting_seed in {int(scenario.seed) for scenario in config.scenarios()} | set(config.shadows):
        yield (
            f"crafting_seed: seed {config.crafting_seed} is that of a victim or a shadow; write one that no other "
            "model has"
        )
    if UNDEFENDED_OBJECTIVE not in config.objectives:
        yield f"objectives.{UNDEFENDED_OBJECTIVE} is missing: it is the undefended objective of every scenario"


def impossible_homes(config: Config) -> Iterator[str]:
    """Yield a message for each data set whose rows the victims of its ``trained_on`` cannot read."""
    for name, dataset in config.datasets.items():
        if dataset.trained_on is None:
            continue
        where = f"datasets.{name}.trained_on"
        home = config.datasets.get(dataset.trained_on)
        if home is None:
            yield f"{where}: {dataset.trained_on!r} is not declared{nearest(dataset.trained_on, config.datasets)}"
        elif home.trained_on is not None:
            yield f"{where}: {dataset.trained_on!r} has no victims of its own; name a data set that has"
        else:
            for key in ("task", "language", "text_form"):
                if getattr(home, key) != getattr(dataset, key):
                    yield (
                        f"{where}: victims of {dataset.trained_on!r} have the {key} {getattr(home, key)}, not "
                        f"{getattr(dataset, key)}; name a data set with the same"
                    )


def no_defense(config: Config, variant: str, where: str) -> Iterator[str]:
    declared = [name for section in DEFENSES.values() for name in getattr(config, section)]
    if variant not in declared:
        sections = ", ".join(DEFENSES.values())
        yield f"{where}: {variant!r} is not declared under any of {sections}{nearest(variant, declared)}"


def missing(config: Config, section: str, variant: str, where: str) -> Iterator[str]:
    declared = getattr(config, section)
    if variant not in declared and not (variant == NONE and section not in ("datasets", "models", "objectives")):
        yield f"{where}: {variant!r} is not declared under {section}{nearest(variant, declared)}"
