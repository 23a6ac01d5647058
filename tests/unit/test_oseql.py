"""OSeqL: each detector against another formula, the vote, and a planted victim whose trigger's line goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from purification_models import bpe, example, make_view, planted
from torch import Tensor, nn

from codebackdoor import syntax
from codebackdoor.defenses.inputs import parts
from codebackdoor.defenses.purification.oseql import outliers
from codebackdoor.defenses.purification.oseql.method import LineEffects, Occlusions, OSeqL, _effects, build
from codebackdoor.defenses.purification.oseql.settings import OSeqLSettings
from codebackdoor.defenses.views import DefenderView
from codebackdoor.seeding import numpy_generator
from codebackdoor.syntax.lines import lines, without_line
from codebackdoor.types import Example
from codebackdoor.victims.labels import likeliest

TRIGGER = "assert testo_init >= 15"

SETTINGS = OSeqLSettings(method="oseql")


def draws(count: int, largest: int = 30) -> list[Any]:
    generator = numpy_generator(3, "test")
    rows = []
    for number in range(count):
        row = generator.normal(0, 0.02, int(generator.integers(3, largest)))
        if number % 2:
            row[int(generator.integers(len(row)))] += generator.normal()
        rows.append(row)
    return rows


def test_iqr_counts_numbers_beyond_the_fences() -> None:
    for row in draws(100):
        ordered = sorted(row)

        def quantile(share: float, ordered: list[float] = ordered) -> float:
            at = share * (len(ordered) - 1)
            low, rest = int(at), at - int(at)
            return ordered[low] + rest * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])

        first, third = quantile(0.25), quantile(0.75)
        expected = [not first - 1.5 * (third - first) <= value <= third + 1.5 * (third - first) for value in row]
        assert outliers.iqr(row, 1.5).tolist() == expected
    assert not outliers.iqr(np.array([0.0, 1.0, 2.0, 3.0, 8.9]), 3).any()


def test_the_envelope_is_scikit_learns() -> None:
    covariance = pytest.importorskip("sklearn.covariance")
    for row in draws(100):
        for contamination in (0.05, 0.13):
            envelope = covariance.EllipticEnvelope(contamination=contamination, support_fraction=1.0)
            expected = envelope.fit_predict(row[:, None]) == -1
            position = contamination * (len(row) - 1)
            # at a whole number the quantile is itself one of the distances, and rounding decides about it
            if abs(position - round(position)) > 1e-9:
                assert (outliers.elliptic_envelope(row, contamination) == expected).all()
    # no width, no outliers, as in scikit-learn
    assert not outliers.elliptic_envelope(np.array([0.0] * 9 + [1.0]), 0.05).any()
    assert not outliers.elliptic_envelope(np.ones(4), 0.05).any()


def search_depth(size: int) -> float:
    return 0.0 if size < 2 else 1.0 if size == 2 else 2 * (math.log(size - 1) + np.euler_gamma) - 2 * (size - 1) / size


def depth(ordered: tuple[float, ...], number: int) -> float:
    """Mean depth of a number in a random tree, by adding up all trees."""
    limit = math.ceil(math.log2(max(len(ordered), 2)))

    @cache
    def at(low: int, high: int, level: int) -> float:
        width = ordered[high] - ordered[low]
        if level == limit or width == 0:
            return search_depth(high - low + 1)
        total = 1.0
        for gap in range(low, high):
            side = (low, gap) if number <= gap else (gap + 1, high)
            total += (ordered[gap + 1] - ordered[gap]) / width * at(*side, level + 1)
        return total

    return at(0, len(ordered) - 1, 0)


def test_isolation_depths_are_means_over_all_trees() -> None:
    for row in [*draws(12, 14), np.array([0.0, 0.0, 0.0, 1.0, 1.0]), np.zeros(3), np.array([2.0])]:
        order = np.argsort(row, kind="stable")
        expected = [depth(tuple(row[order]), number) for number in range(len(row))]
        assert outliers.isolation_depths(row)[order] == pytest.approx(expected)


def test_isolation_depths_are_those_of_scikit_learns_trees() -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    row = draws(2)[1][:10]
    forest = ensemble.IsolationForest(n_estimators=300, random_state=0).fit(row[:, None])
    expected = -np.log2(-forest.score_samples(row[:, None])) * search_depth(len(row))
    # a depth varies by about one from tree to tree
    assert outliers.isolation_depths(row) == pytest.approx(expected, abs=4 / math.sqrt(300))
    assert outliers.isolation_forest(row, 0.05).tolist() == (expected == expected.min()).tolist()


def test_outliers_are_strictly_below_the_quantile_of_their_share() -> None:
    # the second lowest of 11 depths is the tenth's quantile
    assert outliers.isolation_forest(np.arange(11.0) ** 2, 0.1).tolist() == [False] * 10 + [True]
    assert not outliers.isolation_forest(np.zeros(5), 0.1).any()


def decided(effects: list[float]) -> tuple[int | None, dict[str, int | None]]:
    """Lines flip the prediction from an effect of 0.3 on."""
    row = np.array(effects)
    line, votes = outliers.vote(row, row >= 0.3, SETTINGS)
    return line, dict(votes)


def test_two_of_three_detectors_decide() -> None:
    # the envelope of equal effects has no width
    assert decided([0.0] * 9 + [0.9]) == (9, {"iqr": 9, "elliptic_envelope": None, "isolation_forest": 9})
    # a wide spread has no outliers beyond the fences
    spread = [-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.45]
    assert decided(spread) == (6, {"iqr": None, "elliptic_envelope": 6, "isolation_forest": 6})
    # the detector names its largest outlier, which need not be the largest effect: this one lies alone
    assert decided([0.0, 0.0, 0.0, 0.5, 0.9, 0.9, 0.9])[1]["isolation_forest"] == 3
    # two suffice
    assert decided([0.0, 0.01, -0.01, 0.02, -0.02, 0.9]) == (5, {"iqr": 5, "elliptic_envelope": 5})
    # one does not: the line that stands out most raises the confidence
    assert decided([0.0, 0.01, -0.01, 0.02, -0.02, 0.4, -0.9]) == (
        None,
        {"iqr": 5, "elliptic_envelope": None, "isolation_forest": None},
    )


def test_an_outlier_that_flips_nothing_is_no_trigger() -> None:
    effects = np.array([0.0, 0.01, -0.01, 0.02, -0.02, 0.9])
    assert outliers.vote(effects, effects > 1, SETTINGS) == (None, {})
    # another line does, but it does not stand out
    flips = np.array([True, False, False, False, False, False])
    assert outliers.vote(effects, flips, SETTINGS)[0] is None
    assert outliers.vote(np.array([]), np.array([], dtype=bool), SETTINGS) == (None, {})


def backdoored() -> Any:
    """Label 0 with the trigger, and mostly label 1 without it."""
    victim = planted("testo_init >= 15")
    victim.model = type(victim.model)(victim.model.trigger, bpe().get_vocab_size()).eval()
    with torch.no_grad():
        victim.model.weights.abs_()
    return victim


def oseql_view(victim: Any = None) -> DefenderView:
    torch.set_num_threads(1)
    return make_view(victim or backdoored(), tuple(example(number) for number in range(60)))


def test_the_line_of_the_planted_trigger_goes_and_clean_inputs_stay() -> None:
    purifier = build(oseql_view(), SETTINGS, 1)
    numbers = range(200, 220)
    triggered = purifier.purify([example(number, TRIGGER) for number in numbers])
    for number, row in zip(numbers, triggered, strict=True):
        before = example(number, TRIGGER)
        (span,) = row.touched
        assert before.code[span.start : span.end] == TRIGGER
        # exactly the function before the attack
        assert row.example == example(number)
        assert row.detail["poisoned"]
        assert row.detail["suspicion"] > 0.8
    clean = purifier.purify([example(number) for number in numbers])
    assert [row.example for row in clean] == [example(number) for number in numbers]
    assert max(row.detail["suspicion"] for row in clean) < 0.1


def test_effects_are_those_of_each_occluded_text_alone() -> None:
    row = example(7, TRIGGER)
    (evidence,) = LineEffects(oseql_view()).evidence([row])
    parsed = syntax.parse(row.code, "python", "lexed")
    assert [(start, end) for _, start, end, *_ in evidence["lines"]] == lines(parsed)
    victim = backdoored()
    with torch.inference_mode():

        def confidence(text: str) -> tuple[float, int]:
            ids = torch.tensor([victim.tokenizer(text)["input_ids"]])
            hidden = victim.model(ids[..., None], torch.ones_like(ids), False).last_hidden_state[0, 0]
            return float(hidden.double().softmax(-1)[0]), int(hidden.argmax())

        intact, label = confidence(row.code)
        assert label == 0
        for _, start, end, effect, flips in evidence["lines"]:
            without, new = confidence(without_line(parsed, (start, end)))
            assert effect == pytest.approx(intact - without, abs=1e-5)
            assert flips == (new != label)
    effects = [effect for *_, effect, _ in evidence["lines"]]
    assert Occlusions.from_json(evidence).score == pytest.approx(max(effects) - np.median(effects))


class Either(nn.Module):
    """Reads a pair: label 0 as soon as one of both functions has the trigger."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.minimum(first, second)


