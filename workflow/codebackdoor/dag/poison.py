"""Inputs of ``rules/poison.smk``: poisoned training sets and triggered test sets."""

from __future__ import annotations

from collections.abc import Iterator

from codebackdoor.dag.inputs import Input, Part, table
from codebackdoor.dag.paths import Wildcards


class Poison(Part):
    """The attacks."""

    def code(self, wildcards: Wildcards) -> str:
        """Fingerprint of the attack's code, and of the family of the model that it crafts triggers with."""
        return self._code("poison", wildcards)

    def _code(self, stage: str, wildcards: Wildcards) -> str:
        model = self.config.crafting(wildcards.attack)
        variants = {"attack": wildcards.attack} | ({"model": model} if model is not None else {})
        return self.parameters.code(stage, **variants)

    @table
    def poison(self, wildcards: Wildcards) -> Iterator[Input]:
        rows = [self.paths.data(wildcards.dataset, split) for split in ("train", "valid", "test")]
        yield Input.folder("rows", rows, "--data")
        yield from self._crafting(wildcards)

    def trigger_code(self, wildcards: Wildcards) -> str:
        return self._code("trigger", wildcards)

    @table
    def trigger(self, wildcards: Wildcards) -> Iterator[Input]:
        yield Input.file("train", self.paths.data(self.config.home(wildcards.dataset), "train"), "--train")
        yield Input.file("rows", self.paths.data(wildcards.dataset, "test"), "--rows")
        yield from self._crafting(wildcards)

    def _crafting(self, wildcards: Wildcards) -> Iterator[Input]:
        """The model of an attack that crafts its triggers with one."""
        model = self.config.crafting(wildcards.attack)
        if model is not None:
            folder = self.paths.crafting.format(dataset=self.config.home(wildcards.dataset), model=model)
            yield Input.folder("crafting", self.files.model(folder), "--crafting")
