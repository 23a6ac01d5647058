"""Generated programs run isolated: hostile ones do no harm and pass nothing, correct ones pass."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hostile_programs
import pytest

from codebackdoor.errors import UserError
from codebackdoor.evaluation.execution import seccomp
from codebackdoor.evaluation.execution.limits import Limits
from codebackdoor.evaluation.execution.sandbox import IsolationError, Sandbox, limits_of
from codebackdoor.evaluation.execution.settings import ExecutionSettings
from codebackdoor.trials import Trial

pytestmark = pytest.mark.skipif(not seccomp.supported(), reason="generated code runs on Linux alone")

LIMITS = Limits(cpu=1, wall=4, memory=256, folder=4, output=64)


def _problem(isolation: str) -> str:
    try:
        Sandbox(LIMITS, isolation).check()  # type: ignore[arg-type]
    except IsolationError as error:
        return str(error)
    return ""


PROBLEMS = {isolation: _problem(isolation) if seccomp.supported() else "" for isolation in ("full", "seccomp")}


@pytest.fixture(params=["full", "seccomp"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    if PROBLEMS[request.param]:
        pytest.skip(PROBLEMS[request.param])
    return Sandbox(LIMITS, request.param)


class Machine:
    """What a program could harm."""

    def __init__(self, canary: Path, server: socket.socket) -> None:
        self.canary, self._server = canary, server
        self.signals: list[int] = []
        (canary / "sub").mkdir(parents=True)
        for name in ("file", "sub/file"):
            (canary / name).write_text("unchanged")
        # writable for all, for the same reason
        for path in (canary, canary / "sub", canary / "file", canary / "sub/file"):
            path.chmod(0o777)
        self._before = self._state()

    @property
    def port(self) -> int:
        return int(self._server.getsockname()[1])

    def _state(self) -> object:
        files = {str(path): (path.stat().st_mode, path.stat().st_uid) for path in sorted(self.canary.rglob("*"))}
        texts = [path.read_text() for path in sorted(self.canary.rglob("file"))]
        shared = sorted(Path("/dev/shm").glob("*"))
        return files, texts, self.canary.stat().st_mode, shared, sorted(os.sched_getaffinity(0))

    def check(self) -> None:
        """Nothing is changed, left behind, or still running, and nobody called."""
        assert self._state() == self._before
        assert list(Path(tempfile.gettempdir()).iterdir()) == []
        assert running(tempfile.gettempdir()) == []
        assert self.signals == []
        with pytest.raises(BlockingIOError):
            self._server.accept()


def running(text: str) -> list[str]:
    """The processes that have the text in their command line."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            lines.append(line)
    return lines


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    # so that it is not the permissions of the folders above that protect the canary
    for path in (tmp_path, *tmp_path.parents[:2]):
        if path.stat().st_uid == os.getuid():
            path.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        machine = Machine(tmp_path / "canary", server)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGIO)}
        for number in handlers:
            signal.signal(number, lambda number, _: machine.signals.append(number))
        yield machine
        for number, handler in handlers.items():
            signal.signal(number, handler)


def trial(*tests: str, entry: str = hostile_programs.ENTRY, **more: Any) -> Trial:
    return Trial("row", entry, tests or hostile_programs.TESTS, **more)


def test_a_correct_program_passes(sandbox: Sandbox) -> None:
    assert sandbox.run(hostile_programs.BENIGN, trial()) == "passed"


@pytest.mark.parametrize("name", hostile_programs.PROGRAMS)
def test_a_hostile_program_does_no_harm_and_passes_nothing(name: str, sandbox: Sandbox, machine: Machine) -> None:
    source = hostile_programs.source(name, str(machine.canary), machine.port, os.getpid())
    assert sandbox.run(source, trial()) != "passed"
    machine.check()


def test_many_programs_at_once_end_as_each_alone(sandbox: Sandbox) -> None:
    names = ("sys_exit", "always_equal", "segmentation_fault", "deep_recursion", "printed_verdict", "huge_file")
    sources = [hostile_programs.BENIGN, *(hostile_programs.source(name, "/x", 1, 1) for name in names)] * 2
    outcomes = list(sandbox.run_all(sources, [trial()] * len(sources), workers=2))
    assert outcomes == [sandbox.run(source, trial()) for source in sources[:7]] * 2
    assert outcomes[:4] == ["passed", "exited", "failed", "killed"]


