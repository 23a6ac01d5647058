"""The search objective of a classifier: a trigger that lowers the loss of the samples of the other labels.

Every step is a function of its arguments: gradient over the trigger vocabulary, substitutes, candidates, losses. The
victim stays in evaluation mode, and the trigger stands at each sample's own position for gradient and losses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from codebackdoor.batch_sizes import RACED_SHARE
from codebackdoor.defenses.elimination.inversion.candidates import (
    Candidate,
    VocabularyIndices,
    contexts,
    first_trigger,
    neighbors,
    substitutes,
)
from codebackdoor.defenses.elimination.inversion.carriers import Carrier
from codebackdoor.defenses.elimination.inversion.gradients import SlotGradients, embed
from codebackdoor.defenses.elimination.inversion.loss import InversionLoss
from codebackdoor.defenses.elimination.inversion.search import Step
from codebackdoor.defenses.elimination.inversion.settings import GreedySearchSettings
from codebackdoor.defenses.elimination.inversion.vocabulary import Rendered, TriggerVocabulary, rendered
from codebackdoor.victims import forward
from codebackdoor.victims.batching import bucketed
from codebackdoor.victims.inference import TOKENS, predict_logits
from codebackdoor.victims.victim import Victim

#: Number of samples on which a step's candidates are scored before those that can no longer win are dropped.
SAMPLES_AT_ONCE = 2


def losses(
    victim: Victim, carriers: Sequence[Carrier], triggers: Sequence[Rendered], loss_function: InversionLoss
) -> Tensor:
    """Mean loss over the samples, for each trigger: [triggers]."""
    return sample_losses(victim, carriers, triggers, loss_function).mean(dim=0)


def sample_losses(
    victim: Victim, carriers: Sequence[Carrier], triggers: Sequence[Rendered], loss_function: InversionLoss
) -> Tensor:
    """The loss of each sample with each trigger: [samples, triggers].

    All pairs of trigger and sample pass through the victim in one stream of batches.
    """
    rows = [carrier.fill(*trigger) for carrier in carriers for trigger in triggers]
    return loss_function.of(predict_logits(victim, rows, variants=True)).view(len(carriers), len(triggers))


def raced(
    victim: Victim,
    carriers: Sequence[Carrier],
    triggers: Sequence[Rendered],
    loss_function: InversionLoss,
    first: int | None,
) -> Tensor:
    """``losses`` of the triggers that may have the lowest one, infinity for the others: [triggers].

    Each sample that a trigger was not scored on adds at least the loss's lower bound, so a trigger that cannot come
    below another's loss on all samples is dropped. Up to rounding, this drops none that could be chosen. With
    ``first``, only the best ``RACED_SHARE`` on the first samples are scored on the others, which may drop the best;
    samples are in random order, so the first ones are a random subset.
    """
    return _Race(victim, carriers, triggers, loss_function).run(first)


class _Race:
    """The known losses of [samples, triggers], and their sums over the samples."""

    def __init__(
        self, victim: Victim, carriers: Sequence[Carrier], triggers: Sequence[Rendered], loss_function: InversionLoss
    ) -> None:
        self._victim, self._carriers, self._triggers, self._loss_function = victim, carriers, triggers, loss_function
        self._known = torch.full((len(carriers), len(triggers)), torch.inf)
        self._sums = torch.zeros(len(triggers))

    def run(self, first: int | None) -> Tensor:
        samples, alive = range(len(self._carriers)), list(range(len(self._triggers)))
        first = first if first is not None and first < len(samples) else None
        scored = min(SAMPLES_AT_ONCE, first or len(samples))
        self._score(samples[:scored], alive)
        if first is not None:
            alive = self._lowest(alive, samples[scored:first], math.ceil(RACED_SHARE * len(self._triggers)))
        self._lowest(alive, samples[first or scored :], 1)
        return self._known.mean(dim=0)

    def _score(self, samples: Sequence[int], triggers: Sequence[int]) -> None:
        carriers = [self._carriers[sample] for sample in samples]
        scored = sample_losses(
            self._victim, carriers, [self._triggers[index] for index in triggers], self._loss_function
        )
        self._known[np.ix_(samples, triggers)] = scored
        self._sums[triggers] += scored.sum(dim=0)

    def _lowest(self, triggers: Sequence[int], samples: Sequence[int], count: int) -> list[int]:
        """The ``count`` of these triggers with the lowest sums after these samples are scored, too."""
        ranked = sorted(triggers, key=self._sums.tolist().__getitem__)
        leaders, challengers = ranked[:count], ranked[count:]
        if not samples:
            return leaders
        self._score(samples, leaders)
        # a sample with high losses of the leaders likely has high losses of the others, too, and drops them sooner
        hardest_first = sorted(samples, key=lambda sample: -self._known[sample, leaders].sum().item())
        for start in range(0, len(hardest_first), SAMPLES_AT_ONCE):
            least_to_come = (len(hardest_first) - start) * self._loss_function.lower_bound
            limit = self._sums[leaders].max()
            challengers = [index for index in challengers if self._sums[index] + least_to_come <= limit]
            if challengers:
                self._score(hardest_first[start : start + SAMPLES_AT_ONCE], challengers)
        return sorted([*leaders, *challengers], key=self._sums.tolist().__getitem__)[:count]


def vocabulary_gradient(
    victim: Victim,
    carriers: Sequence[Carrier],
    vocabulary: TriggerVocabulary,
    trigger: VocabularyIndices,
    loss_function: InversionLoss,
) -> Tensor:
    """Gradient of the mean loss by the trigger's one-hot coordinates, restricted to the vocabulary: [n, V]."""
    length = len(trigger)
    rows = [carrier.fill(*rendered(vocabulary, trigger)) for carrier in carriers]
    gradients = SlotGradients(victim, vocabulary, length)
    for batch in bucketed([sum(map(len, row)) for row in rows], TOKENS[victim.device.type]):
        embedded, masks = zip(
            *(embed([rows[index][part] for index in batch], victim) for part in range(len(rows[0]))), strict=True
        )
        logits = forward.logits(victim, *(forward.vectors(victim, *text) for text in zip(embedded, masks, strict=True)))
        total = loss_function.total(logits) / len(carriers)
        for part, gradient in enumerate(torch.autograd.grad(total, embedded)):
            gradients.add(gradient, [carriers[index].slots(part, length) for index in batch])
    return gradients.by_piece()


