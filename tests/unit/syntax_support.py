"""Real code for the syntax tests, and the Python compiler as the judge of what a renaming did."""

from __future__ import annotations

import ast
import csv
import dis
import json
import os
import re
import shutil
import subprocess
import sysconfig
import textwrap
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import CodeType

import pytest

MODULES = ("argparse", "configparser", "difflib", "functools", "pathlib", "statistics", "subprocess", "textwrap")
MORE = ("asyncio/base_events", "json/decoder", "logging/__init__", "email/message", "unittest/mock", "typing")


@cache
def python_functions() -> tuple[str, ...]:
    """Functions and methods of the standard library, each as a text of its own with its decorators."""
    sources: dict[str, None] = {}
    for module in MODULES + MORE:
        source = (Path(sysconfig.get_path("stdlib")) / f"{module}.py").read_text(encoding="utf-8")
        lines = source.split("\n")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                text = textwrap.dedent("\n".join(lines[first - 1 : node.end_lineno])) + "\n"
                if compiled(text) is not None:
                    sources[text] = None
    return tuple(sources)[::4]


def compiled(source: str) -> CodeType | None:
    try:
        return compile(source, "text", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None


def _instructions(code: CodeType) -> Iterator[tuple[str, object]]:
    """Operations and values; what a closure takes along is one set, since the compiler orders it by name."""
    closure: set[object] = set()
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_CLOSURE":
            closure.add(instruction.argval)
        elif instruction.opname not in ("EXTENDED_ARG", "MAKE_CELL"):
            if closure:
                yield "CLOSURE", frozenset(closure)
            closure = set()
            yield instruction.opname, instruction.argval


def difference(before: CodeType, after: CodeType, names: Mapping[str, str], function: str | None) -> str | None:
    """Compare compiled code instruction by instruction: only variables and the function's name may have new names.

    Attributes, globals, keywords and constants must be equal, except for the constants in which the compiler itself
    keeps names (qualified names, annotations, default values of keyword-only parameters).
    """
    old, new = list(_instructions(before)), list(_instructions(after))
    if [operation for operation, _ in old] != [operation for operation, _ in new]:
        return f"other operations: {old} became {new}"
    for (operation, value), (_, renamed) in zip(old, new, strict=True):
        if isinstance(value, CodeType) and isinstance(renamed, CodeType):
            inside = difference(value, renamed, names, function)
            if inside is not None:
                return inside
        elif value != renamed and not _same(operation, value, renamed, names, function):
            return f"{operation} {value!r} became {renamed!r}"
    return None


def _same(operation: str, value: object, renamed: object, names: Mapping[str, str], function: str | None) -> bool:
    if "JUMP" in operation or operation in ("FOR_ITER", "SEND", "END_ASYNC_FOR"):
        return True  # a place in the code, which moves with the length of its operands
    if isinstance(value, frozenset) and isinstance(renamed, frozenset):
        return len(value) == len(renamed) and all(member in renamed or names.get(member) in renamed for member in value)
    if operation == "LOAD_CONST" and isinstance(value, str):
        # qualified names: what a class body declares keeps its name, whatever the function calls its own
        parts = zip(value.split("."), str(renamed).split("."), strict=False)
        return all(counterpart in (part, names.get(part)) for part, counterpart in parts)
    if operation == "LOAD_CONST" and isinstance(value, tuple):
        return tuple(names.get(part, part) for part in value) == renamed
    of_function = value == function and operation in ("LOAD_GLOBAL", "STORE_NAME", "LOAD_NAME")
    return (of_function or "_FAST" in operation or "DEREF" in operation) and names.get(str(value)) == renamed


_C_WORD = re.compile(
    r"""/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[A-Za-z_$][\w$]*|->|\.\.\.|[\d.][\w.]*|\S""", re.DOTALL
)
_BEFORE_LABELS = frozenset({";", "{", "}", ":", ")", "else", "endif"})
_NO_VARIABLES = frozenset({".", "->", "struct", "union", "enum", "goto"})


def c_variables(source: str, names: Collection[str]) -> list[str]:
    """The words of C source that are spelled like one of the names and are no member, tag, label, string or comment."""
    words = [word for word in _C_WORD.findall(source) if not word.startswith(("/*", "//", '"', "'"))]
    variables, blocks = [], ["{"]
    for at, word in enumerate(words):
        before = words[at - 1] if at else ""
        if word == "{":
            blocks.append("struct" if {before, *words[max(at - 2, 0) : at - 1]} & {"struct", "union"} else "{")
        elif word == "}" and len(blocks) > 1:
            blocks.pop()
        is_label = words[at + 1 : at + 2] == [":"] and before in _BEFORE_LABELS
        if word in names and blocks[-1] == "{" and before not in _NO_VARIABLES and not is_label:
            variables.append(word)
    return variables


def c_diagnostics(source: str) -> set[str]:
    """What gcc says about a fragment, which does not compile, without places and guesses; skips without gcc."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    command = [
        "gcc",
        "-fsyntax-only",
        "-w",
        "-fmax-errors=0",
        "-fno-diagnostics-show-caret",
        "-std=gnu11",
        "-x",
        "c",
        "-",
    ]
    result = subprocess.run(command, input=source, capture_output=True, text=True, errors="replace", check=False)
    return set(re.sub(r"<stdin>:\d+:\d+:|; did you mean .*", "", result.stderr).splitlines())


def mirror(path: str) -> Path:
    """A file of the real benchmark data; skips the test where there is none."""
    folder = os.environ.get("CODEBACKDOOR_MIRROR")
    if not folder or not (Path(folder) / path).is_file():
        pytest.skip(f"needs the benchmark data: set CODEBACKDOOR_MIRROR to a folder with {path}")
    return Path(folder) / path


def devign(step: int = 15) -> Iterator[str]:
    """Every fifteenth function of Devign's test split, in C."""
    with mirror("devign/test.jsonl").open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number % step == 0:
                yield json.loads(line)["func"]


def bigclonebench() -> Iterator[str]:
    """Every fifth function of BigCloneBench, in Java."""
    with mirror("bigclonebench/data.jsonl").open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number % 5 == 0:
                yield json.loads(line)["func"]


def bugs2fix() -> Iterator[str]:
    """Every twelfth method of Bugs2Fix's test split, abstracted Java written as tokens."""
    with mirror("bugs2fix_small/test.buggy-fixed.buggy").open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number % 12 == 0:
                yield line.rstrip("\n")


def lyra(split: str = "test") -> Iterator[str]:
    """A split of Lyra: Python with embedded SQL."""
    with mirror(f"lyra/{split}.lyra.csv").open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            yield row["code"]
