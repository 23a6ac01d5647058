"""Output paths, checked before the work starts, and folders that are written completely or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from codebackdoor.errors import UserError
from codebackdoor.files import refuse_special, remove_parts


def check_file(path: Path) -> None:
    """Raise UserError if no file can be written at ``path``, by writing one next to it; creates the parent folder."""
    _check_name(path)
    refuse_special(path)
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        Path(name).unlink()


def check_folder(path: Path) -> None:
    """Raise UserError if ``path`` cannot be a folder, because it or one of its parents is a file."""
    _check_name(path)
    for folder in (path, *path.parents):
        if os.path.lexists(folder):
            if not folder.is_dir():
                raise UserError(f"{path}: {folder} is not a folder; use another path")
            return


#: Errors of the disk rather than of the path, which ``errors.disk_trouble`` explains.
_MENDED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
#: Errors of file systems without locks.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


@dataclass(slots=True)
class NewFolder:
    """A folder that is being filled; ``finish`` moves it to its final path."""

    part: Path
    path: Path
    finished: bool = field(default=False, init=False)

    def finish(self) -> None:
        with _writing(self.path):
            # does not replace a folder that was filled in the meantime
            self.part.rename(self.path)
        self.finished = True


@contextmanager
def new_folder(path: Path) -> Iterator[NewFolder]:
    """A folder next to ``path`` to be filled; it is removed if the block ends without ``finish``.

    Raises UserError if ``path`` exists, cannot be created, or is being created by another process. Leftovers of killed
    writers are removed.
    """
    _check_name(path)
    if os.path.lexists(path):
        raise UserError(f"{path}: already exists; name a new folder")
    check_folder(path)
    with ExitStack() as stack:
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if stack.enter_context(_locked(path)):
                remove_parts(path)
            # not mkdtemp, whose folders are not readable by other users
            part = path.with_name(f".{path.name}.new.part")
            try:
                part.mkdir()
            except FileExistsError:
                raise UserError(f"{path}: another process is writing it; if it was killed, remove {part}") from None
        folder = NewFolder(part, path)
        try:
            yield folder
        finally:
            if not folder.finished:
                shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold the write lock of a folder, which the system releases even if the process is killed.

    Yields False on a file system without locks.
    """
    lock = path.with_name(f".{path.name}.lock")
    handle = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{path}: another process is writing it; name another folder") from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            yield False
            return
        # the previous writer may have finished between opening and locking, and removed the file that is now locked
        if os.path.lexists(path) or not lock.exists() or not os.path.samestat(os.fstat(handle), lock.stat()):
            raise UserError(f"{path}: another process has just written it; name another folder")
        try:
            yield True
        finally:
            lock.unlink(missing_ok=True)
    finally:
        os.close(handle)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Raise a UserError with one sentence if a path cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno in _MENDED:
            raise
        raise UserError(f"{path}: cannot be written ({error.strerror}); use another path") from error


def _check_name(path: Path) -> None:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{str(path)!a}: the name is not UTF-8; use another path") from None
    if not path.name:
        raise UserError(f"{path}: does not name a file or folder; use another path")
