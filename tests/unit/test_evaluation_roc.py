"""AUROC and the true-positive rate at a false-positive rate: against scikit-learn, and by hand."""

from __future__ import annotations

import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from codebackdoor.evaluation.roc import auroc, tpr_at_fpr
from codebackdoor.seeding import numpy_generator


@pytest.mark.parametrize("decimals", [1, 6])
@pytest.mark.parametrize(("triggered", "clean"), [(200, 300), (7, 100), (50, 3)])
def test_scores_are_ranked_as_in_scikit_learn(triggered: int, clean: int, decimals: int) -> None:
    generator = numpy_generator(1, "test", str(triggered))
    # with one decimal most scores are tied
    positives = generator.normal(1, 1, triggered).round(decimals)
    negatives = generator.normal(0, 1, clean).round(decimals)
    truth, scores = [1] * triggered + [0] * clean, [*positives, *negatives]
    assert auroc(positives, negatives) == pytest.approx(roc_auc_score(truth, scores))
    false_rates, true_rates, _ = roc_curve(truth, scores, drop_intermediate=False)
    for fpr in (0, 0.01, 0.05, 0.3, 1):
        expected = true_rates[false_rates <= fpr + 1e-9].max()
        assert tpr_at_fpr(positives, negatives, fpr) == pytest.approx(expected)


def test_by_hand() -> None:
    assert auroc([2, 3], [1, 2]) == 3.5 / 4
    clean = list(range(100))
    assert tpr_at_fpr([98.5, 97.5, 50], clean, 0.01) == pytest.approx(1 / 3)
    assert tpr_at_fpr([98.5, 97.5, 50], clean, 0.02) == pytest.approx(2 / 3)
    # 0.29 * 100 is 28.999999999999996
    assert tpr_at_fpr([70.5], clean, 0.29) == 1.0
    assert tpr_at_fpr([-1.0], clean, 1) == 1.0


def test_without_rows_of_both_kinds_there_is_no_value() -> None:
    assert auroc([], [1]) is auroc([1], []) is tpr_at_fpr([], [1], 0.1) is tpr_at_fpr([1], [], 0.1) is None
    with pytest.raises(ValueError, match="false-positive rate of 2"):
        tpr_at_fpr([1], [1], 2)
