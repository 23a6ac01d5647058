"""Tasks: what a victim is trained for, how local examples are made, and which baseline needs no model.

A task is a folder of its name with ``settings.py``, whose class is listed in ``config/datasets.py``, and ``task.py``
with ``TASK``. A reader of its published data is a module of ``originals/readers``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from codebackdoor.errors import UserError, nearest
from codebackdoor.heads import HEADS
from codebackdoor.originals import readers

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.tasks.base import Task


def names() -> list[str]:
    """The names of all tasks."""
    # the union imports the settings of every task, which are below this package
    from codebackdoor.config.datasets import DATASETS

    return list(DATASETS)


def load(name: str) -> Task:
    """The task ``name``; a UserError names the nearest one."""
    if name not in names():
        raise UserError(f"unknown task {name!r}{nearest(name, names())}")
    task: Task = importlib.import_module(_module(name)).TASK
    return task


def modules(settings: AnyDataset, stage: str) -> list[str]:
    """The modules that a stage loads by the settings of a data set: they are part of its code's fingerprint."""
    names = [_module(settings.task)]
    if stage in ("dataset", "testset", "trials"):
        names.append(readers.module(settings.originals))
    if stage == "score":
        names.append(HEADS[settings.head].scorer)
    return names


def _module(task: str) -> str:
    return f"{__name__}.{task}.task"
