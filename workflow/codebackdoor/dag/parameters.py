"""Job parameters: the settings of a method as JSON and the fingerprint of its code; a job is rerun when they change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal, overload

from codebackdoor import tasks
from codebackdoor.config.base import Settings, tag_of
from codebackdoor.config.datasets import AnyDataset
from codebackdoor.config.experiments import Experiment
from codebackdoor.config.methods import AnyAttack, AnyElimination, AnyFiltering, AnyObjective, AnyPurification
from codebackdoor.config.models import AnyModel
from codebackdoor.config.pretraining import Pretraining
from codebackdoor.config.sections import SECTIONS
from codebackdoor.config.study import Config
from codebackdoor.dag.fingerprint import PACKAGE, fingerprint, module_path, settings_classes
from codebackdoor.errors import UserError, nearest
from codebackdoor.report.study import subset

#: Python module of each kind, by the name of a method (a task, a figure).
MODULES = {
    "attack": "attacks.{}.method",
    "filtering": "defenses.filtering.{}.method",
    "objective": "defenses.objectives.{}.method",
    "elimination": "defenses.elimination.{}.method",
    "purification": "defenses.purification.{}.method",
    "figure": "report.figures.{}",
    "listing": "report.tables.{}",
    "webpage": "report.webpages.{}",
}
#: Module with the stage function of each rule.
STAGES = {
    "mine": "corpora.stage",
    "prose": "corpora.prose",
    "dataset": "tasks.stage",
    "testset": "tasks.testset",
    "trials": "tasks.testset",
    "statistics": "tasks.statistics",
    "poison": "attacks.stage",
    "trigger": "attacks.testset",
    "tokenizer": "basemodels.tokenizer",
    "pretrain": "basemodels.stage",
    "filter": "defenses.stages.sift",
    "filter_by_victim": "defenses.stages.sift_by_victim",
    "train": "victims.stage",
    "stop": "victims.stopping",
    "gradients": "defenses.objectives.gradients",
    "predict": "victims.predictions",
    "eliminate": "defenses.stages.eliminate",
    "calibrate": "defenses.elimination.inversion.calibration.stage",
    "purify": "defenses.stages.purify",
    "suspect": "defenses.stages.evidence",
    "decide": "defenses.stages.evidence",
    "rewrite": "defenses.stages.rewrite",
    "probe": "defenses.elimination.elibadcode.probe",
    "states": "victims.states",
    "audit": "evaluation.filters",
    "execute": "evaluation.execution.stage",
    "score": "evaluation.stage",
    "collect": "report.export",
    "report": "report.stage",
}


class Parameters:
    """The parameters of the jobs of one configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config
        # cached, because thousands of jobs share a few dozen values
        self._settings: dict[tuple[str, str], str] = {}
        self._victims: dict[tuple[str, str], AnyModel] = {}
        self._codes: dict[tuple[str | type[Settings], ...], str] = {}

    def settings(self, kind: str, variant: str) -> str:
        """Settings of a variant as JSON, defaults included."""
        if (kind, variant) not in self._settings:
            self._settings[kind, variant] = as_json(self.declared(kind, variant))
        return self._settings[kind, variant]

    def declared_victim(self, model: str, dataset: str) -> AnyModel:
        """Settings of a model's victims on a data set; UserError if the configuration does not declare both."""
        if (model, dataset) not in self._victims:
            head = self.declared("dataset", dataset).head
            self._victims[model, dataset] = self.declared("model", model).for_head(head)
        return self._victims[model, dataset]

    def elimination(self, variant: str, dataset: str, model: str) -> AnyElimination:
        """Settings of an elimination for the victims of one data set and model."""
        return self.declared("elimination", variant).for_scenario(dataset, model)

    def victim_settings(self, model: str, dataset: str) -> str:
        """Settings of a model's victims on a data set as JSON, defaults included."""
        return as_json(self.declared_victim(model, dataset))

    def code(self, stage: str, **variants: str) -> str:
        """Fingerprint of a job's code: its stage, and the modules and settings classes of its variants
        (``elimination="dbs"``) or the module of its product.

        For a model, these are the families of its bases, so that editing a family reruns only its own victims.
        """
        modules = [f"{PACKAGE}.{STAGES[stage]}"]
        classes: dict[type[Settings], None] = {}
        for kind, variant in variants.items():
            if kind in SECTIONS:
                classes |= dict.fromkeys(settings_classes(self.declared(kind, variant)))
            if kind == "dataset":
                modules += tasks.modules(self.declared("dataset", variant), stage)
                continue
            if kind == "model":
                modules += [_family(model_type) for model_type in self.declared("model", variant).base_types]
                continue
            method = self.method(kind, variant) if kind in SECTIONS else variant
            modules.append(f"{PACKAGE}.{MODULES[kind].format(method)}")
            if kind == "purification":
                modules += [f"{PACKAGE}.{name}" for name in self.declared("purification", variant).more_code]
        key: tuple[str | type[Settings], ...] = (*modules, *classes)
        if key not in self._codes:
            self._codes[key] = fingerprint(*modules, settings=classes)
        return self._codes[key]

    @overload
    def declared(self, kind: Literal["dataset"], variant: str) -> AnyDataset: ...
    @overload
    def declared(self, kind: Literal["model"], variant: str) -> AnyModel: ...
    @overload
    def declared(self, kind: Literal["attack"], variant: str) -> AnyAttack: ...
    @overload
    def declared(self, kind: Literal["filtering"], variant: str) -> AnyFiltering: ...
    @overload
    def declared(self, kind: Literal["objective"], variant: str) -> AnyObjective: ...
    @overload
    def declared(self, kind: Literal["elimination"], variant: str) -> AnyElimination: ...
    @overload
    def declared(self, kind: Literal["purification"], variant: str) -> AnyPurification: ...
    @overload
    def declared(self, kind: str, variant: str) -> Settings: ...

    def declared(self, kind: str, variant: str) -> Settings:
        """The settings of a variant; UserError if the configuration does not declare it."""
        declared: Mapping[str, Settings] = getattr(self.config, SECTIONS[kind])
        if variant not in declared:
            raise UserError(f"{variant!r} is not declared under {SECTIONS[kind]}{nearest(variant, declared)}")
        return declared[variant]

    def method(self, kind: str, variant: str) -> str:
        """The name of a variant's method."""
        return str(tag_of(type(self.declared(kind, variant))))

    def helpers(self, kind: str, variant: str) -> list[str]:
        """Command-line options that name the helper models of a method."""
        names = self.declared(kind, variant).helpers
        return named_options("--helper", {name: self.config.helpers[name] for name in names})

    def experiment_settings(self, name: str) -> str:
        """Settings of an experiment and of all its variants, as JSON."""
        self.experiment(name)
        return json.dumps(subset(self.config.model_dump(mode="json"), name), sort_keys=True)

    def experiment(self, name: str) -> Experiment:
        if name not in self.config.experiments:
            raise UserError(f"no experiment {name!r}{nearest(name, self.config.experiments)}")
        return self.config.experiments[name]

    def vocabulary(self, prose: bool = False) -> int:
        """Vocabulary size of the tokenizer for code or prose, which must be the same in every recipe that shares it."""
        recipes = self.config.pretraining.values()
        sizes = {recipe.vocabulary for recipe in recipes if recipe.reads_prose == prose}
        if len(sizes) > 1:
            raise UserError(
                f"pretraining: one tokenizer serves all families that read {'prose' if prose else 'code'}, but "
                f"vocabulary is {sorted(sizes)}"
            )
        return sizes.pop() if sizes else 0

    def pretraining(self, name: str) -> str:
        """Recipe of a base model as JSON."""
        return as_json(self.recipe(name))

    def recipe(self, name: str) -> Pretraining:
        """Recipe of a base model; UserError if there is none."""
        if name not in self.config.pretraining:
            raise UserError(f"pretraining.{name} is missing: there is no recipe for this base model")
        return self.config.pretraining[name]


def _family(model_type: str) -> str:
    """The module of a family of models: its own, or that of the default family."""
    module = f"{PACKAGE}.victims.families.{model_type}"
    return module if module_path(module) is not None else f"{PACKAGE}.victims.families.base"


def named_options(option: str, pairs: Mapping[str, str]) -> list[str]:
    """The option repeated with ``name=value``."""
    return [part for name, value in pairs.items() for part in (option, f"{name}={value}")]


def as_json(settings: Settings) -> str:
    """Settings as JSON, with sorted keys."""
    return json.dumps(settings.model_dump(mode="json"), sort_keys=True)
