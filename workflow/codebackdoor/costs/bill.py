"""All jobs of a study with hub checkpoints, including finished ones, and the cost of each kind of job."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from codebackdoor.config import experiments
from codebackdoor.config.base import Head
from codebackdoor.config.model_settings import ModelSettings
from codebackdoor.config.models import AnyModel
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.config.study import Config
from codebackdoor.costs import jobs
from codebackdoor.costs.memory import training_gigabytes
from codebackdoor.costs.sizes import SIZES
from codebackdoor.costs.work import LayerSize, ModelSize, NotPriced, PlannedVictim, RowSet, Texts, Work
from codebackdoor.defenses.elimination.inversion.settings import InversionSettings, searched_before
from codebackdoor.defenses.purification.settings import measured_first
from codebackdoor.types import CLEAN


@dataclass(frozen=True, slots=True)
class Gpu:
    """Peak operations per second in bfloat16 and float32, the share that is reached, seconds of one decoding step."""

    bfloat16: float
    float32: float
    share: float
    step: float

    def hours(self, work: Work, precision: str) -> float:
        training = self.float32 if precision == "float32" else self.bfloat16
        computing = work.trained / training + work.predicted / self.float32
        return (computing / self.share + work.steps * self.step) / 3600


#: From NVIDIA's data sheet; predictions are made in float32 without TF32. Share and step are assumptions.
A100 = Gpu(312e12, 19.5e12, 0.4, 0.03)


@dataclass(frozen=True, slots=True)
class CostLine:
    """The jobs of one kind and their total cost, if known; ``longest``: hours of the longest job."""

    name: str
    jobs: int = 0
    hours: float = 0.0
    gigabytes: float = 0.0
    longest: float = 0.0
    priced: bool = True


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job: the name of its line, a function that returns the work of a scenario, and the precision of training."""

    name: str
    work: Callable[[Scenario], Work]
    scenario: Scenario
    precision: str = "float32"


def uses_hub(config: Config) -> bool:
    return any(config.victim_settings(scenario.model, scenario.dataset).is_hub for scenario in config.scenarios())


def lines(config: Config) -> list[CostLine]:
    """Every kind of job of the scenarios with hub checkpoints, in the order in which they run.

    Jobs without a price have their own line.
    """
    by_name: dict[tuple[str, bool], CostLine] = {}
    for job in Bill(config).jobs():
        try:
            work, is_priced = job.work(job.scenario), True
        except NotPriced:
            work, is_priced = Work(), False
        old = by_name.get((job.name, is_priced), CostLine(job.name, priced=is_priced))
        hours, size = A100.hours(work, job.precision), work.megabytes / 1000
        by_name[job.name, is_priced] = CostLine(
            job.name, old.jobs + 1, old.hours + hours, old.gigabytes + size, max(old.longest, hours), is_priced
        )
    return list(by_name.values())


