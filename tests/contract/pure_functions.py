"""Pure Python functions with inputs to run them on: from the standard library's source, and hand-written ones."""

from __future__ import annotations

import ast
import base64
import calendar
import colorsys
import difflib
import email.utils
import fnmatch
import genericpath
import heapq
import html
import ipaddress
import ntpath
import posixpath
import quopri
import shlex
import statistics
import string
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import handwritten

_WORDS = ["", "a", "abc/def", "  two  words\n\tand more ", "x'y\"z", "&lt;é&#233;", "/usr//lib/../x.py", "*.[!a]?"]

#: Functions of the standard library that are plain Python, with inputs.
_STANDARD: list[tuple[Callable[..., object], list[tuple[object, ...]]]] = [
    (base64.b32encode, [(b"",), (b"abc",), (b"\x00\xff" * 9,)]),
    (calendar.isleap, [(1900,), (2000,), (2023,), (2024,)]),
    (calendar.leapdays, [(1900, 2000), (2000, 1900), (1, 1)]),
    (colorsys.rgb_to_hls, [(0.2, 0.4, 0.4), (0, 0, 0), (1, 0.5, 0.25)]),
    (colorsys.hls_to_rgb, [(0.2, 0.4, 0.4), (0, 0, 0), (1, 0.5, 0.25)]),
    (colorsys.rgb_to_hsv, [(0.2, 0.4, 0.4), (0, 0, 0), (1, 0.5, 0.25)]),
    (colorsys.hsv_to_rgb, [(place / 7, 0.4, 0.4) for place in range(8)]),
    (colorsys.rgb_to_yiq, [(0.2, 0.4, 0.4), (0, 0, 0)]),
    (difflib.get_close_matches, [("appel", ["ape", "apple", "peach"]), ("x", []), ("x", ["x"], 0)]),
    (email.utils.unquote, [('"a\\"b"',), ("<x>",), ("x",)]),
    (email.utils.quote, [(word,) for word in _WORDS]),
    (fnmatch.translate, [(word,) for word in _WORDS]),
    (genericpath.commonprefix, [(_WORDS,), (["abc", "abd"],), ([],)]),
    (heapq.merge, [([1, 4], [2, 3]), ([],), (["b"], ["a", "c"])]),
    (heapq.nsmallest, [(2, [3, 1, 2]), (0, [1]), (9, "hello")]),
    (heapq.nlargest, [(2, [3, 1, 2]), (0, [1]), (9, "hello")]),
    (html.escape, [(word,) for word in _WORDS]),
    (html.unescape, [(word,) for word in _WORDS]),
    (ipaddress._count_righthand_zero_bits, [(0, 8), (8, 8), (6, 1)]),
    (ntpath.splitdrive, [("c:\\x",), ("\\\\host\\share\\x",), ("",)]),
    (posixpath.basename, [(word,) for word in _WORDS]),
    (posixpath.dirname, [(word,) for word in _WORDS]),
    (posixpath.isabs, [(word,) for word in _WORDS]),
    (posixpath.join, [("a", "b"), ("a/", "/b"), ("", "c", "")]),
    (posixpath.split, [(word,) for word in _WORDS]),
    (posixpath.commonpath, [(["/a/b", "/a/c"],), (["a", "/a"],), ([],)]),
    (quopri.unhex, [("0a",), ("ff",), ("",)]),
    (shlex.quote, [(word,) for word in _WORDS]),
    (shlex.join, [(_WORDS,)]),
    (statistics.median, [([3, 1, 2],), ([3, 1, 2, 4],), ([],)]),
    (statistics.median_low, [([3, 1, 2, 4],), ([],)]),
    (statistics.multimode, [("aabbc",), ([],)]),
    (string.capwords, [(word,) for word in _WORDS]),
    (textwrap.dedent, [(word,) for word in _WORDS]),
    (textwrap.indent, [(word, "> ") for word in _WORDS]),
    (textwrap.shorten, [("hello there world", 11), ("hello", 99)]),
]


@dataclass(frozen=True, slots=True)
class PureFunction:
    """A function's source, the module whose names it needs (or None), and a Python literal of its inputs."""

    name: str
    source: str
    home: str | None
    inputs: str


def _source(function: Callable[..., object]) -> str:
    """The function's source, from its module's file; ``inspect`` does not find the source of frozen modules."""
    path = sys.modules[function.__module__].__file__
    assert path is not None
    text = Path(path).read_text(encoding="utf-8")
    definitions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    (definition,) = (node for node in definitions if node.name == function.__name__ and not node.decorator_list)
    return f"{ast.get_source_segment(text, definition)}\n"


@cache
def pure_functions() -> tuple[PureFunction, ...]:
    standard = [
        PureFunction(function.__name__, _source(function), function.__module__, repr(inputs))
        for function, inputs in _STANDARD
    ]
    written_by_hand = [
        PureFunction(function.__name__, _source(function), None, repr(inputs))
        for function, inputs in handwritten.INPUTS
    ]
    return (*standard, *written_by_hand)
