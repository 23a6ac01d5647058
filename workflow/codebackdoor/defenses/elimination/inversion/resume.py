"""The saved progress of a scan's searches, from which a killed scan resumes and ends with the same bytes.

One JSON file holds every search by its title: finished ones as they ended, and the running one as it was at most
``SAVE_INTERVAL`` ago. It also holds a digest of everything that a search depends on; the file of another scan is
ignored, with a warning.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codebackdoor import files
from codebackdoor.errors import UserError, first_line

log = logging.getLogger(__name__)

#: Seconds between saves, which is also the most that a killed search loses.
SAVE_INTERVAL = 20.0

_AGAIN = "the searches start again from their first step"

State = Mapping[str, Any]


class SearchProgress:
    """States of searches by their titles; without a folder nothing is saved."""

    def __init__(self, folder: Path | None, digest: str) -> None:
        self._folder, self._digest = folder, digest
        self._states: dict[str, State] = self._saved_states()
        self._written = time.monotonic()

    @property
    def _file(self) -> Path | None:
        return None if self._folder is None else self._folder / "searches.json"

    def _saved_states(self) -> dict[str, State]:
        if self._file is None or not self._file.is_file():
            return {}
        try:
            content = files.read_json(self._file)
            if content["digest"] != self._digest:
                log.warning("the saved progress is of a scan with different inputs, settings or code; %s", _AGAIN)
                return {}
            states = dict(content["states"])
        except (UserError, KeyError, TypeError, ValueError) as error:
            log.warning("the saved progress of this scan is damaged (%s); %s", first_line(error), _AGAIN)
            return {}
        log.info("resuming %d searches", len(states))
        return states

    def state(self, title: str) -> State | None:
        """The saved state of the search with this title; None if it has not started."""
        return self._states.get(title)

    def due(self) -> bool:
        """Whether it is time to save the running search."""
        return self._file is not None and time.monotonic() - self._written >= SAVE_INTERVAL

    def keep(self, title: str, state: State) -> None:
        """Save a state, together with those of the searches before."""
        self._states[title] = state
        if self._file is not None:
            with files.atomic(self._file) as stream:
                json.dump({"digest": self._digest, "states": self._states}, stream)
        self._written = time.monotonic()
