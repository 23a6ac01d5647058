"""The amount of a job's work (rows, epochs, optimizer steps); a measured time is scaled to it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from codebackdoor.config.study import Config

#: Seconds of a job that do not depend on its rows: imports, and loading a model.
STARTUP_SECONDS = 4.0
#: The split whose rows a rule processes.
_SPLITS = {
    **dict.fromkeys(("dataset", "poison", "filter", "filter_by_model", "filter_by_victim", "audit"), "train"),
    **dict.fromkeys(("train", "craft"), "train"),
    **dict.fromkeys(("predict", "predict_rewritten", "rewrite", "suspect", "purify"), "test"),
}
_TRAINING = ("train", "craft")


def amount(rule: str, path: str, config: Config) -> tuple[str, float] | None:
    """The name of an amount and its value: rows of a task's data set, times epochs, or steps of a base model.

    None if the time of the rule's jobs does not grow with an amount, or if it is unknown. ``path`` is that of the job's
    log.
    """
    first, _, rest = path.partition("/")
    if rule == "pretrain" and first in config.pretraining:
        return f"pretrain {config.pretraining[first].family}", config.pretraining[first].steps
    if rule not in _SPLITS or first not in config.datasets:
        return None
    split = _SPLITS[rule]
    rows = _rows(config, first, split)
    name = f"{config.datasets[first].task} {split}"
    if rows is None or rule not in _TRAINING:
        return None if rows is None else (name, rows)
    model = rest.partition("/")[0]
    if model not in config.models:
        return None
    recipe = config.victim_settings(model, first)
    objective = config.objectives.get(rest.rpartition("/")[0].rpartition("/")[2]) if rule == "train" else None
    epochs = (recipe if objective is None else objective.recipe.applied(recipe)).epochs
    return f"{name} {config.models[model].architecture}", rows * epochs


def scaled(seconds: float, share: float) -> float:
    """The time of a job whose amount is the measured one's multiplied by ``share``."""
    startup = min(STARTUP_SECONDS, seconds)
    return startup + (seconds - startup) * share


def _rows(config: Config, dataset: str, split: str) -> int | None:
    """The number of rows of a split; None if only its file tells, and the file does not exist here."""
    settings = config.datasets[dataset]
    limit: int | None = getattr(settings, split)
    if settings.source != "jsonl" or settings.path is None or settings.resplit:
        return limit
    lines = _lines(Path(settings.path) / f"{split}.jsonl")
    return limit if lines is None else min(lines, limit or lines)


@cache
def _lines(path: Path) -> int | None:
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        return sum(1 for _ in stream)
