"""The whole configuration: the variants of every kind, declared once, and the experiments that cross them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError, model_validator

from codebackdoor.config.base import Helper, Settings, models_in, tag_of
from codebackdoor.config.datasets import AnyDataset
from codebackdoor.config.experiments import Experiment, Seed, distinct, scenarios
from codebackdoor.config.hub import hub_id
from codebackdoor.config.methods import AnyAttack, AnyElimination, AnyFiltering, AnyObjective, AnyPurification
from codebackdoor.config.models import AnyModel
from codebackdoor.config.paths import LOCAL, FilePath, HelperFolder, RunFolder
from codebackdoor.config.pretraining import Family, Pretraining
from codebackdoor.config.scenario import NAME, NAME_LENGTH, NONE, Scenario
from codebackdoor.defenses.filtering.settings import VictimFilterSettings
from codebackdoor.errors import nearest
from codebackdoor.evaluation.execution.settings import ExecutionSettings
from codebackdoor.report.products import PRODUCTS
from codebackdoor.tasks.settings import DatasetSettings

Name = Annotated[str, Field(pattern=rf"^{NAME}$", max_length=NAME_LENGTH)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(distinct)]
#: Combinations of a study, of which its scenarios are some. The largest of this project has a thousand.
COMBINATIONS = 20_000

#: Section of the configuration by the wildcard that names one of its variants.
SECTIONS = {
    "dataset": "datasets",
    "model": "models",
    "attack": "attacks",
    "filtering": "filterings",
    "objective": "objectives",
    "elimination": "eliminations",
    "purification": "purifications",
}

#: The methods of each kind that acts on texts.
METHODS: Mapping[str, Any] = {
    "attack": AnyAttack,
    "filtering": AnyFiltering,
    "elimination": AnyElimination,
    "purification": AnyPurification,
}

#: Those of the defenses, in the order in which they act.
DEFENSES = {kind: SECTIONS[kind] for kind in ("filtering", "objective", "elimination", "purification")}


class Corpus(Settings):
    """Where the local data sets' functions come from."""

    archives: tuple[str, ...] = Field(
        min_length=1, description="pinned distributions as package-version, see `codebackdoor fetch --list`"
    )


