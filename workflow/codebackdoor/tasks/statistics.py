"""Identifiers of clean samples: how many a function has, and how long they are (EliBadCode, Figures 4 and 14).

An identifier here can hold a trigger: the function's name, a parameter or a local variable that can be renamed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from codebackdoor import syntax
from codebackdoor.files import read_examples, write_json
from codebackdoor.tasks.token_counter import TokenCounter
from codebackdoor.types import Example, TextForm


def write_statistics(data: Path, tokenizer: Path, form: TextForm, out: Path) -> None:
    """Write the statistics of the clean samples in the folder ``data``; lengths in sub-tokens of ``tokenizer``, a
    file or a model's folder."""
    write_json(out, identifiers(read_examples(data / "clean.jsonl"), form, TokenCounter(tokenizer)))


def identifiers(rows: Sequence[Example], form: TextForm, counter: TokenCounter) -> dict[str, Any]:
    """Two histograms: functions by their number of distinct identifiers, and identifiers by their length.

    A function in several pairs counts once. An identifier counts once in each function; its length is that of a word
    after a space in lexed text, else of the word alone.
    """
    texts = dict.fromkeys((text, row.language) for row in rows for name, text in row.texts.items() if name != "query")
    trees = (syntax.parse(*text, form) for text in texts)
    names = [[identifier.name for identifier in tree.identifiers() if identifier.renameable] for tree in trees]
    prefix = " " if form == "lexed" else ""
    distinct = sorted({name for names_of_function in names for name in names_of_function})
    length = {name: counter.length(f"{prefix}{name}") for name in distinct}
    return {
        "functions": len(names),
        "identifiers_per_function": _histogram(map(len, names)),
        "identifier_lengths": _histogram(length[name] for names_of_function in names for name in names_of_function),
        "length_unit": counter.unit,
        "tokenizer_sha256": counter.digest,
    }


def _histogram(values: Iterable[int]) -> list[list[int]]:
    """Pairs of a value and its count, sorted by value."""
    return [[value, count] for value, count in sorted(Counter(values).items())]
