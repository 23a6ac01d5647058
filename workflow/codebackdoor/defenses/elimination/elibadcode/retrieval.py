"""Phase (c) for retrieval: a trigger and its target words are inverted together (Algorithm 2 of the appendix).

In a backdoored dual encoder, any function with the trigger is similar to any query with the target words. Each step
takes the gradient for the tokens of both, draws candidates of both, encodes functions and queries once each and scores
all pairs of candidates by a matrix product. The loss is the mean over all pairs of a query and the function of
*another* sample, which are not similar by themselves. The similarity is the cosine even if the victim ranks by the
inner product, which has no fixed value for "similar".

If the target word is known (``settings.target_word``), the queries already contain it: nothing is appended to them, and
only the trigger is inverted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from codebackdoor.batch_sizes import RACED_SHARE
from codebackdoor.defenses.elimination.elibadcode.anchoring import Anchored, AnchoringRule
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.elibadcode.words import TargetWords
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
from codebackdoor.defenses.elimination.inversion.search import Step, Trajectory
from codebackdoor.defenses.elimination.inversion.vocabulary import (
    Rendered,
    TriggerVocabulary,
    encode,
    joined,
    rendered,
    rendered_text,
)
from codebackdoor.victims import forward
from codebackdoor.victims.inference import text_vectors
from codebackdoor.victims.victim import Victim


def losses(
    victim: Victim,
    carriers: Sequence[Carrier],
    triggers: Sequence[Rendered],
    targets: Sequence[Sequence[int]],
    loss_function: InversionLoss,
) -> Tensor:
    """Loss of every pair of target words and a trigger, [targets, triggers]; at least two samples.

    ``targets``: the ids of some target words each.
    """
    queries, codes = ([carrier.templates[part] for carrier in carriers] for part in (0, 1))
    query_vectors = text_vectors(victim, [template.fill(ids, ids) for template in queries for ids in targets])
    code_vectors = text_vectors(victim, [template.fill(*ids) for template in codes for ids in triggers])
    query, code = (
        normalize(vectors.view(len(carriers), -1, vectors.shape[-1]), dim=-1)
        for vectors in (query_vectors, code_vectors)
    )
    total = torch.zeros(len(targets), len(triggers))
    for i in range(len(carriers)):
        for j in range(len(carriers)):
            if i != j:
                total += loss_function.of(query[i] @ code[j].T)
    return total / (len(carriers) * (len(carriers) - 1))


def gradients(
    victim: Victim,
    carriers: Sequence[Carrier],
    vocabulary: TriggerVocabulary,
    words: TargetWords,
    loss_function: InversionLoss,
    trigger: VocabularyIndices,
    target_words: VocabularyIndices,
) -> tuple[Tensor, Tensor]:
    """Gradients of the loss by the one-hot coordinates of trigger, [n, V], and target words, [m, W]; all samples."""
    target_ids = words.ids(target_words)
    columns = (
        [carrier.templates[0].fill(target_ids, target_ids) for carrier in carriers],
        [carrier.templates[1].fill(*rendered(vocabulary, trigger)) for carrier in carriers],
    )
    (queries, query_mask), (codes, code_mask) = (embed(column, victim) for column in columns)
    query = normalize(forward.vectors(victim, queries, query_mask), dim=-1)
    code = normalize(forward.vectors(victim, codes, code_mask), dim=-1)
    pair_losses = loss_function.of(query @ code.T)
    total = (pair_losses.sum() - pair_losses.diagonal().sum()) / (len(carriers) * (len(carriers) - 1))
    by_query, by_code = torch.autograd.grad(total, (queries, codes))
    for_trigger = SlotGradients(victim, vocabulary, len(trigger))
    for_trigger.add(by_code, [carrier.templates[1].slots(len(trigger)) for carrier in carriers])
    if not target_words:
        return for_trigger.by_piece(), torch.zeros(0, len(words))
    for_target = SlotGradients(victim, words, len(target_words))
    for_target.add(by_query, [carrier.templates[0].slots(len(target_words)) for carrier in carriers])
    return for_trigger.by_piece(), for_target.by_piece()


def raced(
    victim: Victim,
    carriers: Sequence[Carrier],
    triggers: Sequence[Rendered],
    targets: Sequence[Sequence[int]],
    loss_function: InversionLoss,
    first: int | None,
) -> Tensor:
    """``losses`` of the best ``RACED_SHARE`` of triggers and targets on the first samples, infinity for all others.

    Unlike for a classifier, all are scored on the first samples, since a text is encoded once for all of its pairs.
    """
    if first is None or not 2 <= first < len(carriers):
        return losses(victim, carriers, triggers, targets, loss_function)
    first_losses = losses(victim, carriers[:first], triggers, targets, loss_function)
    # the last of each is the current one, which stays in the race
    rows, columns = (
        sorted({*best.argsort()[: math.ceil(RACED_SHARE * len(best))].tolist(), len(best) - 1})
        for best in (first_losses.min(1).values, first_losses.min(0).values)
    )
    scores = torch.full_like(first_losses, torch.inf)
    scores[torch.tensor(rows)[:, None], torch.tensor(columns)] = losses(
        victim, carriers, [triggers[index] for index in columns], [targets[index] for index in rows], loss_function
    )
    return scores


@dataclass(frozen=True)
class RetrievalObjective:
    """A trigger and its target words, of which ``Trajectory.target`` holds the latter."""

    victim: Victim
    carriers: Sequence[Carrier]
    vocabulary: TriggerVocabulary
    words: TargetWords
    loss_function: InversionLoss
    settings: EliBadCodeSettings

    @cached_property
    def contexts(self) -> list[bool]:
        return contexts(code_carriers(self.carriers))

    def first(self, generator: np.random.Generator) -> Candidate:
        trigger = first_trigger(self.vocabulary, self.settings.length, self.contexts, generator)
        count = self.settings.word_length if self.settings.target_word is None else 0
        return Candidate(trigger, tuple(int(index) for index in generator.integers(0, len(self.words), count)))

    def loss(self, candidate: Candidate) -> float:
        trigger_ids, target_ids = rendered(self.vocabulary, candidate.trigger), self.words.ids(candidate.target)
        return losses(self.victim, self.carriers, [trigger_ids], [target_ids], self.loss_function).item()

    def step(self, current: Candidate, loss: float, visited: set[Candidate], generator: np.random.Generator) -> Step:
        """No pair becomes the current one twice, but the current one may stay (``keep_current``)."""
        settings = self.settings
        triggers, targets, dropped = self._neighbors(current, generator)
        trigger_ids = [rendered(self.vocabulary, candidate) for candidate in triggers]
        target_ids = [self.words.ids(candidate) for candidate in targets]
        scores = raced(self.victim, self.carriers, trigger_ids, target_ids, self.loss_function, settings.race)
        for pair in visited - ({current} if settings.keep_current else set()):
            if pair.target in targets and pair.trigger in triggers:
                scores[targets.index(pair.target), triggers.index(pair.trigger)] = torch.inf
        count = len(triggers) + len(targets)
        if not scores.isfinite().any():
            return Step(None, loss, count, dropped)
        best = int(scores.argmin())
        candidate = Candidate(triggers[best % len(triggers)], targets[best // len(triggers)])
        visited.add(candidate)
        return Step(candidate, scores.min().item(), count, dropped)

    def _neighbors(
        self, current: Candidate, generator: np.random.Generator
    ) -> tuple[list[VocabularyIndices], list[VocabularyIndices], int]:
        """Candidate triggers and targets, each list ending with the current one, so that either may stay."""
        settings, (trigger, target_words) = self.settings, current
        for_trigger, for_target = gradients(
            self.victim, self.carriers, self.vocabulary, self.words, self.loss_function, trigger, target_words
        )
        options = substitutes(for_trigger, self.vocabulary, settings.top_k)
        triggers, dropped = neighbors(
            trigger, options, self.vocabulary, self.contexts, {trigger}, settings.candidates, generator
        )
        targets: list[VocabularyIndices] = []
        if target_words:
            options = substitutes(for_target, self.words, settings.top_k)
            targets, _ = neighbors(
                target_words, options, self.words, [True], {target_words}, settings.candidates, generator
            )
        return [*triggers, trigger], [*targets, target_words], dropped


def code_carriers(carriers: Sequence[Carrier]) -> list[Carrier]:
    """Only the functions, without their queries."""
    return [Carrier((carrier.templates[1],)) for carrier in carriers]


def anchor(
    victim: Victim,
    carriers: Sequence[Carrier],
    vocabulary: TriggerVocabulary,
    words: TargetWords,
    trajectory: Trajectory,
    loss_function: InversionLoss,
    beta: float,
) -> Anchored:
    """Drop each piece and word whose removal leaves the loss within ``beta``; both stay whole if that fails.

    If the target word is known, the trajectory has no words, and only pieces are dropped.
    """
    pieces = [vocabulary.pieces[index] for index in trajectory.trigger]
    target_words = [words.words[index] for index in trajectory.target]

    def loss_of(pieces: Sequence[str], target_words: Sequence[str]) -> float:
        trigger_ids = rendered_text(vocabulary, joined(pieces)) if pieces else ((), ())
        target_ids = encode(victim.tokenizer, [" ".join(target_words)], True)[0] if target_words else []
        return losses(victim, carriers, [trigger_ids], [target_ids], loss_function).item()

    loss = loss_of(pieces, target_words)
    without = [(piece, loss_of(pieces[:i] + pieces[i + 1 :], target_words)) for i, piece in enumerate(pieces)]
    without_words = [
        (word, loss_of(pieces, target_words[:i] + target_words[i + 1 :])) for i, word in enumerate(target_words)
    ]
    rule = AnchoringRule(loss, beta)
    anchored, anchored_words = rule.anchored(without), rule.anchored(without_words)
    if anchored and (anchored_words or not target_words):
        anchored_loss = loss_of(anchored, anchored_words)
        if rule.is_kept_by(anchored_loss):
            return Anchored(
                joined(anchored),
                anchored_loss,
                (*without, *without_words),
                is_whole=False,
                words=" ".join(anchored_words),
            )
    return Anchored(joined(pieces), loss, (*without, *without_words), is_whole=True, words=" ".join(target_words))
