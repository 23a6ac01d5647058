"""Serialization of arguments and results between the process of the tests and that of the program.

Neither side trusts the other: decoding builds values of a few types and executes nothing. Anything else, such as an
iterator or an object of the program's own class, stays in its process and is referred to by a number.
"""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import fractions
from collections.abc import Callable, Mapping
from typing import Any

#: Largest integer that is written as a decimal number; larger ones take quadratic time.
_SMALL = 2**63


class UnsendableError(BaseException):
    """A value cannot be handed to the other process; tests cannot catch it by mistake."""


#: Types that are built from a sequence of values, by the name that is sent.
_SEQUENCES: Mapping[str, type] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": collections.deque,
}
_MAPPINGS: Mapping[str, type] = {
    "dict": dict,
    "Counter": collections.Counter,
    "OrderedDict": collections.OrderedDict,
    # without its default, which is a function
    "defaultdict": collections.defaultdict,
}
#: Types that are built from a few numbers or texts, each with a function that returns these.
_PLAIN: Mapping[str, tuple[type, Callable[[Any], list[Any]]]] = {
    "range": (range, lambda value: [value.start, value.stop, value.step]),
    "complex": (complex, lambda value: [value.real, value.imag]),
    "Decimal": (decimal.Decimal, lambda value: [str(value)]),
    "Fraction": (fractions.Fraction, lambda value: [value.numerator, value.denominator]),
    "datetime": (datetime.datetime, lambda value: [*value.timetuple()[:6], value.microsecond]),
    "date": (datetime.date, lambda value: [value.year, value.month, value.day]),
    "timedelta": (datetime.timedelta, lambda value: [value.days, value.seconds, value.microseconds]),
    "array": (array.array, lambda value: [value.typecode, value.tolist()]),
}
_KINDS: Mapping[str, type] = {**_SEQUENCES, **_MAPPINGS, **{name: kind for name, (kind, _) in _PLAIN.items()}}
_NAMES: Mapping[type, str] = {kind: kind.__name__ for kind in (bool, str, int, float, bytes, bytearray)} | {
    kind: name for name, kind in _KINDS.items()
}


def encode(value: Any, reference: Callable[[Any], int | None]) -> Any:
    """The value in a JSON-serializable form.

    ``reference`` returns the number of a value of any other type, or None if it cannot be sent.
    """
    if value is None:
        return None
    # a subclass, such as a named tuple, is sent as its base class
    kind, name = next(((kind, _NAMES[kind]) for kind in type(value).__mro__ if kind in _NAMES), (object, ""))
    if kind is bool or kind is str:
        return kind(value)
    if kind is int:
        return int(value) if -_SMALL < value < _SMALL else ["int", hex(value)]
    if kind is float:
        return ["float", value.hex()]
    if kind is bytes or kind is bytearray:
        return [name, value.hex()]
    if name in _SEQUENCES:
        return [name, [encode(element, reference) for element in value]]
    if name in _MAPPINGS:
        return [name, [[encode(key, reference), encode(element, reference)] for key, element in value.items()]]
    if name:
        return [name, [encode(part, reference) for part in _PLAIN[name][1](value)]]
    number = reference(value)
    if number is None:
        raise UnsendableError(kind.__name__)
    return ["reference", number]


def decode(text: Any, dereference: Callable[[int], Any]) -> Any:
    """The value of an encoded text; ``dereference`` returns the value that a number refers to.

    Raises ValueError or TypeError if the text is not an encoded value.
    """
    if text is None or type(text) in (bool, str, int):
        return text
    name, content = text
    match name:
        case "int":
            return int(content, 16)
        case "float":
            return float.fromhex(content)
        case "bytes":
            return bytes.fromhex(content)
        case "bytearray":
            return bytearray.fromhex(content)
        case "reference":
            return dereference(content)
        case _ if name in _SEQUENCES:
            return _SEQUENCES[name]([decode(element, dereference) for element in content])
        case _ if name in _MAPPINGS:
            pairs = {decode(key, dereference): decode(element, dereference) for key, element in content}
            return _mapping(_MAPPINGS[name], pairs)
        case _ if name in _PLAIN:
            return _PLAIN[name][0](*(decode(part, dereference) for part in content))
    raise ValueError("no encoded value")


def _mapping(kind: type, pairs: dict[Any, Any]) -> Any:
    return kind(None, pairs) if kind is collections.defaultdict else kind(pairs)
