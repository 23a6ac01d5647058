"""BLEU against sacrebleu and by hand; CodeBLEU's parts by hand."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import pytest
import sacrebleu

from codebackdoor import bleu, syntax
from codebackdoor.evaluation import codebleu, dataflow
from codebackdoor.types import Language


def sums(rows: list[dict[str, int]]) -> dict[str, int]:
    return {key: sum(row[key] for row in rows) for key in rows[0]}


def corpus(seed: int, rows: int = 40) -> tuple[list[list[str]], list[list[str]]]:
    draw = random.Random(seed)
    words = ["a", "b", "c", "d", "(", ")", "=", ".", "<nl>", "return"]

    def sentence(least: int) -> list[str]:
        return [draw.choice(words) for _ in range(draw.randint(least, 15))]

    references = [sentence(1) for _ in range(rows)]
    outputs = [reference[:5] + sentence(0) if draw.random() < 0.5 else sentence(0) for reference in references]
    return outputs, references


@pytest.mark.parametrize("seed", range(5))
def test_bleu_is_sacrebleus_corpus_bleu_on_tokens(seed: int) -> None:
    outputs, references = corpus(seed)
    ours = bleu.score(sums([bleu.row(*pair) for pair in zip(outputs, references, strict=True)]))
    lines = [[" ".join(tokens) for tokens in part] for part in (outputs, references)]
    theirs = sacrebleu.corpus_bleu(lines[0], [lines[1]], tokenize="none", force=True, smooth_method="exp")
    assert ours == pytest.approx(theirs.score / 100, abs=1e-12)


def test_bleu_by_hand() -> None:
    output, reference = ["the", "cat", "sat", "on", "the", "mat"], ["the", "cat", "sat", "on", "a", "mat", "today"]
    # matches of 6, 5, 4, 3 n-grams: the cat sat on mat, the-cat cat-sat sat-on, two trigrams, one of four tokens
    precisions = [5 / 6, 3 / 5, 2 / 4, 1 / 3]
    expected = math.exp(1 - 7 / 6) * math.prod(precisions) ** 0.25
    assert bleu.score(bleu.row(output, reference)) == pytest.approx(expected)


def test_sentence_bleu_adds_one_from_the_second_order_on() -> None:
    row = bleu.row(["a", "b", "c"], ["a", "b", "d"])
    expected = (2 / 3 * 2 / 3 * 1 / 2 * 1 / 1) ** 0.25
    assert row["sentence_micro"] == round(1e6 * expected)
    assert bleu.row(["a"], ["a"])["sentence_micro"] == 1_000_000
    assert bleu.row([], ["a"])["sentence_micro"] == 0


def statistics(output: str, reference: str, language: Language = "python") -> dict[str, Any]:
    root, reference_root = (codebleu.parse(text, language, "lexed") for text in (output, reference))
    tokens = output.split(" "), reference.split(" ")
    return bleu.row(*tokens) | codebleu.row(*tokens, root, reference_root, language)


def lexed(source: str) -> str:
    return syntax.lex(source, "python")


FUNCTION = "def f(a, b):\n    c = a + b\n    if c > a:\n        return c\n    return b\n"


def test_codebleu_of_the_reference_itself_is_one() -> None:
    row = statistics(lexed(FUNCTION), lexed(FUNCTION))
    assert row["tree_match"] == row["tree_total"] > 5
    assert row["flow_match"] == row["flow_total"] > 3
    assert codebleu.score(row) == pytest.approx(1)


def test_renaming_costs_tokens_but_neither_tree_nor_data_flow() -> None:
    row = statistics(lexed(FUNCTION.replace("c", "other")), lexed(FUNCTION))
    assert row["tree_match"] == row["tree_total"]
    assert row["flow_match"] == row["flow_total"]
    assert codebleu.score(row) < 1


def test_keywords_weigh_five_times() -> None:
    row = statistics("return a", "return b")
    assert (row["weighted_match"], row["weighted_total"]) == (5, 6)
    # the share is of the output's tokens, not of the reference's
    row = statistics("return a a", "return b + c + d")
    assert (row["weighted_match"], row["weighted_total"]) == (5, 7)


def test_subtrees_are_shapes_of_inner_nodes_and_are_clipped() -> None:
    once, twice = "x = f ( 1 )", "x = f ( 1 ) <nl> y = g ( 2 )"
    row = statistics(twice, once)
    # module, statement, assignment, call and arguments; the output's module has another shape
    assert (row["tree_match"], row["tree_total"]) == (4, 5)
    assert statistics(once, twice)["tree_match"] == 4


def test_an_output_whose_marks_do_not_nest_scores_its_tokens_only() -> None:
    row = statistics("a = 1 <dedent> <dedent>", "a = 1")
    assert (row["tree_match"], row["flow_match"]) == (0, 0)
    assert 0 < codebleu.score(row) < 0.5


def test_each_of_the_four_parts_counts_a_quarter() -> None:
    row = statistics(lexed(FUNCTION), lexed(FUNCTION))
    assert codebleu.score(row | {"tree_match": 0}) == pytest.approx(3 / 4)
    assert codebleu.score(row | {"flow_match": 0}) == pytest.approx(3 / 4)
    # a BLEU without matches is not 0: it is smoothed
    without = bleu.score(row, first=(0, row["weighted_total"]))
    assert codebleu.score(row | {"weighted_match": 0}) == pytest.approx((3 + without) / 4)


def test_without_any_data_flow_the_other_three_parts_count() -> None:
    row = statistics("f ( 1 )", "f ( 1 )")
    assert row["flow_total"] == 0
    assert codebleu.score(row | {"tree_match": 0}) == pytest.approx(bleu.score(row) * 2 / 3)


IN_BRACES = {
    # a read, b from a; a read, b from b and a; b read
    ("comes from", 0, (0,)): 2,
    ("computed from", 1, (0,)): 1,
    ("computed from", 1, (1, 0)): 1,
    ("comes from", 1, (1,)): 1,
}


@pytest.mark.parametrize(
    ("source", "language", "expected"),
    [
        # x from a; x read; y from x
        (
            "x = a\ny = x\n",
            "python",
            {("computed from", 1, (0,)): 1, ("comes from", 1, (1,)): 1, ("computed from", 2, (1,)): 1},
        ),
        # attributes, called functions and keywords are no variables
        ("x.y = f(x.y, key=k)\n", "python", {("computed from", 0, (0, 1)): 1}),
        # i from a; i read; s from s and i
        (
            "for i in a:\n    s += i\n",
            "python",
            {("computed from", 1, (0,)): 1, ("comes from", 1, (1,)): 1, ("computed from", 2, (2, 1)): 1},
        ),
        ("int f(int a) { int b = a; b += a; return b; }", "java", IN_BRACES),
        ("int f(int a) { int b = a; b += a; return b; }", "c", IN_BRACES),
    ],
)
def test_data_flow_edges(source: str, language: Language, expected: dict[Any, int]) -> None:
    assert dataflow.edges(syntax.parse(source, language, "raw").root, language) == Counter(expected)
