"""CodePurify's screen: which elements are scored exactly when one gradient says which ones matter."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from purification_models import example, infiller, make_view
from tiny_models import classifier, encoder_with_decoder, generator, understanding
from torch import Tensor

from codebackdoor.defenses.purification.codepurify.settings import CodePurifySettings
from codebackdoor.defenses.suspicion import scoring, screening
from codebackdoor.defenses.suspicion.masking import Group, framed
from codebackdoor.defenses.suspicion.profile import Scored
from codebackdoor.defenses.suspicion.scoring import ElementScores
from codebackdoor.types import Example
from codebackdoor.victims import forward
from codebackdoor.victims.gradients import log_odds
from codebackdoor.victims.inference import generate
from codebackdoor.victims.victim import Victim

TEXT = "def f ( a , b ) : <indent> b = a <nl> return a + b <dedent>"
INPUT = replace(example(1), code=TEXT)
PAIR = replace(INPUT, code_b="def f ( b ) : <indent> return b + 1 <dedent>")
#: Half of a central difference's width, as a share of the embeddings.
STEP = 1e-4


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def settings(**changes: Any) -> CodePurifySettings:
    return CodePurifySettings(method="codepurify", **changes)


def scored(victim: Victim, example: Example, settings: CodePurifySettings) -> list[Scored]:
    (evidence,) = ElementScores(make_view(victim, ()), infiller()[1], settings).evidence([example])
    return [Scored.from_json(json.loads(json.dumps(row)), example) for row in evidence["elements"]]


def scales(texts: Sequence[Any], group: Group, change: float) -> list[Tensor]:
    """For each text a factor of each sub-token's embedding, which differs from one where the group is masked."""
    factors = []
    # an input of one function has no second element
    for encoded, element in zip(texts, group, strict=False):
        factor, frame = torch.ones(len(encoded.ids)), framed(encoded)
        for start, end in element.masked if element else ():
            low, high = frame.body.covered(start, end)
            factor[len(frame.opening) + low : len(frame.opening) + high] += change
        factors.append(factor)
    return factors


def slope(victim: Victim, texts: Sequence[Any], group: Group) -> float:
    """Central difference of the prediction's score when the group's embeddings are scaled."""
    output = generate(victim, [texts[0].ids])[0].ids if victim.head == "generation" else None
    # weights this small change a prediction by less than float32 resolves
    victim = replace(victim, model=copy.deepcopy(victim.model).double())
    values = []
    for change in (STEP, -STEP):
        embedded = []
        for encoded, factor in zip(texts, scales(texts, group, change), strict=True):
            embedded.append(forward.embed(victim, torch.tensor([encoded.ids])) * factor[None, :, None])
        values.append(_value(victim, embedded, output))
    return (values[0] - values[1]) / (2 * STEP)


@torch.no_grad()
def _value(victim: Victim, embedded: Sequence[Tensor], output: list[int] | None) -> float:
    masks = [torch.ones(part.shape[:2], dtype=torch.long) for part in embedded]
    if output is None:
        vectors = [forward.vectors(victim, part, mask) for part, mask in zip(embedded, masks, strict=True)]
        return float(forward.logits(victim, *vectors).softmax(-1).max().logit())
    labels = torch.tensor([output])
    logits = victim.family.output_logits(victim, embedded[0], masks[0], labels)
    return float(logits.log_softmax(-1)[0, range(len(output)), output].sum())


VICTIMS = {
    "label": (classifier(), INPUT),
    "encoder-decoder's label": (understanding("t5", "classification"), INPUT),
    "decoder's label": (understanding("gpt", "classification"), INPUT),
    "pair": (understanding("first", "pair"), PAIR),
    "output": (generator(), INPUT),
    "output of an encoder": (encoder_with_decoder(), INPUT),
}


