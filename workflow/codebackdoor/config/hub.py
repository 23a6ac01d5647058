"""Hub checkpoints, pinned to a commit: their notation, and their location in a mirror folder."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Environment variable with the mirror folder, for jobs. It is not a parameter of a rule, because it does not affect
#: results: moving the folder reruns nothing.
MIRROR_VARIABLE = "CODEBACKDOOR_MIRROR"

_WRITTEN = re.compile(r"((?:[\w-][\w.-]*/)?[\w-][\w.-]*)@([0-9a-f]{40})")
_KEPT = re.compile(r"(?:^|.*/)hub/((?:[^/]+/)?[^/]+)/([0-9a-f]{40})")


@dataclass(frozen=True, slots=True, order=True)
class HubId:
    """A hub repository at one commit, written as ``owner/name@`` and the 40 digits of the commit."""

    repository: str
    revision: str

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}"

    @property
    def place(self) -> str:
        """Its folder below a mirror folder."""
        return f"hub/{self.repository}/{self.revision}"


def hub_id(text: str) -> HubId | None:
    """Parse ``owner/name@COMMIT``; None for anything else, such as a folder."""
    match = _WRITTEN.fullmatch(text)
    return HubId(*match.groups()) if match else None


def mirrored_hub_id(folder: str) -> HubId | None:
    """The checkpoint that a mirror keeps in ``folder``; None for any other folder."""
    match = _KEPT.fullmatch(folder)
    return HubId(*match.groups()) if match else None
