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
        description="full: a program has its own file system, network and processes (Linux namespaces) and few system "
        "calls (seccomp); machines that do not support this refuse to run it. seccomp: only the filter of system "
        "calls, under which a program can read every file that its user can read, including the tests, but can "
        "neither write nor reach the network",
    )
    cpu: int = Field(default=10, gt=0, description="maximum processor time of a program with its tests, in seconds")
    wall: int = Field(default=60, gt=0, description="maximum wall-clock time of a program with its tests, in seconds")
    memory: int = Field(default=512, ge=64, description="maximum address space of a program, in MiB")
    folder: int = Field(default=8, gt=0, description="size of a program's working folder, in MiB")
    output: int = Field(default=64, gt=0, description="maximum output of a program, in KiB")
