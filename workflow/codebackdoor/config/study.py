"""The whole configuration: the variants of every kind, declared once, and the experiments that cross them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError, model_validator

from codebackdoor.config import checks
from codebackdoor.config.base import Settings
from codebackdoor.config.datasets import AnyDataset
from codebackdoor.config.experiments import Experiment, Seed, distinct, scenarios
from codebackdoor.config.methods import AnyAttack, AnyElimination, AnyFiltering, AnyObjective, AnyPurification
from codebackdoor.config.models import AnyModel
from codebackdoor.config.paths import FilePath, HelperFolder, RunFolder
from codebackdoor.config.pretraining import Pretraining
from codebackdoor.config.scenario import NAME, NAME_LENGTH, NONE, Scenario
from codebackdoor.defenses.filtering.settings import VictimFilterSettings
from codebackdoor.evaluation.execution.settings import ExecutionSettings

Name = Annotated[str, Field(pattern=rf"^{NAME}$", max_length=NAME_LENGTH)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(distinct)]
#: Maximum number of combinations in the grids of a study; this project's largest study has a thousand.
COMBINATIONS = 20_000


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
        description="folder for everything that the run creates. In this and every other path, ~ is the home folder "
        "and $NAME an environment variable",
    )
    seeds: Seeds = Field(
        (1,),
        description="seeds of poisoning, training and defense, for grids that name none of their own",
    )
    shadows: Annotated[tuple[Seed, ...], AfterValidator(distinct)] = Field(
        (101, 102, 103, 104, 105),
        min_length=5,
        description="seeds of the benign victims from which `calibrate` learns what a label scan finds without a "
        "backdoor; experiments may not use them",
    )
    crafting_seed: Seed = Field(
        201,
        description="seed of the models with which attacks craft their triggers (afraidoor); no victim may have it",
    )
    mirror: FilePath | None = Field(
        None,
        description="folder of all originals, which `make fetch` fills: archives, hub checkpoints, the papers' data "
        "sets. With a mirror, a run reads and verifies them there and never uses the network (null: jobs download "
        "archives and checkpoints themselves)",
    )
    corpus: Corpus | None = Field(None, description="archives that are mined (needed by data sets of source pypi)")
    tokenizer: FilePath | None = Field(
        None, description="tokenizer.json with which data sets count sub-tokens (null: they count words)"
    )
    helpers: dict[Name, HelperFolder] = Field(
        {},
        description="model of each helper that a defense needs (infiller, language_model, english_model, "
        "discriminator, paraphraser): a folder in hub format, or a hub checkpoint as owner/name@ and the 40 digits of "
        "its commit",
    )
    pretraining: dict[Name, Pretraining] = Field(
        {},
        description="recipes of the local base models: one named after each family, and others, which a model selects "
        "by `small_base`",
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
        description="how generated programs are run with the tests of their rows, for data sets that have tests",
    )
    experiments: dict[Name, Experiment] = Field(min_length=1, description="what is reproduced, by name")

    @model_validator(mode="before")
    @classmethod
    def _seeded(cls, raw: Any) -> Any:
        """Set the study's seeds in every grid that names none; invalid ones stay in place, to be reported only once."""
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
        if problems := checks.problems(self):
            raise ValueError("\n".join(problems))
        return self

    def home(self, dataset: str) -> str:
        """The data set that the victims which predict on this one are trained on; usually itself."""
        return self.datasets[dataset].trained_on or dataset

    def victim_settings(self, model: str, dataset: str) -> AnyModel:
        """Settings of a model's victims on a data set."""
        return self.models[model].for_head(self.datasets[dataset].head)

    def crafting(self, attack: str) -> str | None:
        """The variant of `models` with which an attack crafts its triggers; None if the attack needs no model."""
        return self.attacks[attack].crafting_model if attack in self.attacks else None

    def filter_model(self, filtering: str, model: str) -> str | None:
        """The variant of `models` whose unfiltered victim a filter looks at when it filters the rows of ``model``.

        None for a filter that looks at no victim, and for `none`.
        """
        settings = self.filterings.get(filtering)
        return (settings.model or model) if isinstance(settings, VictimFilterSettings) else None

    def inverts(self, elimination: str) -> bool:
        """Whether an elimination inverts a trigger; False for `none`."""
        return elimination != NONE and self.eliminations[elimination].inverts

    def scenarios(self) -> list[Scenario]:
        """Every scenario of every experiment, each once."""
        return list(dict.fromkeys(s for experiment in self.experiments.values() for s in scenarios(experiment)))


def _with_seeds(experiment: Any, seeds: Any) -> Any:
    if not isinstance(experiment, Mapping) or not isinstance(experiment.get("grid"), list | tuple):
        return experiment
    grids = [{"seeds": seeds, **grid} if isinstance(grid, Mapping) else grid for grid in experiment["grid"]]
    return {**experiment, "grid": grids}
