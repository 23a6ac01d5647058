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
    """Return the view of a victim without what names the attack: the card in its configuration, and its folder."""
    if hasattr(victim.model.config, KEY):
        delattr(victim.model.config, KEY)
    victim.model.config.name_or_path = victim.model.name_or_path = victim.tokenizer.name_or_path = ""
    victim.tokenizer.init_kwargs.pop("name_or_path", None)
    return DefenderView(dataset.task, dataset.language, dataset.text_form, clean, dict(helpers), victim=victim)
