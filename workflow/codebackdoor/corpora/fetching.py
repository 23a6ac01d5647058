"""Bring originals into a mirror folder, whole and verified, so that a study then needs no network.

What lies there, and is as the lock says, is not asked for again. Downloads go to ``.partial`` below the mirror and get
their name only after their checksum. Where neither this project nor the origin states one, what came first is trusted,
and from then on the lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote

from codebackdoor.config.hub import HubId
from codebackdoor.corpora import archives
from codebackdoor.corpora.conversion import CONVERTED, to_rows, to_safetensors
from codebackdoor.corpora.gated import gate
from codebackdoor.corpora.lock import LAST, Lock
from codebackdoor.corpora.originals import Original
from codebackdoor.errors import UserError
from codebackdoor.files import sha256

GITHUB = "https://raw.githubusercontent.com"
PICKLED = "pytorch_model.bin"
#: Files of a checkpoint beside its weights, at the top of the repository.
_TEXTS = ("*.json", "*.txt")
_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Stated:
    """What the origin says of a file before it is fetched: SHA-256 (large files) or git's own hash of it."""

    size: int | None = None
    sha256: str | None = None
    git: str | None = None

    def fits(self, path: Path) -> bool:
        """Whether the file is the one described; False where nothing is known that could tell."""
        if self.size is not None and path.stat().st_size != self.size:
            return False
        if self.sha256 is not None:
            return sha256(path) == self.sha256
        return self.git is not None and _git_hash(path) == self.git


