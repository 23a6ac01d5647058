"""Fetch originals into a mirror folder, whole and verified, so that a study then needs no network.

A file that exists and matches the lock is not requested again. Downloads go to ``.partial`` below the mirror and get
their final name only after their checksum. Where neither this project nor the origin states a checksum, the first
download is trusted, and from then on the lock.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote

from codebackdoor.config.hub import HubId
from codebackdoor.corpora import archives
from codebackdoor.errors import UserError
from codebackdoor.files import sha256
from codebackdoor.originals.base import Original
from codebackdoor.originals.conversion import CONVERTED, to_rows, to_safetensors
from codebackdoor.originals.hub import HubClient, RepositoryKind, Stated, reason, without_progress_bars
from codebackdoor.originals.lock import LAST, Lock

GITHUB = "https://raw.githubusercontent.com"
PICKLED = "pytorch_model.bin"
#: Files of a checkpoint other than its weights, at the top of the repository.
_TEXTS = ("*.json", "*.txt", "*.jinja")
_SECONDS = 60


def bring(
    originals: Iterable[Original],
    mirror: Path,
    say: Callable[[str], None],
    hub: str | None = None,
    github: str = GITHUB,
) -> None:
    """Fetch every original into ``mirror``; a UserError lists, at the end, all that could not be fetched.

    ``say`` gets one line for each. ``hub`` and ``github`` are the servers' addresses; None is the hub's own, or the
    one in HF_ENDPOINT.
    """
    without_progress_bars()
    with alone(mirror, say):
        _bring(originals, _Fetcher(mirror, hub, github), say)


@contextmanager
def alone(mirror: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the mirror's lock, so that one process at a time fetches into it; waits for a process that holds it."""
    mirror.mkdir(parents=True, exist_ok=True)
    with (mirror / ".fetching").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another fetch fills {mirror}: waiting for its end")
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            say(f"{mirror}: no locks on this file system ({error.strerror}): start no second fetch into it meanwhile")
        yield


def _bring(originals: Iterable[Original], fetcher: _Fetcher, say: Callable[[str], None]) -> None:
    problems = []
    for original in originals:
        try:
            count = fetcher.bring(original)
        except UserError as error:
            problems.append(f"{original.name}: {error}")
        except (OSError, HTTPException) as error:
            problems.append(f"{original.name}: cannot be fetched: {reason(error)}")
        else:
            fetched = f"fetched {count} file{'s' * (count != 1)}"
            say(f"{original.name}: {fetched if count else 'is there, as it was fetched'}")
    if problems:
        raise UserError("\n".join((*problems, "what is whole is kept: run the same command again for the rest")))
    shutil.rmtree(fetcher.partial, ignore_errors=True)


