"""Readers of published data sets: one module for each, named by the settings of the task that reads it.

Nothing is downloaded here; files that `make fetch` brought are read only if they did not change since.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol

from codebackdoor.originals.base import Original, SourceFiles


class Reader(Protocol):
    """A module of this package."""

    #: What `make fetch` downloads; None for a data set that people put into the mirror by hand.
    ORIGINAL: Original | None

    def files(self, mirror: Path) -> SourceFiles:
        """The data set's files below a mirror folder."""


def module(name: str) -> str:
    """The full name of the module of the reader ``name``."""
    return f"{__name__}.{name}"


def load(name: str) -> Reader:
    reader: Reader = importlib.import_module(module(name))
    return reader