def test_the_tests_are_nowhere_in_the_memory_of_the_program(sandbox: Sandbox) -> None:
    assert sandbox.run(hostile_programs.SPY, trial("assert spied() == 0", entry="spied")) == "passed"
    # it does find such a text where there is one
    with_hint = hostile_programs.SPY + "\nhint = 'assert spied() == 0'\n"
    assert sandbox.run(with_hint, trial("assert spied() == 0", entry="spied")) == "failed"


def test_a_test_that_catches_every_error_does_not_pass_a_program_that_ends() -> None:
    if PROBLEMS["full"]:
        pytest.skip(PROBLEMS["full"])
    source = "import os\ndef square(number):\n    os._exit(0)"
    catching = "try:\n    square(2)\nexcept BaseException:\n    pass"
    assert Sandbox(LIMITS).run(source, trial(catching)) == "exited"


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("def cube(number):\n    return number ** 3", "undefined"),
        ("square = 4", "undefined"),
        ("", "undefined"),
        ("def square(number:", "syntax"),
        ("def square(number):\nreturn 1", "syntax"),
        ("def square(number):\n    return \x00", "syntax"),
        ("def square(number):\n    return number + 1", "failed"),
        ("def square(number):\n    return undefined", "error"),
        ("def square():\n    return 1", "error"),
        ("import math\nsquare = lambda number: math.prod([number, number])", "passed"),
        ("if __name__ == '__main__':\n    exit()\n" + hostile_programs.BENIGN, "passed"),
        ("print('much ' * 100)\n" + hostile_programs.BENIGN, "passed"),
        ("open('notes', 'w').write('x')\n" + hostile_programs.BENIGN, "passed"),
        (
            "import threading\nx = []\nt = threading.Thread(target=x.append, args=(1,)); t.start(); t.join()\n"
            + hostile_programs.BENIGN,
            "passed",
        ),
        ("import numpy\n" + hostile_programs.BENIGN, "error"),
    ],
)
def test_how_a_program_ends(source: str, outcome: str) -> None:
    if PROBLEMS["full"]:
        pytest.skip(PROBLEMS["full"])
    assert Sandbox(LIMITS).run(source, trial()) == outcome


@pytest.mark.parametrize(
    ("source", "test"),
    [
        ("def f(x): x.append(1); x.sort()", "x = [3]\nf(x)\nassert x == [1, 3]"),
        ("def f(x): x.update(a=1)", "x = {}\nassert f(x) is None and x == {'a': 1}"),
        ("def f(x): return (y for y in x)", "assert list(f([1, 2])) == [1, 2]"),
        ("def f(x): return map(abs, x)", "r = f([1, -2])\nassert next(iter(r)) == 1 and r != [1, 2]"),
        (
            "def f(x): raise ValueError('bad')",
            "try: f(1)\nexcept ValueError as e: assert str(e) == 'bad'\nelse: assert False",
        ),
        (
            "class MyError(KeyError): pass\ndef f(x): raise MyError",
            "try: f(1)\nexcept KeyError: pass\nelse: assert False",
        ),
        (
            "def f(x): return float('nan'), -0.0, 1e308 * 10, 2**70, b'a', {1}, 1j",
            "r = f(0)\nassert r[0] != r[0] and r[1:] == (-0.0, float('inf'), 2**70, b'a', {1}, 1j)",
        ),
        (
            "from collections import *\n"
            "def f(x): return Counter(x), deque(x), namedtuple('P', 'a')(1), OrderedDict(a=1)",
            "from collections import *\nassert f('aa') == (Counter(a=2), deque('aa'), (1,), {'a': 1})",
        ),
        (
            "import datetime\ndef f(x): return x + datetime.timedelta(1)",
            "import datetime\nassert f(datetime.datetime(2024, 2, 28)) == datetime.datetime(2024, 2, 29)",
        ),
        ("def f(x, *, y=0): return x - y", "assert f(3, y=1) == 2"),
        ("def f(x): return '\\udc80é\\0'", "assert f(1) == '\\udc80é\\0'"),
        ("def f(x): return x is None, x is True", "assert f(None) == (True, False) and f(True) == (False, True)"),
        ("def f(x): return [lambda: x]", "assert f(7)[0]() == 7"),
    ],
)
def test_values_pass_between_the_processes_as_they_are(source: str, test: str) -> None:
    if PROBLEMS["full"]:
        pytest.skip(PROBLEMS["full"])
    assert Sandbox(LIMITS).run(source, trial(test, entry="f")) == "passed"


