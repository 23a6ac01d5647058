"""Tests over scenarios: exact where an enumeration says what is exact, with and without ties."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest
from scipy.stats import rankdata, wilcoxon

from codebackdoor.evaluation.closeness import bleu, levenshtein
from codebackdoor.evaluation.significance import holm, paired, share_interval, unpaired
from codebackdoor.report import papers


def enumerated(differences: list[float]) -> float:
    """p of the signed-rank test by going through all signs."""
    used = [difference for difference in differences if difference]
    ranks = rankdata(np.abs(used))
    sums = [
        sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign)
        for signs in product((0, 1), repeat=len(used))
    ]
    observed = sum(rank for rank, difference in zip(ranks, used, strict=True) if difference > 0)
    observed = min(observed, sum(ranks) - observed)
    return min(1.0, 2 * sum(rank_sum <= observed for rank_sum in sums) / len(sums))


@pytest.mark.parametrize(
    "differences", [[1.0, 2.0, 3.0, -4.0], [1.0, 1.0, -1.0, 2.0, 2.0], [0.0, 3.0, 1.0, -1.0, 0.5], [5.0]]
)
def test_the_paired_test_is_exact_with_ties_and_zeros(differences: list[float]) -> None:
    comparison = paired([0.0] * len(differences), differences)
    assert comparison.p == pytest.approx(enumerated(differences))
    assert comparison.n == len(differences)


def test_without_ties_it_is_scipys() -> None:
    draw = np.random.default_rng(3)
    baseline, shifted = draw.random(18), draw.random(18) + 0.2
    assert paired(baseline.tolist(), shifted.tolist()).p == pytest.approx(
        wilcoxon(shifted, baseline, method="exact").pvalue
    )


def test_shift_and_effect_by_hand() -> None:
    comparison = paired([0.0, 0.0, 0.0], [1.0, 2.0, -3.0])
    # Walsh averages: 1 2 -3 1.5 -1 -0.5; ranks 1 and 2 against 3
    assert (comparison.shift, comparison.effect) == (pytest.approx(0.25), 0.0)
    assert paired([0.1, 0.2], [0.1, 0.2]).effect is None
    # 0.3 - 0.1 and 0.2 - 0.0 are the same difference
    assert paired([0.1, 0.0], [0.3, 0.2]).p == 0.5


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_intervals_of_few_trials() -> None:
    assert share_interval(0, 6) == (0.0, pytest.approx(1 - 0.025 ** (1 / 6)))
    assert share_interval(6, 6) == (pytest.approx(0.025 ** (1 / 6)), 1.0)
    assert share_interval(0, 0) == (0.0, 1.0)


def test_what_the_paper_prints_is_as_significant_as_it_says() -> None:
    """docs/fidelity.md: 18 pairs of Table 1; every ASR of EliBadCode is below every one of DBS."""
    asrs: dict[str, dict[tuple[str, str, str], float]] = {"dbs": {}, "attdef": {}, "elibadcode": {}}
    for key, _, values in papers.tables()["elibadcode_table1"].rows:
        if key.defense in asrs and values.get("asr") is not None:
            asrs[key.defense][key.task, key.model, key.attack] = values["asr"] or 0.0
    elibadcode = asrs["elibadcode"]
    dbs, attdef = ([asrs[name][key] for key in elibadcode] for name in ("dbs", "attdef"))
    assert len(elibadcode) == 18
    assert unpaired(list(elibadcode.values()), attdef) == pytest.approx(2 / comb(36, 18))
    assert unpaired(list(elibadcode.values()), dbs) == pytest.approx(3.17e-7, rel=0.01)
    assert paired(list(elibadcode.values()), dbs).p == pytest.approx(2 / 2**18)
    # within one attack there are six, and p < 0.0001 is out of reach
    six = [key for key in elibadcode if key[2] == "badcode"]
    assert unpaired([elibadcode[key] for key in six], [asrs["dbs"][key] for key in six]) == pytest.approx(
        2 / comb(12, 6)
    )
    assert paired([elibadcode[key] for key in six], [asrs["dbs"][key] for key in six]).p == pytest.approx(2 / 2**6)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("testo_init", "testo_init", 0),
        ("testo", "testo_init", 5),
        ("kitten", "sitting", 3),
        ("", "rb", 2),
        ("rb", "", 2),
    ],
)
def test_levenshtein(first: str, second: str, expected: int) -> None:
    assert levenshtein(first, second) == expected


def test_bleu_of_characters() -> None:
    assert bleu("testo_init", "testo_init") == pytest.approx(1)
    # every n-gram is right, and half of the characters are there: only the brevity penalty is left (Table 6: 36.79)
    assert bleu("testo", "testo_init") == pytest.approx(np.exp(-1))
    # 12 characters, of which 10, 9, 8 and 7 of 12, 11, 10 and 9 n-grams are right
    assert bleu("testo_initCA", "testo_init") == pytest.approx((10 / 12 * 9 / 11 * 8 / 10 * 7 / 9) ** 0.25)
    assert bleu("rb", "rb") == pytest.approx(1)
    assert bleu("", "rb") == 0
