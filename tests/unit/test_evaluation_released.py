"""BLEU and CodeBLEU of released code, against values that NLTK and the `codebleu` package computed.

The values are of nltk 3.10.4 (``sentence_bleu`` with ``SmoothingFunction().method1``) and codebleu 0.7.0
(``calc_codebleu`` with tree-sitter 0.22.3, tree-sitter-java and tree-sitter-python 0.21.0).
"""

from __future__ import annotations

import numpy as np
import pytest
from syntax_support import mirror

from codebackdoor import bleu, syntax
from codebackdoor.evaluation import codebleu, released, released_flow
from codebackdoor.types import Language, TextForm

#: Output, reference and NLTK's BLEU.
BLEU = [
    ("a b c d e f", "a b c d e f", 1.0),
    ("a b c d e f", "a b c x e f", 0.254066374),
    ("a b", "a b c d e f g", 0.025957556),
    ("a", "a", 0.177827941),
    ("", "a b", 0.0),
    ("x y z", "a b c", 0.0),
    ("a b c d e f g h i", "a b c d", 0.29847459),
    ("return a + b ;", "return a + c ;", 0.285744043),
    ("if ( a ) { return b ; }", "if ( ! a ) { return b ; } return c ;", 0.515142543),
    ("a a a a", "a a b", 0.169904425),
]
#: Output, reference and the package's parts: n-gram, weighted n-gram, syntax, data flow.
PARTS: dict[Language, list[tuple[str, str, tuple[float, float, float, float]]]] = {
    "java": [
        (
            "int f ( int a ) { int b = a ; b += a ; return b ; }",
            "int f ( int a ) { int b = a ; b += 2 * a ; return b ; }",
            (0.825718, 0.831781, 0.571429, 0.714286),
        ),
        (
            "void f ( int n ) { for ( int i = 0 ; i < n ; i ++ ) { s += i ; } }",
            "void f ( int n ) { int s = 0 ; for ( int i = 0 ; i < n ; i ++ ) { s = s + i ; t = s ; } g ( s , t ) ; }",
            (0.420267, 0.488293, 0.583333, 0.4),
        ),
        (
            "void f ( List < String > xs ) { for ( String x : xs ) { use ( x ) ; } }",
            "void f ( List < String > xs ) { String last = null ; "
            "for ( String x : xs ) { last = x ; use ( x , last ) ; } }",
            (0.506376, 0.545636, 0.25, 0.3),
        ),
        (
            "int f ( int a ) { if ( a > 0 ) { b = a ; } return b ; }",
            "int f ( int a ) { int b ; if ( a > 0 ) { b = a ; } else if ( a < - 9 ) { b = 1 ; } "
            "else { b = - a ; } return b ; }",
            (0.312161, 0.42937, 0.392857, 0.454545),
        ),
        (
            "int f ( int a ) { while ( a > 0 ) { a -- ; } return a ; }",
            "int f ( int a ) { int c = 0 ; while ( a > 0 ) { c += a ; a = a - step ( c ) ; } return c ; }",
            (0.323958, 0.382182, 0.363636, 0.272727),
        ),
        (
            'String f ( ) { return "a b" + name ; }',
            'String f ( ) { String t = "a b" + name ; return t ; }',
            (0.450556, 0.47044, 0.333333, 0.0),
        ),
        (
            "void f ( ) { }",
            "public static void f ( ) throws IOException { }",
            (0.310245, 0.279526, 0.333333, 0.0),
        ),
        (
            "x",
            "boolean f ( ) { return true ; }",
            (0.0, 0.0, 0.0, 0.0),
        ),
        (
            "int f ( int [ ] a ) { return a [ 0 ] + a [ 1 ] ; } }",
            "int f ( int [ ] a ) { int m = a [ 0 ] ; this . m = m ; return m + a [ 1 ] ; }",
            (0.474826, 0.498196, 0.473684, 0.375),
        ),
        (
            "void f ( ) { if ( a ) b = 1 ; else b = 2 ; }",
            "void f ( ) { if ( a ) b = 1 ; else b = 3 ; c = b ; }",
            (0.701919, 0.72093, 0.583333, 0.666667),
        ),
    ],
    "python": [
        (
            "def f(a, b):\n    c = a + b\n    return c\n",
            "def f(a, b=2):\n    c = a + b\n    d = c\n    return d\n",
            (0.356406, 0.368294, 0.363636, 0.444444),
        ),
        (
            "def f(xs):\n    return [x for x in xs]\n",
            "def f(xs):\n    ys = [x + 1 for x in xs if x]\n    return ys\n",
            (0.078383, 0.097472, 0.181818, 0.5),
        ),
        (
            "def f(n):\n    s = 0\n    for i in range(n):\n        s += i\n    return s\n",
            "def f(n):\n    s, t = 0, 1\n    for i in range(n):\n        s += t * i\n        t = s\n    return s, t\n",
            (0.245923, 0.285546, 0.157895, 0.4),
        ),
        (
            "def f(a):\n    if a:\n        b = 1\n    return b\n",
            "def f(a):\n    if a > 1:\n        b = a\n    elif a:\n        b = 2\n    else:\n        b = -a\n"
            "    return b\n",
            (0.066807, 0.09887, 0.263158, 0.2),
        ),
        (
            "def f(a):\n    while a:\n        a -= 1\n    return a\n",
            "def f(a):\n    c = 0\n    while a > c:\n        c = c + a\n        a = c - 1\n    return c\n",
            (0.021743, 0.036021, 0.125, 0.333333),
        ),
        (
            "def f(self):\n    self.x = self.y = 3\n",
            "def f(self, k):\n    self.x = k\n    self.y: int = self.x + k\n    return self\n",
            (0.03056, 0.038154, 0.214286, 0.2),
        ),
        (
            "def f():\n    pass\n",
            "def f():\n    return 'text'\n",
            (0.172169, 0.169904, 0.166667, 0.0),
        ),
        (
            "x = {k: v for k, v in d.items()}\n",
            "x = {k: v for k, v in d.items()}\ny = x[k]\n",
            (0.716531, 0.732876, 0.692308, 0.7),
        ),
    ],
}
#: The same of all rows together.
CORPUS: dict[Language, tuple[float, float, float, float]] = {
    "java": (0.448141, 0.496361, 0.425806, 0.402778),
    "python": (0.200244, 0.237901, 0.266055, 0.391892),
}
FORMS: dict[Language, TextForm] = {"java": "lexed", "python": "raw"}


