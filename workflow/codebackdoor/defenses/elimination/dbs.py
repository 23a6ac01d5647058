"""DBS: trigger inversion by dynamic bound scaling, then EliBadCode's unlearning (Shen et al. 2022).

Each slot of the trigger is a mixture of the trigger vocabulary's embeddings, the softmax of free weights at a
temperature. From the first loss under a barrier on, the temperature falls while the loss stays there, so that the
mixtures draw near single pieces. Where it does not, the temperature rolls back and the mixtures of that one step are
mixed with noise, whose gradient leads away from the local optimum. A mixture of nearly single pieces under the barrier
is a trigger, and half of its loss is the next barrier. Vocabulary and unlearning are EliBadCode's (its section 5.1);
the label whose trigger reaches a loss under a fixed bound is said to be the target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from codebackdoor.config.eliminations import Dbs
from codebackdoor.defenses.elimination import Elimination, Inverted, Trigger, timed
from codebackdoor.defenses.elimination.elibadcode.inversion import contexts, losses, rendered_text
from codebackdoor.defenses.elimination.elibadcode.position import Carrier, seeded
from codebackdoor.defenses.elimination.elibadcode.scan import draw, of_other_labels
from codebackdoor.defenses.elimination.elibadcode.unlearning import unlearn
from codebackdoor.defenses.elimination.elibadcode.vocabulary import TriggerVocabulary, build, encode
from codebackdoor.errors import UserError
from codebackdoor.seeding import derive, numpy_generator
from codebackdoor.types import DefenderView
from codebackdoor.victims import forward
from codebackdoor.victims.batching import bucketed, pad
from codebackdoor.victims.inference import TOKENS
from codebackdoor.victims.victim import Victim

#: By how much a relaxed barrier stays below the loss of the last trigger (released code).
GAIN = 1e-3


class Step(NamedTuple):
    """What one step of a search came to: its order is that of the history."""

    loss: float
    temperature: float
    barrier: float


@dataclass(frozen=True, slots=True)
class Found:
    """The trigger of one label at one place: its text with the loss as the victim reads it, and the way there.

    ``accepted``: the mixture that it was rounded from was near single pieces and under the barrier. ``history`` holds
    the loss of the mixture, the temperature and the barrier of every step.
    """

    label: int
    place: str
    text: str
    loss: float
    accepted: bool
    history: tuple[Step, ...]

    @property
    def rank(self) -> tuple[bool, float]:
        """Triggers of the lowest loss first, and after all of them what is none."""
        return not self.accepted, self.loss


def eliminate(
    view: DefenderView,
    settings: Dbs,
    seed: int,
    _work: Path | None = None,
    _code: str | None = None,
    inverted: Inverted | None = None,
) -> Elimination:
    """Invert a trigger for every label; return a copy of the victim that unlearned that of the least loss.

    Raises UserError for a victim that is no classifier, and for clean samples without labels.
    """
    if view.victim.head not in ("classification", "pair"):
        raise UserError("DBS tries every label as the target; this victim has none")
    seconds: dict[str, float] = {}
    if inverted is None:
        with timed(seconds, "inversion"):
            inverted = _invert(view, settings, seed)
    return unlearn(view, settings, inverted, numpy_generator(seed, "dbs", "unlearning"), seconds)


def _invert(view: DefenderView, settings: Dbs, seed: int) -> Inverted:
    found = _scan(view, settings, seed)
    best = min(found, key=lambda one: one.rank)
    history: dict[str, object] = {
        "task": view.task,
        "searches": [
            {"place": one.place, "label": one.label, "trigger": one.text, "accepted": one.accepted}
            | {name: [getattr(step, name) for step in one.history] for name in Step._fields}
            for one in found
        ],
    }
    return Inverted(_trigger(view, best, found, settings, seed), history)


def _scan(view: DefenderView, settings: Dbs, seed: int) -> list[Found]:
    labels = range(view.victim.model.config.num_labels)
    samples = draw(view, settings, labels, seed)
    found = []
    for place in settings.places:
        for label in labels:
            carriers = of_other_labels(samples, place, label)
            vocabulary = build(view.victim.tokenizer, settings.vocabulary_at(place), view.language, contexts(carriers))
            search = _Search(view.victim, carriers, vocabulary, label, settings, derive(seed, "dbs", place, str(label)))
            text, loss, accepted = search.run(f"invert label {label} at {place}")
            found.append(Found(label, place, text, loss, accepted, tuple(search.history)))
    return found


def _trigger(view: DefenderView, best: Found, found: Sequence[Found], settings: Dbs, seed: int) -> Trigger:
    ids = tuple(encode(view.victim.tokenizer, [best.text], spaced=True)[0])
    by_place: dict[str, dict[str, float]] = {}
    for one in found:
        by_place.setdefault(one.place, {})[str(one.label)] = one.loss
    flagged = best.accepted and best.loss <= settings.flag_below
    at = seeded(best.place, seed), settings.occurrences
    return Trigger(best.text, ids, best.label, flagged, *at, best.loss, best.text, ids, best.loss, None, by_place)


class _Search:
    """Mixtures for one label at one place."""

    def __init__(
        self,
        victim: Victim,
        carriers: Sequence[Carrier],
        vocabulary: TriggerVocabulary,
        label: int,
        settings: Dbs,
        seed: int,
    ) -> None:
        self._victim, self._carriers, self._vocabulary = victim, carriers, vocabulary
        self._label, self._settings = label, settings
        self._generator = torch.Generator().manual_seed(seed)
        table = victim.model.get_input_embeddings().weight.detach()
        self._plain = table[torch.from_numpy(vocabulary.plain)]
        # a piece without an id for a slot is closed there; -1 picks any row for it
        self._spaced = table[torch.from_numpy(vocabulary.spaced)]
        self._closed = torch.zeros(settings.length, len(vocabulary))
        self._closed[0] = -torch.inf
        self._closed[0, torch.from_numpy(vocabulary.first)] = 0.0
        self._closed[1:, torch.from_numpy(vocabulary.plain < 0)] = -torch.inf
        self._batches = [_Batch(victim, part, settings.length) for part in _batched(victim, carriers, settings.length)]
        self.history: list[Step] = []

    def run(self, title: str) -> tuple[str, float, bool]:
        """Return the text of the trigger, its loss, and whether a mixture was accepted as a trigger.

        Without one, the text is that of the mixture of the lowest loss.
        """
        settings = self._settings
        weights = torch.zeros(self._closed.shape, requires_grad=True)
        optimiser = torch.optim.Adam([weights], lr=settings.learning_rate)
        decay = torch.optim.lr_scheduler.StepLR(optimiser, settings.decay_every, settings.decay)
        bound, chosen, lowest, any_accepted = Bound(settings), self._closed.argmax(1), math.inf, False
        for step in tqdm(range(settings.iterations), desc=title, unit="step", leave=False, disable=None):
            noise = self._noise() if bound.begin(step) else None
            loss, shares = self._step(weights, bound.temperature, noise)
            self.history.append(Step(loss, bound.temperature, bound.barrier))
            optimiser.step()
            decay.step()
            optimiser.zero_grad()
            accepted = bound.end(loss, _distance(shares))
            lower = loss < lowest and (settings.keep == "lowest" or not any_accepted)
            if accepted or lower:
                chosen, lowest = shares.argmax(1), loss
            any_accepted |= accepted
        text = self._vocabulary.text(chosen.tolist())
        (loss,) = losses(self._victim, self._carriers, [rendered_text(self._vocabulary, text)], self._label).tolist()
        return text, loss, any_accepted or settings.keep == "lowest"

    def _noise(self) -> Tensor:
        return self._settings.noise * torch.rand(self._closed.shape, generator=self._generator)

    def _step(self, weights: Tensor, temperature: float, noise: Tensor | None = None) -> tuple[float, Tensor]:
        """Put the gradient of the mean loss by the weights into ``weights.grad``; return the loss and the mixtures."""
        scaled = weights / temperature + self._closed
        shares = torch.softmax(scaled if noise is None else scaled + noise, dim=1)
        mixed = shares.detach().to(self._plain.device).requires_grad_()
        gradient, total = torch.zeros_like(mixed), 0.0
        for batch in self._batches:
            logits = batch.judge(torch.cat([mixed @ self._plain, mixed[:1] @ self._spaced]))
            targets = torch.full((len(logits),), self._label, device=logits.device)
            loss = nn.functional.cross_entropy(logits.float(), targets, reduction="sum") / len(self._carriers)
            gradient += torch.autograd.grad(loss, mixed)[0]
            total += loss.item()
        (weights.grad,) = torch.autograd.grad(shares, weights, gradient.to(shares.device))
        return total, shares.detach()


class Bound:
    """The temperature and the barrier of a search, which follow the loss from step to step.

    Before the loss was under the barrier for the first time nothing moves.
    """

    def __init__(self, settings: Dbs) -> None:
        self._settings = settings
        self.temperature, self.barrier = settings.initial_temperature, settings.barrier
        self._loss, self._lowest = math.inf, math.inf
        self._met, self._rollbacks = False, 0

    def begin(self, step: int) -> bool:
        """Set temperature and barrier for a step, counted from 0; return whether it rolls back and gets noise."""
        settings = self._settings
        if settings.relax_after is not None and self._rollbacks >= settings.relax_after:
            self._rollbacks = 0
            self.barrier = min(2 * self.barrier, self._lowest - GAIN)
        if not self._met or step % settings.check_every:
            return False
        if self._loss < self.barrier:
            self.temperature /= settings.scale_down
            return False
        self._rollbacks += 1
        scale = settings.scale_down if settings.scale_up is None else settings.scale_up
        self.temperature = min(self.temperature * scale, settings.max_temperature)
        return True

    def end(self, loss: float, distance: float) -> bool:
        """Take the loss of the step's mixtures; return whether they are a trigger, ``distance`` away from one piece."""
        self._loss = loss
        if loss > self.barrier:
            return False
        self._met = True
        if distance >= self._settings.one_hot_within:
            return False
        self._lowest, self.barrier, self._rollbacks = loss, loss / 2, 0
        return True


