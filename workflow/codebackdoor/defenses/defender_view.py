"""The views of a trained model that a defender gets, made from the victim and clean rows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor.config.datasets import DATASETS
from codebackdoor.defenses.views import DefenderView, TrainingView
from codebackdoor.types import Example, Language
from codebackdoor.victims.temperature import standardized
from codebackdoor.victims.victim import KEY, Victim

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset

#: Attributes in which transformers records where an object was loaded from.
_ORIGINS = ("name_or_path", "_name_or_path")


def defender_view(
    victim: Victim, dataset: AnyDataset, clean: tuple[Example, ...], helpers: Mapping[str, Path]
) -> DefenderView:
    """The view of a victim, without anything that names the attack: the card in its configuration, and its folder.

    Its logits are standardized over the clean rows, so that no verdict depends on their scale.
    """
    _remove_origin(victim)
    return DefenderView.of(dataset, clean, helpers, victim=standardized(victim, clean))


def training_view(
    victim: Victim, dataset: AnyDataset, clean: tuple[Example, ...], helpers: Mapping[str, Path]
) -> TrainingView:
    """The view of a filter: the victim as every defender gets it."""
    return TrainingView.of(dataset, clean, helpers, victim=defender_view(victim, dataset, clean, helpers).victim)


def checkpoint_view(
    victim: Victim, task: str, language: Language, clean: tuple[Example, ...], helpers: Mapping[str, Path]
) -> DefenderView:
    """The view of a user's checkpoint, which belongs to no data set, with standardized logits as in a study."""
    reads = tuple(DATASETS[task].reads)
    return DefenderView(
        task, language, victim.text_form, clean, dict(helpers), reads=reads, victim=standardized(victim, clean)
    )


def _remove_origin(victim: Victim) -> None:
    """Remove the card and every mention of the folder from the model's parts and from the tokenizer.

    T5's encoder and decoder have their own configurations, each with a card; a tokenizer records its files as well.
    """
    folder = str(getattr(victim.model, "name_or_path", ""))
    parts = list(victim.model.modules())
    configs = [part.config for part in parts if hasattr(part, "config")]
    for config in configs:
        vars(config).pop(KEY, None)
    for attributes in (*map(vars, (*parts, *configs, victim.tokenizer)), victim.tokenizer.init_kwargs):
        for name, value in attributes.items():
            if name in _ORIGINS or (isinstance(value, str) and folder and _is_within(value, folder)):
                attributes[name] = ""


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)
