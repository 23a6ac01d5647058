"""A program that tries everything that no generated program may do, and reports what succeeded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codebackdoor.evaluation.execution.settings import Isolation

SOURCE = """
import ctypes, os, socket

def _attempts(path):
    yield "network", lambda: socket.socket()
    yield "process", os.fork
    yield "command", lambda: os.execv("/bin/true", ["true"])
    yield "signal", lambda: os.kill(os.getppid(), 0)
    yield "namespace", lambda: 1 / (1 + ctypes.CDLL(None).unshare(0x10000000))
    yield "trace", lambda: 1 / (1 + ctypes.CDLL(None).ptrace(16, 1, 0, 0))
    yield "write", lambda: open(path + "/generated.tmp", "x")
    yield "environment", lambda: next(iter(os.environ))
    yield "root", lambda: 1 / (os.getuid() == 0)
    yield "read", lambda: os.listdir(path)
    yield "system", lambda: open("/proc/self/environ").read()
    yield "memory", lambda: bytearray(2**40)

def reached(path):
    names = []
    for name, attempt in _attempts(path):
        try:
            attempt()
        except Exception:
            continue
        names.append(name)
    return names
"""


def tests(isolation: Isolation, path: str) -> tuple[str, ...]:
    """Tests that none of the program's attempts succeeds; ``path`` is a folder of this machine."""
    allowed = [] if isolation == "full" else ["read", "system"]
    return (f"assert [name for name in reached({path!r}) if name not in {allowed!r}] == []",)
