"""Runs generated programs with their tests, several at a time, and reports how each ended."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import codebackdoor
from codebackdoor.errors import UserError, quoted
from codebackdoor.evaluation.execution import jail, probe, seccomp
from codebackdoor.evaluation.execution.limits import Limits
from codebackdoor.trials import Trial

if TYPE_CHECKING:
    from codebackdoor.evaluation.execution.settings import ExecutionSettings, Isolation

#: How a program ended. ``passed``: all its tests did. ``failed``: an assertion did not hold. ``error``: an error in the
#: program or a test. ``undefined``: no function has the expected name. ``syntax``: it is not valid Python.
#: ``exited``, ``killed``: its process ended. ``time``, ``output``: it exceeded a limit.
Outcome = Literal["passed", "failed", "error", "undefined", "syntax", "exited", "killed", "time", "output"]

_PACKAGES = Path(codebackdoor.__file__).resolve().parents[1]
_ENTRY = (
    # importing the module here makes it part of the fingerprint of this code
    f"import sys; sys.path.insert(0, sys.argv[2]); import {jail.__name__} as jail; del sys.path[0]; jail.main()"
)
#: No site packages, no folder of the caller, no compiled files written.
_PYTHON = (sys.executable, "-P", "-s", "-S", "-B", "-c", _ENTRY)
#: A fixed hash seed gives sets of strings the same order in every run.
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}
#: Variables that an interpreter may need to find its library; the program does not get them.
_INHERITED = ("LD_LIBRARY_PATH",)
#: Maximum length of a verdict in bytes, and maximum seconds until a process is ready and until a killed one ends.
_VERDICT, _START, _END = 2**16, 120, 20


class IsolationError(UserError):
    """This machine cannot isolate a program as configured."""


def limits_of(settings: ExecutionSettings) -> Limits:
    return Limits(**settings.model_dump(exclude={"isolation"}))


class Sandbox:
    """Runs programs under the same limits."""

    def __init__(self, limits: Limits, isolation: Isolation = "full") -> None:
        self.limits, self.isolation = limits, isolation

    def check(self) -> None:
        """Try everything that a program must not do; raise IsolationError if any of it is possible here."""
        if not seccomp.supported():
            raise IsolationError(
                f"generated code runs on 64-bit Linux on x86-64 or AArch64 alone, not on {os.uname().sysname} "
                f"{os.uname().machine}; execute the predictions on another machine"
            )
        trial = Trial("probe", "reached", probe.tests(self.isolation, str(_PACKAGES / "codebackdoor")))
        outcome = self.run(probe.SOURCE, trial)
        if outcome == "failed":
            raise IsolationError(f"a program in isolation can do more than it may; {_advice(self.isolation)}")
        if outcome != "passed":
            raise IsolationError(
                f"a program in isolation ends with {outcome!r} before it does anything: the folder of Python's own "
                f"library ({sys.base_prefix}) must be readable for every user, and the limits high enough"
            )

    def run_all(self, sources: Sequence[str], trials: Sequence[Trial], workers: int = 1) -> Iterator[Outcome]:
        """The outcome of each program in order, ``workers`` at a time."""
        with ThreadPoolExecutor(workers) as pool:
            try:
                yield from pool.map(self.run, sources, trials)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def run(self, source: str, trial: Trial) -> Outcome:
        """Run one program with its tests."""
        tests = {key: value for key, value in asdict(trial).items() if key != "id"}
        program = {"prelude": trial.prelude, "source": source}
        with (
            tempfile.TemporaryDirectory(prefix="codebackdoor-") as root,
            _as_file(program) as program_file,
            _as_file(tests) as tests_file,
        ):
            run = self._started(os.path.realpath(root), program_file, tests_file)
            try:
                run.watch(self.limits)
            finally:
                run.end()
        return self._outcome(run, trial.id)

    def _started(self, root: str, program: int, tests: int) -> _Running:
        verdict, verdict_end = os.pipe()
        output, output_end = os.pipe()
        job = {
            "limits": asdict(self.limits),
            "files": {"program": program, "tests": tests, "verdict": verdict_end},
            "isolation": self.isolation,
            "root": root,
            "parent": os.getpid(),
        }
        try:
            process = subprocess.Popen(
                [*_PYTHON, json.dumps(job), str(_PACKAGES)],
                stdin=subprocess.DEVNULL,
                stdout=output_end,
                stderr=subprocess.STDOUT,
                env={**{name: os.environ[name] for name in _INHERITED if name in os.environ}, **_ENVIRONMENT},
                cwd="/",
                pass_fds=(program, tests, verdict_end),
                start_new_session=True,
            )
        finally:
            os.close(verdict_end)
            os.close(output_end)
        return _Running(process, verdict, output)

    def _outcome(self, run: _Running, name: str) -> Outcome:
        facts = run.facts()
        if "refused" in facts or "ready" not in facts:
            # until the program starts, the output contains only Python's messages about the process itself
            reason = facts.get("refused") or run.printed.decode(errors="replace").strip() or "it does not start"
            raise IsolationError(f"cannot isolate generated code ({_last_line(reason)}); {_advice(self.isolation)}")
        if len(run.printed) > self.limits.output * 1024:
            return "output"
        if run.is_late:
            return "time"
        outcome = facts.get("outcome", "killed")
        if outcome == "unsendable":
            raise UserError(
                f"tests of row {quoted(name)}: a test hands a function or an iterator to the program; write it with "
                "plain values"
            )
        if outcome not in get_args(Outcome):
            raise UserError(f"unknown verdict {quoted(outcome)}")
        return outcome  # type: ignore[no-any-return]


class _Running:
    """One running process, its output, and its verdict."""

    def __init__(self, process: subprocess.Popen[bytes], verdict: int, output: int) -> None:
        self.printed, self.is_late = b"", False
        self._process, self._verdict, self._output = process, verdict, output
        self._said = b""

    def watch(self, limits: Limits) -> None:
        """Read verdict and output until all processes have closed them, or time or size exceed the limits."""
        # the program's time begins when everything is ready for it
        deadline, is_ready, is_killed = time.monotonic() + _START, False, False
        with selectors.DefaultSelector() as selector:
            selector.register(self._verdict, selectors.EVENT_READ)
            selector.register(self._output, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(max(deadline - time.monotonic(), 0))
                for key, _ in ready:
                    self._read(key.fd, selector, limits)
                if self._said and not is_ready:
                    deadline, is_ready = time.monotonic() + limits.wall, True
                is_too_much = len(self.printed) > limits.output * 1024
                if is_killed and not ready:
                    raise UserError("a program in isolation did not end when it was killed; restart the machine")
                if not is_killed and (is_too_much or not ready):
                    self.is_late = not is_too_much
                    self._kill()
                    deadline, is_killed = time.monotonic() + _END, True

    def _read(self, file: int, selector: selectors.BaseSelector, limits: Limits) -> None:
        part = os.read(file, 2**16)
        if not part:
            selector.unregister(file)
        elif file == self._verdict:
            self._said = (self._said + part)[:_VERDICT]
        elif len(self.printed) <= limits.output * 1024:
            self.printed += part

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        self._kill()
        self._process.wait()
        os.close(self._verdict)
        os.close(self._output)

    def facts(self) -> dict[str, Any]:
        """The report of the process of the tests."""
        try:
            messages = [json.loads(line) for line in self._said.decode().splitlines()]
            return {key: value for message in messages for key, value in message.items()}
        except (ValueError, AttributeError):
            raise UserError("tests write into the files of the process that runs them; they may only assert") from None


def _last_line(text: str) -> str:
    return text.splitlines()[-1][:200]


@contextlib.contextmanager
def _as_file(content: dict[str, Any]) -> Iterator[int]:
    """An open, unnamed file with the content."""
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps(content).encode())
        file.seek(0)
        yield file.fileno()


def _advice(isolation: Isolation) -> str:
    if isolation == "full":
        return (
            "it needs namespaces: as an ordinary user, allow them (sysctl -w user.max_user_namespaces=10000; "
            "kernel.unprivileged_userns_clone=1 on Debian, kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu); "
            "in a container, start it with --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt "
            "apparmor=unconfined. Or write `execution: {isolation: seccomp}`: programs can then read your files, the "
            "tests too, but neither write nor reach the network"
        )
    return "it needs a kernel with CONFIG_SECCOMP_FILTER (in a container, --security-opt seccomp=unconfined)"
