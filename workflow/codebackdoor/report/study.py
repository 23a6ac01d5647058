"""What the report knows about a run before it reads results: settings, scenarios, and the papers' printed values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from codebackdoor.config.base import TAGS, Head, Settings, models_in, tag_of
from codebackdoor.config.experiments import Experiment, PaperTable, cells, defenses_by_kind, scenarios
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.config.sections import DEFENSES, SECTIONS
from codebackdoor.config.study import Config
from codebackdoor.errors import UserError
from codebackdoor.heads import HEADS, HeadSpec
from codebackdoor.report import labels, papers
from codebackdoor.report.products import PRODUCTS
from codebackdoor.tasks.settings import DatasetSettings
from codebackdoor.types import CLEAN


@dataclass(frozen=True, slots=True)
class PrintedValue:
    """A paper's value, its source, and the letter that stands for that source in the table's notes."""

    value: float
    source: str
    mark: str


@dataclass(frozen=True, slots=True)
class Study:
    """The settings of a run as JSON, and one of its experiments."""

    settings: Mapping[str, Any]
    name: str

    @property
    def experiment(self) -> Experiment:
        return Experiment.model_validate(self.settings["experiments"][self.name])

    def variant(self, section: str, name: str) -> Mapping[str, Any]:
        variant: Mapping[str, Any] = self.settings[section][name]
        return variant

    def victim_settings(self, model: str, dataset: str) -> Mapping[str, Any]:
        """Settings of a model's victims on a data set."""
        settings = dict(self.variant("models", model))
        overrides = settings.pop("on", {})
        return {**settings, **overrides.get(_head(self.variant("datasets", dataset)), {})}

    def settings_class(self, section: str, name: str) -> type[Settings]:
        """The class of a variant's settings, for facts that all variants of its method share."""
        return class_of(Config.model_fields[section].annotation, self.variant(section, name))

    def task(self, dataset: str) -> str:
        return str(self.variant("datasets", dataset)["task"])

    def dataset_class(self, dataset: str) -> type[DatasetSettings]:
        """The class of a data set's settings, for the facts of its task."""
        settings = self.settings_class("datasets", dataset)
        if not issubclass(settings, DatasetSettings):
            raise TypeError(f"datasets.{dataset} names no task")
        return settings

    def head(self, dataset: str) -> HeadSpec:
        """The head of the data set's victims, for example for the metrics of triggered rows."""
        return HEADS[self.dataset_class(dataset).head]

    def statements(self, product: str, victim: Scenario | None = None) -> list[papers.PaperStatement]:
        """The papers' statements about a product of this experiment, or only those about one victim in it."""
        names, swept = self._names(victim), self.experiment.swept
        return [
            statement
            for statement in papers.statements()
            if statement.product == product
            and statement.setting in (None, swept)
            and names.issuperset(statement.requires)
        ]

    def sentences(self, product: str) -> list[str]:
        """The papers' statements about a product of this experiment, as sentences."""
        return [statement.sentence for statement in self.statements(product) if statement.sentence is not None]

    def printed_values(self, product: str, victim: Scenario | None = None) -> dict[str, Any]:
        """The numbers in the papers' statements about a product, by the papers' names for them."""
        return {
            name: value for statement in self.statements(product, victim) for name, value in statement.values.items()
        }

    def _names(self, victim: Scenario | None) -> set[str]:
        """Tasks and methods of the experiment, or of one victim and its defenses; attacks as the papers call them."""
        used = [item for item in scenarios(self.experiment) if victim in (None, item.undefended())]
        attacks = {scenario.attack for scenario in used}
        names = {their for table in self.experiment.paper for our, their in table.attacks.items() if our in attacks}
        for kind, section in SECTIONS.items():
            if kind != "attack":
                variants = {getattr(scenario, kind) for scenario in used} - {NONE}
                names |= {str(tag(self.variant(section, name))) for name in variants}
        return names

    def printed(self, scenario: Scenario, testset: str, metric: str, run: str | None = None) -> PrintedValue | None:
        """The first value that a table of the experiment's papers prints for this metric.

        ``run``: which further result, if the paper prints several for one run of a defense (``PrintedTable.runs``).
        """
        for mark, cited in zip(ascii_lowercase, self.experiment.paper, strict=False):
            table = papers.tables()[cited.table]
            key = self.key(scenario, cited, testset)
            if key is not None and run is not None:
                key = replace(key, defense=table.runs.get(run, {}).get(key.defense, key.defense))
            own_rate = float(scenario.rate)
            rate = cited.rate if cited.rate is not None and scenario.attack != NONE else own_rate
            value = None if key is None else table.value(key, rate, metric)
            if value is not None:
                at = "" if rate == own_rate or not table.states_rate else f" at {labels.rate(rate)}"
                return PrintedValue(value, f"{table.paper}, Table {table.number}{at}", mark)
        return None

    def printed_dataset(self, dataset: str, cited: PaperTable) -> str | None:
        """The data set in a printed table that one of ours is compared with.

        A data set of the mirror is compared only with itself. Any other is compared with the one that the table prints
        for its task; if the table has several, the configuration must name it.
        """
        if dataset in cited.datasets:
            return cited.datasets[dataset]
        printed = papers.tables()[cited.table].datasets(self.task(dataset))
        settings = self.variant("datasets", dataset)
        if settings.get("source") == "mirror":
            original = settings.get("original") or next(iter(self.dataset_class(dataset).published))
            return original if original in printed else None
        return printed[0] if len(printed) == 1 else None

    def key(self, scenario: Scenario, cited: PaperTable, testset: str) -> papers.Key | None:
        """The paper's names for this scenario; None for variants that differ from the paper's method."""
        if testset not in (CLEAN, scenario.attack):
            return None
        names = []
        for kind, name in defenses_by_kind(scenario).items():
            method = str(self.variant(DEFENSES[kind], name)["method"])
            paper_name = cited.defenses.get(name, method if name == method else None)
            if paper_name is None:
                return None
            names.append(paper_name)
        attack = NONE if scenario.attack == NONE else cited.attacks.get(scenario.attack)
        dataset = self.printed_dataset(scenario.dataset, cited)
        if attack is None or dataset is None:
            return None
        return papers.Key(
            task=self.task(scenario.dataset),
            dataset=dataset,
            model=str(self.variant("models", scenario.model)["architecture"]),
            attack=attack,
            defense="+".join(names) or papers.UNDEFENDED_VICTIM,
        )


