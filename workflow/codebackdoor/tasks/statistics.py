"""Identifiers of clean samples: how many a function has, and how long they are (EliBadCode, Figures 4 and 14).

An identifier is a place for a trigger: the function's name, a parameter or a local variable that can be renamed.
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
    """Distinct identifiers of every function, as histograms: functions by their number of identifiers, identifiers by
    their length.

    A function that stands in several pairs counts once. An identifier counts once in each function, as a word that
    follows a space where the text is lexed, else as it stands alone.
    """
    texts = dict.fromkeys((text, row.language) for row in rows for text in (row.code, row.code_b) if text is not None)
    names = [[one.name for one in syntax.parse(*text, form).identifiers() if one.renameable] for text in texts]
    before = " " if form == "lexed" else ""
    length = {name: counter.length(f"{before}{name}") for name in sorted({name for some in names for name in some})}
    return {
        "functions": len(names),
        "identifiers_per_function": _histogram(map(len, names)),
        "identifier_lengths": _histogram(length[name] for some in names for name in some),
        "length_unit": counter.unit,
        "tokenizer_sha256": counter.digest,
    }


def _histogram(values: Iterable[int]) -> list[list[int]]:
    """Value and count, by value."""
    return [[value, count] for value, count in sorted(Counter(values).items())]