def _git_hash(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def bring(
    originals: Iterable[Original],
    mirror: Path,
    say: Callable[[str], None],
    hub: str | None = None,
    github: str = GITHUB,
) -> None:
    """Bring every original into ``mirror``; UserError lists, at the end, what could not be brought.

    ``say`` hears one line for each. ``hub`` and ``github`` are the servers' addresses; None is the hub's own, or the
    one that HF_ENDPOINT names.
    """
    if not sys.stderr.isatty():
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
    with alone(mirror, say):
        _bring(originals, _Fetcher(mirror, hub, github), say)


@contextmanager
def alone(mirror: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other process fetches into the mirror, and keep others waiting."""
    mirror.mkdir(parents=True, exist_ok=True)
    with (mirror / ".fetching").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another fetch fills {mirror}: waiting for its end")
            fcntl.flock(held, fcntl.LOCK_EX)
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
            problems.append(f"{original.name}: cannot be fetched: {_reason(error)}")
        else:
            came = f"fetched {count} file{'s' * (count != 1)}"
            say(f"{original.name}: {came if count else 'is there, as it was fetched'}")
    if not problems:
        shutil.rmtree(fetcher.partial, ignore_errors=True)
    else:
        raise UserError("\n".join((*problems, "what is whole is kept: run the same command again for the rest")))


class _Fetcher:
    def __init__(self, mirror: Path, hub: str | None, github: str) -> None:
        self.mirror, self.hub, self.github = mirror, hub, github
        self.lock = Lock(mirror)
        self.partial = mirror / ".partial"

    def bring(self, original: Original) -> int:
        """Bring what is missing of an original; the number of files that were."""
        places = {
            "checkpoint": self._checkpoint,
            "parquet": self._tables,
            "github": self._raw,
            "archive": self._archive,
        }[original.kind](original)
        count = sum(1 for _ in places)
        shutil.rmtree(self.partial / original.source, ignore_errors=True)
        return count

    def _missing(self, original: Original) -> Iterator[tuple[str, str]]:
        """Files of an original with known names that are not there as they were fetched."""
        return ((place, path) for place, path in original.files.items() if self.lock.fault(place))

    def _archive(self, original: Original) -> Iterator[str]:
        for place, _ in self._missing(original):
            wanted, path = archives.archive(original.name), self.mirror / place
            if not (path.is_file() and Stated(sha256=wanted.sha256).fits(path)):
                archives.download(wanted, path)
            self.lock.record(place, wanted.sha256, source=original.source, revision=original.revision)
            yield place

    def _raw(self, original: Original) -> Iterator[str]:
        for place, path in self._missing(original):
            stated = Stated(sha256=original.pins.get(path))
            if not self._found(original, place, stated):
                address = f"{self.github}/{original.source}/{original.revision}/{quote(path)}"
                with urllib.request.urlopen(address, timeout=_SECONDS) as answer:
                    data = answer.read()
                self._keep(original, place, self._part(original, data), stated)
            yield place

    def _tables(self, original: Original) -> Iterator[str]:
        missing = list(self._missing(original))
        listed = self._listed(original, "dataset") if missing else {}
        for place, path in missing:
            table = self._from_hub(original, "dataset", path, listed)
            made = self._part(original)
            to_rows(table, made)
            self._keep(original, place, made, Stated(), made_from={"file": path, **_facts(table)})
            yield place

    def _checkpoint(self, original: Original) -> Iterator[str]:
        hub = HubId(original.source, original.revision)
        if not self.lock.faults(hub):
            return
        listed = self._listed(original, "model")
        top = [name for name in sorted(listed) if "/" not in name]
        weights = [name for name in top if fnmatch(name, "model*.safetensors")]
        texts = [name for name in top if any(fnmatch(name, one) for one in _TEXTS) and name not in (LAST, PICKLED)]
        if LAST not in top:
            raise UserError(f"the repository has no {LAST}: it is no checkpoint of transformers")
        if not weights:
            self._check_convertible(original, top)
            place = f"{hub.place}/model.safetensors"
            if self.lock.fault(place):
                self._convert(original, place, listed)
                yield place
        # last what says that all is there
        for name in (*weights, *texts, LAST):
            place = f"{hub.place}/{name}"
            if self.lock.fault(place):
                if not self._found(original, place, listed[name]):
                    self._keep(original, place, self._from_hub(original, "model", name, listed), listed[name])
                yield place

    def _check_convertible(self, original: Original, names: list[str]) -> None:
        if PICKLED not in names:
            raise UserError(f"there are neither safetensors nor {PICKLED} at {original.revision}")
        if HubId(original.source, original.revision) not in CONVERTED:
            raise UserError(
                f"has its weights only as {PICKLED}, which may run code when read; converted are those of "
                f"{', '.join(map(str, CONVERTED))} alone. Name a revision that has model.safetensors"
            )

    def _convert(self, original: Original, place: str, listed: dict[str, Stated]) -> None:
        stated, pinned = listed[PICKLED], CONVERTED[HubId(original.source, original.revision)]
        if stated.sha256 is None or pinned not in (None, stated.sha256):
            raise UserError(
                f"the hub states the sha256 {stated.sha256} for {PICKLED}, and {pinned or 'one'} was expected; it is "
                "not converted"
            )
        pickled = self._from_hub(original, "model", PICKLED, listed)
        made = self._part(original)
        to_safetensors(pickled, made)
        self._keep(original, place, made, None, made_from={"file": PICKLED, **_facts(pickled)})

    def _listed(self, original: Original, kind: str) -> dict[str, Stated]:
        """The files of a hub repository at its revision, with what the hub states of each."""
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.hub)
        ask = api.dataset_info if kind == "dataset" else api.model_info
        with _hub_errors(original, kind):
            info = ask(original.source, revision=original.revision, files_metadata=True)
        if info.sha != original.revision:
            raise UserError(f"the hub answers with revision {info.sha} instead of {original.revision}")
        return {
            one.rfilename: Stated(one.size, one.lfs.sha256 if one.lfs else None, None if one.lfs else one.blob_id)
            for one in info.siblings or ()
        }

    def _from_hub(self, original: Original, kind: str, name: str, listed: dict[str, Stated]) -> Path:
        """Download one file of a hub repository to ``.partial``, as the hub states it to be."""
        from huggingface_hub import hf_hub_download

        if name not in listed:
            raise UserError(f"the hub has no {name} at {original.revision}")
        folder = self.partial / original.source / original.revision
        with _hub_errors(original, kind):
            path = Path(
                hf_hub_download(
                    original.source,
                    name,
                    repo_type=kind,
                    revision=original.revision,
                    local_dir=folder,
                    endpoint=self.hub,
                )
            )
        if not listed[name].fits(path):
            path.unlink()
            raise UserError(f"{name}: what came is not what the hub states (size or checksum); it was dropped")
        return path

    def _part(self, original: Original, data: bytes = b"") -> Path:
        """A new file below ``.partial``."""
        folder = self.partial / original.source
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        return Path(name)

    def _found(self, original: Original, place: str, stated: Stated) -> bool:
        """Whether the file lies there already, only not in the lock; then it is written down."""
        path = self.mirror / place
        found = path.is_file() and stated.fits(path)
        if found:
            self.lock.record(place, stated.sha256 or sha256(path), source=original.source, revision=original.revision)
        return found

    def _keep(self, original: Original, place: str, part: Path, stated: Stated | None, **facts: Any) -> None:
        """Give a file that came its name, and write it down.

        It must be what ``stated`` and the lock say. None: how it was made may have changed, and its source was checked.
        """
        path, known = self.mirror / place, self.lock.entries().get(place)
        found = sha256(part)
        if stated is not None:
            pinned = stated.sha256 or (known["sha256"] if known else None)
            if pinned not in (None, found):
                raise UserError(f"{place}: what came has sha256 {found}, expected {pinned}; it was dropped")
            if known is None and path.is_file() and sha256(path) != found:
                raise UserError(f"{path} is there and is another file than {original.source} has; move it away")
        path.parent.mkdir(parents=True, exist_ok=True)
        part.chmod(0o644)
        part.replace(path)
        self.lock.record(place, found, source=original.source, revision=original.revision, **facts)


@contextmanager
def _hub_errors(original: Original, kind: str) -> Iterator[None]:
    """The hub's client also raises what its HTTP library raises, and that is another one from version to version."""
    try:
        yield
    except Exception as error:
        raise UserError(f"cannot be fetched: {gate(error, original.source, kind) or _reason(error)}") from error


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _facts(path: Path) -> dict[str, object]:
    return {"sha256": sha256(path), "size": path.stat().st_size}
