"""Where the searches of one label scan stand, in a file: a killed scan goes on and ends with the same bytes.

One JSON file holds every search by its place, label and number: finished ones as they ended, and of a classifier the
running one as it was at most ``SECONDS`` ago; a running one for trigger and target words together begins anew. A digest
of all that a search depends on stands in it; a file of another scan is not used.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codebackdoor import files
from codebackdoor.errors import UserError

log = logging.getLogger(__name__)

#: Seconds of a search that a kill may cost.
SECONDS = 20.0

State = Mapping[str, Any]


class Searches:
    """States of searches by their names; without a folder nothing is kept."""

    def __init__(self, folder: Path | None, digest: str) -> None:
        self._folder, self._digest = folder, digest
        self._states: dict[str, State] = self._read()
        self._written = time.monotonic()

    @property
    def _file(self) -> Path | None:
        return None if self._folder is None else self._folder / "searches.json"

    def _read(self) -> dict[str, State]:
        if self._file is None or not self._file.is_file():
            return {}
        try:
            found = files.read_json(self._file)
            if found["digest"] != self._digest:
                return {}
            log.info("going on with %d searches", len(found["states"]))
            return dict(found["states"])
        except (UserError, KeyError, TypeError, ValueError):
            return {}

    def state(self, name: str) -> State | None:
        """Where the search of this name stands; None where it has not begun."""
        return self._states.get(name)

    def due(self) -> bool:
        """Whether it is time to keep the running search."""
        return self._file is not None and time.monotonic() - self._written >= SECONDS

    def keep(self, name: str, state: State) -> None:
        """Write a state down, beside those of the searches before."""
        self._states[name] = state
        if self._file is not None:
            with files.atomic(self._file) as stream:
                json.dump({"digest": self._digest, "states": self._states}, stream)
        self._written = time.monotonic()
