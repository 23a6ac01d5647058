"""Phase (c): greedy coordinate gradient search for the trigger of one label (EliBadCode, Algorithm 1, lines 1-23).

Every step is a function of its arguments: gradient over the trigger vocabulary, substitutes, candidates, losses. The
victim stays in evaluation mode, and the trigger stands at each sample's own place for gradient and losses alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from codebackdoor.config.eliminations import EliBadCode
from codebackdoor.defenses.elimination.elibadcode.position import Carrier
from codebackdoor.defenses.elimination.elibadcode.resuming import Searches
from codebackdoor.defenses.elimination.elibadcode.vocabulary import TriggerVocabulary, encode
from codebackdoor.errors import UserError
from codebackdoor.victims import forward
from codebackdoor.victims.batching import bucketed, pad
from codebackdoor.victims.inference import TOKENS, answers
from codebackdoor.victims.victim import Victim

#: A step that does not lower the lowest loss by more counts as a standstill (``patience``).
GAIN = 1e-3

Indices = tuple[int, ...]
#: Samples on which candidates of a step are scored before those are left out that cannot win any more.
CHUNK = 2
#: Of the candidates of one step, the share that goes on from the first samples to all of them (``race``).
KEPT = 1 / 8

#: A trigger's token ids as read after a space and elsewhere.
Rendered = tuple[Sequence[int], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Inversion:
    """Result of the search for one label: the best trigger of the way, as vocabulary indices, and its loss.

    ``history`` is the loss of the current trigger before the first and after every step; ``scored`` and ``dropped``
    count the candidates that were read by the victim and those whose text encodes to other pieces. ``target`` are the
    target words of a search for both, as indices of their own vocabulary.
    """

    trigger: Indices
    loss: float
    history: tuple[float, ...]
    scored: int
    dropped: int
    target: Indices = ()

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Inversion:
        """Of what ``dataclasses.asdict`` made, read from a file."""
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()
        }
        return cls(**known)


def rendered(vocabulary: TriggerVocabulary, trigger: Sequence[int]) -> Rendered:
    return vocabulary.ids(trigger, spaced=True), vocabulary.ids(trigger, spaced=False)


def rendered_text(vocabulary: TriggerVocabulary, text: str) -> Rendered:
    """The ids with which the victim reads this text as an identifier, whatever pieces it was made of."""
    return encode(vocabulary.tokenizer, [text], True)[0], encode(vocabulary.tokenizer, [text], False)[0]


def losses(victim: Victim, carriers: Sequence[Carrier], triggers: Sequence[Rendered], label: int) -> Tensor:
    """Mean cross entropy towards ``label`` over the samples, for each trigger: [triggers], in nats (Eq. 3)."""
    return sample_losses(victim, carriers, triggers, label).mean(dim=0)


def sample_losses(victim: Victim, carriers: Sequence[Carrier], triggers: Sequence[Rendered], label: int) -> Tensor:
    """Cross entropy towards ``label``: [samples, triggers], in nats.

    All pairs of trigger and sample pass through the victim in one stream of batches.
    """
    rows = [carrier.fill(*trigger) for carrier in carriers for trigger in triggers]
    targets = torch.full((len(rows),), label)
    each = nn.functional.cross_entropy(answers(victim, rows, variants=True).float(), targets, reduction="none")
    return each.view(len(carriers), len(triggers))


def raced(
    victim: Victim, carriers: Sequence[Carrier], triggers: Sequence[Rendered], label: int, first: int | None
) -> Tensor:
    """``losses`` of the triggers that may have the lowest one, infinity for the others: [triggers].

    Cross entropy is never negative: what a trigger loses on some samples is the least that it loses on all of them, and
    one that has lost more than another on all is out. Up to rounding this leaves out none that could be chosen. With
    ``first``, only the best ``KEPT`` on the first samples go on to the others, which may leave out the best; the
    samples come in random order, so the first ones are a sample of them.
    """
    found = torch.full((len(carriers), len(triggers)), torch.inf)
    lost = torch.zeros(len(triggers))

    def score(samples: Sequence[int], own: Sequence[int]) -> None:
        scored = sample_losses(victim, [carriers[one] for one in samples], [triggers[one] for one in own], label)
        found[np.ix_(samples, own)] = scored
        lost[own] += scored.sum(dim=0)

    def lowest(own: Sequence[int], samples: Sequence[int], count: int) -> list[int]:
        """The ``count`` of these triggers that lose least with these samples, too."""
        ranked = sorted(own, key=lost.tolist().__getitem__)
        leaders, others = ranked[:count], ranked[count:]
        if not samples:
            return leaders
        score(samples, leaders)
        # where the leaders lose much others are likely to as well, and are out the sooner
        left = sorted(samples, key=lambda sample: -found[sample, leaders].sum().item())
        for start in range(0, len(left), CHUNK):
            others = [one for one in others if lost[one] <= lost[leaders].max()]
            if others:
                score(left[start : start + CHUNK], others)
        return sorted([*leaders, *others], key=lost.tolist().__getitem__)[:count]

    every, alive = range(len(carriers)), list(range(len(triggers)))
    first = first if first is not None and first < len(carriers) else None
    begun = min(CHUNK, first or len(carriers))
    score(every[:begun], alive)
    if first is not None:
        alive = lowest(alive, every[begun:first], math.ceil(KEPT * len(triggers)))
    lowest(alive, every[first or begun :], 1)
    return found.mean(dim=0)


def vocabulary_gradient(
    victim: Victim, carriers: Sequence[Carrier], vocabulary: TriggerVocabulary, trigger: Indices, label: int
) -> Tensor:
    """Gradient of the mean loss by the trigger's one-hot coordinates, restricted to the vocabulary: [n, V].

    Equal to autograd through the whole one-hot matrix: the coordinate of slot i and piece v is the inner product of
    the gradient at the slot's embedding, summed over samples and occurrences, with the embedding of v.
    """
    length = len(trigger)
    rows = [carrier.fill(*rendered(vocabulary, trigger)) for carrier in carriers]
    collected = Collected(victim, vocabulary, length)
    for batch in bucketed([sum(map(len, row)) for row in rows], TOKENS[victim.device.type]):
        embedded, masks = zip(
            *(embed([rows[index][part] for index in batch], victim) for part in range(len(rows[0]))), strict=True
        )
        logits = forward.judge(victim, *(forward.vectors(victim, *one) for one in zip(embedded, masks, strict=True)))
        targets = torch.full((len(batch),), label, device=victim.device)
        loss = nn.functional.cross_entropy(logits.float(), targets, reduction="sum") / len(carriers)
        for part, gradient in enumerate(torch.autograd.grad(loss, embedded)):
            collected.add(gradient, [carriers[index].slots(part, length) for index in batch])
    return collected.by_piece()


def embed(rows: Sequence[Sequence[int]], victim: Victim) -> tuple[Tensor, Tensor]:
    """Token embeddings of some texts as a leaf of the graph, and their mask."""
    ids, mask = pad(rows, victim.pad_id, victim.device)
    return forward.embed(victim, ids).detach().requires_grad_(), mask


class Pieces(Protocol):
    """What tokens are searched among: ids inside a word and behind a space, and which may stand first."""

    @property
    def plain(self) -> NDArray[np.int64]: ...

    @property
    def spaced(self) -> NDArray[np.int64]: ...

    @property
    def first(self) -> NDArray[np.int64]: ...

    def survive(self, triggers: Sequence[Sequence[int]], contexts: Sequence[bool]) -> list[bool]: ...


class Collected:
    """Gradients at the slots of a trigger, summed over samples and occurrences."""

    def __init__(self, victim: Victim, vocabulary: Pieces, length: int) -> None:
        self._weight: Tensor = victim.model.get_input_embeddings().weight
        self._vocabulary = vocabulary
        self._inside = torch.zeros(length, self._weight.shape[1], device=self._weight.device)
        self._at_start = torch.zeros(self._weight.shape[1], device=self._weight.device)

    def add(self, gradient: Tensor, slots: Sequence[Sequence[tuple[int, int, bool]]]) -> None:
        """Add the gradient [B, T, H] at the slots (position, slot, spaced) of each row."""
        for row, own in enumerate(slots):
            for column, slot, spaced in own:
                if spaced and slot == 0:
                    self._at_start += gradient[row, column]
                else:
                    self._inside[slot] += gradient[row, column]

    @torch.no_grad()
    def by_piece(self) -> Tensor:
        """Return [n, V], on the CPU."""
        found = self._inside @ self._weight[torch.from_numpy(self._vocabulary.plain)].T
        # a piece without an id is never in that place (`substitutes`); -1 picks any row for it
        found[0] += self._at_start @ self._weight[torch.from_numpy(self._vocabulary.spaced)].T
        return found.cpu()


def substitutes(gradient: Tensor, vocabulary: Pieces, k: int) -> list[list[int]]:
    """The ``k`` pieces of steepest descent for each slot, of those that may stand there."""
    at_first, inside = np.isin(np.arange(len(vocabulary.plain)), vocabulary.first), vocabulary.plain >= 0
    ranked: list[list[int]] = []
    for slot, row in enumerate(gradient):
        allowed = inside if slot else at_first
        scores = row.masked_fill(torch.from_numpy(~allowed), torch.inf)
        ranked.append(torch.topk(scores, min(k, int(allowed.sum())), largest=False).indices.tolist())
    return ranked


def neighbours(
    trigger: Indices,
    options: Sequence[Sequence[int]],
    vocabulary: Pieces,
    contexts: Sequence[bool],
    visited: set[Indices],
    r: int,
    generator: np.random.Generator,
) -> tuple[list[Indices], int]:
    """Draw ``r`` triggers that differ from the current one in one slot, without repetition; and count the dropped.

    The n*k substitutions are gone through once in random order, so the draw always ends (ledger E17): fewer than
    ``r`` come back where fewer are unvisited and survive decoding and encoding.
    """
    pairs = [(slot, piece) for slot, own in enumerate(options) for piece in own]
    drawn: list[Indices] = []
    dropped = 0
    order = generator.permutation(len(pairs))
    for start in range(0, len(order), r):
        fresh = []
        for index in order[start : start + r]:
            slot, piece = pairs[index]
            candidate = (*trigger[:slot], piece, *trigger[slot + 1 :])
            if candidate not in visited:
                fresh.append(candidate)
        for candidate, alive in zip(fresh, vocabulary.survive(fresh, contexts), strict=True):
            if len(drawn) == r:
                return drawn, dropped
            if alive:
                drawn.append(candidate)
            else:
                dropped += 1
    return drawn, dropped


def first_trigger(
    vocabulary: TriggerVocabulary, length: int, contexts: Sequence[bool], generator: np.random.Generator
) -> Indices:
    """Draw a random trigger that survives decoding and encoding (Algorithm 1, line 2)."""
    inside = np.flatnonzero(vocabulary.plain >= 0)
    for _ in range(1000):
        start = int(generator.choice(vocabulary.first))
        drawn = (start, *(int(index) for index in generator.choice(inside, length - 1)))
        if vocabulary.survive([drawn], contexts)[0]:
            return drawn
    raise UserError(f"EliBadCode: no trigger of {length} pieces survives decoding and encoding; lower 'length'")


def contexts(carriers: Sequence[Carrier]) -> list[bool]:
    """Whether the trigger follows a space, not, or both, over these samples."""
    return sorted({spaced for carrier in carriers for prompt in carrier.prompts for spaced in prompt.spaced})


@dataclass(slots=True)
class _Walk:
    """A search under way: all that the next step depends on, the generator's state included."""

    trigger: Indices
    loss: float
    lowest: Indices
    lowest_loss: float
    visited: set[Indices]
    history: list[float]
    scored: int = 0
    dropped: int = 0
    standstill: int = 0
    ended: bool = False

    def inversion(self) -> Inversion:
        return Inversion(self.lowest, self.lowest_loss, tuple(self.history), self.scored, self.dropped)

    def to_json(self, generator: np.random.Generator) -> dict[str, Any]:
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        return known | {"visited": sorted(self.visited), "generator": generator.bit_generator.state}

    @classmethod
    def from_json(cls, state: Mapping[str, Any], generator: np.random.Generator) -> _Walk:
        known = dict(state)
        generator.bit_generator.state = known.pop("generator")
        known["trigger"], known["lowest"] = tuple(known["trigger"]), tuple(known["lowest"])
        known["visited"] = {tuple(one) for one in known["visited"]}
        return cls(**known)


