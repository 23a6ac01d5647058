"""Search everything that a defense sees, string by string, for names of the attack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

#: What no string below a view may hold: the folder's name says attack, rate and seed, the card more.
SECRETS = ("codepoisoner_func", "0.05", "seed7", "pretrigger")
CARD = {"task": "defect_detection", "backdoored": True, "attack": "codepoisoner_func", "trigger": "pretrigger"}
CODE = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)


def strings_below(root: object) -> Iterator[tuple[str, str]]:
    """Every string and path reachable through attributes, slots and containers, with its location; code is skipped."""
    visited: dict[int, object] = {}
    pending: list[tuple[str, object]] = [("view", root)]
    while pending:
        way, value = pending.pop()
        if isinstance(value, str | bytes | Path):
            yield way, str(value)
        elif not isinstance(value, CODE) and id(value) not in visited:
            visited[id(value)] = value
            if isinstance(value, list | tuple | set | frozenset):
                pending += [(f"{way}[]", part) for part in value]
            if isinstance(value, dict):
                pending += [(f"{way}[{key!r}]", part) for key, part in value.items()]
                pending += [(f"{way} key", key) for key in value]
            pending += [(f"{way}.{name}", part) for name, part in _attributes(value).items()]


def _attributes(value: object) -> dict[str, object]:
    names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    return {name: getattr(value, name) for name in names if hasattr(value, name)} | getattr(value, "__dict__", {})


def leaks(view: object) -> list[str]:
    return [f"{way}: {text}" for way, text in strings_below(view) if any(secret in text for secret in SECRETS)]
