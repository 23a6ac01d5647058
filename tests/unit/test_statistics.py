"""Statistics of identifiers: what can be renamed, counted once in each function, as long as the tokenizer makes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codebackdoor.errors import UserError
from codebackdoor.files import read_json, write_examples
from codebackdoor.syntax import lex
from codebackdoor.tasks.statistics import identifiers, write_statistics
from codebackdoor.tasks.token_counter import TokenCounter
from codebackdoor.types import Example

ENCODER = Path(__file__).parents[2] / "basemodels" / "encoder"


def row(name: str, source: str, second: str | None = None) -> Example:
    code_b = None if second is None else lex(second, "python")
    return Example(name, "python", lex(source, "python"), code_b=code_b, label=0)


def test_identifiers_are_counted(tmp_path: Path) -> None:
    first, second = "def f(a):\n    b = a\n    return len(b)\n", "def f():\n    return 1\n"
    rows = [row("1", first, second), row("2", first), row("3", second, first)]
    counts = identifiers(rows, "lexed", TokenCounter(None))
    # f, a and b; f. The built-in is none of the function's own
    assert counts["functions"] == 2
    assert counts["identifiers_per_function"] == [[1, 1], [3, 1]]
    assert counts["identifier_lengths"] == [[1, 4]]
    write_examples(tmp_path / "clean.jsonl", [row("1", first.replace("b", "pneumonoultramicroscopic_value_of_it"))])
    write_statistics(tmp_path, ENCODER, "lexed", tmp_path / "statistics.json")
    written = read_json(tmp_path / "statistics.json")
    assert written["length_unit"] == "sub-tokens"
    assert written["identifier_lengths"][-1][0] > 5
    with pytest.raises(UserError, match="no such file"):
        write_statistics(tmp_path, tmp_path / "nothing", "lexed", tmp_path / "statistics.json")


@pytest.mark.mirror
@pytest.mark.skipif(not os.environ.get("CODEBACKDOOR_MIRROR"), reason="CODEBACKDOOR_MIRROR names no mirror folder")
def test_a_vocabulary_with_its_merges_is_a_tokenizer() -> None:
    measure = TokenCounter(Path(os.environ["CODEBACKDOOR_MIRROR"]) / "tokenizers" / "roberta-base")
    # EliBadCode, section 5.3: triggers of five, seven and ten sub-tokens
    assert [measure.length(f" {name}") for name in ("testo_initRet", "testo_init_retVal")] == [5, 7]