def tag(settings: Mapping[str, Any]) -> object:
    """The task, method or architecture that settings name; empty if they name none."""
    return next((settings[key] for key in TAGS if key in settings), "")


def class_of(annotation: Any, settings: Mapping[str, Any]) -> type[Settings]:
    """The class in a field's type that these settings belong to; ``Settings`` if there is none."""
    classes = (model for model in models_in(annotation) if issubclass(model, Settings))
    return next((model for model in classes if (tag_of(model) or "") == tag(settings)), Settings)


def anonymous(scenario: Scenario) -> Scenario:
    """The scenario without its seed, as the key of scenarios that are averaged over seeds."""
    return replace(scenario, seed="0")


def attacked(experiment: Experiment) -> list[Scenario]:
    """The scenarios of the experiment that have an attack, each once and without its seed."""
    return list(dict.fromkeys(anonymous(scenario) for scenario in cells(experiment) if scenario.attack != NONE))


def scenario_of(path: Path) -> Scenario:
    """The scenario whose folder contains the file, parsed from the path; a model's folder has no purification."""
    parts = path.parent.parts
    seed = next((at for at in (len(parts) - 5, len(parts) - 4) if at > 2 and re.fullmatch(r"seed[0-9]+", parts[at])), 0)
    if not seed:
        raise UserError(f"{path}: not in the folder of a scenario; name files where a run has left them")
    dataset, model, poison = parts[seed - 3 : seed]
    attack, _, rate = poison.rpartition("-")
    kinds = [field.name for field in fields(Scenario)][5:]
    variants = dict(zip(kinds, parts[seed + 1 :], strict=False))
    return Scenario(dataset, model, attack, rate, parts[seed].removeprefix("seed"), **variants)


def scenarios_shown(name: str, paths: Iterable[Path]) -> dict[Scenario, Path]:
    """The scenarios that a product shows, with their files; ``paths`` are the files that ``products.inputs`` lists."""
    product = PRODUCTS[name]
    files = {scenario_of(path): path for path in paths if path.name == product.file}
    selected = {scenario: path for scenario, path in files.items() if product.selects(scenario, path)}
    if not product.one_seed:
        return selected
    first: dict[Scenario, Scenario] = {}
    for scenario in selected:
        first.setdefault(anonymous(scenario), scenario)
    return {scenario: selected[scenario] for scenario in first.values()}


def subset(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The part of a run's settings that an experiment uses; if it changes, tables and figures are made again."""
    used = scenarios(Experiment.model_validate(settings["experiments"][name]))
    sections = {}
    for kind, section in SECTIONS.items():
        variants = sorted({getattr(scenario, kind) for scenario in used} - {NONE})
        sections[section] = {variant: settings[section][variant] for variant in variants}
    sections["models"] = {
        model: _on_heads(variant, sections["datasets"].values()) for model, variant in sections["models"].items()
    }
    return {"out": settings["out"], **sections, "experiments": {name: settings["experiments"][name]}}


def _on_heads(model: Mapping[str, Any], datasets: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A model's settings with only the overrides that apply to victims of these data sets."""
    heads = set(map(_head, datasets))
    on = {head: overrides for head, overrides in model.get("on", {}).items() if head in heads}
    shared = {key: value for key, value in model.items() if key != "on"}
    return {**shared, "on": on} if on else shared


def _head(dataset: Mapping[str, Any]) -> Head | None:
    """The head of a data set's victims; None if its settings name no task."""
    head: Head | None = getattr(class_of(Config.model_fields["datasets"].annotation, dataset), "head", None)
    return head
