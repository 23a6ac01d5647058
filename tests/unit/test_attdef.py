"""AttDef: attributions that add up, thresholds at their shares, and a planted trigger that is masked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from planted import PLANTED, WORDS, sample, victim
from purification_models import discriminator, example, infiller
from tiny_models import HEADS, classifier, understanding
from torch import Tensor

from codebackdoor.config.purifications import AttDef as Settings
from codebackdoor.defenses.purification import attribution
from codebackdoor.defenses.purification.attdef import AttDef, masked, relative
from codebackdoor.defenses.purification.replaced import Discriminator
from codebackdoor.types import DefenderView, Example
from codebackdoor.victims.inference import answers, predict
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


def attdef(asked: Victim, judge: Any, **settings: Any) -> AttDef:
    view = DefenderView("defect_detection", "python", "lexed", CLEAN, victim=asked)
    return AttDef(view, judge, Settings(method="attdef", **settings), seed=1)


ROWS = tuple(replace(one, code_b=CLEAN[0].code, query="load the value") for one in CLEAN[:6])


def loud(family: str, head: str) -> Victim:
    """A random victim whose answers depend on what it reads."""
    asked = understanding(family, head, max_length=64)
    with torch.no_grad():
        for parameter in asked.model.parameters():
            # T5's are of the order of one as they are
            parameter.mul_(4 if parameter.ndim == 2 and family != "t5" else 1)
    return asked


def scores(asked: Victim, rows: Sequence[Sequence[Encoded]], labels: Tensor | None) -> Tensor:
    said = answers(asked, [[text.ids for text in row] for row in rows])
    return said if labels is None else attribution.log_odds(said, labels)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", ["first", "mean", "t5", "gpt"])
def test_integrated_gradients_sum_up_to_the_difference_between_input_and_masked_code(family: str, head: str) -> None:
    asked = loud(family, head)
    rows = asked.read(ROWS)
    _, mask = stand_in(asked.tokenizer, "mask")
    found = attribution.attributions(asked, rows, mask, attribution.midpoints(60))
    masked_rows = [
        [
            text
            if name == "query"
            else Encoded(
                [mask if offset != (0, 0) else index for index, offset in zip(text.ids, text.offsets, strict=True)], []
            )
            for name, text in zip(asked.fields, row, strict=True)
        ]
        for row in rows
    ]
    said = answers(asked, [[text.ids for text in row] for row in rows])
    labels = None if head == "retrieval" else said.argmax(-1)
    differences = scores(asked, rows, labels) - scores(asked, masked_rows, labels)
    largest = float(differences.abs().max())
    assert largest > 1e-4
    for row, own, difference in zip(rows, found, differences.tolist(), strict=True):
        assert len(own) == (2 if head == "pair" else 1)
        assert sum(map(sum, own)) == pytest.approx(difference, abs=0.05 * largest)
        for place, values in zip(attribution.functions(asked), own, strict=True):
            assert len(values) == len(row[place].ids)
            special = [value for value, offset in zip(values, row[place].offsets, strict=True) if offset == (0, 0)]
            assert special
            assert not any(special)


def test_attributions_do_not_depend_on_the_company() -> None:
    asked = loud("first", "classification")
    rows = asked.read(CLEAN[:12])
    _, mask = stand_in(asked.tokenizer, "mask")
    together = attribution.attributions(asked, rows, mask, [1.0])
    for one, (values,) in zip(rows, together, strict=True):
        assert attribution.attributions(asked, [one], mask, [1.0])[0][0] == pytest.approx(values, abs=1e-4)


def test_log_odds_of_two_and_of_three_classes() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    chances = logits.softmax(-1)[0]
    for label in range(3):
        wanted = math.log(float(chances[label] / (1 - chances[label])))
        assert float(attribution.log_odds(logits, torch.tensor([label]))) == pytest.approx(wanted, abs=1e-5)


def triggered(numbers: Sequence[int]) -> list[Example]:
    """Functions whose first name ends in the planted piece, of the class that the trigger does not lead to."""
    rows = []
    for number in numbers:
        one = sample(number)
        name = next(word for word in WORDS if one.code.startswith(f"def {word}_"))
        code = one.code.replace(f"def {name}_", f"def {name}_{PLANTED}_", 1)
        rows.append(Example(one.id, "python", code, label=one.label))
    return rows


def test_the_planted_trigger_is_masked_and_the_label_comes_back() -> None:
    asked = victim()
    rows = triggered([number for number in range(100, 160) if sample(number).label == 1])
    assert all(found.label == 0 for found in predict(asked, rows))
    purified = attdef(asked, Says(PLANTED), suspicion=0.5, masked_share=0.02).purify(rows)
    for one, row in zip(rows, purified, strict=True):
        assert any(PLANTED in one.code[span.start : span.end] for span in row.touched)
        assert PLANTED not in row.example.code
    back = predict(asked, [row.example for row in purified])
    assert sum(found.label == 1 for found in back) / len(back) >= 0.9


def test_what_the_discriminator_does_not_suspect_stays() -> None:
    rows = triggered(range(100, 110))
    for row in attdef(victim(), Says("nowhere"), suspicion=0.5, threshold=0).purify(rows):
        assert not row.touched
        assert row.detail["poisoned"] is False


def test_thresholds_let_go_the_shares_of_clean_data() -> None:
    judge = Discriminator(*discriminator())
    purifier = attdef(victim(), judge, suspected_share=0.2, masked_share=0.1)
    suspicions = judge.suspicions([one.code for one in CLEAN])
    assert sum(value > purifier.suspicion for value in suspicions) / len(CLEAN) == pytest.approx(0.2, abs=0.04)
    scores = [score for scored in purifier.score(CLEAN) for score in scored.scores]
    assert sum(score >= purifier.threshold for score in scores) / len(scores) == pytest.approx(0.1, abs=0.02)


def test_each_suspicion_is_that_of_the_text_alone_and_without_special_tokens() -> None:
    model, tokenizer = discriminator()
    judge = Discriminator(model, tokenizer)
    texts = [example(number).code for number in range(12)]
    for text, found in zip(texts, judge.suspicions(texts), strict=True):
        ids = tokenizer(text, truncation=True, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            wanted = model(ids).logits[0, 1:-1].max().sigmoid()
        assert found == pytest.approx(float(wanted), abs=1e-5)


def test_relative_attributions_leave_out_special_tokens_and_marks() -> None:
    text = "a <nl> bc"
    encoded = Encoded([0, 7, 8, 9, 2], [(0, 0), (0, 1), (2, 6), (7, 9), (0, 0)])
    found = relative(text, encoded, [9.0, -1.0, -5.0, 3.0, 9.0])
    assert (found.places, found.scores) == ([(0, 1), (7, 9)], [0.0, 1.0])
    assert relative(text, encoded, [0.0, 2.0, 0.0, 2.0, 0.0]).scores == [0.0, 0.0]


def test_a_mask_is_one_sub_token_wherever_it_stands() -> None:
    tokenizer: Any = infiller()[1]
    text = "def testo_init ( a )"
    encoded = tokenizer(text, return_offsets_mapping=True)
    offsets = [(start + (text[start] == " "), end) for start, end in encoded["offset_mapping"] if end > start]
    mask, index = stand_in(tokenizer, "mask")
    for place in offsets:
        ids = tokenizer(masked(text, [place], mask))["input_ids"]
        assert ids.count(index) == 1
        assert tokenizer.decode(ids).count("<mask>") == 1
    assert masked("def f ( a )", [(4, 5)], "<mask>") == "def<mask> ( a )"
    assert masked("ab", [(0, 1), (1, 2)], "<mask>") == "<mask><mask>"


def test_gradient_times_input_looks_at_the_input_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[float]] = []
    own = attribution.attributions

    def spy(*given: Any) -> Any:
        seen.append(list(given[3]))
        return own(*given)

    monkeypatch.setattr(attribution, "attributions", spy)
    attdef(victim(), Says(PLANTED), attribution="gradient_input", suspicion=0.5, threshold=0.5).score(CLEAN[:2])
    attdef(victim(), Says(PLANTED), steps=2, suspicion=0.5, threshold=0.5).score(CLEAN[:2])
    assert seen == [[1.0], [0.25, 0.75]]


def test_tensors_are_left_as_they_were() -> None:
    asked = classifier(seed=3)
    before: list[Tensor] = [one.clone() for one in asked.model.parameters()]
    attribution.attributions(asked, asked.read(CLEAN[:1]), 4, [0.5])
    assert all(torch.equal(one, two) for one, two in zip(before, asked.model.parameters(), strict=True))
    assert all(one.grad is None for one in asked.model.parameters())


def test_of_a_pair_only_the_suspect_function_is_masked() -> None:
    asked = understanding("first", "pair", max_length=64)
    clean = tuple(replace(one, code_b=CLEAN[0].code) for one in CLEAN)
    view = DefenderView("clone_detection", "python", "lexed", clean, victim=asked)
    purifier = AttDef(view, Says(PLANTED), Settings(method="attdef", suspicion=0.5, masked_share=0.1), seed=1)  # type: ignore[arg-type]
    (suspect,) = triggered([101])
    rows = [replace(CLEAN[1], code_b=suspect.code), replace(suspect, code_b=CLEAN[1].code), clean[2]]
    second, first, neither = purifier.purify(rows)
    assert {span.field for span in second.touched} == {"code_b"}
    assert {span.field for span in first.touched} == {"code"}
    assert (second.example.code, first.example.code_b) == (CLEAN[1].code, CLEAN[1].code)
    assert neither.example == clean[2]
    assert "<mask>" in str(second.example.code_b)


def test_of_a_search_row_the_code_is_masked_by_its_similarity_to_the_query() -> None:
    asked = understanding("mean", "retrieval", max_length=64)
    rows = [replace(one, query="load the value") for one in triggered(range(100, 106))]
    view = DefenderView("code_search", "python", "lexed", tuple(rows), victim=asked)
    purifier = AttDef(view, Says(PLANTED), Settings(method="attdef", suspicion=0.5, masked_share=0.1), seed=1)  # type: ignore[arg-type]
    found = purifier.purify(rows)
    assert all(row.touched and row.example.query == "load the value" for row in found)
    other = purifier.score([replace(one, query="state") for one in rows])
    assert [one.scores for one in other] != [one.scores for one in purifier.score(rows)]