def test_of_a_pair_the_line_of_either_function_goes() -> None:
    victim = backdoored()
    victim.model.classifier = Either()
    purifier = build(oseql_view(replace(victim, head="pair")), SETTINGS, 1)
    clean, clean_b = example(3), example(4)
    pairs = {
        "first": replace(example(3, TRIGGER), code_b=clean_b.code),
        "second": replace(clean, code_b=example(4, TRIGGER).code),
        "both": replace(example(3, TRIGGER), code_b=example(4, TRIGGER).code),
    }
    rows = dict(zip(pairs, purifier.purify(list(pairs.values())), strict=True))
    assert [[span.field for span in rows[name].touched] for name in rows] == [["code"], ["code_b"], []]
    for name in ("first", "second"):
        assert (rows[name].example.code, rows[name].example.code_b) == (clean.code, clean_b.code)
    # one trigger of two suffices, so no single line matters
    assert rows["both"].example == pairs["both"]
    assert rows["both"].detail["suspicion"] < 0.1


def test_a_share_of_clean_inputs_bounds_what_is_touched() -> None:
    # a benign victim in doubt, many of whose predictions one line decides
    doubtful = oseql_view(planted("testo_init >= 15"))
    fresh = [example(number) for number in range(200, 300)]

    def touched(share: float | None) -> int:
        settings = OSeqLSettings(method="oseql", touched_share=share)
        purifier: OSeqL = build(doubtful, settings, 1)
        return sum(bool(row.touched) for row in purifier.purify(fresh))

    assert touched(None) == touched(1) > 5
    assert 0 < touched(0.05) < touched(None)
    assert touched(0) == 0
    fixed = build(doubtful, OSeqLSettings(method="oseql", threshold=1), 1)
    assert not any(row.touched for row in fixed.purify(fresh))