def statistics(output: str, reference: str, language: Language = "java") -> dict[str, int]:
    roots = [codebleu.parse(text, language, FORMS[language]) for text in (output, reference)]
    tokens = output.split(), reference.split()
    return released.row(bleu.row(*tokens), *tokens, *roots, language)


@pytest.mark.parametrize(("output", "reference", "expected"), BLEU)
def test_bleu_of_a_row_is_nltks(output: str, reference: str, expected: float) -> None:
    row = statistics(output, reference)
    assert released.score_bleu(row) == pytest.approx(expected, abs=1e-8)
    assert row["row_micro"] == round(1e6 * expected)


def test_bleu_rows_is_the_mean_over_rows() -> None:
    rows = [statistics(output, reference) for output, reference, _ in BLEU]
    estimate = released.estimates(rows, frozenset({"java"}), np.random.default_rng(1))["bleu_rows"]
    mean = sum(expected for *_, expected in BLEU) / len(BLEU)
    assert estimate.value == pytest.approx(mean, abs=1e-6)
    assert (estimate.low or 0) < mean < (estimate.high or 0)
    assert estimate.n == len(BLEU)
    # corpus BLEU is another metric
    assert abs(released.score_bleu(total(rows)) - mean) > 0.05


def total(rows: list[dict[str, int]]) -> dict[str, int]:
    return {name: sum(row[name] for row in rows) for name in released.RELEASED_NAMES}


@pytest.mark.parametrize(
    ("language", "number"), [(language, number) for language in PARTS for number in range(len(PARTS[language]))]
)
def test_the_parts_of_codebleu_are_the_packages(language: Language, number: int) -> None:
    output, reference, expected = PARTS[language][number]
    parts = released.parts(statistics(output, reference, language))
    assert tuple(parts.values()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("language", PARTS)
def test_codebleu_of_a_corpus_is_the_packages(language: Language) -> None:
    rows = [statistics(output, reference, language) for output, reference, _ in PARTS[language]]
    assert tuple(released.parts(total(rows)).values()) == pytest.approx(CORPUS[language], abs=1e-6)
    estimate = released.estimates(rows, frozenset({language}), np.random.default_rng(1))["codebleu_released"]
    assert estimate.value == pytest.approx(sum(CORPUS[language]) / 4, abs=1e-6)


def test_a_text_is_its_own_best_output() -> None:
    for language, rows in PARTS.items():
        perfect = total([statistics(reference, reference, language) for _, reference, _ in rows])
        assert released.score_codebleu(perfect) == pytest.approx(1)


def test_subtrees_are_not_clipped_and_keywords_weigh_five_times() -> None:
    once, twice = "f ( ) ; f ( ) ;", "f ( ) ;"
    row = statistics(twice, once)
    # both calls of the reference are found, though the output has one
    assert row["tree_match"] == row["tree_total"] - 1
    weighted = statistics("return a", "return b")
    assert (weighted["weighted_match"], weighted["recall1"]) == (5, 6)


@pytest.mark.parametrize(
    ("language", "unreadable", "readable"),
    [
        ("java", "int f ( ) { return " + "( " * 2000 + "a" + " )" * 2000 + " ; }", "int f ( ) { return a + a ; }"),
        # the released code pairs the parts of both sides: x, the dot and y with the quotes and what is between them
        ("python", "x.y = 'ab'\nz = x\n", "x.y = ab\nz = x\n"),
    ],
)
def test_a_flow_that_cannot_be_extracted_is_empty(language: Language, unreadable: str, readable: str) -> None:
    flows = [
        released_flow.edges(syntax.parse(text, language, FORMS[language]).root, language)
        for text in (unreadable, readable)
    ]
    assert (flows[0].total(), flows[1].total() > 0) == (0, True)


def test_without_an_extractor_for_its_language_a_test_set_has_no_released_codebleu() -> None:
    assert not released_flow.supports("c")
    rows = [statistics("return a", "return b")]
    assert released.estimates(rows, frozenset({"java", "c"}), np.random.default_rng(1)).keys() == {"bleu_rows"}


@pytest.mark.mirror
def test_copying_bugs2fix_has_two_bleus() -> None:
    """78.06 of the corpus (CodeXGLUE's script), and 72.33 as the mean over rows (NLTK, method 1), which DeCE prints."""
    buggy, fixed = (
        mirror(f"bugs2fix_small/test.buggy-fixed.{side}").read_text(encoding="utf-8").splitlines()
        for side in ("buggy", "fixed")
    )
    assert len(buggy) == 5835
    assert bleu.corpus(buggy, fixed) == pytest.approx(0.7806, abs=5e-5)
    rows = [bleu.statistics(before.split(), after.split()) for before, after in zip(buggy, fixed, strict=True)]
    for row in rows:
        row.update({f"precision{order}": max(row[f"total{order}"], 1) for order in bleu.ORDERS})
    assert np.mean([released.score_bleu(row) for row in rows]) == pytest.approx(0.7233, abs=5e-5)
