"""The one kind of error that a user can mend: a single clear message, no traceback."""

from __future__ import annotations

import difflib
import errno
import os
import re
import reprlib
import sys
import traceback
from collections.abc import Iterable
from types import TracebackType


class UserError(Exception):
    """Something the user wrote or supplied is wrong; the message says what and what to write instead.

    The command line prints the message alone and exits with status 2.
    """


#: Longest value that a message repeats, in characters.
MAX_QUOTED = 80
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother = 2, MAX_QUOTED, MAX_QUOTED


def quoted(value: object) -> str:
    """``repr`` of a value that came from outside, cut where it is long: one line, without control characters."""
    text = _REPR.repr(value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."


#: What went wrong with a file of whatever kind, by the system's number of the error.
_DISK = {
    errno.ENOSPC: "the disk is full: free some of it",
    errno.EDQUOT: "your quota of the disk is used up: free some of it",
    errno.EROFS: "the file system is read-only: make it writable, or name another place",
    errno.EACCES: "there is no permission to read, write or run this: change that, or name another place",
    errno.EPERM: "the system does not allow this: change the permissions, or name another place",
    errno.EFBIG: "the file grows beyond the limit of this shell or file system: raise it (ulimit -f)",
    errno.ENAMETOOLONG: "the name is too long for the file system: choose a shorter one",
    errno.ENOTDIR: "a file stands where a folder is needed: name another place",
    errno.EISDIR: "a folder stands where a file is needed: name a file",
    errno.ELOOP: "a link leads back to itself: mend it",
    errno.ENXIO: "a device or a pipe stands where a file is needed: name a file",
    errno.ENODEV: "a device or a pipe stands where a file is needed: name a file",
    errno.EMFILE: "too many files are open: raise the limit of this shell (ulimit -n)",
    errno.EIO: "the disk cannot be read or written: check it",
}

#: An exit status of 1 is an answer ("backdoored", "not gone", "not equal"), and no failure may have it.
FAILED, INTERRUPTED, CLOSED_PIPE = 2, 130, 141
#: Characters of the longest line of a message: what a file holds may be of any length.
_LONGEST = 2000
_NO_MEMORY = re.compile("allocate memory|out of memory|bad_alloc|not enough memory", re.IGNORECASE)


def disk_trouble(error: BaseException) -> str | None:
    """Return one sentence for an error of the file system that the user can mend; None for any other error."""
    number = getattr(error, "errno", None)
    if number is None:
        # as the libraries that are written in Rust say it, which have no numbers
        match = re.search(r"\(os error (\d+)\)", str(error))
        number = int(match[1]) if match else None
    if number not in _DISK:
        return None
    name = getattr(error, "filename", None)
    where = f"{os.fspath(name)}: " if name else ""
    return f"{where}{_DISK[number]}, and run again; what is finished is kept"


def memory_trouble(error: BaseException) -> str | None:
    """Return one sentence for an error of any library that says that memory ran out; None for any other error."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM or _NO_MEMORY.search(str(error)):
        return "the memory is used up: free some of it, or raise its limit (ulimit -v, or that of the job)"
    return None


#: Extra that installs a module which `pip install codebackdoor` alone does not.
EXTRAS = {
    "jinja2": "study",
    "matplotlib": "study",
    "psutil": "study",
    "pyarrow": "fetch",
    "sacrebleu": "study",
    "sklearn": "study",
    "snakemake": "study",
}


def missing_extra(error: BaseException) -> str | None:
    """Return one sentence for a module that belongs to an extra; None for any other error."""
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if module not in EXTRAS:
        return None
    return f"this command needs {module}, which is not installed: pip install 'codebackdoor[{EXTRAS[module]}]'"


def message(error: BaseException) -> str | None:
    """Return what to say of a failure that the user can mend; None where it is a fault of this program."""
    if isinstance(error, UserError):
        return str(error)
    if missing := missing_extra(error):
        return missing
    if is_panic(error):
        return f"a library broke off at what it was given to read, a tokenizer or a text: {first_line(error)}"
    return disk_trouble(error) or memory_trouble(error)


def is_panic(error: BaseException) -> bool:
    """Whether a library that is written in Rust broke off; its error is no ``Exception``, and cannot be imported."""
    return type(error).__name__ == "PanicException"


def first_line(error: BaseException) -> str:
    """Return the first line of what a library says, which may quote a file."""
    return printable((str(error).strip().splitlines() or [""])[0])


def printable(text: str) -> str:
    """Return the text with escapes for all but line ends that a terminal would obey or cannot show.

    A file from elsewhere may hold such characters, and its names and texts stand in messages. Lines beyond 2000
    characters lose their middle.
    """
    half = _LONGEST // 2
    lines = (line if len(line) <= _LONGEST else f"{line[:half]} [...] {line[-half:]}" for line in text.split("\n"))
    return "\n".join(
        "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
        for line in lines
    )


def crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """``sys.excepthook`` of the command line: Python's own exits with status 1."""
    if kind is not KeyboardInterrupt:
        sys.stderr.write(printable("".join(traceback.format_exception(kind, error, trace))))
        raise SystemExit(FAILED)


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest valid word, or the list of all valid words."""
    names = sorted(valid)
    close = difflib.get_close_matches(word[:MAX_QUOTED], names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""
