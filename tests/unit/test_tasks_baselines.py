"""The model-free baselines of labels, pairs and search, by hand."""

from __future__ import annotations

import pytest

from codebackdoor.errors import UserError
from codebackdoor.tasks.baselines import ngrams, retrieval, token_overlap
from codebackdoor.tasks.clone_detection.neighbors import bag, nearest, overlap
from codebackdoor.types import Example


def pair(code: str, code_b: str, label: int) -> Example:
    return Example("id", "python", code, code_b=code_b, label=label)


def test_words_that_only_one_label_has_are_learned() -> None:
    def row(code: str, label: int) -> Example:
        return Example("id", "python", code, label=label)

    train = [
        row(f"x{number} safe" if number % 3 else f"x{number} unsafe", int(number % 3 == 0)) for number in range(30)
    ]
    test = [row("y unsafe", 1), row("y unsafe", 0), row("y safe", 0), row("y safe", 1), row("y safe", 0)]
    report = ngrams(train, test)
    # one of two answers "unsafe" is right, and one of two rows with label 1 is found
    assert (report["accuracy"], report["f1"], report["majority"]) == (0.6, 0.5, 0.6)
    # twenty of the thirty rows have label 0
    alone = ngrams([example for example in train if example.label == 0], test)
    assert (alone["accuracy"], alone["f1"]) == (0.6, 0.0)


def test_the_threshold_is_the_training_splits_best() -> None:
    # overlaps of bags: 1, 1/2, 0; of sets the same
    train = [pair("a b", "a b", 1), pair("a b c", "a b d", 1), pair("a", "b", 0), pair("a b", "c d", 0)]
    test = [pair("a b", "a b", 1), pair("a b c", "a b c", 0), pair("a", "b", 1), pair("x", "y", 0)]
    report = token_overlap(train, test)
    assert report["threshold"] == 0.5
    assert (report["accuracy"], report["f1"], report["majority"]) == (0.5, 0.5, 0.5)
    # two clones, one of which has its own second function; exchanged, none has
    assert report["random_f1"] == pytest.approx(2 / 3, abs=1e-6)


def test_a_pair_without_a_label_is_not_taken_for_one_of_different_functions() -> None:
    pairs = [pair("a b", "a b", 1), pair("a", "b", 0)]
    with pytest.raises(UserError, match="row 'u' has no label"):
        token_overlap(pairs, [*pairs, Example("u", "python", "a", code_b="b")])


def test_ranks_are_within_the_pool_and_ties_count_against() -> None:
    def row(query: str, code: str) -> Example:
        return Example("id", "python", code, query=query)

    rows = [row("open file", "def openFile"), row("close file", "def close_file"), row("a", "x"), row("b", "y")]
    report = retrieval(rows, rows, 2)
    assert report["pools"] == [2, 2]
    # the last two say nothing of each other: equally far from both
    assert report["mrr"] == 0.75
    assert report["chance"] == 0.75


def test_neighbors_share_rare_tokens() -> None:
    bags = [bag(text) for text in ("a b <nl> c", "a b d", "a e f", "a e f f", "a g", "a h")]
    assert overlap(bags[0], bags[1]) == 0.5
    assert overlap(bags[2], bags[3]) == 0.75
    near = list(nearest(bags, 1))
    assert near[:4] == [[1], [0], [3], [2]]
    # those that share nothing with any have the next one
    assert near[4:] == [[5], [0]]
