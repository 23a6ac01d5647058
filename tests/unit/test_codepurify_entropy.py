"""Entropy of suspicion scores under the three readings of ledger P5."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codebackdoor.defenses.suspicion.entropy import entropy
from codebackdoor.defenses.suspicion.settings import Normalization

ALL: tuple[Normalization, ...] = ("l1", "softmax", "entropy_by_log_n")


@pytest.mark.parametrize("normalization", ALL)
@pytest.mark.parametrize("score", [0.0, 0.3, 1.0])
def test_equal_scores_have_the_largest_entropy(normalization: Normalization, score: float) -> None:
    expected = 1.0 if normalization == "entropy_by_log_n" else math.log(7)
    assert entropy([score] * 7, normalization) == pytest.approx(expected)


def test_one_score_among_zeros() -> None:
    scores = [1.0] + [0.0] * 9
    assert entropy(scores, "l1") == 0
    assert entropy(scores, "entropy_by_log_n") == 0
    # the paper's Eq. 3 as printed can never fall below its threshold 0.1
    assert entropy(scores, "softmax") == pytest.approx(2.2, abs=0.03)


def test_by_hand() -> None:
    scores = [0.6, 0.2, 0.2]
    plain = -(0.6 * math.log(0.6) + 0.4 * math.log(0.2))
    assert entropy(scores, "l1") == pytest.approx(plain)
    assert entropy(scores, "entropy_by_log_n") == pytest.approx(plain / math.log(3))
    weights = [math.exp(score) for score in scores]
    soft = -sum(weight / sum(weights) * math.log(weight / sum(weights)) for weight in weights)
    assert entropy(scores, "softmax") == pytest.approx(soft)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.sampled_from(ALL))
def test_bounds(scores: list[float], normalization: Normalization) -> None:
    largest = 1.0 if normalization == "entropy_by_log_n" else math.log(len(scores))
    assert 0 <= entropy(scores, normalization) <= largest + 1e-9


def test_no_element_and_one_alone_have_no_entropy() -> None:
    for scores in ([], [0.8]):
        with pytest.raises(ValueError, match="fewer than two"):
            entropy(scores, "l1")