def _distance(shares: Tensor) -> float:
    """What the mixtures of all slots lack of one piece each."""
    return len(shares) - shares.amax(1).sum().item()


def _batched(victim: Victim, carriers: Sequence[Carrier], length: int) -> list[list[Carrier]]:
    sizes = [sum(map(len, carrier.fill([0] * length, [0] * length))) for carrier in carriers]
    return [[carriers[index] for index in batch] for batch in bucketed(sizes, TOKENS[victim.device.type])]


class _Batch:
    """Some samples as embeddings, with the places at which a trigger's embeddings go into them."""

    def __init__(self, victim: Victim, carriers: Sequence[Carrier], length: int) -> None:
        self._victim = victim
        held = [carrier.fill([0] * length, [0] * length) for carrier in carriers]
        self._parts = []
        for part in range(len(held[0])):
            ids, mask = pad([texts[part] for texts in held], victim.pad_id)
            slots = [(row, *one) for row, carrier in enumerate(carriers) for one in carrier.slots(part, length)]
            # the last entry of what is put in is the first slot behind a space
            sources = [length if spaced and slot == 0 else slot for _, _, slot, spaced in slots]
            places = tuple(torch.tensor([one[axis] for one in slots], dtype=torch.long) for axis in (0, 1))
            embedded = forward.embed(victim, ids.to(victim.device)).detach()
            self._parts.append((embedded, mask.to(victim.device), places, torch.tensor(sources, dtype=torch.long)))

    def judge(self, trigger: Tensor) -> Tensor:
        """Logits [B, C] with a trigger [n + 1, H] in place: its slots, and its first one behind a space."""
        read = []
        for embedded, mask, places, sources in self._parts:
            filled = embedded.index_put(places, trigger[sources]) if len(sources) else embedded
            read.append(forward.vectors(self._victim, filled, mask))
        return forward.judge(self._victim, *read)
