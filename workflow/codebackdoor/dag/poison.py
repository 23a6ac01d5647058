"""Inputs of ``rules/poison.smk``: poisoned training sets and triggered test sets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from codebackdoor.dag.inputs import Input, Part, table


class Poison(Part):
    """The attacks."""

    def code(self, wildcards: Any) -> str:
        """Fingerprint of the attack's code, and of the family of the model that it crafts triggers with."""
        model = self.config.crafting(wildcards.attack)
        variants = {"attack": wildcards.attack} | ({"model": model} if model is not None else {})
        return self.parameters.code("poison", **variants)

    @table
    def poison(self, wildcards: Any) -> Iterator[Input]:
        rows = [self.paths.data(wildcards.dataset, split) for split in ("train", "valid", "test")]
        yield Input.folder("rows", rows, "--data")
        model = self.config.crafting(wildcards.attack)
        if model is not None:
            folder = self.paths.crafting.format(dataset=wildcards.dataset, model=model)
            yield Input.folder("crafting", self.files.model(folder), "--crafting")