def search(
    victim: Victim,
    carriers: Sequence[Carrier],
    vocabulary: TriggerVocabulary,
    label: int,
    settings: EliBadCode,
    generator: np.random.Generator,
    title: str,
    searches: Searches | None = None,
) -> Inversion:
    """Search once for a trigger of ``label`` from a random start (Algorithm 1, TRIGGERINVERSION).

    ``searches`` keeps the search under its ``title``: one that was killed goes on where it was last written down.
    """
    where = contexts(carriers)
    kept = searches.state(title) if searches else None
    if kept is not None:
        walk = _Walk.from_json(kept, generator)
    else:
        trigger = first_trigger(vocabulary, settings.length, where, generator)
        loss = losses(victim, carriers, [rendered(vocabulary, trigger)], label).item()
        walk = _Walk(trigger, loss, trigger, loss, {trigger}, [loss])
    left = 0 if walk.ended else settings.iterations - (len(walk.history) - 1)
    for _ in tqdm(range(left), desc=title, unit="step", leave=False, disable=None):
        gradient = vocabulary_gradient(victim, carriers, vocabulary, walk.trigger, label)
        options = substitutes(gradient, vocabulary, settings.top_k)
        drawn, lost = neighbours(walk.trigger, options, vocabulary, where, walk.visited, settings.candidates, generator)
        walk.scored, walk.dropped = walk.scored + len(drawn), walk.dropped + lost
        if not drawn:
            break
        walk.visited.update(drawn)
        read = [rendered(vocabulary, candidate) for candidate in drawn]
        found = raced(victim, carriers, read, label, settings.race)
        best = int(found.argmin())
        if found[best] < walk.loss or not settings.keep_current:
            walk.trigger, walk.loss = drawn[best], found[best].item()
        walk.history.append(walk.loss)
        walk.standstill = 0 if walk.lowest_loss - walk.loss > GAIN else walk.standstill + 1
        if walk.loss < walk.lowest_loss:
            walk.lowest, walk.lowest_loss = walk.trigger, walk.loss
        if settings.patience is not None and walk.standstill >= settings.patience:
            break
        if searches and searches.due():
            searches.keep(title, walk.to_json(generator))
    if searches and not walk.ended:
        walk.ended = True
        searches.keep(title, walk.to_json(generator))
    return walk.inversion()
