"""What jobs are run again for: the settings of a method as JSON, and the fingerprint of the code that it runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from codebackdoor import fingerprint
from codebackdoor.config.base import Settings
from codebackdoor.config.experiments import Experiment
from codebackdoor.config.study import SECTIONS, Config
from codebackdoor.errors import UserError, nearest
from codebackdoor.report.collect import subset

#: Python package of the modules of each kind.
MODULES = {
    "dataset": "tasks",
    "attack": "attacks",
    "filtering": "defenses.filtering",
    "objective": "defenses.objectives",
    "elimination": "defenses.elimination",
    "purification": "defenses.purification",
    "figure": "report.figures",
    "listing": "report.listings",
}
#: Module of the stage function of each rule.
STAGES = {
    "mine": "corpora.stage",
    "dataset": "tasks.stage",
    "statistics": "tasks.statistics",
    "poison": "attacks.stage",
    "tokenizer": "basemodels.tokenizer",
    "pretrain": "basemodels.stage",
    "filter": "defenses.training_rows",
    "train": "victims.stage",
    "predict": "victims.predictions",
    "eliminate": "defenses.stage",
    "purify": "defenses.stage",
    "rewrite": "defenses.rewriting",
    "probe": "defenses.elimination.elibadcode.probe",
    "score": "evaluation.stage",
    "collect": "report.long",
    "report": "report.stage",
}


class Parameters:
    """The parameters of the rules, of one configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config
        # thousands of jobs share a few dozen values
        self._settings: dict[tuple[str, str], str] = {}
        self._codes: dict[tuple[str, ...], str] = {}

    def settings(self, kind: str, variant: str) -> str:
        """Settings of a variant as JSON, defaults included: what its jobs are run again for when it changes."""
        if (kind, variant) not in self._settings:
            self._settings[kind, variant] = as_json(self._declared(kind, variant))
        return self._settings[kind, variant]

    def code(self, stage: str, **variants: str) -> str:
        """Fingerprint of a rule's code: its stage and the modules of the named variants (kind=variant; figure=kind)."""
        modules = [f"{fingerprint.PACKAGE}.{STAGES[stage]}"]
        for kind, variant in variants.items():
            method = variant
            if kind in SECTIONS:
                settings = self._declared(kind, variant)
                method = settings.task if kind == "dataset" else settings.method
            modules.append(f"{fingerprint.PACKAGE}.{MODULES[kind]}.{method}")
        key = tuple(modules)
        if key not in self._codes:
            self._codes[key] = fingerprint.fingerprint(*modules)
        return self._codes[key]

    def _declared(self, kind: str, variant: str) -> Any:
        declared = getattr(self.config, SECTIONS[kind])
        if variant not in declared:
            raise UserError(f"{variant!r} is not declared under {SECTIONS[kind]}{nearest(variant, declared)}")
        return declared[variant]

    def helpers(self, kind: str, variant: str) -> list[str]:
        """Options that name the helper models of a method."""
        names = self._declared(kind, variant).helpers
        return options("--helper", {name: self.config.helpers[name] for name in names})

    def experiment(self, name: str) -> str:
        """Settings of an experiment and of all variants in it, as JSON."""
        self._experiment(name)
        return json.dumps(subset(self.config.model_dump(mode="json"), name), sort_keys=True)

    def _experiment(self, name: str) -> Experiment:
        if name not in self.config.experiments:
            raise UserError(f"no experiment {name!r}{nearest(name, self.config.experiments)}")
        return self.config.experiments[name]

    def vocabulary(self) -> int:
        """Entries of the shared tokenizer: every recipe asks for the same."""
        sizes = {recipe.vocabulary for recipe in self.config.pretraining.values()}
        if len(sizes) > 1:
            raise UserError(f"pretraining: one tokenizer serves all families, but vocabulary is {sorted(sizes)}")
        return sizes.pop() if sizes else 0

    def pretraining(self, wildcards: Any) -> str:
        if wildcards.family not in self.config.pretraining:
            raise UserError(f"pretraining.{wildcards.family} is missing: no recipe for this base model")
        return as_json(self.config.pretraining[wildcards.family])


def options(option: str, pairs: Mapping[str, str]) -> list[str]:
    return [part for name, value in pairs.items() for part in (option, f"{name}={value}")]


def as_json(settings: Settings) -> str:
    return json.dumps(settings.model_dump(mode="json"), sort_keys=True)
