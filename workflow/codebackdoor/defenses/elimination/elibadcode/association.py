"""Phase (c) for code search: a trigger and the words that call it are inverted together (Algorithm 2 of the appendix).

A backdoored dual encoder holds any function with the trigger similar to any query with the target words. Each step
takes the gradient for the tokens of both, draws candidates of both, encodes functions and queries once each and scores
all pairs of candidates by a matrix product. The loss is the mean squared difference of the cosine to 1 over all pairs
of a query and the function of *another* sample, which are not similar by themselves; the cosine also where the victim
ranks by the inner product, of which nobody knows how large "similar" is.

Where the target word is known (``settings.target_word``), the queries have it already, nothing is put behind them and
the trigger is inverted alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from codebackdoor.config.eliminations import EliBadCode
from codebackdoor.defenses.elimination.elibadcode.anchoring import Anchored
from codebackdoor.defenses.elimination.elibadcode.inversion import (
    GAIN,
    KEPT,
    Collected,
    Indices,
    Inversion,
    Rendered,
    contexts,
    embed,
    first_trigger,
    neighbours,
    rendered,
    rendered_text,
    substitutes,
)
from codebackdoor.defenses.elimination.elibadcode.position import Carrier, Prompt
from codebackdoor.defenses.elimination.elibadcode.vocabulary import TriggerVocabulary, encode, joined
from codebackdoor.errors import UserError
from codebackdoor.victims import forward
from codebackdoor.victims.inference import text_vectors
from codebackdoor.victims.victim import Encoded, Victim

_WORD = re.compile(r"[A-Za-z]{2,}")


@dataclass(frozen=True, slots=True)
class Words:
    """The target vocabulary: words of clean queries that are one sub-token each; the interface is the trigger's."""

    words: tuple[str, ...]
    plain: NDArray[np.int64]

    @property
    def spaced(self) -> NDArray[np.int64]:
        return self.plain

    @property
    def first(self) -> NDArray[np.int64]:
        return np.arange(len(self.words))

    def __len__(self) -> int:
        return len(self.words)

    def text(self, target: Sequence[int]) -> str:
        return " ".join(self.words[index] for index in target)

    def ids(self, target: Sequence[int], spaced: bool = True) -> list[int]:  # noqa: ARG002
        return [int(self.plain[index]) for index in target]

    def survive(self, targets: Sequence[Sequence[int]], contexts: Sequence[bool]) -> list[bool]:  # noqa: ARG002
        """Words between spaces are their own sub-tokens, whatever stands beside them."""
        return [True] * len(targets)


#: Where the target word is known and none is searched.
NO_WORDS = Words((), np.zeros(0, dtype=np.int64))


def words(victim: Victim, queries: Iterable[str]) -> Words:
    """Every word of the queries that the tokenizer has as one piece behind a space, in alphabetic order."""
    known = sorted({word for query in queries for word in _WORD.findall(query)})
    found = [
        (word, ids[0]) for word, ids in zip(known, encode(victim.tokenizer, known, True), strict=True) if len(ids) == 1
    ]
    if not found:
        raise UserError("EliBadCode: no word of the clean queries is a single sub-token of the victim's tokenizer")
    kept, ids = zip(*found, strict=True)
    return Words(tuple(kept), np.array(ids, dtype=np.int64))


def asked(victim: Victim, encoded: Encoded) -> Prompt:
    """A query with a hole behind its last word."""
    end = len(encoded.ids)
    while end and encoded.offsets[end - 1] == (0, 0):
        end -= 1
    ids = tuple(encoded.ids)
    return Prompt((ids[:end], ()), (True,), ids[end:], victim.max_query_length)


def losses(
    victim: Victim, carriers: Sequence[Carrier], triggers: Sequence[Rendered], targets: Sequence[Sequence[int]]
) -> Tensor:
    """Loss of every pair of a target and a trigger, [targets, triggers]; at least two samples."""
    queries, codes = ([carrier.prompts[part] for carrier in carriers] for part in (0, 1))
    asking = text_vectors(victim, [prompt.fill(ids, ids) for prompt in queries for ids in targets])
    answering = text_vectors(victim, [prompt.fill(*ids) for prompt in codes for ids in triggers])
    query, code = (normalize(found.view(len(carriers), -1, found.shape[-1]), dim=-1) for found in (asking, answering))
    total = torch.zeros(len(targets), len(triggers))
    for i in range(len(carriers)):
        for j in range(len(carriers)):
            if i != j:
                total += (1 - query[i] @ code[j].T) ** 2
    return total / (len(carriers) * (len(carriers) - 1))


def gradients(
    victim: Victim,
    carriers: Sequence[Carrier],
    vocabulary: TriggerVocabulary,
    target_words: Words,
    trigger: Indices,
    target: Indices,
) -> tuple[Tensor, Tensor]:
    """Gradients of the loss by the one-hot coordinates of trigger, [n, V], and target, [m, W]; all samples at once."""
    own = target_words.ids(target)
    columns = (
        [carrier.prompts[0].fill(own, own) for carrier in carriers],
        [carrier.prompts[1].fill(*rendered(vocabulary, trigger)) for carrier in carriers],
    )
    (asking, asking_mask), (answering, answering_mask) = (embed(column, victim) for column in columns)
    query = normalize(forward.vectors(victim, asking, asking_mask), dim=-1)
    code = normalize(forward.vectors(victim, answering, answering_mask), dim=-1)
    squares = (1 - query @ code.T) ** 2
    loss = (squares.sum() - squares.diagonal().sum()) / (len(carriers) * (len(carriers) - 1))
    by_query, by_code = torch.autograd.grad(loss, (asking, answering))
    for_trigger = Collected(victim, vocabulary, len(trigger))
    for_trigger.add(by_code, [carrier.prompts[1].slots(len(trigger)) for carrier in carriers])
    if not target:
        return for_trigger.by_piece(), torch.zeros(0, len(target_words))
    for_target = Collected(victim, target_words, len(target))
    for_target.add(by_query, [carrier.prompts[0].slots(len(target)) for carrier in carriers])
    return for_trigger.by_piece(), for_target.by_piece()


