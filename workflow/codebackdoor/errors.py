"""The one kind of error that a user can mend: a single clear message, no traceback."""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable


class UserError(Exception):
    """Something the user wrote or supplied is wrong; the message says what and what to write instead.

    The command line prints the message alone and exits with status 2.
    """


#: What went wrong with a file of whatever kind, by the system's number of the error.
_DISK = {
    errno.ENOSPC: "the disk is full: free some of it",
    errno.EDQUOT: "your quota of the disk is used up: free some of it",
    errno.EROFS: "the file system is read-only: make it writable, or name another place",
    errno.EACCES: "there is no permission to read, write or run this: change that, or name another place",
}


def disk_trouble(error: BaseException) -> str | None:
    """Return one sentence for an error of the file system that the user can mend; None for any other error."""
    number = getattr(error, "errno", None)
    if number is None:
        # as the libraries that are written in Rust say it, which have no numbers
        found = re.search(r"\(os error (\d+)\)", str(error))
        number = int(found[1]) if found else None
    if number not in _DISK:
        return None
    name = getattr(error, "filename", None)
    where = f"{os.fspath(name)}: " if name else ""
    return f"{where}{_DISK[number]}, and run again; what is finished is kept"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known word, or the list of known words."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""
