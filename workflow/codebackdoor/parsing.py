"""Parsing of JSON within limits: this project reads all JSON with ``parse_json``."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from codebackdoor.errors import UserError, quoted

#: Maximum nesting depth, and maximum digits of a number (``model_max_length`` of many tokenizers has 31).
DEPTH, LONGEST_NUMBER = 100, 40
_TOO_DEEP = f"nested more than {DEPTH} levels deep"
#: An escape that may be a lone surrogate; without one, decoded text contains no surrogates.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str, where: str, hint: str = "", numbered: bool = False) -> Any:
    """The value of a JSON text; UserError if it is invalid or exceeds a limit.

    The message begins with ``where``, and the line if ``numbered``; ``hint`` ends it if the text is not JSON.
    """
    try:
        return _parsed(text)
    except json.JSONDecodeError as error:
        line = f":{error.lineno}" if numbered else ""
        raise UserError(f"{where}{line}: not JSON ({error.msg} at character {error.colno}){hint}") from None
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def _parsed(text: str) -> Any:
    """Raises ValueError, with a sentence, for a value that JSON or this project does not allow."""
    try:
        value = json.loads(
            text, parse_int=_integer, parse_float=_float, parse_constant=_constant, object_pairs_hook=_object
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    # most texts have few brackets and no surrogates
    if _HALF.search(text):
        check_values(value)
    elif text.count("[") + text.count("{") >= DEPTH:
        _check_depth(value)
    return value


def _integer(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"a number has {len(text)} digits; the maximum is {LONGEST_NUMBER}")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {quoted(text)} is too large")
    return value


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not a valid number in JSON")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {quoted(twice)} occurs twice in one object; remove one")
    return value


def check_values(value: object) -> None:
    """Raise ValueError for values that no reader accepts: deep nesting, non-finite numbers, lone surrogates."""
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
    """Check the text of the field ``name``; an empty name means that the text is a key."""
    try:
        if isinstance(value, str):
            value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{f'field {quoted(name)}' if name else 'a key'} contains {ascii(error.object[error.start])[1:-1]}, a lone "
            "surrogate: the text was decoded from something other than UTF-8; decode it with the right encoding, or "
            "replace the characters that cannot be decoded"
        ) from None
