"""What a defense gets to see, made from a victim's folder and clean rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor.types import DefenderView, Example
from codebackdoor.victims.victim import KEY, Victim

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset


def defender_view(
    victim: Victim, dataset: AnyDataset, clean: tuple[Example, ...], helpers: Mapping[str, Path]
) -> DefenderView:
    """Return the view of a victim; its card, which names the attack, is taken off the model's configuration."""
    if hasattr(victim.model.config, KEY):
        delattr(victim.model.config, KEY)
    return DefenderView(dataset.task, dataset.language, dataset.text_form, clean, dict(helpers), victim=victim)
