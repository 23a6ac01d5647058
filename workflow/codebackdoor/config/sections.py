"""The sections of the configuration that declare variants, by their kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codebackdoor.config.methods import AnyAttack, AnyElimination, AnyFiltering, AnyPurification

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

#: The union of methods of each kind that acts on texts.
METHODS: Mapping[str, Any] = {
    "attack": AnyAttack,
    "filtering": AnyFiltering,
    "elimination": AnyElimination,
    "purification": AnyPurification,
}

#: The sections of the defenses, in the order in which they act.
DEFENSES = {kind: SECTIONS[kind] for kind in ("filtering", "objective", "elimination", "purification")}
