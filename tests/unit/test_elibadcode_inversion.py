"""Phase (c): the gradient, the candidates, their losses, the search and anchoring, on a backdoor planted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from planted import PLANTED, make_view

from codebackdoor.defenses.elimination.elibadcode.anchoring import anchor
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.inversion import classifier
from codebackdoor.defenses.elimination.inversion.candidates import contexts, first_trigger, neighbors, substitutes
from codebackdoor.defenses.elimination.inversion.carriers import Carrier
from codebackdoor.defenses.elimination.inversion.classifier import (
    ClassifierObjective,
    losses,
    raced,
    vocabulary_gradient,
)
from codebackdoor.defenses.elimination.inversion.loss import CrossEntropyLoss
from codebackdoor.defenses.elimination.inversion.position import carriers, trigger_spans
from codebackdoor.defenses.elimination.inversion.search import search
from codebackdoor.defenses.elimination.inversion.spans import insert
from codebackdoor.defenses.elimination.inversion.vocabulary import TriggerVocabulary, build, rendered, rendered_text
from codebackdoor.victims.inference import class_logits
from codebackdoor.victims.victim import Victim, load_victim, save_victim

SMALL = EliBadCodeSettings(method="elibadcode", length=3, iterations=8, top_k=24, candidates=24)
TARGET = CrossEntropyLoss(0)


@cache
def cut_samples(occurrences: str = "all", number: int = 6) -> tuple[Carrier, ...]:
    """Samples of label 1, which the planted backdoor turns into label 0."""
    view = make_view()
    examples = [example for example in view.clean if example.label == 1][:number]
    return tuple(carrier for carrier in carriers(view, examples, "least_sensitive", occurrences, "both") if carrier)


@cache
def vocabulary() -> TriggerVocabulary:
    return build(make_view().victim.tokenizer, "paper", "python", [True])


def objective(victim: Victim, settings: EliBadCodeSettings) -> ClassifierObjective:
    return ClassifierObjective(victim, cut_samples("one"), vocabulary(), TARGET, settings)


def trigger(*names: str) -> tuple[int, ...]:
    return tuple(vocabulary().pieces.index(name) for name in names)


def test_the_restricted_gradient_is_that_of_the_full_one_hot() -> None:
    victim, samples, pieces = make_view().victim, cut_samples(), vocabulary()
    current = trigger("load", "init", "y")
    gradient = vocabulary_gradient(victim, samples, pieces, current, TARGET)

    weight = victim.model.get_input_embeddings().weight.detach()
    inside, at_start = (torch.zeros(3, len(weight)).scatter_(1, torch.tensor(ids)[:, None], 1.0).requires_grad_()
                        for ids in (pieces.ids(current, False), pieces.ids(current, True)))  # fmt: skip
    total = torch.zeros(())
    for template in samples:
        (ids,) = template.fill(*rendered(pieces, current))
        rows = [weight[token] for token in ids]
        for position, slot, spaced in template.slots(0, 3):
            rows[position] = (at_start if spaced and slot == 0 else inside)[slot] @ weight
        # inputs_embeds of one unpadded sample: RoBERTa counts the same positions as for ids
        logits = victim.model(inputs_embeds=torch.stack(rows)[None]).logits
        total = total + torch.nn.functional.cross_entropy(logits, torch.tensor([0]))
    by_plain, by_start = torch.autograd.grad(total / len(samples), (inside, at_start), allow_unused=True)
    expected = by_plain[:, pieces.plain]
    expected[0] += by_start[0, pieces.spaced]
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-4)


def test_positions_with_embeddings_are_those_with_ids() -> None:
    victim = make_view().victim
    ids = torch.tensor([template.fill([7], [7])[0][:20] for template in cut_samples()])
    by_embedding = victim.model(inputs_embeds=victim.model.get_input_embeddings()(ids)).logits
    torch.testing.assert_close(by_embedding, victim.model(input_ids=ids).logits)


def test_losses_of_one_batch_are_those_one_by_one() -> None:
    victim, samples, pieces = make_view().victim, cut_samples(), vocabulary()
    triggers = [rendered(pieces, trigger(*names)) for names in (("load", "init"), ("size", "y", "init"), ("index",))]
    together = losses(victim, samples, triggers, TARGET)
    for candidate, loss in zip(triggers, together.tolist(), strict=True):
        alone = [
            torch.nn.functional.cross_entropy(
                class_logits(victim, [template.fill(*candidate)[0]]), torch.tensor([0])
            ).item()
            for template in samples
        ]
        assert loss == pytest.approx(sum(alone) / len(alone), abs=1e-5)


def test_candidates_and_anchoring_are_scored_at_each_samples_own_place() -> None:
    view, current = make_view(), trigger("load", "_", "init", "y")
    samples = [example for example in view.clean if example.label == 1][:6]
    spans = trigger_spans(view, samples, "least_sensitive", "one", "both")
    assert len({part.spans for some in spans if some for part in some}) > 1, "no constant place"

    def loss(text: str) -> float:
        codes = [insert(example, some, text).code for example, some in zip(samples, spans, strict=True) if some]
        logits = class_logits(view.victim, [encoded.ids for encoded in view.victim.encode(codes)])
        return torch.nn.functional.cross_entropy(logits, torch.zeros(len(codes), dtype=torch.long)).item()

    texts = ["load_inity", "_inity", "loadinity", "load_y", "load_init"]
    computed = losses(view.victim, cut_samples("one"), [rendered_text(vocabulary(), text) for text in texts], TARGET)
    assert computed.tolist() == pytest.approx([loss(text) for text in texts], abs=1e-5)
    anchored = anchor(view.victim, cut_samples("one"), vocabulary(), current, TARGET, beta=0.15)
    assert [without for _, without in anchored.without] == pytest.approx(list(map(loss, texts[1:])), abs=1e-5)
    assert anchored.loss == pytest.approx(loss(PLANTED), abs=1e-5)


def test_a_search_of_a_victim_that_was_trained_with_dropout_hears_none(tmp_path: Path) -> None:
    save_victim(make_view().victim, tmp_path, {"task": "defect_detection", "backdoored": True})
    victim = load_victim(tmp_path)
    assert victim.model.config.hidden_dropout_prob > 0
    triggers = [rendered(vocabulary(), trigger(*names)) for names in (("load", "init", "y"), ("size", "y", "init"))]
    current = trigger("load", "init", "y")
    silent = losses(victim, cut_samples(), triggers, TARGET)
    gradient = vocabulary_gradient(victim, cut_samples(), vocabulary(), current, TARGET)
    trajectory = search(objective(victim, SMALL), np.random.default_rng(1), title="test")
    # after the search as before it, and as the same victim without dropout
    assert losses(victim, cut_samples(), triggers, TARGET).equal(silent)
    assert vocabulary_gradient(victim, cut_samples(), vocabulary(), current, TARGET).equal(gradient)
    victim.model.config.hidden_dropout_prob = victim.model.config.attention_probs_dropout_prob = 0.0
    for module in victim.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    again = search(objective(victim, SMALL), np.random.default_rng(1), title="test")
    assert again == trajectory


def test_a_race_gives_the_best_candidates_their_own_losses() -> None:
    victim, samples, pieces = make_view().victim, cut_samples(), vocabulary()
    triggers = [rendered(pieces, (first, 60, 61)) for first in pieces.first.tolist()[:16]]
    all_losses, first_losses = losses(victim, samples, triggers, TARGET), losses(victim, samples[:1], triggers, TARGET)
    race = raced(victim, samples, triggers, TARGET, 1)
    on = race.isfinite().nonzero()[:, 0].tolist()
    assert set(on) <= set(first_losses.argsort()[:2].tolist())
    assert int(race.argmin()) in on
    torch.testing.assert_close(race[on], all_losses[on], atol=1e-5, rtol=1e-4)
    # nothing to save: the same as without
    assert raced(victim, samples, triggers, TARGET, len(samples)).equal(raced(victim, samples, triggers, TARGET, None))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("first", [None, 1, 2, 5])
def test_what_is_left_out_could_not_have_won(seed: int, first: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(seed)
    # few and many close calls, and a sample on which all lose much
    drawn = generator.gamma(generator.choice([0.3, 3.0]), size=(int(generator.integers(1, 24)), 40))
    drawn[generator.integers(len(drawn))] += 5.0
    # a tie: the first of two
    drawn[:, 39] = drawn[:, 0]
    # sums of these are exact in any order
    table = torch.tensor((drawn * 2**12).round() / 2**12, dtype=torch.float32)
    scored: list[tuple[int, int]] = []

    def looked_up(_victim: object, samples: Sequence[int], triggers: Sequence[int], _label: int) -> torch.Tensor:
        scored.extend((sample, candidate) for sample in samples for candidate in triggers)
        return table[list(samples)][:, list(triggers)]

    monkeypatch.setattr(classifier, "sample_losses", looked_up)
    race = raced(make_view().victim, range(len(table)), range(40), TARGET, first)  # type: ignore[arg-type]
    all_losses = table.mean(dim=0)
    going_on = torch.ones(40, dtype=torch.bool)
    if first is not None and first < len(table):
        first_losses = table[:first].sum(dim=0)
        going_on = torch.zeros(40, dtype=torch.bool).index_fill(0, first_losses.argsort(stable=True)[:5], True)
    on = race.isfinite()
    assert race[on].equal(all_losses[on])
    assert bool((all_losses[~on & going_on] > all_losses[going_on].min()).all())
    assert race.argmin() == all_losses.where(going_on, torch.inf).argmin()
    assert len(set(scored)) == len(scored) <= table.numel()


def test_candidates_that_cannot_win_are_not_read_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    victim, samples, pieces = make_view().victim, cut_samples("one"), vocabulary()
    triggers = [rendered_text(pieces, text) for text in (PLANTED, *(f"{name}_y" for name in ("load", "index", "size")))]
    scored = []
    real = classifier.sample_losses
    monkeypatch.setattr(
        classifier, "sample_losses", lambda *args: (scored.append(len(args[1]) * len(args[2])), real(*args))[1]
    )
    assert raced(victim, samples, triggers, TARGET, None).argmin() == 0
    assert sum(scored) < len(samples) * len(triggers)


def test_substitutes_are_the_steepest_of_each_slot_and_the_first_slot_is_restricted() -> None:
    gradient = torch.tensor([[-5.0, 0.0, -1.0, 2.0], [3.0, -2.0, -7.0, -1.0]])
    pieces = SimpleNamespace(plain=np.array([4, 5, 6, 7]), first=np.array([1, 2, 3]))
    assert substitutes(gradient, pieces, 2) == [[2, 1], [2, 1]]
    pieces.first = np.array([3])
    assert substitutes(gradient, pieces, 3) == [[3], [2, 1, 3]]
    # what has no id inside of a word stands first or nowhere
    pieces.plain[2], pieces.first = -1, np.array([2])
    assert substitutes(gradient, pieces, 3) == [[2], [1, 3, 0]]


def test_neighbors_differ_in_one_slot_never_repeat_and_always_end() -> None:
    pieces, current = vocabulary(), trigger("load", "init", "y")
    options = [pieces.first.tolist()[:6], list(range(60, 90)), [6, 7]]
    visited = {current}
    drawn, dropped = neighbors(current, options, pieces, [True], visited, 50, np.random.default_rng(0))
    assert all(sum(a != b for a, b in zip(neighbor, current, strict=True)) == 1 for neighbor in drawn)
    assert len(set(drawn)) == len(drawn)
    assert all(pieces.survive(drawn, [True]))
    assert len(drawn) + dropped == 37  # all but the current trigger
    assert dropped > 0
    few, _ = neighbors(current, options, pieces, [True], visited, 4, np.random.default_rng(0))
    assert len(few) == 4
    assert neighbors(current, options, pieces, [True], {current, *drawn}, 50, np.random.default_rng(1))[0] == []


def test_candidates_are_drawn_from_every_slot() -> None:
    pieces, current = vocabulary(), trigger("load", "init", "y")
    options = [pieces.first.tolist(), list(range(40)), list(range(40))]
    drawn, _ = neighbors(current, options, pieces, [True], {current}, 30, np.random.default_rng(0))
    changed = {slot for neighbor in drawn for slot in range(3) if neighbor[slot] != current[slot]}
    assert changed == {0, 1, 2}


def run(seed: int = 1, **changes: object) -> tuple[str, list[float]]:
    settings = SMALL.model_copy(update=changes)
    trajectory = search(objective(make_view().victim, settings), np.random.default_rng(seed), title="test")
    assert trajectory.loss == min(trajectory.history)
    assert trajectory.scored > 0 or settings.iterations == 0
    return vocabulary().text(trajectory.trigger), list(trajectory.history)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_search_finds_the_planted_trigger(seed: int) -> None:
    text, history = run(seed)
    assert text.count(PLANTED) == 2, "both slots that may hold the planted piece do"
    assert history[-1] < 0.5 * history[0]
    assert all(later <= earlier for earlier, later in pairwise(history))


def test_the_gradient_points_at_the_planted_piece() -> None:
    gradient = vocabulary_gradient(
        make_view().victim, cut_samples("one"), vocabulary(), trigger("load", "size", "y"), TARGET
    )
    (planted,) = trigger(PLANTED)
    assert [slot_pieces[0] for slot_pieces in substitutes(gradient, vocabulary(), 4)[1:]] == [planted, planted]


def test_the_same_seed_gives_the_same_search_and_another_seed_another() -> None:
    assert run(4) == run(4)
    assert run(4)[1][0] != run(5)[1][0]


def test_without_keeping_the_current_trigger_the_loss_may_rise() -> None:
    text, history = run(keep_current=False, iterations=20)
    assert any(later > earlier for earlier, later in pairwise(history))
    # the walk goes on from the planted trigger to worse ones, and what it found is not lost
    assert text.count(PLANTED) == 2
    assert history[-1] > min(history)


def test_patience_ends_a_search_that_stands_still() -> None:
    _, full = run(iterations=14)
    _, short = run(iterations=14, patience=2)
    assert len(short) < len(full)
    assert short == full[: len(short)]


def test_patience_counts_from_the_lowest_loss_also_where_the_search_moves_on() -> None:
    _, full = run(iterations=40, keep_current=False)
    _, short = run(iterations=40, keep_current=False, patience=10)
    lower = [step for step in range(1, len(full)) if min(full[:step]) - full[step] > 1e-3]
    # after the lowest loss the walk rises and falls again: a fall is not a gain
    assert any(full[step] - full[step + 1] > 1e-3 for step in range(lower[-1], len(full) - 1))
    assert short == full[: lower[-1] + 11]


def test_zero_steps_leave_the_first_trigger() -> None:
    text, history = run(iterations=0)
    first = first_trigger(vocabulary(), 3, contexts(cut_samples("one")), np.random.default_rng(1))
    assert (text, len(history)) == (vocabulary().text(first), 1)


def test_anchoring_keeps_what_carries_the_effect() -> None:
    current = trigger("load", "_", "init", "y")
    anchored = anchor(make_view().victim, cut_samples("one"), vocabulary(), current, TARGET, beta=0.15)
    assert (anchored.text, anchored.is_whole) == (PLANTED, False)
    assert [piece for piece, _ in anchored.without] == ["load", "_", "init", "y"]
    (loss,) = losses(make_view().victim, cut_samples("one"), [rendered_text(vocabulary(), PLANTED)], TARGET).tolist()
    assert anchored.loss == pytest.approx(loss, abs=1e-6)
    assert anchor(make_view().victim, cut_samples("one"), vocabulary(), current, TARGET, beta=0.0).text == "load_inity"


def test_where_nothing_alone_carries_the_effect_the_whole_trigger_stays() -> None:
    current = trigger("load", "_", "init", "y")
    anchored = anchor(make_view().victim, cut_samples("one"), vocabulary(), current, TARGET, beta=9.0)
    assert (anchored.text, anchored.is_whole) == ("load_inity", True)
    assert anchored.loss == pytest.approx(
        losses(make_view().victim, cut_samples("one"), [rendered_text(vocabulary(), "load_inity")], TARGET).item(),
        abs=1e-6,
    )
