"""The hub's client: what a repository holds at a commit, and its files, verified as the hub states them."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from codebackdoor.errors import UserError
from codebackdoor.files import sha256
from codebackdoor.originals.base import Original
from codebackdoor.originals.licenses import gate

RepositoryKind = Literal["model", "dataset"]


@dataclass(frozen=True, slots=True)
class Stated:
    """What the origin states about a file before it is fetched: its size, its SHA-256 (large files) or git's hash."""

    size: int | None = None
    sha256: str | None = None
    git: str | None = None

    def fits(self, path: Path) -> bool:
        """Whether the file is the one described; False without a checksum to tell."""
        if self.size is not None and path.stat().st_size != self.size:
            return False
        if self.sha256 is not None:
            return sha256(path) == self.sha256
        return self.git is not None and _git_hash(path) == self.git


def _git_hash(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class HubClient:
    """Lists and downloads files of repositories; ``endpoint`` is the server, None for the hub's own or HF_ENDPOINT."""

    def __init__(self, endpoint: str | None) -> None:
        self._endpoint = endpoint

    def listing(self, original: Original, kind: RepositoryKind) -> dict[str, Stated]:
        """The files of a repository at its revision, with what the hub states about each."""
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self._endpoint)
        request = api.dataset_info if kind == "dataset" else api.model_info
        with _hub_errors(original, kind):
            info = request(original.source, revision=original.revision, files_metadata=True)
        if info.sha != original.revision:
            raise UserError(f"the hub answers with revision {info.sha} instead of {original.revision}")
        return {
            file.rfilename: Stated(file.size, file.lfs.sha256 if file.lfs else None, None if file.lfs else file.blob_id)
            for file in info.siblings or ()
        }

    def download(
        self, original: Original, kind: RepositoryKind, name: str, listing: Mapping[str, Stated], folder: Path
    ) -> Path:
        """Download one file of a repository into ``folder``; UserError if it is not as the hub states."""
        from huggingface_hub import hf_hub_download

        if name not in listing:
            raise UserError(f"the hub has no {name} at {original.revision}")
        with _hub_errors(original, kind):
            path = Path(
                hf_hub_download(
                    original.source,
                    name,
                    repo_type=kind,
                    revision=original.revision,
                    local_dir=folder,
                    endpoint=self._endpoint,
                )
            )
        if not listing[name].fits(path):
            path.unlink()
            raise UserError(f"{name}: the download differs in size or checksum from the hub's; it was discarded")
        return path


def without_progress_bars() -> None:
    """Turn off the client's progress bars where no terminal shows them."""
    if not sys.stderr.isatty():
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()


@contextmanager
def _hub_errors(original: Original, kind: RepositoryKind) -> Iterator[None]:
    """The client also raises the errors of its HTTP library, whose classes differ between versions."""
    try:
        yield
    except Exception as error:
        raise UserError(f"cannot be fetched: {gate(error, original.source, kind) or reason(error)}") from error


def reason(error: Exception) -> str:
    """The first line of an error's message, or its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