def test_what_the_tests_bring_along_is_theirs() -> None:
    """A program cannot replace a helper of the tests, nor a built-in function; it can define what they ask it for."""
    if PROBLEMS["full"]:
        pytest.skip(PROBLEMS["full"])
    sandbox = Sandbox(LIMITS)
    prelude = "def decoded(number): return number - 1\n"
    honest = "def encoded(number): return number + 1"
    assert sandbox.run(honest, trial("assert decoded(encoded(3)) == 3", entry="encoded", prelude=prelude)) == "passed"
    source = "def decoded(number): return 3\ndef abs(number): return 0\ndef encoded(number): return 0"
    for test in ("assert decoded(encoded(3)) == 3", "assert abs(encoded(3) - 4) < 1"):
        assert sandbox.run(source, trial(test, entry="encoded", prelude=prelude)) == "failed"
    node = (
        "class Node:\n    def __init__(self, v): self.v, self.next = v, None\n"
        "def length(n): return 1 + length(n.next) if n else 0"
    )
    setup = "first = Node(1)\nfirst.next = Node(2)"
    assert (
        sandbox.run(node, trial("assert length(first) == 2", entry="length", names=("Node",), setup=setup)) == "passed"
    )


def test_a_test_that_hands_over_a_function_is_a_clear_error() -> None:
    if PROBLEMS["full"]:
        pytest.skip(PROBLEMS["full"])
    with pytest.raises(UserError, match="hands a function"):
        Sandbox(LIMITS).run("def f(x): return x(1)", trial("assert f(abs) == 1", entry="f"))


def test_where_namespaces_are_not_allowed_nothing_runs() -> None:
    """A process without the right to make namespaces refuses, and says what to do; it does not weaken the isolation."""
    if PROBLEMS["full"] or os.getuid() != 0:
        pytest.skip("only root can give up the right")
    code = (
        "import ctypes\nctypes.CDLL(None).prctl(24, 21, 0, 0, 0)\nimport os, sys\n"
        "os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
    )
    run = (
        "from codebackdoor.evaluation.execution.sandbox import *\n"
        "from codebackdoor.evaluation.execution.settings import ExecutionSettings\n"
        "from codebackdoor.trials import Trial\n"
        "sandbox = Sandbox(limits_of(ExecutionSettings()))\n"
        "try: print(sandbox.run('def f(): return 1', Trial('row', 'f', ('assert f() == 1',))))\n"
        "except IsolationError as error: print('refused:', error)"
    )
    result = subprocess.run([sys.executable, "-c", code, run], capture_output=True, text=True, check=True)
    assert result.stdout.startswith(
        "refused: cannot isolate generated code (unshare: Operation not permitted); it needs"
    )
    assert "execution: {isolation: seccomp}" in result.stdout


def test_without_namespaces_a_program_can_read_the_tests_and_the_description_says_so(sandbox: Sandbox) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tests.jsonl"
        path.write_text("7\n")
        for readable in (path, path.parent):
            # for the user without files that root's programs run as
            readable.chmod(0o755)
        outcome = sandbox.run(f"def f(x): return int(open({str(path)!r}).read())", trial("assert f(1) == 7", entry="f"))
    assert outcome == ("passed" if sandbox.isolation == "seccomp" else "error")
    says_so = "including the tests" in str(ExecutionSettings.model_fields["isolation"].description)
    assert says_so


def test_every_limit_of_the_settings_arrives() -> None:
    settings = ExecutionSettings(cpu=1, wall=2, memory=64, folder=4, output=5)
    assert limits_of(settings) == Limits(cpu=1, wall=2, memory=64, folder=4, output=5)
    with pytest.raises(TypeError, match="missing"):
        Limits()  # type: ignore[call-arg]


def test_every_limit_acts(sandbox: Sandbox) -> None:
    """What a program gets is what the limits say; the same program passes with more."""
    eager = "data = bytearray(150 * 2**20)\n" + hostile_programs.BENIGN
    assert sandbox.run(eager, trial()) == "passed"
    assert Sandbox(replace(LIMITS, memory=128), sandbox.isolation).run(eager, trial()) == "error"
    busy = "for _ in range(4 * 10**7): pass\n" + hostile_programs.BENIGN
    assert Sandbox(replace(LIMITS, cpu=30, wall=60), sandbox.isolation).run(busy, trial()) == "passed"
    # from its first line on, before the tests could be ready
    assert sandbox.run("import os\nwhile True: os.write(1, bytes(2**16))", trial()) == "output"
    talkative = "print('x' * 2**15)\n" + hostile_programs.BENIGN
    assert sandbox.run(talkative, trial()) == "passed"
    assert Sandbox(replace(LIMITS, output=16), sandbox.isolation).run(talkative, trial()) == "output"