@pytest.mark.parametrize("name", VICTIMS)
def test_the_elements_that_pass_have_the_steepest_slopes_and_their_exact_scores(name: str) -> None:
    victim, row = VICTIMS[name]
    unscreened = scored(victim, row, settings())
    texts = victim.tokenize([row])[0]
    slopes = {element.group: abs(slope(victim, texts, element.group)) for element in unscreened}
    assert len(set(slopes.values())) > 4
    for count in (2, 3, 4):
        screened = scored(victim, row, settings(screen="gradient", screened_elements=count))
        steepest = sorted(slopes, key=lambda group: -slopes[group])[:count]
        assert {element.group for element in screened} == set(steepest)
        # in the order of all elements, with the scores that they have among all
        assert [element.group for element in screened] == [e.group for e in unscreened if e.group in steepest]
        exact = {element.group: element.score for element in unscreened}
        assert [element.score for element in screened] == pytest.approx([exact[e.group] for e in screened], abs=2e-5)


def test_both_functions_of_a_joint_element_count() -> None:
    victim, row = VICTIMS["pair"]
    unscreened = scored(victim, row, settings(pairs="joint"))
    texts = victim.tokenize([row])[0]
    slopes = {element.group: abs(slope(victim, texts, element.group)) for element in unscreened}
    screened = scored(victim, row, settings(pairs="joint", screen="gradient", screened_elements=3))
    assert {element.group for element in screened} == set(sorted(slopes, key=lambda group: -slopes[group])[:3])


def test_the_gradient_does_not_vanish_where_the_label_is_certain() -> None:
    logits = torch.tensor([[60.0, -60.0], [0.3, 0.1]], requires_grad=True)
    (gradient,) = torch.autograd.grad(log_odds(logits), logits)
    assert gradient.tolist() == [[1.0, -1.0], [1.0, -1.0]]
    (of_probability,) = torch.autograd.grad(logits.log_softmax(-1)[0, 0], logits)
    assert of_probability.abs().sum() == 0
    three = torch.tensor([[2.0, 1.0, 0.5]], requires_grad=True)
    probability = three.double().softmax(-1)[0, 0]
    torch.testing.assert_close(log_odds(three).double(), probability.logit())


def test_an_input_with_few_elements_needs_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(victim: Victim, rows: Any, loss: Any) -> Any:
        calls.append(len(rows))
        return original(victim, rows, loss)

    original = screening.outputs_and_gradients
    monkeypatch.setattr(screening, "outputs_and_gradients", counted)
    few = replace(example(2), code="def f ( ) : <indent> return 1 <dedent>")
    source = ElementScores(make_view(classifier(), ()), infiller()[1], settings(screen="gradient"))
    evidence = source.evidence([few, INPUT])
    assert calls == [1]
    assert [len(row["elements"]) for row in evidence] == [2, 3]
    assert evidence[0] == ElementScores(make_view(classifier(), ()), infiller()[1], settings()).evidence([few])[0]


def test_the_victim_runs_on_the_kept_elements_only(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def counted(victim: Victim, rows: Any, variants: bool) -> Tensor:
        counts.append(len(rows))
        return original(victim, rows, variants)

    original = scoring.predict_logits
    monkeypatch.setattr(scoring, "predict_logits", counted)
    scored(classifier(), INPUT, settings())
    scored(classifier(), INPUT, settings(screen="gradient", screened_elements=2))
    # without the screen all elements and the input itself, whose logits come with the gradient
    assert counts == [6, 2]


def test_a_study_without_the_screen_has_the_settings_that_it_had() -> None:
    assert not {"screen", "screened_elements"} & settings().model_dump(mode="json").keys()
    assert not {"screen", "screened_elements"} & settings().evidence_settings().keys()
    assert settings(screen="gradient").evidence_settings()["screen"] == "gradient"
    # a screen decides what is measured
    first, second = settings(screen="gradient"), settings(screen="gradient", screened_elements=5)
    assert first.evidence_settings() != second.evidence_settings()