class Config(BaseModel):
    """One study. Every name in a path under ``out`` is a variant that is declared here, once."""

    model_config = Settings.model_config

    out: RunFolder = Field(
        "runs/local",
        description="folder of everything that the run makes. In this and every other path ~ is the home folder, and "
        "$NAME a variable of the environment",
    )
    seeds: Seeds = Field(
        (1,),
        description="seeds of poisoning, training and defense, for grids that name none of their own",
    )
    shadows: Annotated[tuple[Seed, ...], AfterValidator(distinct)] = Field(
        (101, 102, 103, 104, 105),
        min_length=5,
        description="seeds of the benign victims by which `calibrate` learns what a label scan finds without a "
        "backdoor; none of them may be reported",
    )
    crafting_seed: Seed = Field(
        201,
        description="seed of the models by which attacks craft their triggers (afraidoor); no victim may have it",
    )
    mirror: FilePath | None = Field(
        None,
        description="folder of all originals, which `make fetch` fills: archives, hub checkpoints, the papers' data "
        "sets. With one, a run reads them there, verified, and never asks the network (null: jobs download archives "
        "and checkpoints themselves)",
    )
    corpus: Corpus | None = Field(None, description="archives that are mined (needed by data sets of source pypi)")
    tokenizer: FilePath | None = Field(
        None, description="tokenizer.json by which data sets count sub-tokens (null: they count words)"
    )
    helpers: dict[Name, HelperFolder] = Field(
        {},
        description="model of each helper that a defense asks for (infiller, language_model, english_model, "
        "discriminator, paraphraser): a folder in hub format, or a hub checkpoint as owner/name@ and the 40 digits of "
        "its commit",
    )
    pretraining: dict[Name, Pretraining] = Field(
        {},
        description="recipes of the local base models: one named after each family, and others, which models name as "
        "`small_base`",
    )
    datasets: dict[Name, AnyDataset] = Field(min_length=1, description="data sets, by the name of the variant")
    models: dict[Name, AnyModel] = Field(min_length=1, description="victims, by the name of the variant")
    attacks: dict[Name, AnyAttack] = Field({}, description="attacks, by the name of the variant")
    filterings: dict[Name, AnyFiltering] = Field({}, description="defenses that drop training rows")
    objectives: dict[Name, AnyObjective] = Field(
        min_length=1, description="training losses; cross_entropy is the undefended one and must be there"
    )
    eliminations: dict[Name, AnyElimination] = Field({}, description="defenses that edit a trained victim")
    purifications: dict[Name, AnyPurification] = Field({}, description="defenses that rewrite test inputs")
    execution: ExecutionSettings = Field(
        ExecutionSettings(),
        description="how outputs are run with the tests of their rows, for data sets that have tests",
    )
    experiments: dict[Name, Experiment] = Field(min_length=1, description="what is reproduced, by name")

    @model_validator(mode="before")
    @classmethod
    def _seeded(cls, raw: Any) -> Any:
        """Give the study's seeds to every grid that names none; wrong ones stay where they are, and are named once."""
        if not isinstance(raw, Mapping) or not isinstance(raw.get("experiments"), Mapping):
            return raw
        seeds = raw.get("seeds", cls.model_fields["seeds"].default)
        try:
            TypeAdapter(Seeds).validate_python(seeds)
        except ValidationError:
            return raw
        return {**raw, "experiments": {name: _with_seeds(value, seeds) for name, value in raw["experiments"].items()}}

    @model_validator(mode="after")
    def _countable(self) -> Config:
        crossed = {name: sum(grid.crossed for grid in experiment.grid) for name, experiment in self.experiments.items()}
        largest = max(crossed, key=lambda name: crossed[name])
        if sum(crossed.values()) > COMBINATIONS:
            raise ValueError(
                f"experiments.{largest}: {crossed[largest]} combinations in its grids; a study has at most "
                f"{COMBINATIONS}, so cross fewer variants, rates or seeds"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        problems = list(dict.fromkeys((*self._undeclared(), *self._misnamed(), *self._reserved())))
        if not problems:
            problems = list(dict.fromkeys((*self._unfit(), *self._unlabelled())))
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _reserved(self) -> Iterator[str]:
        for section in SECTIONS.values():
            if NONE in getattr(self, section):
                raise ValueError(f"{section}.{NONE}: this name means that nothing of the kind is used; choose another")
        if "clean" in self.attacks:
            yield "attacks.clean: this name belongs to the test set without a trigger; choose another"
        sections: dict[str, str] = {}
        for section in DEFENSES.values():
            for name in getattr(self, section):
                if sections.setdefault(name, section) != section:
                    yield (
                        f"{section}.{name}: {sections[name]}.{name} has the same name, by which tables know a defense; "
                        "choose another"
                    )
        for name, purification in self.purifications.items():
            if (problem := purification.name_problem(name)) is not None:
                yield f"purifications.{name}: {problem}"
        for name, model in self.helpers.items():
            if name not in get_args(Helper):
                yield f"helpers.{name}: no method asks for it{nearest(name, get_args(Helper))}"
            if "@" in model and hub_id(model) is None and not model.startswith(LOCAL):
                yield f"helpers.{name}: {model}: write a hub checkpoint as owner/name@ and the 40 digits of its commit"
        reported = {int(scenario.seed) for scenario in self.scenarios()} & set(self.shadows)
        if reported:
            yield f"shadows: seed {min(reported)} is reported by an experiment; calibrate on others"
        if self.crafting_seed in {int(scenario.seed) for scenario in self.scenarios()} | set(self.shadows):
            yield (
                f"crafting_seed: seed {self.crafting_seed} is that of a victim or a shadow; write one that no other "
                "model has"
            )
        if "cross_entropy" not in self.objectives:
            yield "objectives.cross_entropy is missing: it is the undefended objective of every scenario"

    def _undeclared(self) -> Iterator[str]:
        """References to variants that no section declares."""
        for name, experiment in self.experiments.items():
            for index, grid in enumerate(experiment.grid):
                for section in SECTIONS.values():
                    for variant in getattr(grid, section):
                        yield from self._missing(section, variant, f"experiments.{name}.grid.{index}.{section}")
            for key in ("dashes", "differences"):
                for index, selection in enumerate(getattr(experiment, key)):
                    for kind, variant in selection.variants.items():
                        yield from self._missing(SECTIONS[kind], variant, f"experiments.{name}.{key}.{index}.{kind}")
            for index, difference in enumerate(experiment.differences):
                for variant in (defense for defense in difference.against if defense != NONE):
                    yield from self._no_defense(variant, f"experiments.{name}.differences.{index}.against")
            for index, paper in enumerate(experiment.paper):
                for variant in paper.attacks:
                    yield from self._missing("attacks", variant, f"experiments.{name}.paper.{index}.attacks")
                for variant in paper.defenses:
                    yield from self._no_defense(variant, f"experiments.{name}.paper.{index}.defenses")
            if experiment.tested is not None:
                yield from self._no_defense(experiment.tested, f"experiments.{name}.tested")

        yield from self._homeless()
        for name, objective in self.objectives.items():
            if (stop_like := getattr(objective, "stop_like", None)) is not None:
                where = f"objectives.{name}.stop_like"
                yield from self._missing("objectives", stop_like, where)
                if name == stop_like or getattr(self.objectives.get(stop_like), "stop_like", None) is not None:
                    yield f"{where}: {stop_like!r} must train by itself; name an objective without stop_like"

        yield from self._unstopped()

        for name in self.attacks:
            if (crafting := self.crafting(name)) is not None:
                yield from self._missing("models", crafting, f"attacks.{name}.crafting")

        for name, filtering in self.filterings.items():
            if isinstance(filtering, VictimFilterSettings) and filtering.model is not None:
                for problem in self._missing("models", filtering.model, f"filterings.{name}.model"):
                    yield f"{problem}; write null to look at each victim's own model"

    def _misnamed(self) -> Iterator[str]:
        """Recipes of base models that are not what their name says, or not what a model takes them for."""
        for name, recipe in self.pretraining.items():
            if name in get_args(Family) and name != recipe.family:
                yield (
                    f"pretraining.{name}: the recipe of this name is that of the family {name}, and this one's is "
                    f"{recipe.family}; give it another name"
                )
        for name, model in self.models.items():
            for settings in (model, *(model.for_head(head) for head in model.on)):
                base, where = settings.small_base, f"models.{name}.small_base"
                if base is None or settings.base != "pretrained":
                    continue
                yield from self._missing("pretraining", base, where)
                named = self.pretraining.get(base)
                if named is not None and named.family != settings.family:
                    yield f"{where}: {base!r} is of the family {named.family}; {name} needs one of {settings.family}"

    def _unstopped(self) -> Iterator[str]:
        """Objectives whose victims are to be checkpoints, and cannot be."""
        for name, objective in self.objectives.items():
            if (checkpoint := getattr(objective, "checkpoint", None)) is None:
                continue
            where = f"objectives.{name}.checkpoint"
            if name == "cross_entropy":
                yield f"{where}: this is the undefended objective, which must train; declare another variant"
                continue
            yield from self._missing("objectives", checkpoint.like, f"{where}.like")
            if getattr(self.objectives.get(checkpoint.like), "checkpoint", None) is not None:
                yield f"{where}.like: {checkpoint.like!r} trains nothing; name an objective without checkpoint"
            if not getattr(self.objectives.get("cross_entropy"), "keep_epochs", False):
                yield (
                    f"{where}: checkpoints of the undefended training are not kept; write `keep_epochs: true` under "
                    "objectives.cross_entropy"
                )

    def _homeless(self) -> Iterator[str]:
        """Data sets whose rows the victims of the data set that they name cannot read."""
        for name, dataset in self.datasets.items():
            if dataset.trained_on is None:
                continue
            where = f"datasets.{name}.trained_on"
            home = self.datasets.get(dataset.trained_on)
            if home is None:
                yield f"{where}: {dataset.trained_on!r} is not declared{nearest(dataset.trained_on, self.datasets)}"
            elif home.trained_on is not None:
                yield f"{where}: {dataset.trained_on!r} has no victims of its own; name a data set that has"
            else:
                for key in ("task", "language", "text_form"):
                    if getattr(home, key) != getattr(dataset, key):
                        yield (
                            f"{where}: victims of {dataset.trained_on!r} have the {key} {getattr(home, key)}, not "
                            f"{getattr(dataset, key)}; name a data set with the same"
                        )

    def _no_defense(self, variant: str, where: str) -> Iterator[str]:
        declared = [name for section in DEFENSES.values() for name in getattr(self, section)]
        if variant not in declared:
            sections = ", ".join(DEFENSES.values())
            yield f"{where}: {variant!r} is not declared under any of {sections}{nearest(variant, declared)}"

    def _missing(self, section: str, variant: str, where: str) -> Iterator[str]:
        declared = getattr(self, section)
        if variant not in declared and not (variant == NONE and section not in ("datasets", "models", "objectives")):
            yield f"{where}: {variant!r} is not declared under {section}{nearest(variant, declared)}"

    def _unfit(self) -> Iterator[str]:
        """Scenarios of which one part cannot work with another."""
        for name, experiment in self.experiments.items():
            for scenario in scenarios(experiment):
                yield from (f"experiments.{name}: {reason}" for reason in self.unfit(scenario))
            yield from (f"experiments.{name}: {reason}" for reason in self._looks_away(experiment))
            for scenario in scenarios(experiment):
                if "position" in experiment.figures:
                    yield from (f"experiments.{name}: {reason}" for reason in self._unprobed(scenario))

    def _looks_away(self, experiment: Experiment) -> Iterator[str]:
        """Why a table or figure cannot be made of data sets without victims: it reads the victims' own files."""
        used = scenarios(experiment)
        models = {scenario.victim(self.out) for scenario in used if self.datasets[scenario.dataset].trained_on}
        for product in (*experiment.tables, *experiment.figures) if models else ():
            for path in PRODUCTS[product].inputs(used, Path(self.out)):
                folder = next((folder for folder in models if path.is_relative_to(folder)), None)
                if folder is not None:
                    yield (
                        f"{product} looks at victims, and {path.relative_to(self.out).parts[1]!r} has none of its own; "
                        "give that data set an experiment without it"
                    )
                    break

    def _unlabelled(self) -> Iterator[str]:
        """Target labels that rows of the data set cannot have; a job would find out only when the data are there."""
        for scenario in self.scenarios():
            labels = self.datasets[scenario.dataset].labels
            if scenario.attack == NONE or not labels:
                continue
            target = self.attacks[scenario.attack].target_label
            if target not in labels:
                yield (
                    f"attacks.{scenario.attack}.target_label: {target} is not a label of {scenario.dataset}; write "
                    f"{' or '.join(map(str, labels))}"
                )

    def _unprobed(self, scenario: Scenario) -> Iterator[str]:
        """Why the figure `position` cannot be made of a scenario: its rule searches as EliBadCode does, on labels."""
        if scenario.elimination != NONE and self.eliminations[scenario.elimination].method != "elibadcode":
            yield (
                f"the figure position searches with the settings of its eliminations, and {scenario.elimination!r} is "
                "not EliBadCode; give the figure an experiment of its own"
            )
        if self.datasets[scenario.dataset].head != "classification":
            yield f"the figure position asks for the label of one function, and {scenario.dataset!r} has another task"

    def unfit(self, scenario: Scenario) -> Iterator[str]:
        """Say why the scenario's variants cannot be combined; nothing where they can."""
        dataset = self.datasets[scenario.dataset]
        if (reason := self.models[scenario.model].unavailable) is not None:
            yield f"model {scenario.model!r}: {reason}: remove it from the grid, or list it under dashes"
        for kind in ("model", "attack", "filtering", "elimination", "purification"):
            variant = getattr(scenario, kind)
            if variant == NONE:
                continue
            settings = getattr(self, SECTIONS[kind])[variant]
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
            if getattr(settings, "reads_trigger", False) and not self._inverts(scenario.elimination):
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
                yield from self._unfit_model(variant, scenario)
            if kind == "attack" and (crafting := self.crafting(variant)) is not None:
                yield from self._unfit_crafting(variant, crafting, scenario)
            for helper in settings.helpers:
                if helper not in self.helpers:
                    yield f"{kind} {variant!r} needs helpers.{helper}: write the folder of a model there"

    def _unfit_model(self, filtering: str, scenario: Scenario) -> Iterator[str]:
        """Why the model that a filter names cannot be trained on the scenario's data set."""
        model, head = self.filter_model(filtering, scenario.model), self.datasets[scenario.dataset].head
        if model not in (None, scenario.model) and head not in (heads := sorted(self.models[model].works_on())):
            yield (
                f"filterings.{filtering}.model: {model!r} works on {_listed(heads)} data sets, and "
                f"{scenario.dataset!r} is a {head} data set; write null to look at each victim's own model, or name "
                "one that can be trained on it"
            )

    def home(self, dataset: str) -> str:
        """The data set on which the victims are trained that predict on this one; usually itself."""
        return self.datasets[dataset].trained_on or dataset

    def _unfit_crafting(self, attack: str, model: str, scenario: Scenario) -> Iterator[str]:
        """Why the model with which an attack crafts its triggers cannot be trained on the scenario's data set."""
        head = self.datasets[scenario.dataset].head
        if head not in (heads := sorted(self.models[model].works_on())):
            yield (
                f"attacks.{attack}.crafting: {model!r} works on {_listed(heads)} data sets, and {scenario.dataset!r} "
                f"is a {head} data set; name a model that can be trained on it"
            )

    def victim_settings(self, model: str, dataset: str) -> AnyModel:
        """Settings of a model's victims on a data set."""
        return self.models[model].for_head(self.datasets[dataset].head)

    def crafting(self, attack: str) -> str | None:
        """The variant of `models` by which an attack crafts its triggers, of one that asks a model."""
        variant: str | None = getattr(self.attacks.get(attack), "crafting", None)
        return variant

    def filter_model(self, filtering: str, model: str) -> str | None:
        """The variant of `models` whose unfiltered victim a filter looks at where it filters the rows of ``model``.

        None for a filter that looks at no victim, and for `none`.
        """
        settings = self.filterings.get(filtering)
        return (settings.model or model) if isinstance(settings, VictimFilterSettings) else None

    def _inverts(self, elimination: str) -> bool:
        return elimination != NONE and self.eliminations[elimination].inverts

    def scenarios(self) -> list[Scenario]:
        """Every scenario of every experiment, each once."""
        return list(dict.fromkeys(s for experiment in self.experiments.values() for s in scenarios(experiment)))


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


def _with_seeds(experiment: Any, seeds: Any) -> Any:
    if not isinstance(experiment, Mapping) or not isinstance(experiment.get("grid"), list | tuple):
        return experiment
    grids = [{"seeds": seeds, **grid} if isinstance(grid, Mapping) else grid for grid in experiment["grid"]]
    return {**experiment, "grid": grids}
