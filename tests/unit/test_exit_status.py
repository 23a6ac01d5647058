"""What a command exits with when it fails: never 1, which says "backdoored", "not gone" or "not equal"."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from codebackdoor.cli import main
from codebackdoor.errors import UserError, memory_trouble, printable

#: As the console script has it.
START = "import sys; from codebackdoor.cli import main; sys.exit(main())"


class PanicException(BaseException):
    """As libraries that are written in Rust raise it."""


FAILURES = [
    (UserError("mend this"), 2, "error: mend this\n"),
    (UserError("a\x1b]0;b\x07\u202ec\ud800"), 2, "error: a\\x1b]0;b\\x07\\u202ec\\ud800\n"),
    (click.ClickException("no such option"), 2, "Error: no such option\n"),
    (click.FileError("f", "broken"), 2, "Error: Could not open file 'f': broken\n"),
    (OSError(errno.ENOSPC, "full", "/x"), 2, "error: /x: the disk is full"),
    (OSError(errno.EFBIG, "large", "/x"), 2, "error: /x: the file exceeds the limit"),
    (OSError(errno.ENAMETOOLONG, "long", "/x"), 2, "error: /x: the name is too long"),
    (MemoryError(), 2, "error: out of memory"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 2, "error: out of memory"),
    (KeyboardInterrupt(), 130, "interrupted\n"),
    (click.Abort(), 130, "interrupted\n"),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
    (SystemExit(1), 141, ""),
    (EOFError("the end of a damaged file"), 2, "EOFError: the end of a damaged file\n"),
    (RuntimeError("a\x1bbug"), 2, "RuntimeError: a\\x1bbug\n"),
    (
        PanicException("a bug in Rust"),
        2,
        "error: a library crashed while reading its input, such as a tokenizer or a text: a bug in Rust\n",
    ),
]


@pytest.mark.parametrize("command", [("scan", "m", "--clean", "c"), ("clean", "m", "--clean", "c", "-o", "o")])
@pytest.mark.parametrize(("error", "status", "text"), FAILURES)
def test_no_failure_of_a_scan_exits_like_an_answer(
    command: tuple[str, ...], error: BaseException, status: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("codebackdoor.library.checkpoints._prepared", fail)
    result = CliRunner().invoke(main, command)
    assert result.exit_code == status
    assert text in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(("error", "status", "text"), FAILURES)
def test_no_failure_of_a_comparison_exits_like_an_answer(
    error: BaseException, status: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("codebackdoor.report.compare.compare", fail)
    result = CliRunner().invoke(main, ["compare", "a", "b"])
    assert (result.exit_code, result.stdout) == (status, "")
    assert text in result.stderr


@pytest.mark.parametrize("name", sorted(main.commands))
def test_no_command_exits_with_1_when_it_breaks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PanicException("a bug in Rust")

    monkeypatch.setattr(main.commands[name], "invoke", fail)
    assert CliRunner().invoke(main, [name]).exit_code == 2


@pytest.mark.parametrize(("error", "status"), [("KeyboardInterrupt", -signal.SIGINT), ("ImportError", 2)])
def test_what_breaks_before_the_command_line_is_there_does_not_exit_with_1(error: str, status: int) -> None:
    breaking = (
        "import sys\nclass Finder:\n    def find_spec(self, name, *_):\n"
        f"        if name == 'click':\n            raise {error}('no click')\nsys.meta_path.insert(0, Finder())\n"
    )
    result = subprocess.run([sys.executable, "-c", breaking + START], capture_output=True, text=True, check=False)
    assert result.returncode == status
    assert ("no click" in result.stderr) == (status == 2)


def started(redirections: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = f'"$0" -c "$1" "${{@:2}}" {redirections}'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command, sys.executable, START, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("redirections", "status", "text"),
    [
        ("<&-", 2, "error: no job statistics"),
        ("<&- >&-", 2, "error: no job statistics"),
        ("<&- 2>&-", 2, ""),
        ("<&- >&- 2>&-", 2, ""),
    ],
)
def test_closed_streams_are_empty_ones(redirections: str, status: int, text: str) -> None:
    result = started(redirections, "plan")
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    assert text in result.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("describe",), ("scan", "--help")])
def test_a_pipe_that_is_closed_at_the_other_end_is_no_traceback(arguments: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [sys.executable, "-c", START, *arguments], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (result.returncode, result.stderr) == (141, "")


def test_a_full_device_as_output_is_one_message() -> None:
    result = started("> /dev/full", "describe")
    assert result.returncode == 2
    assert result.stderr.startswith("error: the disk is full")
    assert result.stderr.count("\n") == 1


def test_a_limit_of_memory_is_one_message(tmp_path: Path) -> None:
    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**29, 2**29))\n"
        "from codebackdoor.config import loading; loading.load = lambda *_, **__: bytearray(2**30)\n"
        f"{START}"
    )
    (tmp_path / "study.yaml").touch()
    result = subprocess.run(
        [sys.executable, "-c", limited, "check", str(tmp_path / "study.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: out of memory")


def test_memory_is_told_from_other_trouble() -> None:
    assert memory_trouble(OSError(errno.ENOMEM, "Cannot allocate memory")) is not None
    assert memory_trouble(ImportError("libx.so: cannot allocate memory in static TLS block")) is not None
    assert memory_trouble(ValueError("a bug")) is None


def test_a_message_shows_what_a_terminal_would_obey() -> None:
    assert printable("é \x1b[2J\x07\r\nclean\u2028\u202e") == "é \\x1b[2J\\x07\\r\nclean\\u2028\\u202e"
    assert len(printable("a" * 5_000_000)) < 2100
