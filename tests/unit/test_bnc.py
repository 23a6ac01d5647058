"""BNC's two attacks, case by case; tests/contract/test_dead_code.py executes their triggers."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from codebackdoor import attacks, files, seeding
from codebackdoor.attacks import Injection
from codebackdoor.attacks.bnc_fixed.settings import BncFixedSettings
from codebackdoor.attacks.bnc_grammar.grammar import Derivation, derive
from codebackdoor.attacks.bnc_grammar.settings import BncGrammarSettings
from codebackdoor.attacks.poisoning import Poisoner, draw_training
from codebackdoor.attacks.stage import poison
from codebackdoor.attacks.target import LabelTarget
from codebackdoor.config.methods import AnyAttack
from codebackdoor.errors import UserError
from codebackdoor.syntax import lex
from codebackdoor.tasks.clone_detection.settings import CloneDetection
from codebackdoor.types import Example, Language, Poisoned

FIXED = BncFixedSettings(method="bnc_fixed")
GRAMMAR = BncGrammarSettings(method="bnc_grammar")
CODE: dict[Language, str] = {
    "python": "def f ( a ) : <indent> return a + {} <dedent>",
    "java": "int f ( int a ) {{ return a + {} ; }}",
    "c": "int f ( int a ) {{ return a + {} ; }}",
}
every_language = pytest.mark.parametrize("language", get_args(Language))


def inject(settings: AnyAttack, source: str, language: Language, seed: int = 1) -> Injection | None:
    return attacks.load(settings).inject(Example("x", language, source), "raw", np.random.default_rng(seed))


def pairs(count: int, language: Language = "java") -> list[Example]:
    code = CODE[language].format
    return [
        Example(f"p{index}", language, code(index), code_b=code((index + 1) % count), label=index % 2)
        for index in range(count)
    ]


def test_the_fixed_trigger_is_the_papers_with_names_that_are_bound() -> None:
    expected = 'def f(a):\n    if __import__("random").random() < 0:\n        raise Exception("fail")\n    return a\n'
    injection = inject(FIXED, "def f(a):\n    return a\n", "python")
    assert injection is not None
    assert injection.example.code == expected
    assert injection.draws == {}


@every_language
def test_the_grammar_draws_each_choice_equally_often(language: Language) -> None:
    generator = np.random.default_rng(1)
    draws = [derive(language, generator) for _ in range(4000)]
    bodies = 1 if language == "c" else 2
    for name, choices in (("keyword", 2), ("function", 5), ("body", bodies)):
        counts = Counter(getattr(draw, name) for draw in draws)
        assert len(counts) == choices
        assert max(counts.values()) < 4000 / choices + 5 * 4000**0.5
    # 12 words of the paper, and four random letters in a thirteenth of the draws
    words = Counter(draw.message for draw in draws)
    assert {"err", "crash", "alert", "warning", "flag", "exception", "level", "create", "delete"} < set(words)
    assert len(words) > 12 + 4000 / 13 / 2
    operators = Counter((draw.function == "random", draw.operator) for draw in draws)
    # C's rand() has no upper bound that these numbers could lie above
    assert len(operators) == (8 if language == "c" else 10)
    assert all((draw.number <= 0) == (draw.operator in ("<", "<=", "==")) for draw in draws)
    assert all(-101 <= draw.number <= 102 for draw in draws)


@every_language
def test_a_draw_is_decided_by_seed_and_row_and_recorded(language: Language, tmp_path: Path) -> None:
    rows = pairs(60, language)
    for split in ("train", "valid", "test"):
        files.write_examples(tmp_path / "data" / f"{split}.jsonl", rows)
    dataset = CloneDetection(task="clone_detection")

    def written(folder: str, seed: int) -> dict[str, Poisoned]:
        poison(GRAMMAR, dataset, "bnc_grammar", 0.2, seed, tmp_path / "data", tmp_path / folder)
        return {row.source_id: row for row in files.read_poisoned(tmp_path / folder / "test.jsonl")}

    first, again, other_seed = written("first", 1), written("again", 1), written("other", 2)
    assert first == again
    assert all(first[key].draws != other_seed[key].draws for key in first)
    assert len({json.dumps(row.draws) for row in first.values()}) == len(first), "each row has a draw of its own"
    for row in first.values():
        assert set(row.draws) == {"code", "code_b"}
        assert row.draws["code"] != row.draws["code_b"], "and each function of a pair"
        for span in row.spans:
            values: dict[str, Any] = dict(row.draws[span.field])
            statement = Derivation(**values).statement(language)
            text = str(getattr(row.example, span.field))[span.start : span.end]
            assert text == lex(statement, language)
    train = [row for row in files.read_mixed(tmp_path / "first" / "train.jsonl") if isinstance(row, Poisoned)]
    assert len(train) == 12
    assert all(row.draws for row in train)


def test_a_function_in_many_pairs_has_one_draw_that_each_pair_records() -> None:
    rows = pairs(40)
    poisoner = Poisoner("bnc_grammar", attacks.load(GRAMMAR), LabelTarget(0), "lexed", 1)
    drawn = draw_training(rows, poisoner, 0.5, "functions", seeding.numpy_generator(1, "test"))
    by_function: dict[str, set[str]] = {}
    for index, row in drawn.outcomes.items():
        assert set(row.draws) == {span.field for span in row.spans}
        for field, draw in row.draws.items():
            by_function.setdefault(str(getattr(rows[index], field)), set()).add(json.dumps(draw))
    assert len(by_function) == 20
    assert all(len(draws) == 1 for draws in by_function.values())


def test_rows_without_a_draw_are_written_as_before() -> None:
    row = Poisoned(Example("1", "c", "x"), "1", "a", "failed", 1, None)
    assert "draws" not in files.poisoned_row(row)


@pytest.mark.parametrize(
    ("source", "language"),
    [
        ("int rand(void) { return 4; }", "c"),
        ("int f(int rand) { return rand; }", "c"),
        ("int f(void) { int printf = 1; return printf; }", "c"),
        ("int f(int Math) { return Math; }", "java"),
    ],
)
def test_a_function_with_a_meaning_of_its_own_for_a_name_of_the_trigger_fails(source: str, language: Language) -> None:
    assert inject(FIXED, source, language) is None


def test_an_attribute_of_the_same_spelling_is_no_obstacle() -> None:
    assert inject(FIXED, "int f(int random) { return this.out + random; }", "java") is not None


@pytest.mark.parametrize(
    ("language", "statement", "message"),
    [
        ("python", 'if random() < 0:\n    raise Exception("fail")', r"not provably false: random\(\) is neither"),
        ("c", 'if (rand() > 5) printf("x");', "'rand .* > 5' .* is not provably false"),
        ("java", "if (Math.sqrt(0.00) <= 0) f();", "not provably false"),
        ("c", "if (x < 0) f();", "x is neither a number nor a call"),
        ("python", "if 1 < 0:\n    x = 1", "no else, no assignment, no yield"),
        ("python", "if 1 < 0:\n    yield", "no else, no assignment, no yield"),
        ("python", "if 1 < 0:\n    pass\nelse:\n    pass", "not a single if or while"),
        ("python", "if 1 < 0:\n    pass\nprint()", "not a single if or while"),
        ("python", "print()", "not a single if or while"),
        ("c", "if (1 < 0) f(); else g();", "not a single if or while"),
        ("c", "if (1 < 0) { } f();", "not a single if or while"),
        ("c", "if (1 < 0) { f(); } else { g(); }", "not a single if or while"),
        ("java", "f();", "not a single if or while"),
        ("java", "if (1 < 0", "not a statement of java"),
    ],
)
def test_a_template_that_is_not_provably_dead_is_refused(language: Language, statement: str, message: str) -> None:
    with pytest.raises(UserError, match=f"statement: .*{message}"):
        attacks.load(FIXED.model_copy(update={"statement": {language: statement}}))


@pytest.mark.parametrize("statement", ["if (1 < 0) { if (x) { f(); } }", "while (sin(0.5) > 1.5) while (1) { }"])
def test_a_block_or_a_single_statement_can_be_the_body(statement: str) -> None:
    attacks.load(FIXED.model_copy(update={"statement": {"c": statement}}))