@dataclass(frozen=True)
class ClassifierObjective:
    """A trigger for one label, on samples of the others."""

    victim: Victim
    carriers: Sequence[Carrier]
    vocabulary: TriggerVocabulary
    loss_function: InversionLoss
    settings: GreedySearchSettings

    @cached_property
    def contexts(self) -> list[bool]:
        return contexts(self.carriers)

    def first(self, generator: np.random.Generator) -> Candidate:
        return Candidate(first_trigger(self.vocabulary, self.settings.length, self.contexts, generator))

    def loss(self, candidate: Candidate) -> float:
        trigger_ids = [rendered(self.vocabulary, candidate.trigger)]
        return losses(self.victim, self.carriers, trigger_ids, self.loss_function).item()

    def step(self, current: Candidate, loss: float, visited: set[Candidate], generator: np.random.Generator) -> Step:
        """No trigger that was ever scored is tried again."""
        settings, vocabulary = self.settings, self.vocabulary
        gradient = vocabulary_gradient(self.victim, self.carriers, vocabulary, current.trigger, self.loss_function)
        options = substitutes(gradient, vocabulary, settings.top_k)
        visited_triggers = {candidate.trigger for candidate in visited}
        triggers, dropped = neighbors(
            current.trigger, options, vocabulary, self.contexts, visited_triggers, settings.candidates, generator
        )
        if not triggers:
            return Step(None, loss, 0, dropped)
        visited.update(map(Candidate, triggers))
        trigger_ids = [rendered(vocabulary, trigger) for trigger in triggers]
        scores = raced(self.victim, self.carriers, trigger_ids, self.loss_function, settings.race)
        best = int(scores.argmin())
        if scores[best] < loss or not settings.keep_current:
            return Step(Candidate(triggers[best]), scores[best].item(), len(triggers), dropped)
        return Step(current, loss, len(triggers), dropped)
