"""Errors that a user can fix: a single clear message, no traceback."""

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


#: Maximum length of a quoted value, in characters.
MAX_QUOTED = 80
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother = 2, MAX_QUOTED, MAX_QUOTED


def quoted(value: object) -> str:
    """``repr`` of an external value, cut if it is long: one line, without control characters."""
    text = _REPR.repr(value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."


#: Explanations of file system errors, by error number.
_DISK = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "your disk quota is used up: free some space",
    errno.EROFS: "the file system is read-only: make it writable, or use another path",
    errno.EACCES: "permission denied: change the permissions, or use another path",
    errno.EPERM: "the system does not allow this: change the permissions, or use another path",
    errno.EFBIG: "the file exceeds the limit of this shell or file system: raise the limit (ulimit -f)",
    errno.ENAMETOOLONG: "the name is too long for the file system: choose a shorter one",
    errno.ENOTDIR: "this is a file, but a folder is needed: use another path",
    errno.EISDIR: "this is a folder, but a file is needed: name a file",
    errno.ELOOP: "a symbolic link points to itself: fix it",
    errno.ENXIO: "this is a device or a pipe, but a file is needed: name a file",
    errno.ENODEV: "this is a device or a pipe, but a file is needed: name a file",
    errno.EMFILE: "too many files are open: raise the limit of this shell (ulimit -n)",
    errno.EIO: "the disk cannot be read or written: check it",
}

#: Exit status 1 is a result ("backdoored", "not clean", "not equal"), so failures must not use it.
FAILED, INTERRUPTED, CLOSED_PIPE = 2, 130, 141
#: Maximum length of a line in a message, in characters; texts from files can have any length.
_LONGEST = 2000
_NO_MEMORY = re.compile("allocate memory|out of memory|bad_alloc|not enough memory", re.IGNORECASE)


def disk_trouble(error: BaseException) -> str | None:
    """Return one sentence for a file system error that the user can fix; None for any other error."""
    number = getattr(error, "errno", None)
    if number is None:
        # libraries written in Rust put the number into the message
        match = re.search(r"\(os error (\d+)\)", str(error))
        number = int(match[1]) if match else None
    if number not in _DISK:
        return None
    name = getattr(error, "filename", None)
    where = f"{os.fspath(name)}: " if name else ""
    return f"{where}{_DISK[number]}, and run again; finished work is kept"


def memory_trouble(error: BaseException) -> str | None:
    """Return one sentence for an out-of-memory error of any library; None for any other error."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM or _NO_MEMORY.search(str(error)):
        return "out of memory: free some memory, or raise the limit (ulimit -v, or the memory of the job)"
    return None


#: Extra that installs a module, for modules that `pip install codebackdoor` alone does not install.
EXTRAS = {
    "jinja2": "study",
    "matplotlib": "study",
    "psutil": "study",
    "pyarrow": "fetch",
    "sacrebleu": "study",
    "sklearn": "study",
    "snakemake": "study",
    "sqlglot": "study",
}


def missing_extra(error: BaseException) -> str | None:
    """Return one sentence for a module that belongs to an extra; None for any other error."""
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if module not in EXTRAS:
        return None
    return f"this command needs {module}, which is not installed: pip install 'codebackdoor[{EXTRAS[module]}]'"


def message(error: BaseException) -> str | None:
    """Return the message for an error that the user can fix; None for a bug of this program."""
    if isinstance(error, UserError):
        return str(error)
    if missing := missing_extra(error):
        return missing
    if is_panic(error):
        return f"a library crashed while reading its input, such as a tokenizer or a text: {first_line(error)}"
    return disk_trouble(error) or memory_trouble(error)


def is_panic(error: BaseException) -> bool:
    """Whether a Rust library panicked; the class of that error cannot be imported and is not an ``Exception``."""
    return type(error).__name__ == "PanicException"


def first_line(error: BaseException) -> str:
    """Return the first line of a library's message, which may quote a file."""
    return printable((str(error).strip().splitlines() or [""])[0])


def printable(text: str) -> str:
    """Return the text with all unprintable characters except line ends escaped.

    Messages contain names and texts from external files, which may contain terminal control characters. Lines longer
    than 2000 characters lose their middle.
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
