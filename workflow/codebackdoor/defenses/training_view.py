"""What a filter that looks at a trained victim sees.

The class is apart from ``views.TextView``, so that the jobs of all other defenses do not depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor.defenses.defender_view import defender_view
from codebackdoor.defenses.views import TextView
from codebackdoor.types import Example
from codebackdoor.victims.victim import Victim

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset


@dataclass(frozen=True, slots=True)
class TrainingView(TextView):
    """Everything that a defender sees who has trained a victim on all rows: a ``TextView``, and that victim.

    The rows come to ``Filter.judge``, each a ``views.TrainingRow`` without provenance.
    """

    victim: Victim = field(kw_only=True)


def training_view(
    victim: Victim, dataset: AnyDataset, clean: tuple[Example, ...], helpers: Mapping[str, Path]
) -> TrainingView:
    """The view of a victim as every defender gets it: without card and folder, and with standardized logits."""
    return TrainingView.of(dataset, clean, helpers, victim=defender_view(victim, dataset, clean, helpers).victim)
