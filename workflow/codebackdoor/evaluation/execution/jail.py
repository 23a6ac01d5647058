"""Entry point of the isolated process: drop all privileges, then run the tests here and the program in a child.

The process is started without site packages and with its own environment, imports only the standard library, and gets
three open files: the program, the tests, and a pipe for the verdict, which the child never has. With namespaces, the
process of the tests is the first one of its process namespace: when it ends, the kernel kills all others.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from contextlib import suppress
from typing import Any, Never

from codebackdoor.evaluation.execution import channel, namespaces, program, seccomp, tester
from codebackdoor.evaluation.execution.limits import Limits

_SET_PARENT_DEATH_SIGNAL, _SET_DUMPABLE, _SET_NO_NEW_PRIVILEGES = 1, 4, 38
_MIB = 2**20


def main() -> Never:
    """Isolate this process, run the program and the tests in the open files, and write the verdict."""
    job = json.loads(sys.argv[1])
    limits, files, is_alone = Limits(**job["limits"]), job["files"], job["isolation"] == "full"
    try:
        library = ctypes.CDLL(None, use_errno=True)
        _die_with(library)
        if os.getppid() != job["parent"]:
            os._exit(1)
        os.umask(0o022)
        user, group = namespaces.nobody()
        # discards what the tests print
        files["sink"] = os.open(os.devnull, os.O_WRONLY)
        if is_alone:
            _in_namespaces(library, job["root"], limits, files, (user, group))
        namespaces.give_up_rights(library, user, group)
        _run(library, limits, files, is_alone)
    except Exception as error:
        _report(files["verdict"], {"refused": getattr(error, "strerror", None) or str(error)})
    os._exit(1)


def _in_namespaces(
    library: ctypes.CDLL, root: str, limits: Limits, files: dict[str, int], owner: tuple[int, int]
) -> None:
    """Return in a child process that has its own file system, network and processes; the parent waits for it."""
    namespaces.enter(library)
    namespaces.furnish(library, root, limits.folder, *owner)
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        for file in (*files.values(), reading, 1, 2):
            os.close(file)
        os.waitpid(child, 0)
        os._exit(0)
    os.close(writing)
    _die_with(library)
    os.set_blocking(reading, False)
    with suppress(BlockingIOError):
        # end of file means that the parent ended before the line above
        os.read(reading, 1)
        os._exit(1)
    os.close(reading)
    namespaces.settle(library, root)


def _run(library: ctypes.CDLL, limits: Limits, files: dict[str, int], is_alone: bool) -> None:
    # set again, because changing the user clears it
    _die_with(library)
    for option, value in ((_SET_NO_NEW_PRIVILEGES, 1), (_SET_DUMPABLE, 0)):
        if library.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    of_tests, of_program = channel.pair()
    child = os.fork()
    if not child:
        for file in (files["tests"], files["verdict"], files["sink"], of_tests.reading, of_tests.writing):
            os.close(file)
        _be_program(library, files["program"], of_program, limits, is_alone)
    os.dup2(files["sink"], 1)
    os.dup2(files["sink"], 2)
    for file in (of_program.reading, of_program.writing, files["program"], files["sink"]):
        os.close(file)
    _be_tester(library, child, files, of_tests, limits, is_alone)


def _be_program(library: ctypes.CDLL, source: int, pipes: channel.Channel, limits: Limits, is_alone: bool) -> Never:
    """Become the child, which has neither the tests nor the pipe for the verdict."""
    _die_with(library)
    texts = _read(source)
    sys.argv = [program.PROGRAM]
    os.environ.clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == __name__.partition(".")[0]]:
        del sys.modules[name]
    _limit(limits)
    seccomp.restrict(library, is_alone)
    program.serve(pipes, **texts)


def _be_tester(
    library: ctypes.CDLL, child: int, files: dict[str, int], pipes: channel.Channel, limits: Limits, is_alone: bool
) -> Never:
    tests = _read(files["tests"])
    _limit(limits)
    seccomp.restrict(library, is_alone)
    _report(files["verdict"], {"ready": True})
    name = tester.outcome(tester.Program(pipes), **tests)
    os.close(pipes.reading)
    os.close(pipes.writing)
    if name == "lost":
        name = _ending(child, limits)
    _report(files["verdict"], {"outcome": name})
    os._exit(0)


def _ending(child: int, limits: Limits) -> str:
    """Why the program's process ended, after it closed its channel."""
    _, status, usage = os.wait4(child, 0)
    if os.WIFSIGNALED(status):
        used = usage.ru_utime + usage.ru_stime
        return "time" if os.WTERMSIG(status) == signal.SIGXCPU or used >= limits.cpu else "killed"
    return "exited"


def _limit(limits: Limits) -> None:
    for kind, value in (
        (resource.RLIMIT_CPU, limits.cpu),
        (resource.RLIMIT_AS, limits.memory * _MIB),
        (resource.RLIMIT_FSIZE, limits.folder * _MIB),
        (resource.RLIMIT_NPROC, limits.threads + 2),
        (resource.RLIMIT_NOFILE, limits.files),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_STACK, 8 * _MIB),
    ):
        # a program may ignore the signal at the soft limit, but not the one at the hard limit
        hard = value + 1 if kind == resource.RLIMIT_CPU else value
        _, present = resource.getrlimit(kind)
        if present != resource.RLIM_INFINITY:
            hard, value = min(hard, present), min(value, present)
        resource.setrlimit(kind, (value, hard))


def _die_with(library: ctypes.CDLL) -> None:
    """Let the kernel kill this process when its parent ends."""
    library.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def _read(file: int) -> dict[str, Any]:
    with os.fdopen(file, encoding="utf-8") as stream:
        content: dict[str, Any] = json.load(stream)
    return content


def _report(file: int, message: dict[str, Any]) -> None:
    os.write(file, f"{json.dumps(message)}\n".encode())
