"""The lock of a mirror folder: size and SHA-256 of every original, as first fetched, and where it came from.

``lock.json`` maps a path below the mirror to these facts; one process writes it at a time (``fetch.alone``). An entry
is written only after its file is whole, and a checkpoint's ``config.json`` comes last: if the lock has it, the whole
checkpoint is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from codebackdoor.config.hub import HubId, mirrored_hub_id
from codebackdoor.errors import UserError
from codebackdoor.files import read_json, sha256, write_json

LOCK = "lock.json"
#: The last file of a checkpoint to be fetched.
LAST = "config.json"


class Lock:
    """The recorded facts about the files of one mirror folder."""

    def __init__(self, mirror: Path) -> None:
        self.mirror = mirror
        self.path = mirror / LOCK

    def entries(self) -> dict[str, dict[str, Any]]:
        """Facts by path below the mirror; empty if nothing was fetched yet, UserError for a malformed lock."""
        entries = read_json(self.path) if self.path.is_file() else {}
        valid = isinstance(entries, dict) and all(
            isinstance(facts, dict) and isinstance(facts.get("sha256"), str) and isinstance(facts.get("size"), int)
            for facts in entries.values()
        )
        if not valid:
            raise UserError(f"{self.path}: not a lock of originals; move it away and run `make fetch` again")
        return entries

    def record(self, place: str, digest: str, **facts: object) -> None:
        """Add the file at ``place``, verified to have the SHA-256 ``digest``, with facts about where it came from."""
        identity = {"sha256": digest, "size": (self.mirror / place).stat().st_size}
        write_json(self.path, self.entries() | {place: identity | facts})

    def digest(self, path: Path) -> str:
        """SHA-256 of a file of the mirror: as recorded, or computed for a file that somebody put there by hand."""
        facts = self.entries().get(path.relative_to(self.mirror).as_posix())
        return facts["sha256"] if facts else sha256(path)

    def below(self, folder: str) -> list[str]:
        """Paths of the files that were fetched into ``folder``."""
        return [place for place in self.entries() if place.startswith(f"{folder}/")]

    def fault(self, place: str, checksum: bool = True) -> str | None:
        """What is wrong with a file; None if it has not changed since it was fetched (``checksum=False``: its size)."""
        path, facts = self.mirror / place, self.entries().get(place)
        if not path.is_file():
            return "is missing"
        if facts is None:
            return "is not in the lock: it was not fetched whole"
        size = path.stat().st_size
        if size != facts["size"]:
            return f"has {size} bytes, and had {facts['size']} when it was fetched"
        if checksum and (digest := sha256(path)) != facts["sha256"]:
            return f"was changed since it was fetched (sha256 {digest[:16]}…, was {facts['sha256'][:16]}…)"
        return None

    def faults(self, hub: HubId, checksum: bool = True) -> list[str]:
        """What is wrong with the files of a checkpoint, each by its name."""
        if f"{hub.place}/{LAST}" not in self.entries():
            return ["never fetched whole"]
        faults = {place: self.fault(place, checksum) for place in self.below(hub.place)}
        return [f"{Path(place).name} {fault}" for place, fault in faults.items() if fault]

    def changed(self, path: Path, checksum: bool = True) -> str | None:
        """The fault of a path; None also for a file that is not in the lock because somebody put it there by hand."""
        place = path.relative_to(self.mirror).as_posix()
        return self.fault(place, checksum) if place in self.entries() else None

    def check(self, paths: Iterable[Path]) -> None:
        """Raise a UserError for the first file that was changed since it was fetched."""
        for path in paths:
            if fault := self.changed(path):
                raise UserError(f"{path} {fault}; `make fetch` downloads it again")


def check_checkpoint(folder: Path) -> None:
    """Raise a UserError if ``folder`` belongs to a mirror and a file in it was changed since it was fetched."""
    hub = mirrored_hub_id(folder.as_posix())
    if hub is None:
        return
    mirror = folder.parents[hub.place.count("/")]
    faults = Lock(mirror).faults(hub)
    if faults:
        raise UserError(f"{folder}: {'; '.join(faults)}; `make fetch` downloads it again")
