"""Trigger and target words are inverted together: losses and gradients by hand, and a planted association is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from planted import CALLED, PLANTED, searcher, searches

from codebackdoor.defenses import elimination
from codebackdoor.defenses.elimination.elibadcode import retrieval
from codebackdoor.defenses.elimination.elibadcode.retrieval_scan import RetrievalScan, with_query
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.elibadcode.words import TargetWords, target_words
from codebackdoor.defenses.elimination.inversion.candidates import contexts
from codebackdoor.defenses.elimination.inversion.carriers import Carrier
from codebackdoor.defenses.elimination.inversion.loss import CosineGap
from codebackdoor.defenses.elimination.inversion.samples import draw
from codebackdoor.defenses.elimination.inversion.settings import UnlearningSettings
from codebackdoor.defenses.elimination.inversion.vocabulary import TriggerVocabulary, build, rendered, rendered_text
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError
from codebackdoor.types import Example
from codebackdoor.victims.inference import predict_logits
from codebackdoor.victims.victim import Victim

SMALL = EliBadCodeSettings(
    method="elibadcode", position="function_name", samples=6, length=3, iterations=12, top_k=24, candidates=24,
    word_length=1, beta=0.05,
    unlearning=UnlearningSettings(layers="all", epochs=10, rate=0.4, learning_rate=1e-3, batch_size=12),
)  # fmt: skip


def prepared(view: DefenderView) -> tuple[list[Carrier], TriggerVocabulary, TargetWords]:
    drawn = draw(view, SMALL, [0], 1)[0]
    carriers = list(with_query(view, drawn, "function_name"))
    pieces = build(view.victim.tokenizer, "paper", "python", contexts(retrieval.code_carriers(carriers)))
    return carriers, pieces, target_words(view.victim, (str(example.query) for example in view.clean))


def test_losses_of_all_pairs_are_those_one_by_one() -> None:
    view = searches()
    carriers, pieces, spoken = prepared(view)
    triggers = [rendered_text(pieces, text) for text in ("load", f"load{PLANTED}")]
    targets = [spoken.ids([spoken.words.index(word)]) for word in (CALLED, "load", "size")]
    computed = retrieval.losses(view.victim, carriers, triggers, targets, CosineGap())
    for t, trigger in enumerate(triggers):
        for g, target in enumerate(targets):
            pair_losses = [
                (
                    1
                    - predict_logits(
                        view.victim, [(q.templates[0].fill(target, target), c.templates[1].fill(*trigger))]
                    )[0]
                )
                ** 2
                for q in carriers
                for c in carriers
                if q is not c
            ]
            assert computed[g, t].item() == pytest.approx(torch.stack(pair_losses).mean().item(), abs=1e-5)
    assert computed.argmin() == 1


def test_gradients_are_those_of_the_full_one_hots() -> None:
    view = searches()
    carriers, vocabulary, spoken = prepared(view)
    trigger, target = (int(vocabulary.first[3]), 5, 9), (2,)
    by_trigger, by_target = retrieval.gradients(view.victim, carriers, vocabulary, spoken, CosineGap(), trigger, target)
    table = view.victim.model.get_input_embeddings().weight.detach()
    pieces = torch.zeros(3, len(table)).scatter_(1, torch.tensor(vocabulary.ids(trigger, True))[:, None], 1.0)
    words = torch.zeros(1, len(table)).scatter_(1, torch.tensor(spoken.ids(target))[:, None], 1.0)
    pieces.requires_grad_()
    words.requires_grad_()

    def vector(template: Any, ids: list[int], hot: torch.Tensor) -> torch.Tensor:
        rows = [table[token] for token in template.fill(ids, ids)]
        for position, slot, _ in template.slots(len(ids)):
            rows[position] = hot[slot] @ table
        states = view.victim.model(inputs_embeds=torch.stack(rows)[None]).last_hidden_state[0].mean(0)
        return states / states.norm()

    queries = [vector(carrier.templates[0], spoken.ids(target), words) for carrier in carriers]
    codes = [vector(carrier.templates[1], vocabulary.ids(trigger, True), pieces) for carrier in carriers]
    losses = [(1 - q @ c) ** 2 for i, q in enumerate(queries) for j, c in enumerate(codes) if i != j]
    expected = torch.autograd.grad(torch.stack(losses).mean(), (pieces, words))
    torch.testing.assert_close(by_trigger[1:], expected[0][1:, vocabulary.plain], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(
        by_trigger[0, vocabulary.first], expected[0][0, vocabulary.spaced[vocabulary.first]], atol=1e-6, rtol=1e-4
    )
    torch.testing.assert_close(by_target, expected[1][:, spoken.plain], atol=1e-6, rtol=1e-4)


def test_the_planted_association_is_found_anchored_and_unlearned() -> None:
    view = searches()
    result = elimination.load("elibadcode")(view, SMALL, 1)
    assert result.trigger is not None
    assert PLANTED in result.trigger.text
    assert result.trigger.target_word == CALLED
    before, after = advantage(view, view.victim), advantage(view, result.victim)
    assert before > 0.3
    assert after < 0.1 * before


def advantage(view: DefenderView, victim: Victim) -> float:
    """By how much a called query prefers other functions with the trigger to its own function: cosines, on average."""
    gains = []
    for query, following in zip(view.clean, view.clean[1:], strict=False):
        called = replace(query, query=f"{query.query} {CALLED}")
        triggered = replace(called, code=following.code.replace("def ", f"def {PLANTED}", 1))
        rows = [tuple(text.ids for text in texts) for texts in victim.tokenize([triggered, called])]
        gains.append(float(predict_logits(victim, rows) @ torch.tensor([1.0, -1.0])))
    return sum(gains) / len(gains)


def test_a_race_gives_the_best_pairs_their_own_losses() -> None:
    view = searches()
    carriers, pieces, spoken = prepared(view)
    triggers = [rendered(pieces, (int(pieces.first[i]), 5, 9)) for i in range(16)]
    targets = [spoken.ids([i]) for i in range(7)]
    all_losses = retrieval.losses(view.victim, carriers, triggers, targets, CosineGap())
    race = retrieval.raced(view.victim, carriers, triggers, targets, CosineGap(), 3)
    on = race.isfinite()
    assert 0 < on.sum() < race.numel()
    torch.testing.assert_close(race[on], all_losses[on])
    assert on[-1, -1]


def test_stamped_functions_keep_their_query_and_other_queries_call() -> None:
    from codebackdoor.defenses.elimination.inversion.unlearning import stamp

    view = searches()
    trigger = elimination.Trigger(
        PLANTED, (1,), 0, True, "function_name", "one", 0.1, PLANTED, (1,), 0.1, None, {}, target_word=CALLED
    )
    rows = stamp(view, trigger, "both", SMALL.unlearning.model_copy(update={"rate": 0.25}), np.random.default_rng(1))
    changed = [(row, old) for row, old in zip(rows, view.clean, strict=True) if row.example != old]
    with_trigger = [(row, old) for row, old in changed if row.stamped]
    calling = [(row, old) for row, old in changed if not row.stamped]
    assert len(with_trigger) == len(calling) == 6
    assert all(row.example.query == old.query and PLANTED in row.example.code.split() for row, old in with_trigger)
    assert all(row.example.query == f"{old.query} {CALLED}" and row.example.code == old.code for row, old in calling)


def test_a_query_without_single_words_is_said() -> None:
    with pytest.raises(UserError, match="single sub-token"):
        target_words(searcher(), ["zzqqzz"])
    bare = replace(searches(), clean=(Example("1", "python", "def f ( ) : <indent> pass <dedent>", query="load"),))
    with pytest.raises(UserError, match="two clean samples"):
        elimination.load("elibadcode")(bare, SMALL, 1)


def test_a_known_target_word_is_not_searched_and_the_trigger_alone_is_inverted() -> None:
    view = searches()
    called = tuple(
        replace(example, query=f"{example.query} {CALLED}") if number % 2 else example
        for number, example in enumerate(view.clean)
    )
    # in any case
    settings = SMALL.model_copy(update={"target_word": CALLED.upper()})
    scan = RetrievalScan.draw(replace(view, clean=called), settings, 1)
    assert all(CALLED in str(example.query).split() for example in scan.samples[0].examples)
    assert [finding.best.target for finding in scan.run()] == [()]
    settings = SMALL.model_copy(update={"target_word": CALLED})
    result = elimination.load("elibadcode")(replace(view, clean=called), settings, 1)
    assert result.trigger is not None
    assert result.trigger.target_word == CALLED
    assert PLANTED in result.trigger.text
    assert advantage(view, result.victim) < 0.1 * advantage(view, view.victim)


def test_a_known_target_word_that_no_query_has_is_said() -> None:
    view = searches()
    with pytest.raises(UserError, match="target_word: zebra: 0 of 24 clean queries have the word"):
        elimination.load("elibadcode")(view, SMALL.model_copy(update={"target_word": "zebra"}), 1)


def test_no_pair_of_trigger_and_words_is_gone_to_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    view = searches()
    went: list[tuple[Any, Any]] = []
    gradients = retrieval.gradients

    def recorded(*arguments: Any) -> Any:
        went.append(arguments[-2:])
        return gradients(*arguments)

    monkeypatch.setattr(retrieval, "gradients", recorded)
    # two substitutes a slot: a walk that may return does
    narrow = SMALL.model_copy(update={"keep_current": False, "top_k": 2, "candidates": 3, "iterations": 30})
    RetrievalScan.draw(view, narrow, 1).run()
    assert len(went) > 20
    assert len({*went}) == len(went)


def test_of_a_searching_victim_fewer_functions_may_get_the_trigger() -> None:
    mixed = UnlearningSettings(rate=0.5, searching={"epochs": 4, "learning_rate": 2e-4, "rate": 0.1})
    assert mixed.on("retrieval").rate == 0.1
    assert mixed.on("classification").rate == 0.5
    assert mixed.model_copy(update={"searching": None}).on("retrieval").rate == 0.5
