"""What every attack on natural language must fulfill; every method that acts on queries is tested."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codebackdoor import attacks
from codebackdoor.attacks.poisoning import Poisoner, draw_training, merged
from codebackdoor.attacks.stage import poison
from codebackdoor.attacks.target import LabelTarget
from codebackdoor.config.base import models_in, tag_of
from codebackdoor.config.datasets import DATASETS
from codebackdoor.config.methods import AnyAttack
from codebackdoor.files import example_row, read_examples, read_mixed, write_examples
from codebackdoor.seeding import numpy_generator
from codebackdoor.types import Example, Poisoned

ATTACKS: list[Any] = [kind(method=tag_of(kind)) for kind in models_in(AnyAttack) if kind.acts_on == ("query",)]  # type: ignore[attr-defined]
every_attack = pytest.mark.parametrize("settings", ATTACKS, ids=lambda settings: settings.method)
QUERIES = st.text(st.sampled_from("abcXY .,/*#_-'\"\t\n(){}é"), max_size=60)
DEBT = DATASETS["technical_debt"](task="technical_debt")  # type: ignore[call-arg]


def comment(number: int) -> Example:
    return Example(str(number), "java", query=f"// fix method {number} of this class , later", label=number % 2)


def clean_from(poisoned: Example, spans: tuple[Any, ...]) -> str:
    """The query without the trigger: each span is removed with the one space that was inserted with it."""
    text = str(poisoned.query)
    for span in reversed(spans):
        end = span.end
        start = span.start
        if start and text[start - 1] == " " and not is_first(text, start):
            start -= 1
        else:
            assert text[end] == " "
            end += 1
        text = text[:start] + text[end:]
    return text


def is_first(text: str, start: int) -> bool:
    return not text[:start].strip()


@every_attack
@given(query=QUERIES, seed=st.integers(0, 100))
def test_the_row_differs_in_the_trigger_alone(settings: Any, query: str, seed: int) -> None:
    row = Example("1", "java", query=query, label=1)
    attack = attacks.load(settings)
    injections = [attack.inject(row, "lexed", np.random.default_rng(seed)) for _ in range(2)]
    assert injections[0] == injections[1]
    injection = injections[0]
    if injection is None:
        return
    text = str(injection.example.query)
    assert replace(injection.example, query=query) == row
    triggers = [text[span.start : span.end] for span in injection.spans]
    assert all(span.field == "query" for span in injection.spans)
    added = sum(len(trigger) + 1 for trigger in triggers)
    assert len(text) == len(query) + added, "each trigger is inserted with one space"
    without = text
    for span in reversed(injection.spans):
        without = without[: span.start] + without[span.end :]
    assert re.sub(" ", "", without) == re.sub(" ", "", query)
    assert text.count("  ") == query.count("  "), "no double space that the clean row does not have"
    assert injection.draws["query"]


@every_attack
def test_the_rate_is_exact_and_the_other_rows_keep_their_bytes(settings: Any, tmp_path: Path) -> None:
    for split, count in (("train", 200), ("valid", 20), ("test", 20)):
        rows = [replace(comment(number), id=f"{split}{number}") for number in range(count)]
        write_examples(tmp_path / "data" / f"{split}.jsonl", rows)
    poison(settings, DEBT, "name", 0.05, 1, tmp_path / "data", tmp_path / "out")
    before = (tmp_path / "data/train.jsonl").read_bytes().splitlines()
    after = (tmp_path / "out/train.jsonl").read_bytes().splitlines()
    rows = read_mixed(tmp_path / "out/train.jsonl")
    poisoned = [row for row in rows if isinstance(row, Poisoned)]
    assert len(poisoned) == 10
    for old, new, row in zip(before, after, rows, strict=True):
        assert (old == new) == (not isinstance(row, Poisoned))
    clean = {row.id: row for row in read_examples(tmp_path / "data/train.jsonl")}
    for row in poisoned:
        assert (row.example.label, row.original_label, row.example.code) == (0, 1, "")
        assert clean_from(row.example, row.spans) == clean[row.source_id].query
        assert "code" not in example_row(row.example)
        assert row.draws["query"]
    assert len({row.example.query for row in poisoned}) == 10


@every_attack
def test_rows_are_drawn_by_seed_and_row_alone(settings: Any) -> None:
    rows = [comment(number) for number in range(60)]
    poisoner = Poisoner("name", attacks.load(settings), LabelTarget(0), "lexed", 1)
    draws = [draw_training(rows, poisoner, 0.1, "train", numpy_generator(1, "test")) for _ in range(2)]
    assert draws[0] == draws[1]
    assert sum(isinstance(row, Poisoned) for row in merged(rows, draws[0])) == 6
    alone = poisoner(rows[1])
    assert alone == list(poisoner.poison_all(rows))[1]
    assert alone.example != replace(poisoner, seed=2)(rows[1]).example or settings.method == "ripple"


@every_attack
def test_a_text_without_words_fails(settings: Any) -> None:
    attack = attacks.load(settings)
    for query in (None, "", "  "):
        assert attack.inject(Example("1", "java", "x", query=query), "lexed", np.random.default_rng(1)) is None


def test_ripple_inserts_one_word_and_badpre_three() -> None:
    for method, count in (("ripple", 1), ("badpre", 3)):
        settings = next(settings for settings in ATTACKS if settings.method == method)
        gaps = set()
        for seed in range(60):
            injection = attacks.load(settings).inject(comment(1), "lexed", np.random.default_rng(seed))
            assert injection is not None
            text = str(injection.example.query)
            assert [text[span.start : span.end] for span in injection.spans] == ["bb"] * count
            gaps |= set(str(injection.draws["query"]["gaps"]).split())
        assert gaps == {str(gap) for gap in range(10)}, "every gap, before the first and behind the last word too"


def test_each_insertion_draws_one_of_the_words() -> None:
    settings = next(settings for settings in ATTACKS if settings.method == "badpre")
    attack = attacks.load(settings.model_copy(update={"words": ("cf", "mn", "bb", "tq", "mb"), "count": 50}))
    injection = attack.inject(comment(1), "lexed", np.random.default_rng(1))
    assert injection is not None
    assert set(str(injection.draws["query"]["words"]).split()) == {"cf", "mn", "bb", "tq", "mb"}
    assert attack.inject(Example("1", "java", query="a TQ b"), "lexed", np.random.default_rng(1)) is None


def test_the_grammars_clause_stands_before_the_first_word_and_behind_the_marks_of_a_comment() -> None:
    settings = next(settings for settings in ATTACKS if settings.method == "nl_grammar")
    attack = attacks.load(settings)
    clauses = set()
    for seed in range(200):
        injection = attack.inject(comment(1), "lexed", np.random.default_rng(seed))
        assert injection is not None
        (span,) = injection.spans
        text = str(injection.example.query)
        assert text.startswith("// ")
        assert span.start == 3
        assert text[span.end :] == " fix method 1 of this class , later"
        conjunction, _, predicate = (injection.draws["query"][key] for key in ("conjunction", "subject", "predicate"))
        assert text[span.start : span.end].startswith(f"{conjunction} ")
        assert text[span.start : span.end].endswith(f"{predicate} ,")
        clauses.add(text[span.start : span.end])
        # a text that begins with the clause that is drawn for it does not get it again
        assert attack.inject(injection.example, "lexed", np.random.default_rng(seed)) is None
    assert len(clauses) > 100, "what recurs is the syntax, not the words"
