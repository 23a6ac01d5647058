"""Checks before a run, and not only once a victim is trained, that a calibration fits the settings of the study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codebackdoor.config.base import Head, Settings
from codebackdoor.dag.parameters import Parameters
from codebackdoor.dag.paths import Paths
from codebackdoor.defenses.elimination.inversion.settings import InversionSettings
from codebackdoor.errors import UserError, quoted
from codebackdoor.files import read_object

#: Settings that identify a data set.
_IDENTITY = ("task", "source", "language")
#: Settings that do not affect a calibration: those of other rows of the data set, and of a victim's history.
_IRRELEVANT = frozenset({"seed", "valid", "test", "path", "history_rows"})


def calibration_problem(
    path: Path, parameters: Parameters, paths: Paths, elimination: str, dataset: str, model: str
) -> str | None:
    """The first difference between the study's and the calibration's search, data set or recipe; None without any.

    A different data set is reported first, because none of its settings could be changed to fit.
    """
    inversion = parameters.declared("elimination", elimination)
    if not isinstance(inversion, InversionSettings):
        raise UserError(f"eliminations.{elimination}: {inversion.label} searches no trigger, and reads no calibration")
    content = read_object(path)
    budget, provenance = (_section(content, name) for name in ("budget", "provenance"))
    in_run = paths.calibration.format(dataset=dataset, model=model, elimination=elimination)
    instead = f"write `eliminations.{elimination}.calibration: {in_run}` and the run makes one"
    ours, theirs = parameters.declared("dataset", dataset), _section(provenance, "dataset")
    if theirs and any(getattr(ours, key) != theirs.get(key) for key in _IDENTITY):
        facts = [", ".join(str(values.get(key)) for key in _IDENTITY) for values in (ours.model_dump(), theirs)]
        return (
            f"eliminations.{elimination}.calibration: {path} was made with another data set ({facts[1]}) than "
            f"datasets.{dataset} ({facts[0]}); {instead}"
        )
    head = parameters.declared("dataset", dataset).head
    for section, settings, calibrated in (
        (
            f"eliminations.{elimination}",
            inversion.completed(inversion.searched_by(head)),
            inversion.completed(budget),
        ),
        (
            f"datasets.{dataset}",
            _read_settings(parameters.declared("dataset", dataset), head),
            _section(provenance, "dataset"),
        ),
        (
            f"models.{model}",
            _read_settings(parameters.declared_victim(model, dataset), head),
            _section(provenance, "recipe"),
        ),
    ):
        for key in sorted(settings.keys() - _IRRELEVANT):
            if settings[key] != calibrated.get(key):
                return (
                    f"{section}: {key} is {settings[key]}, but {path} was made with {quoted(calibrated.get(key))}; use "
                    f"the same value, or {instead}"
                )
    return None


def _read_settings(settings: Settings, head: Head) -> dict[str, Any]:
    """Settings of a variant that are read for victims with this head."""
    return settings.model_dump(mode="json", exclude={*settings.unread_with(head)})


def _section(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object under a key of a file's content; empty if there is none."""
    section = content.get(name)
    return section if isinstance(section, dict) else {}
