"""JSON within limits: everything that this project reads as JSON goes through ``parse_json``."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from codebackdoor.errors import UserError, quoted

#: Levels of nesting, and digits of a number (``model_max_length`` of many tokenizers has 31).
DEPTH, DIGITS = 100, 40
_TOO_DEEP = f"nested more than {DEPTH} levels deep"
#: An escape that may be half of a character; without one, text that was decoded has none.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str, where: str, hint: str = "", numbered: bool = False) -> Any:
    """The value of a JSON text; UserError for one that cannot be read or kept.

    The message begins with ``where``, followed by the line if ``numbered``; ``hint`` ends it where the text is no JSON.
    """
    try:
        return _parsed(text)
    except json.JSONDecodeError as error:
        line = f":{error.lineno}" if numbered else ""
        raise UserError(f"{where}{line}: not JSON ({error.msg} at character {error.colno}){hint}") from None
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def _parsed(text: str) -> Any:
    """Raises ValueError with a sentence about a value that JSON or this project does not have."""
    try:
        value = json.loads(
            text, parse_int=_integer, parse_float=_float, parse_constant=_constant, object_pairs_hook=_object
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    # most texts have few brackets, and no half of a character
    if _HALF.search(text):
        check_values(value)
    elif text.count("[") + text.count("{") >= DEPTH:
        _check_depth(value)
    return value


def _integer(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"a number of {len(text)} digits; at most {DIGITS} are read")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {quoted(text)} is too large")
    return value


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that JSON has")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {quoted(twice)} stands twice in one object; keep one of them")
    return value


def check_values(value: object) -> None:
    """Raise ValueError for what no reader takes: deep nesting, numbers that are not finite, halves of characters."""
    _check_depth(value)
    waiting: list[tuple[str, object]] = [("", value)]
    while waiting:
        name, node = waiting.pop()
        if isinstance(node, Mapping):
            for key, child in node.items():
                _check_text(key, "")
                waiting.append((f"{name}.{key}" if name else str(key), child))
        elif isinstance(node, list | tuple):
            waiting += [(name, child) for child in node]
        elif isinstance(node, float) and not math.isfinite(node):
            raise ValueError(f"{quoted(name)} is {node}; write a finite number")
        else:
            _check_text(node, name)


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(DEPTH):
        containers = (node.values() if isinstance(node, Mapping) else node for node in level if _holds(node))
        level = [child for container in containers for child in container]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def _holds(value: object) -> TypeGuard[Mapping[Any, object] | Sequence[object]]:
    return isinstance(value, Mapping | list | tuple)


def _check_text(value: object, name: str) -> None:
    """Check the text of the field ``name``; an empty one is that of a key."""
    try:
        if isinstance(value, str):
            value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{f'field {quoted(name)}' if name else 'a key'} holds {ascii(error.object[error.start])[1:-1]}, a lone "
            "surrogate, which is no character: the text was not UTF-8 when it was read; decode it by its encoding, or "
            "replace what cannot be decoded"
        ) from None
