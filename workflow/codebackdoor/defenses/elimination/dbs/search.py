"""The search of DBS: mixtures of pieces, which a falling temperature pulls towards single pieces.

Each slot of the trigger is a mixture of the trigger vocabulary's embeddings: its shares are the softmax of free weights
at a temperature. Once the loss has been under a barrier, the temperature falls as long as it stays there, so that the
mixtures approach single pieces. When it does not, the temperature rolls back, and noise is added to the weights for
that one step, whose gradient leads away from the local optimum. A mixture of nearly single pieces under the barrier is
accepted as a trigger, and half of its loss is the next barrier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from codebackdoor.defenses.elimination.dbs.settings import DbsSettings
from codebackdoor.defenses.elimination.inversion.carriers import Carrier
from codebackdoor.defenses.elimination.inversion.classifier import losses
from codebackdoor.defenses.elimination.inversion.loss import InversionLoss
from codebackdoor.defenses.elimination.inversion.vocabulary import TriggerVocabulary, rendered_text
from codebackdoor.victims import forward
from codebackdoor.victims.batching import bucketed, pad
from codebackdoor.victims.inference import TOKENS
from codebackdoor.victims.victim import Victim

#: By how much a relaxed barrier stays below the loss of the last trigger (released code).
GAIN = 1e-3


class DbsStep(NamedTuple):
    """The result of one step of a search."""

    loss: float
    temperature: float
    barrier: float


class MixtureSearch:
    """Mixtures for one label at one position."""

    def __init__(
        self,
        victim: Victim,
        carriers: Sequence[Carrier],
        vocabulary: TriggerVocabulary,
        loss_function: InversionLoss,
        settings: DbsSettings,
        seed: int,
    ) -> None:
        self._victim, self._carriers, self._vocabulary = victim, carriers, vocabulary
        self._loss_function, self._settings = loss_function, settings
        self._generator = torch.Generator().manual_seed(seed)
        table = victim.model.get_input_embeddings().weight.detach()
        self._plain = table[torch.from_numpy(vocabulary.plain)]
        # a piece without an id for a slot is excluded there, so it does not matter which row its -1 selects
        self._spaced = table[torch.from_numpy(vocabulary.spaced)]
        self._closed = torch.zeros(settings.length, len(vocabulary))
        self._closed[0] = -torch.inf
        self._closed[0, torch.from_numpy(vocabulary.first)] = 0.0
        self._closed[1:, torch.from_numpy(vocabulary.plain < 0)] = -torch.inf
        self._batches = [_Batch(victim, part, settings.length) for part in _batched(victim, carriers, settings.length)]
        self.history: list[DbsStep] = []

    def run(self, title: str) -> tuple[str, float, bool]:
        """Return the text of the trigger, its loss, and whether a mixture was accepted as a trigger.

        If none was, the text is that of the mixture with the lowest loss.
        """
        settings = self._settings
        weights = torch.zeros(self._closed.shape, requires_grad=True)
        optimizer = torch.optim.Adam([weights], lr=settings.learning_rate)
        decay = torch.optim.lr_scheduler.StepLR(optimizer, settings.decay_every, settings.decay)
        bound, best, lowest, any_accepted = Bound(settings), self._closed.argmax(1), math.inf, False
        for step in tqdm(range(settings.iterations), desc=title, unit="step", leave=False, disable=None):
            noise = self._noise() if bound.begin(step) else None
            loss, shares = self._step(weights, bound.temperature, noise)
            self.history.append(DbsStep(loss, bound.temperature, bound.barrier))
            optimizer.step()
            decay.step()
            optimizer.zero_grad()
            accepted = bound.end(loss, _distance(shares))
            is_lower = loss < lowest
            if is_lower if settings.keep == "lowest" else accepted or (is_lower and not any_accepted):
                best, lowest = shares.argmax(1), loss
            any_accepted |= accepted
        text = self._vocabulary.text(best.tolist())
        (loss,) = losses(
            self._victim, self._carriers, [rendered_text(self._vocabulary, text)], self._loss_function
        ).tolist()
        return text, loss, any_accepted or settings.keep == "lowest"

    def _noise(self) -> Tensor:
        return self._settings.noise * torch.rand(self._closed.shape, generator=self._generator)

    def _step(self, weights: Tensor, temperature: float, noise: Tensor | None = None) -> tuple[float, Tensor]:
        """Set ``weights.grad`` to the gradient of the mean loss; return the loss and the mixtures' shares."""
        scaled = weights / temperature + self._closed
        shares = torch.softmax(scaled if noise is None else scaled + noise, dim=1)
        mixed = shares.detach().to(self._plain.device).requires_grad_()
        gradient, total = torch.zeros_like(mixed), 0.0
        for batch in self._batches:
            logits = batch.logits(torch.cat([mixed @ self._plain, mixed[:1] @ self._spaced]))
            loss = self._loss_function.total(logits) / len(self._carriers)
            gradient += torch.autograd.grad(loss, mixed)[0]
            total += loss.item()
        (weights.grad,) = torch.autograd.grad(shares, weights, gradient.to(shares.device))
        return total, shares.detach()


class Bound:
    """The temperature and the barrier of a search, which follow the loss from step to step.

    Neither changes before the loss has been under the barrier once.
    """

    def __init__(self, settings: DbsSettings) -> None:
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
        """Record the loss of the step's mixtures, ``distance`` away from pieces; return whether they are a trigger."""
        self._loss = loss
        if loss > self.barrier:
            return False
        self._met = True
        if distance >= self._settings.one_hot_within:
            return False
        self._lowest, self.barrier, self._rollbacks = loss, loss / 2, 0
        return True


def _distance(shares: Tensor) -> float:
    """How far the mixtures of all slots are from one piece each."""
    return len(shares) - shares.amax(1).sum().item()


def _batched(victim: Victim, carriers: Sequence[Carrier], length: int) -> list[list[Carrier]]:
    sizes = [sum(map(len, carrier.fill([0] * length, [0] * length))) for carrier in carriers]
    return [[carriers[index] for index in batch] for batch in bucketed(sizes, TOKENS[victim.device.type])]


class _Batch:
    """Some samples as embeddings, with the columns where a trigger's embeddings are inserted."""

    def __init__(self, victim: Victim, carriers: Sequence[Carrier], length: int) -> None:
        self._victim = victim
        rows = [carrier.fill([0] * length, [0] * length) for carrier in carriers]
        self._parts = []
        for part in range(len(rows[0])):
            ids, mask = pad([texts[part] for texts in rows], victim.pad_id)
            slots = [(row, *slot) for row, carrier in enumerate(carriers) for slot in carrier.slots(part, length)]
            # the last of the inserted embeddings is the first slot after a space
            sources = [length if spaced and slot == 0 else slot for _, _, slot, spaced in slots]
            cells = tuple(torch.tensor([slot[axis] for slot in slots], dtype=torch.long) for axis in (0, 1))
            embedded = forward.embed(victim, ids.to(victim.device)).detach()
            self._parts.append((embedded, mask.to(victim.device), cells, torch.tensor(sources, dtype=torch.long)))

    def logits(self, trigger: Tensor) -> Tensor:
        """Logits [B, C] with a trigger [n + 1, H] in place: its slots, and the first slot as it is after a space."""
        vectors = []
        for embedded, mask, cells, sources in self._parts:
            filled = embedded.index_put(cells, trigger[sources]) if len(sources) else embedded
            vectors.append(forward.vectors(self._victim, filled, mask))
        return forward.logits(self._victim, *vectors)
