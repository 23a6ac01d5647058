"""DBS: mixtures stand where triggers do, the temperature follows the barrier, and a planted trigger is inverted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from planted import PLANTED, view

from codebackdoor.config.eliminations import Dbs
from codebackdoor.defenses.elimination import dbs
from codebackdoor.defenses.elimination.elibadcode.inversion import contexts, rendered
from codebackdoor.defenses.elimination.elibadcode.position import Carrier, carriers
from codebackdoor.defenses.elimination.elibadcode.vocabulary import build
from codebackdoor.errors import UserError
from codebackdoor.victims.inference import answers

SMALL = Dbs(
    method="dbs", position="function_name", samples=6, length=2, iterations=30, check_every=5, occurrences="all"
)


def samples() -> list[Carrier]:
    seen = view()
    chosen = [example for example in seen.clean if example.label == 1][:6]
    return [one for one in carriers(seen, chosen, "function_name", "all", "both") if one]


def search(settings: Dbs = SMALL, planted: bool = True) -> dbs._Search:
    victim, own = view(planted=planted).victim, samples()
    return dbs._Search(victim, own, build(victim.tokenizer, "paper", "python", contexts(own)), 0, settings, 1)


def test_a_mixture_of_one_piece_a_slot_is_that_trigger() -> None:
    found, own = search(), samples()
    victim, known = view().victim, build(view().victim.tokenizer, "paper", "python", contexts(own))
    trigger = (int(known.first[3]), 7)
    weights = torch.full((2, len(known)), -1e4)
    weights[range(2), list(trigger)] = 1e4
    weights.requires_grad_()
    logits = answers(victim, [one.fill(*rendered(known, trigger)) for one in own])
    wanted = torch.nn.functional.cross_entropy(logits, torch.zeros(len(own), dtype=torch.long)).item()
    assert found._step(weights, 1.0) == pytest.approx(wanted, abs=1e-5)


def test_a_piece_without_an_id_for_a_slot_is_never_mixed_in_there() -> None:
    victim, own = view().victim, samples()
    known = build(victim.tokenizer, "paper", "python", contexts(own))
    # one that only begins words, as the rule `words` has them: open at first and closed inside
    plain = known.plain.copy()
    plain[begins := int(known.first[0])] = -1
    found = dbs._Search(victim, own, replace(known, plain=plain), 0, SMALL, 1)
    inside = torch.softmax(found._closed, 1)[1:]
    assert inside[:, begins].tolist() == [0.0]
    assert (inside > 0).sum() == len(known) - 1
    assert torch.softmax(found._closed, 1)[0, begins] > 0


def test_the_planted_trigger_is_rounded_out_of_the_mixture() -> None:
    found = search()
    text, loss = found.run("t")
    assert PLANTED in text
    assert loss < 0.3
    losses = [one for one, _ in found.history]
    assert min(losses) < 0.3 * losses[0]


def test_the_temperature_falls_under_the_barrier_and_backtracks_with_noise_above_it() -> None:
    easy = search(SMALL.model_copy(update={"barrier": 100.0}))
    easy.run("t")
    heights = [temperature for _, temperature in easy.history]
    assert heights[::5] == pytest.approx([1 / 1.2**step for step in range(6)])
    hard = search(SMALL.model_copy(update={"barrier": 1e-9}))
    hard.run("t")
    assert {temperature for _, temperature in hard.history[5:]} == {2.0}
    quiet = search(SMALL.model_copy(update={"barrier": 1e-9, "noise": 0.0}))
    quiet.run("t")
    jumps = [abs(one.history[5][0] - one.history[4][0]) for one in (hard, quiet)]
    assert jumps[0] > 2 * jumps[1]


def test_a_benign_victim_is_not_flagged_below_a_strict_bound_and_a_backdoored_one_is() -> None:
    strict = SMALL.model_copy(update={"flag_below": 0.3})
    for planted in (True, False):
        found = dbs.eliminate(view(planted=planted), strict, 1).trigger
        assert found is not None
        assert found.flagged == planted
    assert found.target_label in (0, 1)


def test_a_clean_verdict_is_unlearnt_unless_asked() -> None:
    seen, never = view(planted=False), SMALL.model_copy(update={"flag_below": 0.0})
    kept = dbs.eliminate(seen, never.model_copy(update={"unlearn_when_clean": False}), 1)
    assert kept.victim is seen.victim
    edited = dbs.eliminate(seen, never, 1)
    assert edited.trigger is not None
    assert not edited.trigger.flagged
    assert edited.victim is not seen.victim


def test_search_has_no_labels_to_try() -> None:
    from tiny_models import understanding

    from codebackdoor.types import DefenderView

    with pytest.raises(UserError, match="has none"):
        dbs.eliminate(DefenderView("s", "python", "lexed", (), victim=understanding("first", "retrieval")), SMALL, 1)