class Bill:
    """The jobs of one study, and the work of each."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.used = [s for s in config.scenarios() if config.victim_settings(s.model, s.dataset).is_hub]
        self.triggered = experiments.triggered(config.scenarios())
        self.searched_before = searched_before(config.eliminations)
        self.measured_first = measured_first(config.purifications)
        #: The same scenarios with the data sets that their victims are trained on.
        self.at_home = distinct([replace(s, dataset=config.home(s.dataset)) for s in self.used])
        self.edited = distinct([replace(s, purification=NONE) for s in self.at_home if s.elimination != NONE])

    def jobs(self) -> Iterator[PlannedJob]:
        """Every job that handles a model or data."""
        config, used, at_home = self.config, self.used, self.at_home
        for scenario in distinct(used, "dataset"):
            yield PlannedJob(f"dataset {scenario.dataset}", self._dataset, scenario)
        crafting = [replace(s, model=model) for s in at_home if (model := self._crafting_model(s))]
        for scenario in distinct(crafting, "dataset", "model"):
            yield PlannedJob(
                f"craft {scenario.model}, {scenario.dataset}", self._train_benign, scenario, self._precision(scenario)
            )
        for scenario in distinct([s for s in used if s.attack != NONE], "dataset", "attack", "rate", "seed"):
            yield PlannedJob(f"poison {scenario.dataset}" + self._by(scenario), self._poison, scenario)
        filtered = [s for s in at_home if s.filtering != NONE]
        shared = [s for s in filtered if config.filterings[s.filtering].is_shared]
        kept_rows = ("dataset", "attack", "rate", "seed", "filtering")
        for scenario in (
            *distinct(shared, *kept_rows),
            *distinct([s for s in filtered if s not in shared], *kept_rows, "model"),
        ):
            yield PlannedJob(f"filter {scenario.filtering}, {scenario.dataset}", self._filter, scenario)
        looked_at = [s.undefended() for s in self._looked_at(filtered)]
        for scenario in distinct([*(replace(s, elimination=NONE, purification=NONE) for s in at_home), *looked_at]):
            yield PlannedJob(
                f"train {scenario.model}, {scenario.dataset}", self._train, scenario, self._precision(scenario)
            )
        calibrated = {file: scenario for scenario in self.edited if (file := self._calibration(scenario))}
        for scenario in distinct(list(calibrated.values()), "dataset", "model"):
            for _ in config.shadows:
                name = f"train shadows of {scenario.model}, {scenario.dataset}"
                yield PlannedJob(name, self._train_benign, scenario, self._precision(scenario))
        for scenario in calibrated.values():
            yield PlannedJob(f"calibrate {scenario.model}, {scenario.dataset}", self._calibrate, scenario)
        for scenario in self.edited:
            yield PlannedJob(f"eliminate {scenario.elimination}", self._eliminate, scenario)
        without_victim = [s for s in used if s.purification != NONE and not self._reads_victim(s)]
        rewritten = [scenario for s in without_victim for scenario in (s, s.benign())]
        for scenario in distinct(rewritten, "dataset", "attack", "rate", "seed", "purification"):
            yield PlannedJob(f"rewrite {scenario.purification}, {scenario.dataset}", self._rewrite, scenario)
        suspected = [replace(s, purification=first) for s in used if (first := self.measured_first.get(s.purification))]
        for scenario in distinct(suspected):
            yield PlannedJob(f"suspect {scenario.purification}, {scenario.model}", self._suspect, scenario)
        for scenario in used:
            if scenario.purification == NONE or not self._reads_victim(scenario):
                yield PlannedJob(f"predict {scenario.model}", self._predict, scenario)
            else:
                yield PlannedJob(f"purify {scenario.purification}, {scenario.model}", self._purify, scenario)

    def _dataset(self, scenario: Scenario) -> Work:
        return jobs.data(self._victim(scenario))

    def _train_benign(self, scenario: Scenario) -> Work:
        return jobs.train(self._victim(scenario), None)

    def _poison(self, scenario: Scenario) -> Work:
        model = self._crafting_model(scenario)
        crafting = self._victim(replace(scenario, model=model)) if model else None
        return jobs.poison(self._victim(scenario), self.config.attacks[scenario.attack], float(scenario.rate), crafting)

    def _filter(self, scenario: Scenario) -> Work:
        attack, settings = self.config.attacks.get(scenario.attack), self.config.filterings[scenario.filtering]
        looked_at = next(self._looked_at([scenario]), scenario)
        return jobs.filtering(sizes()["gpt2"], self._victim(looked_at), settings, attack, float(scenario.rate))

    def _looked_at(self, filtered: list[Scenario]) -> Iterator[Scenario]:
        """The scenarios with the models whose victims the filters look at."""
        for scenario in filtered:
            model = self.config.filter_model(scenario.filtering, scenario.model)
            if model is not None and self.config.victim_settings(model, scenario.dataset).is_hub:
                yield replace(scenario, model=model)

    def _train(self, scenario: Scenario) -> Work:
        return jobs.train(
            self._victim(scenario), self.config.attacks.get(scenario.attack), self.config.objectives[scenario.objective]
        )

    def _calibrate(self, scenario: Scenario) -> Work:
        settings = self.config.eliminations[scenario.elimination]
        assert isinstance(settings, InversionSettings)  # the others have no calibration
        return sum((jobs.invert(self._victim(scenario), settings) for _ in self.config.shadows), Work())

    def _eliminate(self, scenario: Scenario) -> Work:
        # a search that only reuses trajectories counts as a full search
        inverted = any(
            replace(scenario, elimination=name) in self.edited and self._same_search(name, scenario.elimination)
            for name in self.searched_before.get(scenario.elimination, ())
        )
        return jobs.eliminate(self._victim(scenario), self.config.eliminations[scenario.elimination], inverted)

    def _rewrite(self, scenario: Scenario) -> Work:
        row_set = self._testset(scenario, CLEAN if scenario.attack == NONE else scenario.attack)
        return jobs.rewrite(
            sizes()["gpt2"], self._victim(scenario), self.config.purifications[scenario.purification], row_set
        )

    def _predict(self, scenario: Scenario) -> Work:
        return jobs.predict(self._victim(scenario), self._testsets(scenario))

    def _purify(self, scenario: Scenario) -> Work:
        settings = self.config.purifications[scenario.purification]
        measured = scenario.purification in self.measured_first
        return jobs.purify(self._victim(scenario), settings, self._testsets(scenario), sizes()["gpt2"], measured)

    def _suspect(self, scenario: Scenario) -> Work:
        settings = self.config.purifications[scenario.purification]
        return jobs.suspect(self._victim(scenario), settings, self._testsets(scenario), sizes()["gpt2"])

    def _victim(self, scenario: Scenario) -> PlannedVictim:
        return planned_victim(self.config, scenario)

    def _testsets(self, scenario: Scenario) -> list[RowSet]:
        names = experiments.testsets(scenario.dataset, scenario.attack, scenario.purification, self.triggered)
        return [self._testset(scenario, name) for name in names]

    def _testset(self, scenario: Scenario, name: str) -> RowSet:
        victim = self._victim(scenario)
        return victim.clean("test") if name == CLEAN else victim.triggered("test", self.config.attacks[name])

    def _precision(self, scenario: Scenario) -> str:
        return self.config.victim_settings(scenario.model, scenario.dataset).precision

    def _reads_victim(self, scenario: Scenario) -> bool:
        return self.config.purifications[scenario.purification].reads_victim

    def _by(self, scenario: Scenario) -> str:
        return f" by {scenario.attack}" if self._crafting_model(scenario) else ""

    def _crafting_model(self, scenario: Scenario) -> str | None:
        """The hub checkpoint that a scenario's attack runs."""
        model = self.config.crafting(scenario.attack)
        return model if model is not None and self.config.victim_settings(model, scenario.dataset).is_hub else None

    def _same_search(self, *names: str) -> bool:
        first, second = (self.config.eliminations[name] for name in names)
        return (
            isinstance(first, InversionSettings)
            and isinstance(second, InversionSettings)
            and first.trigger_settings() == second.trigger_settings()
        )

    def _calibration(self, scenario: Scenario) -> Path | None:
        """The calibration that a scenario's scan needs, if it does not ship, so that shadow victims must be trained."""
        settings = self.config.eliminations[scenario.elimination].for_scenario(scenario.dataset, scenario.model)
        return None if settings.calibration_ships else settings.calibration_file


