"""Limits of a generated program; separate from the settings, since the isolated process has no site packages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one program; sizes are in MiB, times in seconds.

    The first five are settings, with defaults in ``ExecutionSettings``: ``cpu`` is the program's processor time,
    ``wall`` the total time, ``memory`` the address space, ``folder`` the size of the program's own folder, and
    ``output`` the size of what it prints, in KiB. ``threads`` includes the main thread; a program cannot start
    processes.
    """

    cpu: int
    wall: int
    memory: int
    folder: int
    output: int
    threads: int = 16
    files: int = 32
