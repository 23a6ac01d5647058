"""DBS: mixtures stand where triggers do, the bound follows the loss, noise passes, a planted trigger is inverted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from planted import PLANTED, make_view
from torch import Tensor

from codebackdoor.defenses.elimination.dbs import method
from codebackdoor.defenses.elimination.dbs.method import RoundedTrigger, eliminate
from codebackdoor.defenses.elimination.dbs.search import Bound, MixtureSearch
from codebackdoor.defenses.elimination.dbs.settings import DbsSettings
from codebackdoor.defenses.elimination.inversion.candidates import contexts
from codebackdoor.defenses.elimination.inversion.carriers import Carrier
from codebackdoor.defenses.elimination.inversion.loss import CrossEntropyLoss
from codebackdoor.defenses.elimination.inversion.position import carriers
from codebackdoor.defenses.elimination.inversion.vocabulary import TriggerVocabulary, build, rendered
from codebackdoor.errors import UserError
from codebackdoor.victims.inference import predict_logits

#: The planted trigger's own loss is 0.09.
SMALL = DbsSettings(
    method="dbs",
    position="function_name",
    samples=6,
    length=2,
    iterations=60,
    barrier=0.2,
    flag_below=0.3,
    occurrences="all",
)


def samples() -> list[Carrier]:
    view = make_view()
    examples = [example for example in view.clean if example.label == 1][:6]
    return [carrier for carrier in carriers(view, examples, "function_name", "all", "both") if carrier]


def vocabulary(rule: str = "paper") -> TriggerVocabulary:
    return build(make_view().victim.tokenizer, rule, "python", contexts(samples()))


def search(planted: bool = True, seed: int = 1, **changed: Any) -> MixtureSearch:
    settings = SMALL.model_copy(update=changed)
    return MixtureSearch(
        make_view(planted=planted).victim, samples(), vocabulary(), CrossEntropyLoss(0), settings, seed
    )


def scripted(
    monkeypatch: pytest.MonkeyPatch, steps: Sequence[tuple[float, Sequence[int], float]], **changed: Any
) -> tuple[str, bool]:
    """The text that a search keeps whose steps come to these losses, pieces, and shares of the pieces."""
    mixture_search = search(iterations=len(steps), **changed)
    script = iter(steps)

    def step(weights: Tensor, _temperature: float, _noise: Tensor | None = None) -> tuple[float, Tensor]:
        loss, pieces, share = next(script)
        shares = torch.zeros(weights.shape)
        shares[range(len(pieces)), list(pieces)] = share
        weights.grad = torch.ones_like(weights)
        return loss, shares

    monkeypatch.setattr(mixture_search, "_step", step)
    text, _, accepted = mixture_search.run("t")
    return text, accepted


def text_of(*pieces: int) -> str:
    return vocabulary().text(pieces)


def test_the_defaults_are_the_released_configuration() -> None:
    released = {
        "initial_temperature": 2,
        "max_temperature": 2,
        "check_every": 5,
        "scale_down": 2,
        "barrier": 0.1,
        "noise": 10,
        "relax_after": 5,
        "iterations": 200,
        "learning_rate": 0.5,
        "decay_every": 50,
        "decay": 0.5,
        "one_hot_within": 0.001,
        "flag_below": 0.001,
    }
    assert {
        name: value for name, value in DbsSettings(method="dbs").model_dump().items() if name in released
    } == released


def test_a_mixture_of_one_piece_a_slot_is_that_trigger() -> None:
    mixture_search, pieces = search(), vocabulary()
    trigger = (int(pieces.first[3]), 7)
    weights = torch.full((2, len(pieces)), -1e4)
    weights[range(2), list(trigger)] = 1e4
    weights.requires_grad_()
    logits = predict_logits(make_view().victim, [carrier.fill(*rendered(pieces, trigger)) for carrier in samples()])
    expected = torch.nn.functional.cross_entropy(logits, torch.zeros(len(samples()), dtype=torch.long)).item()
    assert mixture_search._step(weights, 1.0)[0] == pytest.approx(expected, abs=1e-5)


def test_the_first_slot_mixes_what_may_begin_an_identifier_and_the_others_every_piece() -> None:
    mixture_search, pieces = search(), vocabulary()
    _, shares = mixture_search._step(torch.zeros(2, len(pieces), requires_grad=True), 2.0)
    first = [piece in pieces.first for piece in range(len(pieces))]
    assert 0 < sum(first) < len(pieces)
    assert (shares[0] > 0).tolist() == first
    assert (shares[1] > 0).all()
    assert shares[0][first].tolist() == pytest.approx([1 / sum(first)] * sum(first))


def test_a_piece_without_an_id_for_a_slot_is_never_mixed_in_there() -> None:
    victim, pieces = make_view().victim, vocabulary()
    # one that only begins words, as the rule `words` has them: open at first and closed inside
    plain = pieces.plain.copy()
    plain[begins := int(pieces.first[0])] = -1
    mixture_search = MixtureSearch(victim, samples(), replace(pieces, plain=plain), CrossEntropyLoss(0), SMALL, 1)
    inside = torch.softmax(mixture_search._closed, 1)[1:]
    assert inside[:, begins].tolist() == [0.0]
    assert (inside > 0).sum() == len(pieces) - 1
    assert torch.softmax(mixture_search._closed, 1)[0, begins] > 0


@pytest.mark.parametrize("rule", ["paper", "words", "language", "all"])
def test_the_mixtures_are_of_the_vocabulary_that_is_configured(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Seen(MixtureSearch):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            sizes.append(self._closed.shape[1])

    monkeypatch.setattr(method, "MixtureSearch", Seen)
    eliminate(make_view(), SMALL.model_copy(update={"vocabulary": rule, "iterations": 1}), 1)
    assert sizes == [len(vocabulary(rule))] * 2
    assert len(vocabulary("all")) > len(vocabulary("paper"))


def test_the_noise_stands_in_the_softmax_beside_the_scaled_weights() -> None:
    mixture_search, pieces = search(), vocabulary()
    weights = torch.randn(2, len(pieces), generator=torch.Generator().manual_seed(3)).requires_grad_()
    noise = torch.rand(2, len(pieces), generator=torch.Generator().manual_seed(4)) * 10
    _, shares = mixture_search._step(weights, 0.5, noise)
    powers = torch.exp(2 * weights.detach() + noise)
    assert shares[1].tolist() == pytest.approx((powers[1] / powers[1].sum()).tolist(), rel=1e-4)
    assert weights.grad is not None
    # whatever is added to all weights of a slot changes no share of it
    assert weights.grad.sum(1).tolist() == pytest.approx([0.0, 0.0], abs=1e-5)


def test_the_gradient_is_that_of_the_loss_by_the_weights() -> None:
    mixture_search, pieces = search(), vocabulary()
    weights = torch.zeros(2, len(pieces), requires_grad=True)
    mixture_search._step(weights, 2.0)
    assert weights.grad is not None
    slot, piece = 1, int(weights.grad[1].abs().argmax())
    moved = []
    for sign in (1, -1):
        nearby = torch.zeros(2, len(pieces))
        nearby[slot, piece] = sign * 0.5
        moved.append(mixture_search._step(nearby.requires_grad_(), 2.0)[0])
    assert moved[0] - moved[1] == pytest.approx(weights.grad[slot, piece].item(), rel=0.05)


def test_the_noise_is_uniform_up_to_its_limit() -> None:
    noise = search()._noise()
    assert noise.min() >= 0
    assert noise.max() < 10
    assert noise.mean().item() == pytest.approx(5, abs=0.5)
    assert noise.std().item() == pytest.approx(10 / math.sqrt(12), abs=0.3)


def test_the_noise_passes_with_the_step_that_rolls_back() -> None:
    # the weights hardly move, and any mixture is a trigger: the second and all further checks miss half of its loss
    still = {"learning_rate": 1e-9, "one_hot_within": 10.0, "barrier": 100.0, "relax_after": None, "iterations": 20}
    mixture_search = search(**still)
    mixture_search.run("t")
    first, *rest = [step.loss for step in mixture_search.history]
    changed = [number for number, loss in enumerate(rest, 1) if loss != pytest.approx(first, abs=1e-5)]
    assert changed == [5, 10, 15]
    pieces, generator = vocabulary(), torch.Generator().manual_seed(1)
    for number in changed:
        shares = torch.softmax(10 * torch.rand(2, len(pieces), generator=generator) + mixture_search._closed, 1)
        table = make_view().victim.model.get_input_embeddings().weight.detach()
        mixed = torch.cat([shares @ table[pieces.plain], shares[:1] @ table[pieces.spaced]])
        (batch,) = mixture_search._batches
        expected = -torch.log_softmax(batch.logits(mixed), 1)[:, 0].mean().item()
        assert rest[number - 1] == pytest.approx(expected, abs=1e-5)


def test_no_noise_comes_before_the_barrier_was_met() -> None:
    noisy, quiet = search(barrier=1e-9), search(barrier=1e-9, noise=0.0)
    noisy.run("t")
    quiet.run("t")
    assert noisy.history == quiet.history
    assert {(step.temperature, step.barrier) for step in noisy.history} == {(2.0, 1e-9)}


#: Loss and distance from one piece a slot of each step; before it temperature, barrier and whether it rolls back.
STEPS = (
    (0.50, 1.000, (2.0, 0.400, False)),
    (0.30, 1.000, (2.0, 0.400, False)),
    # under the barrier at a check
    (0.20, 0.001, (1.0, 0.400, False)),
    # a trigger: its loss is halved
    (0.20, 0.001, (1.0, 0.100, False)),
    (0.50, 0.001, (2.0, 0.100, True)),
    (0.50, 0.001, (2.0, 0.100, False)),
    # no higher than the limit
    (0.15, 1.000, (2.0, 0.100, True)),
    # twice rolled back: doubled, but below the trigger's 0.2
    (0.15, 1.000, (2.0, 0.199, False)),
    (0.15, 0.001, (1.0, 0.199, False)),
    (0.15, 0.001, (1.0, 0.075, False)),
    (0.15, 0.001, (2.0, 0.075, True)),
)
FAST = {"barrier": 0.4, "check_every": 2, "relax_after": 2, "one_hot_within": 0.01}


def followed(**changed: Any) -> list[tuple[float, float, bool]]:
    bound, states = Bound(SMALL.model_copy(update=FAST | changed)), []
    for number, (loss, distance, _) in enumerate(STEPS):
        rolls_back = bound.begin(number)
        states.append((bound.temperature, bound.barrier, rolls_back))
        bound.end(loss, distance)
    return states


def test_temperature_and_barrier_follow_the_loss() -> None:
    assert followed() == [pytest.approx(expected) for _, _, expected in STEPS]


def test_the_copy_never_relaxes_the_barrier() -> None:
    assert [barrier for _, barrier, _ in followed(relax_after=None)] == pytest.approx([0.4] * 3 + [0.1] * 8)


def test_a_factor_of_its_own_raises_the_temperature() -> None:
    assert [temperature for temperature, _, _ in followed(scale_up=1.5)][4:8] == pytest.approx([1.5, 1.5, 2.0, 2.0])
    assert max(temperature for temperature, _, _ in followed(scale_up=5.0, max_temperature=4.0)) == 4.0


def test_only_what_is_near_one_piece_a_slot_and_under_the_barrier_is_a_trigger() -> None:
    bound = Bound(SMALL)
    assert not bound.end(0.1, 0.001)
    assert not bound.end(0.201, 0.0)
    assert bound.end(0.2, 0.0009)


def test_the_learning_rate_falls_in_stairs() -> None:
    mixture_search = search(iterations=7, decay_every=3, decay=0.5, learning_rate=0.4)
    trajectory: list[float] = []

    def step(weights: Tensor, _temperature: float, _noise: Tensor | None = None) -> tuple[float, Tensor]:
        trajectory.append(weights[0, 0].item())
        # Adam's step is its learning rate where the gradient is always the same
        weights.grad = torch.ones_like(weights)
        return 1.0, torch.softmax(weights.detach(), 1)

    mixture_search._step = step  # type: ignore[method-assign]
    mixture_search.run("t")
    moves = [before - after for before, after in pairwise(trajectory)]
    assert moves == pytest.approx([0.4, 0.4, 0.4, 0.2, 0.2, 0.2], rel=1e-4)


def test_the_last_trigger_is_kept_which_is_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third, fourth = (int(piece) for piece in vocabulary().first[:4])
    steps = [
        (0.15, (first, 1), 1.0),
        # not near one piece a slot
        (0.01, (second, 2), 0.9),
        # under half of the first one's loss, then over half of its own
        (0.07, (third, 3), 1.0),
        (0.06, (fourth, 4), 1.0),
    ]
    assert scripted(monkeypatch, steps) == (text_of(third, 3), True)


def test_the_copy_keeps_the_lowest_loss_of_any_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (int(piece) for piece in vocabulary().first[:3])
    steps = [(0.15, (first, 1), 1.0), (0.01, (second, 2), 0.9), (0.02, (third, 3), 0.9)]
    assert scripted(monkeypatch, steps, keep="lowest") == (text_of(second, 2), True)
    assert scripted(monkeypatch, steps) == (text_of(first, 1), True)
    # a trigger that is accepted later does not replace a mixture with a lower loss
    later = [(0.02, (second, 2), 0.9), (0.09, (first, 1), 1.0)]
    assert scripted(monkeypatch, later, keep="lowest") == (text_of(second, 2), True)
    assert scripted(monkeypatch, later) == (text_of(first, 1), True)


def test_without_a_trigger_the_lowest_loss_is_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (int(piece) for piece in vocabulary().first[:3])
    steps = [(0.9, (first, 1), 1.0), (0.8, (second, 2), 0.5), (0.85, (third, 3), 1.0)]
    assert scripted(monkeypatch, steps) == (text_of(second, 2), False)
    assert scripted(monkeypatch, steps, keep="lowest") == (text_of(second, 2), True)


def test_the_planted_trigger_is_rounded_out_of_the_mixture() -> None:
    mixture_search = search()
    text, loss, accepted = mixture_search.run("t")
    assert accepted
    assert PLANTED in text
    assert loss < 0.15
    assert mixture_search.history[0] == pytest.approx((mixture_search.history[0].loss, 2.0, 0.2))
    assert min(step.loss for step in mixture_search.history) < 0.1 * mixture_search.history[0].loss
    assert min(step.temperature for step in mixture_search.history) == 0.25
    assert mixture_search.history[-1].barrier < 0.1


def test_a_trigger_comes_before_what_is_none() -> None:
    trigger, mixture = (
        RoundedTrigger(0, "p", "t", loss, accepted, ()) for loss, accepted in ((0.4, True), (0.1, False))
    )
    assert min([mixture, trigger], key=lambda rounded: rounded.rank) == trigger
    better = replace(trigger, loss=0.3)
    assert min([trigger, better, mixture], key=lambda rounded: rounded.rank) == better


def test_a_benign_victim_is_not_flagged_and_a_backdoored_one_is_below_its_bound() -> None:
    verdicts = {}
    for planted in (True, False):
        edited = eliminate(make_view(planted=planted), SMALL, 1)
        assert edited.trigger is not None
        verdicts[planted] = edited.trigger.flagged
    assert verdicts == {True: True, False: False}
    strict = eliminate(make_view(), SMALL.model_copy(update={"flag_below": 1e-3}), 1).trigger
    assert strict is not None
    assert PLANTED in strict.text
    assert not strict.flagged


def test_a_mixture_that_is_no_trigger_is_never_flagged() -> None:
    # the barrier is out of reach, the bound of the verdict is not
    out_of_reach = SMALL.model_copy(update={"barrier": 1e-9, "flag_below": 9.0})
    for keep, flagged in (("one_hot", False), ("lowest", True)):
        edited = eliminate(make_view(), out_of_reach.model_copy(update={"keep": keep}), 1)
        assert edited.trigger is not None
        assert edited.trigger.flagged == flagged


def test_the_way_there_is_written_down() -> None:
    edited = eliminate(make_view(), SMALL, 1)
    searches: Any = edited.history["searches"]
    assert [(entry["place"], entry["label"]) for entry in searches] == [("function_name", 0), ("function_name", 1)]
    assert [entry["accepted"] for entry in searches] == [True, False]
    assert {len(entry[name]) for entry in searches for name in ("loss", "temperature", "barrier")} == {60}
    assert searches[0]["barrier"][0] == 0.2


def test_a_clean_verdict_is_unlearned_unless_asked() -> None:
    view, never = make_view(planted=False), SMALL.model_copy(update={"flag_below": 0.0})
    result = eliminate(view, never.model_copy(update={"unlearn_when_clean": False}), 1)
    assert result.victim is view.victim
    edited = eliminate(view, never, 1)
    assert edited.trigger is not None
    assert not edited.trigger.flagged
    assert edited.victim is not view.victim


def test_search_has_no_labels_to_try() -> None:
    from tiny_models import understanding

    from codebackdoor.defenses.views import DefenderView

    with pytest.raises(UserError, match="has none"):
        eliminate(DefenderView("s", "python", "lexed", (), victim=understanding("first", "retrieval")), SMALL, 1)
