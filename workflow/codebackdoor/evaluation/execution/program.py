"""The process of the program: it runs the program, then calls its functions for the tests.

The program controls this process. Whatever it does to this module, it can only send wrong results.
"""

from __future__ import annotations

import itertools
import os
import sys
import types
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Never

from codebackdoor.evaluation.execution.channel import Channel, ClosedError
from codebackdoor.evaluation.execution.values import decode, encode

#: Name of the program's module; not ``__main__``, so that code guarded by that name does not run.
PROGRAM = "program"


class _Objects:
    """Values that stay in this process, by their numbers."""

    def __init__(self) -> None:
        self._objects: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self._next = itertools.count()

    def number(self, value: Any) -> int:
        if id(value) not in self._numbers:
            number = next(self._next)
            self._numbers[id(value)] = number
            self._objects[number] = value
        return self._numbers[id(value)]

    def __getitem__(self, number: int) -> Any:
        return self._objects[number]


def serve(channel: Channel, prelude: str, source: str) -> Never:
    """Run ``prelude`` and the program when the tests are ready, then answer their requests until they end."""
    module = types.ModuleType(PROGRAM)
    sys.modules[PROGRAM] = module
    objects = _Objects()
    with suppress(ClosedError):
        channel.receive()
    try:
        for text in (prelude, source):
            exec(compile(text, PROGRAM, "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except BaseException as error:
        channel.send(_raised(error, objects))
        os._exit(1)
    channel.send(["ready"])
    try:
        while True:
            channel.send(_answer(channel.receive(), module, objects))
    except ClosedError:
        os._exit(0)


def _answer(request: Any, module: types.ModuleType, objects: _Objects) -> Any:
    action, *parts = request
    try:
        if action == "names":
            defined = vars(module)
            return ["value", {name: encode(defined[name], objects.number) for name in parts if name in defined}]
        decoded = [decode(part, objects.__getitem__) for part in parts]
        if action == "call":
            return _call(decoded[0], decoded[1], decoded[2], objects)
        return ["value", encode(_ACTIONS[action](*decoded), objects.number)]
    except BaseException as error:
        return _raised(error, objects)


def _call(function: Any, arguments: list[Any], named: dict[str, Any], objects: _Objects) -> Any:
    """The function's result, and the arguments that it changed, with their positions."""
    before = [encode(argument, objects.number) for argument in arguments]
    result = encode(function(*arguments, **named), objects.number)
    after = [encode(argument, objects.number) for argument in arguments]
    changed = [[index, text] for index, text in enumerate(after) if text != before[index]]
    return ["value", result, changed]


_ACTIONS: dict[str, Callable[..., Any]] = {
    "get": getattr,
    "set": setattr,
    "item": lambda value, key: value[key],
    "length": len,
    "iterate": iter,
    "next": next,
}


def _raised(error: BaseException, objects: _Objects) -> Any:
    """An error as the name of its nearest built-in class, with those arguments that are texts or integers."""
    names = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
    arguments = [value for value in error.args if type(value) in (str, int)]
    return ["error", names[0], [encode(value, objects.number) for value in arguments]]
