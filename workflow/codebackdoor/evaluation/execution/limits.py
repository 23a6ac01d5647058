"""What a generated program may use, and how it is isolated."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

#: ``full``: namespaces and seccomp. ``seccomp``: a filter of system calls alone, under which a program can read the
#: files that its user can read, but write none.
Isolation = Literal["full", "seccomp"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one program; sizes are in MiB, times in seconds.

    ``cpu`` is processor time of the program, ``wall`` the time until everything ends. ``memory`` is address space,
    ``folder`` the program's own folder, ``output`` what it prints, in KiB. ``threads`` includes the main thread; a
    program cannot start processes.
    """

    cpu: int = 10
    wall: int = 30
    memory: int = 512
    folder: int = 8
    output: int = 64
    threads: int = 16
    files: int = 32

    @property
    def as_json(self) -> str:
        return json.dumps(asdict(self))
