"""Checkpoints of the hub, pinned to a commit: how they are written, and where a mirror folder keeps them."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Environment variable that names the mirror folder to a job. No parameter of a rule holds it: where originals lie
#: changes nothing of what a job makes, and a moved folder reruns nothing.
MIRROR = "CODEBACKDOOR_MIRROR"

_WRITTEN = re.compile(r"((?:[\w-][\w.-]*/)?[\w-][\w.-]*)@([0-9a-f]{40})")
_KEPT = re.compile(r"(?:^|.*/)hub/((?:[^/]+/)?[^/]+)/([0-9a-f]{40})")


@dataclass(frozen=True, slots=True, order=True)
class HubId:
    """A repository of the hub at one commit; written ``owner/name@`` and the 40 digits of the commit."""

    repository: str
    revision: str

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}"

    @property
    def place(self) -> str:
        """Its folder below a mirror folder."""
        return f"hub/{self.repository}/{self.revision}"


def hub_id(text: str) -> HubId | None:
    """Read ``owner/name@COMMIT``; None where it is something else, a folder for instance."""
    found = _WRITTEN.fullmatch(text)
    return HubId(*found.groups()) if found else None


def kept_as(folder: str) -> HubId | None:
    """The checkpoint that a mirror keeps in ``folder``; None where it is no such folder."""
    found = _KEPT.fullmatch(folder)
    return HubId(*found.groups()) if found else None
