"""Settings of the execution of generated programs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from codebackdoor.config.base import Settings

Isolation = Literal["full", "seccomp"]


class ExecutionSettings(Settings):
    """What a generated program may use while its tests run, and how it is isolated."""

    isolation: Isolation = Field(
        default="full",
        description="full: a program has a file system, a network and processes of its own (Linux namespaces) and few "
        "system calls (seccomp); a machine that cannot do this refuses. seccomp: the filter of system calls alone, "
        "under which a program can read what its user can read, the file with the tests too, but neither write nor "
        "reach the network",
    )
    cpu: int = Field(default=10, gt=0, description="processor time of a program with its tests, in seconds")
    wall: int = Field(default=60, gt=0, description="time of a program with its tests, in seconds")
    memory: int = Field(default=512, ge=64, description="address space of a program, in MiB")
    folder: int = Field(default=8, gt=0, description="size of a program's working folder, in MiB")
    output: int = Field(default=64, gt=0, description="what a program may print, in KiB")
