"""Inputs of ``rules/defend.smk``: training rows to drop, weights to edit, test inputs to rewrite."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property

from codebackdoor.config.scenario import NONE, UNDEFENDED_OBJECTIVE
from codebackdoor.dag.inputs import Input, Part, table
from codebackdoor.dag.parameters import as_json, named_options
from codebackdoor.dag.paths import Wildcards, fill, values
from codebackdoor.defenses.elimination.inversion.calibration.settings import CalibratedSettings
from codebackdoor.defenses.elimination.inversion.settings import searched_before
from codebackdoor.defenses.purification.settings import EvidenceSettings
from codebackdoor.errors import UserError


class Defend(Part):
    """The defenses."""

    @table
    def filter(self, wildcards: Wildcards) -> Iterator[Input]:
        yield Input.file("rows", self.paths.training_rows(wildcards), "--train")
        yield self.clean(wildcards.dataset)
        yield self.helpers("filtering", wildcards.filtering)

    @table
    def filter_by_victim(self, wildcards: Wildcards) -> Iterator[Input]:
        unfiltered = {"model": self._filter_model(wildcards), "filtering": NONE, "objective": UNDEFENDED_OBJECTIVE}
        yield Input.folder("victim", self.files.model(fill(self.paths.trained, wildcards, **unfiltered)), "--victim")
        yield from self.filter.table(wildcards)

    def filter_by_victim_code(self, wildcards: Wildcards) -> str:
        names = {"model": self._filter_model(wildcards), "filtering": wildcards.filtering}
        return self.parameters.code("filter_by_victim", **names)

    def _filter_model(self, wildcards: Wildcards) -> str:
        """The model whose victim a filter looks at; if the filter names it, there is no wildcard for it."""
        return str(self.config.filter_model(wildcards.filtering, values(wildcards).get("model", "")))

    @table
    def eliminate(self, wildcards: Wildcards) -> Iterator[Input]:
        yield self.victim(self.paths.trained, wildcards)
        yield self.clean(wildcards.dataset)
        calibration = self.files.calibration(wildcards.elimination, wildcards.dataset, wildcards.model)
        if calibration is not None:
            # no option, because the settings name it
            yield Input("calibration", calibration)
        yield from self._earlier_search(wildcards)
        yield self.helpers("elimination", wildcards.elimination)

    def eliminate_settings(self, wildcards: Wildcards) -> str:
        """Settings of an elimination for the victims of one data set and model."""
        return as_json(self.parameters.elimination(wildcards.elimination, wildcards.dataset, wildcards.model))

    def _earlier_search(self, wildcards: Wildcards) -> Iterator[Input]:
        """The results of the first elimination with the same search on the same victim, so that no search runs twice.

        This adds no elimination to the study, and makes none wait for a calibration of another elimination.
        """
        calibration = self._calibration_in_run(wildcards.elimination, wildcards)
        for name in self._searched_before.get(wildcards.elimination, ()):
            folder = fill(self.paths.victim, wildcards, elimination=name)
            if folder in self._edited_victims and self._calibration_in_run(name, wildcards) in (None, calibration):
                files = [f"{folder}/{file}.json" for file in ("trigger", "elimination", "provenance")]
                yield Input.folder("inverted", files, "--inverted")
                return

    def _calibration_in_run(self, elimination: str, wildcards: Wildcards) -> str | None:
        path = self.files.calibration(elimination, wildcards.dataset, wildcards.model)
        return path if path is not None and self.paths.is_in_run(path) else None

    @cached_property
    def _searched_before(self) -> Mapping[str, tuple[str, ...]]:
        return searched_before(self.config.eliminations)

    @cached_property
    def _edited_victims(self) -> frozenset[str]:
        """Folders of all edited victims of the study."""
        scenarios = self.config.scenarios()
        return frozenset(str(scenario.victim(self.paths.out)) for scenario in scenarios if scenario.elimination != NONE)

    @table
    def calibrate(self, wildcards: Wildcards) -> Iterator[Input]:
        folders = self.shadows(wildcards)
        files = [file for folder in folders.values() for file in self.files.model(folder)]
        yield Input("victims", files, tuple(named_options("--victim", folders)))
        yield self.clean(wildcards.dataset)

    def shadows(self, wildcards: Wildcards) -> dict[str, str]:
        """Folders of the benign victims of a calibration, by their seeds."""
        benign = {"attack": NONE, "rate": "0", "filtering": NONE, "objective": UNDEFENDED_OBJECTIVE}
        return {
            str(seed): fill(self.paths.trained, wildcards, **benign, seed=str(seed)) for seed in self.config.shadows
        }

    def calibrate_settings(self, wildcards: Wildcards) -> str:
        settings = self.parameters.declared("elimination", wildcards.elimination)
        if not isinstance(settings, CalibratedSettings):
            raise UserError(f"eliminations.{wildcards.elimination}: {settings.label} has no scan to be calibrated")
        return json.dumps(settings.calibrated_search(), sort_keys=True)

    @table
    def rewrite(self, wildcards: Wildcards) -> Iterator[Input]:
        clean = wildcards.attack == NONE
        rows = self.paths.data(wildcards.dataset, "test") if clean else self.paths.poisoned(wildcards, "test")
        yield Input.file("rows", rows, "--input")
        yield Input.file("valid", self.paths.data(self.config.home(wildcards.dataset), "valid"), "--valid")
        yield self.helpers("purification", wildcards.purification)

    @table
    def suspect(self, wildcards: Wildcards) -> Iterator[Input]:
        yield from self._purified(wildcards)

    @table
    def purify(self, wildcards: Wildcards) -> Iterator[Input]:
        yield from self._purified(wildcards)
        if self.parameters.declared("purification", wildcards.purification).reads_trigger:
            # inverted by the elimination before the purification
            yield Input.file("trigger", self.at_home(f"{self.paths.victim}/trigger.json", wildcards), "--trigger")
        first = self.testsets.measured_first.get(wildcards.purification)
        if first is not None:
            testsets = self.testsets.of(wildcards)
            folder = fill(self.paths.evidence, wildcards, purification=first)
            names = ("evidence.json", "calibration.jsonl", *(f"evidence.{name}.jsonl" for name in testsets))
            yield Input.folder("evidence", [f"{folder}/{name}" for name in names], "--evidence")

    def _purified(self, wildcards: Wildcards) -> Iterator[Input]:
        yield self.victim(self.paths.victim, wildcards)
        yield Input.file("valid", self.paths.data(self.config.home(wildcards.dataset), "valid"), "--valid")
        yield Input.named("testsets", self.testsets.of(wildcards), "--input")
        yield self.helpers("purification", wildcards.purification)

    def suspect_settings(self, wildcards: Wildcards) -> str:
        """Only the settings that the evidence depends on, so that others rerun nothing."""
        settings = self.parameters.declared("purification", wildcards.purification)
        if not isinstance(settings, EvidenceSettings):
            raise UserError(f"purifications.{wildcards.purification}: {settings.label} keeps no evidence")
        return json.dumps(settings.evidence_settings(), sort_keys=True)

    def purify_code(self, wildcards: Wildcards) -> str:
        """Fingerprint of a purification that measures by itself, or of one that decides by recorded evidence."""
        stage = "decide" if wildcards.purification in self.testsets.measured_first else "purify"
        return self.parameters.code(stage, model=wildcards.model, purification=wildcards.purification)