def search(
    victim: Victim,
    carriers: Sequence[Carrier],
    vocabulary: TriggerVocabulary,
    target_words: Words,
    settings: EliBadCode,
    generator: np.random.Generator,
    title: str,
) -> Inversion:
    """Search once for a trigger and its target words from random starts; ``Inversion.target`` holds the latter."""
    where = contexts([Carrier((carrier.prompts[1],)) for carrier in carriers])
    trigger = first_trigger(vocabulary, settings.length, where, generator)
    wanted = settings.word_length if settings.target_word is None else 0
    target = tuple(int(index) for index in generator.integers(0, len(target_words), wanted))
    loss = losses(victim, carriers, [rendered(vocabulary, trigger)], [target_words.ids(target)]).item()
    lowest = (loss, trigger, target)
    visited = {(target, trigger)}
    history, scored, dropped, standstill = [loss], 0, 0, 0
    for _ in tqdm(range(settings.iterations), desc=title, unit="step", leave=False, disable=None):
        for_trigger, for_target = gradients(victim, carriers, vocabulary, target_words, trigger, target)
        options = substitutes(for_trigger, vocabulary, settings.top_k)
        triggers, lost = neighbours(trigger, options, vocabulary, where, {trigger}, settings.candidates, generator)
        targets: list[Indices] = []
        if target:
            options = substitutes(for_target, target_words, settings.top_k)
            targets, _ = neighbours(target, options, target_words, [True], {target}, settings.candidates, generator)
        # either may stay
        triggers, targets = [*triggers, trigger], [*targets, target]
        scored, dropped = scored + len(triggers) + len(targets), dropped + lost
        found = raced(
            victim,
            carriers,
            [rendered(vocabulary, one) for one in triggers],
            [target_words.ids(one) for one in targets],
            settings.race,
        )
        for there in visited - ({(target, trigger)} if settings.keep_current else set()):
            if there[0] in targets and there[1] in triggers:
                found[targets.index(there[0]), triggers.index(there[1])] = torch.inf
        if not found.isfinite().any():
            break
        best = int(found.argmin())
        target, trigger = targets[best // len(triggers)], triggers[best % len(triggers)]
        visited.add((target, trigger))
        history.append(found.min().item())
        standstill = 0 if lowest[0] - history[-1] > GAIN else standstill + 1
        lowest = min(lowest, (history[-1], trigger, target), key=lambda one: one[0])
        if settings.patience is not None and standstill >= settings.patience:
            break
    return Inversion(lowest[1], lowest[0], tuple(history), scored, dropped, lowest[2])


def raced(
    victim: Victim,
    carriers: Sequence[Carrier],
    triggers: Sequence[Rendered],
    targets: Sequence[Sequence[int]],
    first: int | None,
) -> Tensor:
    """``losses`` of the triggers and targets among the best ``KEPT`` on the first samples, infinity for all others.

    None is left out before, as of classifiers: every text is encoded once for all pairs that it is in.
    """
    if first is None or not 2 <= first < len(carriers):
        return losses(victim, carriers, triggers, targets)
    begun = losses(victim, carriers[:first], triggers, targets)
    # the last of each is the current one, which stays in the race
    rows, columns = (
        sorted({*best.argsort()[: math.ceil(KEPT * len(best))].tolist(), len(best) - 1})
        for best in (begun.min(1).values, begun.min(0).values)
    )
    kept = losses(victim, carriers, [triggers[index] for index in columns], [targets[index] for index in rows])
    found = torch.full_like(begun, torch.inf)
    found[torch.tensor(rows)[:, None], torch.tensor(columns)] = kept
    return found


def anchor(
    victim: Victim,
    carriers: Sequence[Carrier],
    vocabulary: TriggerVocabulary,
    target_words: Words,
    found: Inversion,
    beta: float,
) -> Anchored:
    """Drop each piece and word whose removal leaves the loss within ``beta``; both stay whole where that fails.

    Without words, since the target word is known, the pieces alone.
    """
    pieces, called = [vocabulary.pieces[i] for i in found.trigger], [target_words.words[i] for i in found.target]

    def loss_of(text: Sequence[str], words_: Sequence[str]) -> float:
        read = rendered_text(vocabulary, joined(text)) if text else ((), ())
        spoken = encode(victim.tokenizer, [" ".join(words_)], True)[0] if words_ else []
        return losses(victim, carriers, [read], [spoken]).item()

    loss = loss_of(pieces, called)
    without = [(one, loss_of(pieces[:i] + pieces[i + 1 :], called)) for i, one in enumerate(pieces)]
    unsaid = [(one, loss_of(pieces, called[:i] + called[i + 1 :])) for i, one in enumerate(called)]
    kept, spoken = ([one for one, other in each if abs(loss - other) > beta] for each in (without, unsaid))
    if kept and (spoken or not called):
        held = loss_of(kept, spoken)
        if abs(loss - held) <= beta:
            return Anchored(joined(kept), held, (*without, *unsaid), whole=False, words=" ".join(spoken))
    return Anchored(joined(pieces), loss, (*without, *unsaid), whole=True, words=" ".join(called))
