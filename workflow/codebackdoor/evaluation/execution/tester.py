"""The process of the tests: it runs them on the program's functions, which are called in the other process."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator
from typing import Any

from codebackdoor.evaluation.execution.channel import Channel, ClosedError
from codebackdoor.evaluation.execution.values import UnsendableError, decode, encode

#: Errors that iteration in the tests would mistake for the end of the values.
_END = (StopIteration, StopAsyncIteration)


class LostError(BaseException):
    """The program's process ended; tests cannot catch it by mistake."""


class Remote:
    """A value in the program's process. Tests can call it, iterate over it and read its attributes.

    Comparison is by identity: if the program did it, its objects could be equal to everything.
    """

    def __init__(self, program: Program, number: int) -> None:
        object.__setattr__(self, "_program", program)
        object.__setattr__(self, "_number", number)

    def __bool__(self) -> bool:
        return True

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._program.call(self, arguments, named)

    def __getattr__(self, name: str) -> Any:
        return self._program.request("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._program.request("set", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._program.request("item", self, key)

    def __len__(self) -> int:
        return int(self._program.request("length", self))

    def __iter__(self) -> Iterator[Any]:
        return _Iterator(self._program, self._program.request("iterate", self))


class _Iterator:
    def __init__(self, program: Program, iterator: Any) -> None:
        self._program, self._iterator = program, iterator

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._program.request("next", self._iterator)


class Program:
    """The program, as the tests see it."""

    def __init__(self, channel: Channel) -> None:
        self.is_lost = False
        self._channel = channel
        self._remotes: dict[int, Remote] = {}

    def names(self, names: Iterable[str]) -> dict[str, Any]:
        """The values of those names that the program defines."""
        values = self._reply(["names", *names])[0]
        return {name: self._decoded(value) for name, value in values.items()}

    def request(self, action: str, *parts: Any) -> Any:
        reply = self._reply([action, *(encode(part, self._number) for part in parts)])
        return self._decoded(reply[0])

    def call(self, function: Remote, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call a function and return its result; changes to mutable arguments are also made here."""
        parts = (function, list(arguments), named)
        try:
            result, changes = self._reply(["call", *(encode(part, self._number) for part in parts)])
        except _END as error:
            raise RuntimeError(type(error).__name__) from None
        for index, text in changes:
            _overwrite(arguments[index], self._decoded(text))
        return self._decoded(result)

    def start(self) -> str | None:
        """Run the program to its end; return the name of the error that it raised, if any."""
        try:
            self._reply(["run"])
        except LostError:
            raise
        except BaseException as error:
            return type(error).__name__
        return None

    def _reply(self, request: Any) -> Any:
        """The parts of the answer; raises the program's error, or LostError if there is no answer."""
        try:
            self._channel.send(request)
            kind, *parts = self._channel.receive()
        except (ClosedError, TypeError, ValueError):
            raise self._lost() from None
        if kind == "error":
            raise self._error(*parts)
        return parts

    def _error(self, name: str, arguments: list[Any]) -> BaseException:
        kind = getattr(builtins, str(name), None)
        if not isinstance(kind, type) or not issubclass(kind, Exception):
            # an exit, or an error that no test could expect
            return self._lost()
        try:
            return kind(*(argument for argument in arguments if type(argument) in (str, int)))
        except TypeError:
            return RuntimeError(name)

    def _decoded(self, text: Any) -> Any:
        try:
            return decode(text, self._remote)
        except Exception:
            raise self._lost() from None

    def _lost(self) -> LostError:
        self.is_lost = True
        return LostError()

    def _remote(self, number: int) -> Remote:
        """The remote object with a number, always the same for the same number."""
        return self._remotes.setdefault(int(number), Remote(self, int(number)))

    def _number(self, value: Any) -> int | None:
        if isinstance(value, _Iterator):
            value = value._iterator
        return value._number if isinstance(value, Remote) else None


def _overwrite(argument: Any, value: Any) -> None:
    if type(argument) is not type(value):
        return
    if isinstance(argument, list | bytearray):
        argument[:] = value
    elif isinstance(argument, dict | set):
        argument.clear()
        argument.update(value)


def outcome(program: Program, setup: str, prelude: str, tests: Iterable[str], names: Iterable[str], entry: str) -> str:
    """Run the tests and return the outcome, which is ``passed`` only if the last line of each was reached."""
    try:
        error = program.start()
        if error is not None:
            return "syntax" if error in ("SyntaxError", "IndentationError", "TabError") else "error"
        defined = program.names([entry, *names])
        if not isinstance(defined.get(entry), Remote):
            return "undefined"
        namespace: dict[str, Any] = {"__name__": "tests"}
        for source in (prelude, None, setup, *tests):
            if source is None:
                namespace.update(defined)
            else:
                exec(compile(source, "tests", "exec", dont_inherit=True), namespace)  # noqa: S102
    except AssertionError:
        return "failed"
    except UnsendableError:
        return "unsendable"
    except LostError:
        return "lost"
    except Exception:
        return "error"
    return "lost" if program.is_lost else "passed"
