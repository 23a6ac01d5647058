"""What a generated program may use; the isolated process reads it without the settings, which need site packages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one program; sizes are in MiB, times in seconds.

    The first five are settings and have their defaults there (``ExecutionSettings``): ``cpu`` is processor time of the
    program, ``wall`` the time until everything ends. ``memory`` is address space,
    ``folder`` the program's own folder, ``output`` what it prints, in KiB. ``threads`` includes the main thread; a
    program cannot start processes.
    """

    cpu: int
    wall: int
    memory: int
    folder: int
    output: int
    threads: int = 16
    files: int = 32
