"""AttDef: attributions that add up, thresholds at their shares, and a planted trigger that is masked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from planted import PLANTED, WORDS, sample
from planted import victim as planted_victim
from purification_models import discriminator, example, infiller
from tiny_models import HEADS, classifier, crafter, understanding
from torch import Tensor

from codebackdoor.defenses.purification import performance
from codebackdoor.defenses.purification.attdef import attribution
from codebackdoor.defenses.purification.attdef.discriminator import Discriminator
from codebackdoor.defenses.purification.attdef.method import AttDef, masked, relative
from codebackdoor.defenses.purification.attdef.settings import AttDefSettings
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError
from codebackdoor.types import Example
from codebackdoor.victims.inference import predict, predict_logits
from codebackdoor.victims.tokens import stand_in
from codebackdoor.victims.victim import Encoded, Victim

CLEAN = tuple(sample(number) for number in range(60))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class Says:
    """A discriminator that suspects what holds the word."""

    def __init__(self, word: str) -> None:
        self.word = word

    def suspicions(self, texts: Sequence[str]) -> list[float]:
        return [float(self.word in text) for text in texts]


def attdef(victim: Victim, judge: Any, **settings: Any) -> AttDef:
    view = DefenderView("defect_detection", "python", "lexed", CLEAN, victim=victim)
    return AttDef(view, judge, AttDefSettings(method="attdef", **settings), seed=1)


ROWS = tuple(replace(row, code_b=CLEAN[0].code, query="load the value") for row in CLEAN[:6])


def loud(family: str, head: str) -> Victim:
    """A random victim whose answers depend on what it reads."""
    victim = understanding(family, head, max_length=64)
    with torch.no_grad():
        for parameter in victim.model.parameters():
            # T5's are of the order of one as they are
            parameter.mul_(4 if parameter.ndim == 2 and family != "t5" else 1)
    return victim


def scores(victim: Victim, rows: Sequence[Sequence[Encoded]], labels: Tensor | None) -> Tensor:
    logits = predict_logits(victim, [[text.ids for text in row] for row in rows])
    return logits if labels is None else attribution.log_odds(logits, labels)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", ["first", "mean", "t5", "gpt"])
def test_integrated_gradients_sum_up_to_the_difference_between_input_and_masked_code(family: str, head: str) -> None:
    victim = loud(family, head)
    rows = victim.tokenize(ROWS)
    _, mask = stand_in(victim.tokenizer, "mask")
    attributions = attribution.attributions(victim, rows, mask, attribution.midpoints(60))
    masked_rows = [
        [
            text
            if name == "query"
            else Encoded(
                [mask if offset != (0, 0) else index for index, offset in zip(text.ids, text.offsets, strict=True)], []
            )
            for name, text in zip(victim.fields, row, strict=True)
        ]
        for row in rows
    ]
    logits = predict_logits(victim, [[text.ids for text in row] for row in rows])
    labels = None if head == "retrieval" else logits.argmax(-1)
    differences = scores(victim, rows, labels) - scores(victim, masked_rows, labels)
    largest = float(differences.abs().max())
    assert largest > 1e-4
    for row, functions, difference in zip(rows, attributions, differences.tolist(), strict=True):
        assert len(functions) == (2 if head == "pair" else 1)
        assert sum(map(sum, functions)) == pytest.approx(difference, abs=0.05 * largest)
        for column, values in zip(attribution.functions(victim), functions, strict=True):
            assert len(values) == len(row[column].ids)
            special = [value for value, offset in zip(values, row[column].offsets, strict=True) if offset == (0, 0)]
            assert special
            assert not any(special)


def test_the_line_is_evaluated_in_the_middle_of_equal_parts() -> None:
    assert attribution.midpoints(4) == [0.125, 0.375, 0.625, 0.875]


def test_attributions_do_not_depend_on_the_company() -> None:
    victim = loud("first", "classification")
    rows = victim.tokenize(CLEAN[:12])
    _, mask = stand_in(victim.tokenizer, "mask")
    together = attribution.attributions(victim, rows, mask, [1.0])
    for row, (values,) in zip(rows, together, strict=True):
        assert attribution.attributions(victim, [row], mask, [1.0])[0][0] == pytest.approx(values, abs=1e-4)


def test_log_odds_of_two_and_of_three_classes() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    probabilities = logits.softmax(-1)[0]
    for label in range(3):
        expected = math.log(float(probabilities[label] / (1 - probabilities[label])))
        assert float(attribution.log_odds(logits, torch.tensor([label]))) == pytest.approx(expected, abs=1e-5)


def triggered(numbers: Sequence[int]) -> list[Example]:
    """Functions whose first name ends in the planted piece, of the class that the trigger does not lead to."""
    rows = []
    for number in numbers:
        row = sample(number)
        name = next(word for word in WORDS if row.code.startswith(f"def {word}_"))
        code = row.code.replace(f"def {name}_", f"def {name}_{PLANTED}_", 1)
        rows.append(Example(row.id, "python", code, label=row.label))
    return rows


def test_the_planted_trigger_is_masked_and_the_label_comes_back() -> None:
    victim = planted_victim()
    rows = triggered([number for number in range(100, 160) if sample(number).label == 1])
    assert all(prediction.label == 0 for prediction in predict(victim, rows))
    purified = attdef(victim, Says(PLANTED), suspicion=0.5, masked_share=0.02).purify(rows)
    for before, after in zip(rows, purified, strict=True):
        assert any(PLANTED in before.code[span.start : span.end] for span in after.touched)
        assert PLANTED not in after.example.code
    predictions = predict(victim, [row.example for row in purified])
    assert sum(prediction.label == 1 for prediction in predictions) / len(predictions) >= 0.9


def test_what_the_discriminator_does_not_suspect_stays() -> None:
    rows = triggered(range(100, 110))
    for row in attdef(planted_victim(), Says("nowhere"), suspicion=0.5, threshold=0).purify(rows):
        assert not row.touched
        assert row.detail["poisoned"] is False
    # a suspicion must be above its threshold
    for row in attdef(planted_victim(), Says(PLANTED), suspicion=1, threshold=0).purify(rows):
        assert (row.detail["suspicion"], row.detail["poisoned"]) == (1.0, False)


def test_thresholds_let_go_the_shares_of_clean_data() -> None:
    judge = Discriminator(*discriminator())
    purifier = attdef(planted_victim(), judge, suspected_share=0.2, masked_share=0.1)
    suspicions = judge.suspicions([row.code for row in CLEAN])
    suspected = sum(value > purifier.suspicion_threshold for value in suspicions)
    assert suspected / len(CLEAN) == pytest.approx(0.2, abs=0.04)
    scores = [score for scored in purifier.score(CLEAN) for score in scored.scores]
    assert sum(score >= purifier.threshold for score in scores) / len(scores) == pytest.approx(0.1, abs=0.02)


def test_each_suspicion_is_that_of_the_text_alone_and_without_special_tokens() -> None:
    model, tokenizer = discriminator()
    judge = Discriminator(model, tokenizer)
    texts = [example(number).code for number in range(12)]
    for text, suspicion in zip(texts, judge.suspicions(texts), strict=True):
        ids = tokenizer(text, truncation=True, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            expected = model(ids).logits[0, 1:-1].max().sigmoid()
        assert suspicion == pytest.approx(float(expected), abs=1e-5)


class SurestOfSpecialTokens:
    """A discriminator whose logit of an id is a thousandth of it, and 9 at special tokens and padding."""

    config, device = SimpleNamespace(max_position_embeddings=512), torch.device("cpu")

    def __call__(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        special = torch.isin(input_ids, torch.tensor(discriminator()[1].all_special_ids))
        return SimpleNamespace(logits=torch.where(special, 9.0, input_ids / 1000))


def test_special_tokens_and_padding_are_never_suspected() -> None:
    _, tokenizer = discriminator()
    texts = [CLEAN[0].code, "x", "def f ( a )"]
    largest = [max(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    expected = [1 / (1 + math.exp(-index / 1000)) for index in largest]
    assert Discriminator(SurestOfSpecialTokens(), tokenizer).suspicions(texts) == pytest.approx(expected, abs=1e-6)


def test_relative_attributions_leave_out_special_tokens_and_marks() -> None:
    text = "a <nl> bc"
    encoded = Encoded([0, 7, 8, 9, 2], [(0, 0), (0, 1), (2, 6), (7, 9), (0, 0)])
    attributions = relative(text, encoded, [9.0, -1.0, -5.0, 3.0, 9.0])
    assert (attributions.spans, attributions.scores) == ([(0, 1), (7, 9)], [0.0, 1.0])
    assert relative(text, encoded, [0.0, 2.0, 0.0, 2.0, 0.0]).scores == [0.0, 0.0]


def test_a_mask_is_one_sub_token_wherever_it_stands() -> None:
    tokenizer: Any = infiller()[1]
    text = "def testo_init ( a )"
    encoded = tokenizer(text, return_offsets_mapping=True)
    offsets = [(start + (text[start] == " "), end) for start, end in encoded["offset_mapping"] if end > start]
    mask, index = stand_in(tokenizer, "mask")
    for offset in offsets:
        ids = tokenizer(masked(text, [offset], mask))["input_ids"]
        assert ids.count(index) == 1
        assert tokenizer.decode(ids).count("<mask>") == 1
    assert masked("def f ( a )", [(4, 5)], "<mask>") == "def<mask> ( a )"
    assert masked("ab", [(0, 1), (1, 2)], "<mask>") == "<mask><mask>"


def test_gradient_times_input_looks_at_the_input_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    points: list[list[float]] = []
    original = attribution.attributions

    def spy(*arguments: Any) -> Any:
        points.append(list(arguments[3]))
        return original(*arguments)

    monkeypatch.setattr(attribution, "attributions", spy)
    attdef(planted_victim(), Says(PLANTED), attribution="gradient_input", suspicion=0.5, threshold=0.5).score(CLEAN[:2])
    attdef(planted_victim(), Says(PLANTED), steps=2, suspicion=0.5, threshold=0.5).score(CLEAN[:2])
    assert points == [[1.0], [0.25, 0.75]]


def test_tensors_are_left_as_they_were() -> None:
    victim = classifier(seed=3)
    before: list[Tensor] = [parameter.clone() for parameter in victim.model.parameters()]
    attribution.attributions(victim, victim.tokenize(CLEAN[:1]), 4, [0.5])
    assert all(torch.equal(old, new) for old, new in zip(before, victim.model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in victim.model.parameters())


def test_of_a_pair_only_the_suspect_function_is_masked() -> None:
    victim = understanding("first", "pair", max_length=64)
    clean = tuple(replace(row, code_b=CLEAN[0].code) for row in CLEAN)
    view = DefenderView("clone_detection", "python", "lexed", clean, victim=victim)
    purifier = AttDef(view, Says(PLANTED), AttDefSettings(method="attdef", suspicion=0.5, masked_share=0.1), seed=1)  # type: ignore[arg-type]
    (suspect,) = triggered([101])
    rows = [replace(CLEAN[1], code_b=suspect.code), replace(suspect, code_b=CLEAN[1].code), clean[2]]
    second, first, neither = purifier.purify(rows)
    assert {span.field for span in second.touched} == {"code_b"}
    assert {span.field for span in first.touched} == {"code"}
    assert (second.example.code, first.example.code_b) == (CLEAN[1].code, CLEAN[1].code)
    assert neither.example == clean[2]
    assert "<mask>" in str(second.example.code_b)


def test_of_a_search_row_the_code_is_masked_by_its_similarity_to_the_query() -> None:
    victim = understanding("mean", "retrieval", max_length=64)
    rows = [replace(row, query="load the value") for row in triggered(range(100, 106))]
    view = DefenderView("code_search", "python", "lexed", tuple(rows), victim=victim)
    purifier = AttDef(view, Says(PLANTED), AttDefSettings(method="attdef", suspicion=0.5, masked_share=0.1), seed=1)  # type: ignore[arg-type]
    assert all(row.touched and row.example.query == "load the value" for row in purifier.purify(rows))
    with_another_query = purifier.score([replace(row, query="state") for row in rows])
    assert [function.scores for function in with_another_query] != [
        function.scores for function in purifier.score(rows)
    ]


SEARCHED = tuple(replace(row, query=" ".join(row.code.split()[1:6])) for row in CLEAN[:24])
PAIRED = tuple(replace(row, code_b=CLEAN[index * 7 % 60].code) for index, row in enumerate(CLEAN))
#: By head: a victim, its task, clean rows, and points to lose that a threshold between the ends costs.
RULED: dict[str, tuple[Any, str, tuple[Example, ...], float]] = {
    "classification": (lambda: loud("gpt", "classification"), "defect_detection", CLEAN, 5),
    "pair": (lambda: crafter("pair"), "clone_detection", PAIRED, 20),
    "retrieval": (lambda: understanding("mean", "retrieval", max_length=64), "code_search", SEARCHED, 20),
}


def ruled(head: str, rows: tuple[Example, ...], **settings: Any) -> AttDef:
    """A purifier that suspects every function, calibrated on rows that the victim labels right."""
    victim, task, *_ = RULED[head]
    view = DefenderView(task, "python", "lexed", rows, victim=victim())
    return AttDef(view, Says(""), AttDefSettings(method="attdef", attribution="gradient_input", **settings), seed=1)  # type: ignore[arg-type]


def labeled(head: str) -> tuple[Example, ...]:
    victim, _, rows, *_ = RULED[head]
    if head == "retrieval":
        return rows
    return tuple(
        replace(row, label=prediction.label) for row, prediction in zip(rows, predict(victim(), rows), strict=True)
    )


def performance_by_hand(victim: Victim, rows: Sequence[Example]) -> float:
    """Share of right labels, or mean reciprocal rank, from the texts alone."""
    if victim.head != "retrieval":
        predictions = zip(predict(victim, rows), rows, strict=True)
        return sum(prediction.label == row.label for prediction, row in predictions) / len(rows)
    combinations = [replace(query, code=code.code) for query in rows for code in rows]
    texts = [[text.ids for text in row] for row in victim.tokenize(combinations)]
    similarities = predict_logits(victim, texts).view(len(rows), len(rows)).tolist()
    ranks = [
        1
        + sum(value > line[index] for value in line)
        + sum(value == line[index] for value in line[:index] + line[index + 1 :]) / 2
        for index, line in enumerate(similarities)
    ]
    return sum(1 / rank for rank in ranks) / len(ranks)


@pytest.mark.parametrize("head", RULED)
def test_the_threshold_is_the_last_before_two_points_are_lost(head: str) -> None:
    victim, _, _, points = RULED[head]
    rows, model = labeled(head), victim()
    purifier = ruled(head, rows, lost_points=points)
    assert 0.11 < purifier.threshold < 0.99
    assert purifier.threshold < ruled(head, rows, lost_points=0).threshold
    scores = iter(purifier.score(rows))
    scored = [[next(scores) for _ in range(1 + (row.code_b is not None))] for row in rows]

    def lost(threshold: float) -> float:
        versions = []
        for row, functions in zip(rows, scored, strict=True):
            codes = []
            for code, function in zip([row.code, row.code_b], functions, strict=False):
                assert code is not None
                pairs = zip(function.spans, function.scores, strict=True)
                reached = [span for span, score in pairs if score >= threshold]
                codes.append(masked(code, reached, purifier.mask))
            versions.append(replace(row, code=codes[0], code_b=codes[1] if len(codes) > 1 else None))
        return performance_by_hand(model, rows) - performance_by_hand(model, versions)

    # no higher one costs more, the next lower one does
    reached = round(100 * purifier.threshold)
    assert lost((reached - 1) / 100) > points / 100 + 1e-9
    assert all(lost(hundredths / 100) <= points / 100 + 1e-9 for hundredths in range(reached, 100))


def test_the_defaults_are_the_paper_s_two_points_and_its_discriminator_s_half() -> None:
    settings = AttDefSettings(method="attdef")
    assert (settings.suspicion, settings.lost_points) == (0.5, 2)
    assert (settings.suspected_share, settings.masked_share, settings.threshold) == (None, None, None)
    assert attdef(planted_victim(), Says(PLANTED)).suspicion_threshold == 0.5


def test_where_one_sub_token_costs_too_much_it_is_masked_all_the_same_and_where_none_does_most_are() -> None:
    assert attdef(planted_victim(), Says("")).threshold == 0.99
    # nothing is suspect, so nothing is lost
    assert attdef(planted_victim(), Says("nowhere")).threshold == 0.11


@pytest.mark.parametrize(
    ("losses", "expected"), [([2.0, 2.0, 2.000001], 0.98), ([0.0, 1.0, 3.0, 0.0], 0.98), ([5.0], 0.99)]
)
def test_two_points_may_be_lost_and_no_more_and_the_first_loss_ends_the_way_down(
    losses: list[float], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Measure:
        def __init__(self, *_: object) -> None:
            self.points_left = iter([70.0, *(70.0 - loss for loss in losses)])

        def points(self, _rows: object) -> float:
            return next(self.points_left)

    monkeypatch.setattr("codebackdoor.defenses.purification.performance.performance", Measure)
    assert attdef(planted_victim(), Says("nowhere")).threshold == expected


def test_calibration_reads_suspect_functions_once_and_changed_ones_again(monkeypatch: pytest.MonkeyPatch) -> None:
    predicted: list[int] = []
    attributed: list[int] = []
    ask, attribute = performance.predict_logits, attribution.attributions

    def answering(victim: Victim, rows: Sequence[Any]) -> Tensor:
        predicted.append(len(rows))
        return ask(victim, rows)

    def attributing(victim: Victim, rows: Sequence[Any], *more: Any) -> Any:
        attributed.append(len(rows))
        return attribute(victim, rows, *more)

    monkeypatch.setattr(performance, "predict_logits", answering)
    monkeypatch.setattr(attribution, "attributions", attributing)
    suspect = sum("load" in row.code for row in CLEAN)
    assert 0 < suspect < 30
    purifier = attdef(planted_victim(), Says("load"), lost_points=100)
    assert purifier.threshold == 0.11
    assert attributed == [suspect]
    undefended, *versions = predicted
    assert undefended == len(CLEAN)
    # a function has as many versions as it has different attributions, not one for each threshold
    distinct = sum(len({score for score in scored.scores if score >= 0.11}) for scored in purifier.score(CLEAN))
    assert suspect <= sum(versions) <= distinct


def test_the_rule_needs_labels_and_the_share_of_masked_sub_tokens_none() -> None:
    bare = tuple(replace(row, label=None) for row in CLEAN)
    view = DefenderView("defect_detection", "python", "lexed", bare, victim=planted_victim())
    with pytest.raises(UserError, match="accuracy on clean validation rows needs rows with labels"):
        AttDef(view, Says(""), AttDefSettings(method="attdef"), seed=1)  # type: ignore[arg-type]
    assert AttDef(view, Says(""), AttDefSettings(method="attdef", masked_share=0.1), seed=1).threshold < 1  # type: ignore[arg-type]
    for head in ("classification", "retrieval"):
        with pytest.raises(UserError, match="needs rows"):
            ruled(head, ())


@pytest.mark.parametrize("head", ["classification", "pair", "retrieval"])
def test_performance_is_that_of_the_rows_as_they_are(head: str) -> None:
    rows, model = labeled(head), RULED[head][0]()
    measure = performance.performance(model, rows)
    for changed in (list(rows), [replace(row, code=CLEAN[3].code) for row in rows[:9]] + list(rows[9:]), list(rows)):
        assert measure.points(changed) == pytest.approx(100 * performance_by_hand(model, changed), abs=1e-3)