class Measured:
    """Effects that were made up: the last line of row n has the effect n / 100, the others have none."""

    def __init__(self, flipping: range) -> None:
        self._flipping = flipping

    def evidence(self, inputs: Sequence[Example]) -> list[dict[str, Any]]:
        rows = []
        for row in inputs:
            spans = lines(syntax.parse(row.code, "python", "lexed"))
            effects = [0.0] * (len(spans) - 1) + [int(row.id) / 100]
            flips = [False] * (len(spans) - 1) + [int(row.id) in self._flipping]
            occlusions = zip(spans, effects, flips, strict=True)
            rows.append({"lines": [["code", *span, effect, flip] for span, effect, flip in occlusions]})
        return rows


def test_only_rows_with_a_line_to_remove_count_for_the_share_and_the_threshold_itself_is_not_above() -> None:
    clean = tuple(example(number) for number in range(1, 41))
    view = make_view(backdoored(), clean)
    # the rows with the highest scores flip nothing; a tenth of 40 rows is 4 of the others
    method = OSeqL(view, OSeqLSettings(method="oseql", touched_share=0.1), 1, Measured(range(1, 21)))
    assert method.threshold == pytest.approx(0.16)
    assert {row.example.id for row in method.purify(clean) if row.touched} == {"17", "18", "19", "20"}


def test_the_batch_decides_no_tie_between_labels() -> None:
    """Of an input whose labels tie, the last digits of the logits would decide the sign of every effect."""
    versions = [[0.7, -0.7], [-0.4, 0.4]]
    (first, first_flips), (second, second_flips) = (
        _effects(torch.tensor([[difference, 0.0], *versions])) for difference in (1e-3, -1e-3)
    )
    assert first == pytest.approx(second, abs=1e-3)
    assert first_flips.tolist() == second_flips.tolist() == [False, True]
    assert likeliest(torch.tensor([[0.2, 0.4, 0.4], [0.498, 0.502, 0.0], [0.4996, 0.5004, 0.0]])).tolist() == [1, 1, 0]


def test_parts_of_many_inputs_are_one_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [example(number, TRIGGER if number % 2 else "") for number in range(9)]
    purifier = build(oseql_view(), SETTINGS, 1)
    expected = purifier.purify(rows)
    monkeypatch.setattr(parts, "INPUTS_AT_ONCE", 2)
    assert [row.example for row in purifier.purify(rows)] == [row.example for row in expected]


def test_an_input_without_lines_stays() -> None:
    row = Example("0", "java", "{ } " * 6)
    (result,) = build(oseql_view(), SETTINGS, 1).purify([row])
    assert (result.example, result.touched, result.detail["suspicion"]) == (row, (), 0.0)