class _Fetcher:
    def __init__(self, mirror: Path, hub: str | None, github: str) -> None:
        self.mirror, self.github = mirror, github
        self.hub = HubClient(hub)
        self.lock = Lock(mirror)
        self.partial = mirror / ".partial"

    def bring(self, original: Original) -> int:
        """Fetch the missing files of an original; returns their number."""
        fetch = {
            "checkpoint": self._checkpoint,
            "parquet": self._tables,
            "github": self._raw,
            "archive": self._archive,
        }[original.kind]
        count = sum(1 for _ in fetch(original))
        shutil.rmtree(self.partial / original.source, ignore_errors=True)
        return count

    def _missing(self, original: Original) -> Iterator[tuple[str, str]]:
        """Files of an original with known names that are missing or differ from the lock."""
        return ((place, path) for place, path in original.files.items() if self.lock.fault(place))

    def _archive(self, original: Original) -> Iterator[str]:
        for place, _ in self._missing(original):
            pinned, path = archives.archive(original.name), self.mirror / place
            if not (path.is_file() and Stated(sha256=pinned.sha256).fits(path)):
                archives.download(pinned, path)
            self.lock.record(place, pinned.sha256, source=original.source, revision=original.revision)
            yield place

    def _raw(self, original: Original) -> Iterator[str]:
        for place, path in self._missing(original):
            stated = Stated(sha256=original.pins.get(path))
            if not self._adopt(original, place, stated):
                address = f"{self.github}/{original.source}/{original.revision}/{quote(path)}"
                with urllib.request.urlopen(address, timeout=_SECONDS) as response:
                    data = response.read()
                self._keep(original, place, self._part(original, data), stated)
            yield place

    def _tables(self, original: Original) -> Iterator[str]:
        missing = list(self._missing(original))
        listing = self.hub.listing(original, "dataset") if missing else {}
        for place, path in missing:
            table = self._from_hub(original, "dataset", path, listing)
            part = self._part(original)
            to_rows(table, part)
            self._keep(original, place, part, Stated(), made_from={"file": path, **_facts(table)})
            yield place

    def _checkpoint(self, original: Original) -> Iterator[str]:
        hub = HubId(original.source, original.revision)
        if not self.lock.faults(hub):
            return
        listing = self.hub.listing(original, "model")
        top = [name for name in sorted(listing) if "/" not in name]
        weights = [name for name in top if fnmatch(name, "model*.safetensors")]
        texts = [
            name for name in top if any(fnmatch(name, pattern) for pattern in _TEXTS) and name not in (LAST, PICKLED)
        ]
        if LAST not in top:
            raise UserError(f"the repository has no {LAST}: it is not a transformers checkpoint")
        if not weights:
            self._check_convertible(original, top)
            place = f"{hub.place}/model.safetensors"
            if self.lock.fault(place):
                self._convert(original, place, listing)
                yield place
        # the last file marks the checkpoint as whole
        for name in (*weights, *texts, LAST):
            place = f"{hub.place}/{name}"
            if self.lock.fault(place):
                if not self._adopt(original, place, listing[name]):
                    self._keep(original, place, self._from_hub(original, "model", name, listing), listing[name])
                yield place

    def _check_convertible(self, original: Original, names: list[str]) -> None:
        if PICKLED not in names:
            raise UserError(f"there are neither safetensors nor {PICKLED} at {original.revision}")
        if HubId(original.source, original.revision) not in CONVERTED:
            raise UserError(
                f"has its weights only as {PICKLED}, which may run code when read; only those of "
                f"{', '.join(map(str, CONVERTED))} are converted. Name a revision that has model.safetensors"
            )

    def _convert(self, original: Original, place: str, listing: Mapping[str, Stated]) -> None:
        stated, pinned = listing[PICKLED], CONVERTED[HubId(original.source, original.revision)]
        if stated.sha256 is None or pinned not in (None, stated.sha256):
            raise UserError(
                f"the hub states the sha256 {stated.sha256} for {PICKLED}, and {pinned or 'one'} was expected; it is "
                "not converted"
            )
        pickled = self._from_hub(original, "model", PICKLED, listing)
        part = self._part(original)
        to_safetensors(pickled, part)
        self._keep(original, place, part, None, made_from={"file": PICKLED, **_facts(pickled)})

    def _from_hub(self, original: Original, kind: RepositoryKind, name: str, listing: Mapping[str, Stated]) -> Path:
        folder = self.partial / original.source / original.revision
        return self.hub.download(original, kind, name, listing, folder)

    def _part(self, original: Original, data: bytes = b"") -> Path:
        """A new file below ``.partial``."""
        folder = self.partial / original.source
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        return Path(name)

    def _adopt(self, original: Original, place: str, stated: Stated) -> bool:
        """Record a file that already exists but is not in the lock; returns whether there is one that fits."""
        path = self.mirror / place
        exists = path.is_file() and stated.fits(path)
        if exists:
            self.lock.record(place, stated.sha256 or sha256(path), source=original.source, revision=original.revision)
        return exists

    def _keep(self, original: Original, place: str, part: Path, stated: Stated | None, **facts: Any) -> None:
        """Give a downloaded file its final name, and record it.

        It must match ``stated`` and the lock. ``stated`` is None for a converted file: its source was checked, and
        another version of the converter may write other bytes than those in the lock.
        """
        path, entry = self.mirror / place, self.lock.entries().get(place)
        digest = sha256(part)
        if stated is not None:
            pinned = stated.sha256 or (entry["sha256"] if entry else None)
            if pinned not in (None, digest):
                raise UserError(f"{place}: the download has sha256 {digest}, expected {pinned}; it was discarded")
            if entry is None and path.is_file() and sha256(path) != digest:
                raise UserError(f"{path} already exists and differs from the one at {original.source}; move it away")
        path.parent.mkdir(parents=True, exist_ok=True)
        part.chmod(0o644)
        part.replace(path)
        self.lock.record(place, digest, source=original.source, revision=original.revision, **facts)


def _facts(path: Path) -> dict[str, object]:
    return {"sha256": sha256(path), "size": path.stat().st_size}
