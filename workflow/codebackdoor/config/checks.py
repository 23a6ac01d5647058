"""Checks of a configuration across sections: undeclared names, and parts that do not fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from codebackdoor.config.base import Helper, Settings, models_in, tag_of
from codebackdoor.config.experiments import Experiment, defenses, scenarios, swept_values
from codebackdoor.config.hub import hub_id
from codebackdoor.config.model_settings import PRETRAINED, SHIPPED
from codebackdoor.config.paths import LOCAL
from codebackdoor.config.pretraining import HELPER_FAMILIES, Family
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.config.sections import DEFENSES, METHODS, SECTIONS
from codebackdoor.defenses.filtering.settings import VictimFilterSettings
from codebackdoor.defenses.purification.settings import PurificationSettings
from codebackdoor.errors import nearest
from codebackdoor.heads import HEADS
from codebackdoor.report.products import PRODUCTS
from codebackdoor.tasks.settings import DatasetSettings

if TYPE_CHECKING:
    from codebackdoor.config.study import Config


def undeclared(config: Config) -> Iterator[str]:
    """Yield a message for each reference to a variant that no section declares."""
    for name, experiment in config.experiments.items():
        for index, grid in enumerate(experiment.grid):
            for section in SECTIONS.values():
                for variant in getattr(grid, section):
                    yield from _missing(config, section, variant, f"experiments.{name}.grid.{index}.{section}")
        for key in ("dashes", "differences"):
            for index, selection in enumerate(getattr(experiment, key)):
                for kind, variant in selection.variants.items():
                    yield from _missing(config, SECTIONS[kind], variant, f"experiments.{name}.{key}.{index}.{kind}")
        for index, difference in enumerate(experiment.differences):
            for variant in (defense for defense in difference.against if defense != NONE):
                yield from _no_defense(config, variant, f"experiments.{name}.differences.{index}.against")
        for index, paper in enumerate(experiment.paper):
            for variant in paper.attacks:
                yield from _missing(config, "attacks", variant, f"experiments.{name}.paper.{index}.attacks")
            for variant in paper.defenses:
                yield from _no_defense(config, variant, f"experiments.{name}.paper.{index}.defenses")
        if experiment.tested is not None:
            yield from _no_defense(config, experiment.tested, f"experiments.{name}.tested")

    yield from _homeless(config)
    yield from _impossible_stops(config)
    yield from _impossible_checkpoints(config)

    for name in config.attacks:
        if (crafting := config.crafting(name)) is not None:
            yield from _missing(config, "models", crafting, f"attacks.{name}.crafting")

    for name, filtering in config.filterings.items():
        if isinstance(filtering, VictimFilterSettings) and filtering.model is not None:
            for problem in _missing(config, "models", filtering.model, f"filterings.{name}.model"):
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
            yield from _missing(config, "pretraining", base, where)
            base_recipe = config.pretraining.get(base)
            if base_recipe is not None and base_recipe.family != settings.family:
                yield f"{where}: {base!r} is of the family {base_recipe.family}; {name} needs one of {settings.family}"


def _impossible_stops(config: Config) -> Iterator[str]:
    """Yield a message for each objective whose ``stop_like`` is impossible."""
    for name, objective in config.objectives.items():
        if (stop_like := objective.stops_like) is None:
            continue
        where = f"objectives.{name}.stop_like"
        if name == "cross_entropy":
            yield f"{where}: this is the undefended objective, which trains all epochs; declare another variant"
            continue
        yield from _missing(config, "objectives", stop_like, where)
        matched = config.objectives.get(stop_like)
        if matched is not None and matched.stops_like is not None:
            yield f"{where}: {stop_like!r} must train by itself; name an objective without stop_like"


def _impossible_checkpoints(config: Config) -> Iterator[str]:
    """Yield a message for each objective whose ``checkpoint`` is impossible."""
    for name, objective in config.objectives.items():
        if (checkpoint := objective.taken_checkpoint) is None:
            continue
        where = f"objectives.{name}.checkpoint"
        if name == "cross_entropy":
            yield f"{where}: this is the undefended objective, which must train; declare another variant"
            continue
        yield from _missing(config, "objectives", checkpoint.like, f"{where}.like")
        matched, undefended = config.objectives.get(checkpoint.like), config.objectives.get("cross_entropy")
        if matched == undefended is not None:
            yield (
                f"{where}.like: {checkpoint.like!r} is the undefended objective, so that this would be the undefended "
                "victim itself; name the objective of a defense"
            )
        if matched is not None and matched.taken_checkpoint is not None:
            yield f"{where}.like: {checkpoint.like!r} trains nothing; name an objective without checkpoint"
        if undefended is None or not undefended.keeps_epochs:
            yield (
                f"{where}: checkpoints of the undefended training are not kept; write `keep_epochs: true` under "
                "objectives.cross_entropy"
            )


def _homeless(config: Config) -> Iterator[str]:
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
        if (problem := purification.name_problem(name)) is not None:
            yield f"purifications.{name}: {problem}"
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
    if "cross_entropy" not in config.objectives:
        yield "objectives.cross_entropy is missing: it is the undefended objective of every scenario"


def _no_defense(config: Config, variant: str, where: str) -> Iterator[str]:
    declared = [name for section in DEFENSES.values() for name in getattr(config, section)]
    if variant not in declared:
        sections = ", ".join(DEFENSES.values())
        yield f"{where}: {variant!r} is not declared under any of {sections}{nearest(variant, declared)}"


def _missing(config: Config, section: str, variant: str, where: str) -> Iterator[str]:
    declared = getattr(config, section)
    if variant not in declared and not (variant == NONE and section not in ("datasets", "models", "objectives")):
        yield f"{where}: {variant!r} is not declared under {section}{nearest(variant, declared)}"


def unfit_experiments(config: Config) -> Iterator[str]:
    """Yield a message for each scenario whose parts do not fit together."""
    for name, experiment in config.experiments.items():
        for scenario in scenarios(experiment):
            yield from (f"experiments.{name}: {reason}" for reason in unfit(config, scenario))
        yield from (f"experiments.{name}: {reason}" for reason in _looks_away(config, experiment))
        yield from (f"experiments.{name}.swept: {reason}" for reason in _unfit_sweep(config, experiment))
        yield from (f"experiments.{name}.pages: {reason}" for reason in _ranked_pages(config, experiment))
        for scenario in scenarios(experiment):
            if "position" in experiment.figures:
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


def _unprobed(config: Config, scenario: Scenario) -> Iterator[str]:
    """Why the figure `position` cannot show a scenario: it needs EliBadCode's search and a label of one function."""
    if scenario.elimination != NONE and config.eliminations[scenario.elimination].method != "elibadcode":
        yield (
            f"the figure position searches with the settings of its eliminations, and {scenario.elimination!r} is "
            "not EliBadCode; give the figure an experiment of its own"
        )
    if config.datasets[scenario.dataset].head != "classification":
        yield f"the figure position asks for the label of one function, and {scenario.dataset!r} has another task"


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