def distinct(scenarios: list[Scenario], *kinds: str) -> list[Scenario]:
    """The first scenario with each combination of values of the given kinds; without any, of all kinds."""
    first: dict[Any, Scenario] = {}
    for scenario in scenarios:
        first.setdefault(tuple(getattr(scenario, kind) for kind in kinds) if kinds else scenario, scenario)
    return list(first.values())


def planned_victim(config: Config, scenario: Scenario) -> PlannedVictim:
    """The victim of a scenario; NotPriced if the model's size or the data set's texts were never measured."""
    model, dataset = config.victim_settings(scenario.model, scenario.dataset), config.datasets[scenario.dataset]
    texts, size = texts_by_original().get(dataset.originals), size_of(model, dataset.head)
    if texts is None or size is None:
        raise NotPriced
    return PlannedVictim(size, texts, model, dataset)


def size_of(model: AnyModel, head: Head) -> ModelSize | None:
    """The size of an architecture's checkpoint; None if it was never counted."""
    return sizes().get(f"{model.architecture} {head}") or sizes().get(model.architecture)


@dataclass(frozen=True, slots=True)
class Training:
    """A training of a hub checkpoint: the size of the model, and the recipe with its objective's changes."""

    size: ModelSize
    recipe: ModelSettings

    @property
    def gigabytes(self) -> float:
        return training_gigabytes(self.size, self.recipe)


def trainings_used(config: Config) -> dict[str, Training]:
    """For each hub checkpoint of known size, the training that takes the most memory."""
    used: dict[str, Training] = {}
    kinds = ((s.model, config.home(s.dataset), s.objective) for s in config.scenarios())
    for model, dataset, objective in dict.fromkeys(kinds):
        settings, defense = config.victim_settings(model, dataset), config.objectives[objective]
        size = size_of(settings, config.datasets[dataset].head) if settings.is_hub else None
        if size is None or defense.taken_checkpoint is not None:
            continue
        training = Training(size, defense.recipe.applied(settings))
        if model not in used or training.gigabytes > used[model].gigabytes:
            used[model] = training
    return used


@cache
def texts_by_original() -> dict[str, Texts]:
    """The texts of each published data set whose rows and texts are known."""
    texts = {}
    for original, counted in read("texts.json").items():
        means = {name: value for name, value in counted.items() if name != "counted"}
        texts[original] = Texts(SIZES[original], **({"target_tokens": 0.0} | means))
    return texts


@cache
def sizes() -> dict[str, ModelSize]:
    """Sizes by architecture, or by architecture and head if the model depends on the head."""
    return {name: _size(counted) for name, counted in read("throughput.json")["sizes"].items()}


def _size(counted: dict[str, Any]) -> ModelSize:
    by_name = {name: LayerSize(**layer) for name, layer in counted["by_name"].items()}
    return ModelSize(**(counted | {"by_name": by_name}))


def read(name: str) -> Any:
    return json.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))
