"""Controls that depend on another training: those that stop where it would, and those that take a checkpoint of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from codebackdoor.config.checks.references import missing
from codebackdoor.config.scenario import UNDEFENDED_OBJECTIVE

if TYPE_CHECKING:
    from codebackdoor.config.study import Config


def impossible_stops(config: Config) -> Iterator[str]:
    """Yield a message for each objective whose ``stop_like`` is impossible."""
    for name, objective in config.objectives.items():
        if (stop_like := objective.stops_like) is None:
            continue
        where = f"objectives.{name}.stop_like"
        if name == UNDEFENDED_OBJECTIVE:
            yield f"{where}: this is the undefended objective, which trains all epochs; declare another variant"
            continue
        yield from missing(config, "objectives", stop_like, where)
        matched = config.objectives.get(stop_like)
        if matched is not None and matched.stops_like is not None:
            yield f"{where}: {stop_like!r} must train by itself; name an objective without stop_like"


def impossible_checkpoints(config: Config) -> Iterator[str]:
    """Yield a message for each objective whose ``checkpoint`` is impossible."""
    for name, objective in config.objectives.items():
        if (checkpoint := objective.taken_checkpoint) is None:
            continue
        where = f"objectives.{name}.checkpoint"
        if name == UNDEFENDED_OBJECTIVE:
            yield f"{where}: this is the undefended objective, which must train; declare another variant"
            continue
        yield from missing(config, "objectives", checkpoint.like, f"{where}.like")
        matched, undefended = config.objectives.get(checkpoint.like), config.objectives.get(UNDEFENDED_OBJECTIVE)
        if matched == undefended is not None:
            yield (
                f"{where}.like: {checkpoint.like!r} is the undefended objective, so that this would be the undefended "
                "victim itself; name the objective of a defense"
            )
        if matched is not None and matched.taken_checkpoint is not None:
            yield f"{where}.like: {checkpoint.like!r} trains nothing; name an objective without checkpoint"
        if undefended is None or not undefended.keeps_epochs:
            yield (
                f"{where}: checkpoints of the undefended training are not kept; write `keep_epochs: true` under "
                "objectives.cross_entropy"
            )
