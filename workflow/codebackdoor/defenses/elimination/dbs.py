"""DBS: trigger inversion by dynamic bound scaling, then EliBadCode's unlearning (Shen et al. 2022).

Each slot of the trigger is a mixture of the trigger vocabulary's embeddings, the softmax of free weights at a
temperature. While the loss stays under a barrier the temperature falls, so that the mixtures draw near single pieces;
where it does not, the temperature rises again and noise leads away from the local optimum (backtracking). In the end
the largest weight of each slot is the trigger. Vocabulary and unlearning are EliBadCode's (its section 5.1); the label
whose trigger reaches a loss under a fixed bound is said to be the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from codebackdoor.config.eliminations import Dbs
from codebackdoor.defenses.elimination import Elimination, Inverted, Trigger, timed
from codebackdoor.defenses.elimination.elibadcode.inversion import contexts, losses, rendered_text
from codebackdoor.defenses.elimination.elibadcode.position import Carrier
from codebackdoor.defenses.elimination.elibadcode.scan import draw, of_other_labels
from codebackdoor.defenses.elimination.elibadcode.unlearning import unlearn
from codebackdoor.defenses.elimination.elibadcode.vocabulary import TriggerVocabulary, build, encode
from codebackdoor.errors import UserError
from codebackdoor.seeding import derive, numpy_generator
from codebackdoor.types import DefenderView
from codebackdoor.victims import reading
from codebackdoor.victims.batching import bucketed, pad
from codebackdoor.victims.inference import TOKENS
from codebackdoor.victims.victim import Victim


@dataclass(frozen=True, slots=True)
class Found:
    """The trigger of one label at one place: its text with the loss as the victim reads it, and the way there.

    ``history`` holds loss of the mixture and temperature of every step.
    """

    label: int
    place: str
    text: str
    loss: float
    history: tuple[tuple[float, float], ...]


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
    best = min(found, key=lambda one: one.loss)
    history: dict[str, object] = {
        "task": view.task,
        "searches": [
            {"place": one.place, "label": one.label, "trigger": one.text, "loss": [loss for loss, _ in one.history]}
            | {"temperature": [temperature for _, temperature in one.history]}
            for one in found
        ],
    }
    return Inverted(_trigger(view, best, found, settings), history)


def _scan(view: DefenderView, settings: Dbs, seed: int) -> list[Found]:
    labels = range(view.victim.model.config.num_labels)
    samples = draw(view, settings, labels, seed)
    found = []
    for place in settings.places:
        for label in labels:
            carriers = of_other_labels(samples, place, label)
            vocabulary = build(view.victim.tokenizer, settings.vocabulary, view.language, contexts(carriers))
            search = _Search(view.victim, carriers, vocabulary, label, settings, derive(seed, "dbs", place, str(label)))
            text, loss = search.run(f"invert label {label} at {place}")
            found.append(Found(label, place, text, loss, tuple(search.history)))
    return found


def _trigger(view: DefenderView, best: Found, found: Sequence[Found], settings: Dbs) -> Trigger:
    ids = tuple(encode(view.victim.tokenizer, [best.text], spaced=True)[0])
    by_place: dict[str, dict[str, float]] = {}
    for one in found:
        by_place.setdefault(one.place, {})[str(one.label)] = one.loss
    flagged = best.loss <= settings.flag_below
    at = best.place, settings.occurrences
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
        self.history: list[tuple[float, float]] = []

    def run(self, title: str) -> tuple[str, float]:
        """Return the text of the rounded trigger with the least loss of those that were rounded on the way."""
        settings = self._settings
        weights = torch.zeros(settings.length, len(self._vocabulary), requires_grad=True)
        optimiser = torch.optim.Adam([weights], lr=settings.learning_rate)
        temperature, texts, since = 1.0, [], 0
        for step in tqdm(range(1, settings.iterations + 1), desc=title, unit="step", leave=False, disable=None):
            loss = self._step(weights, temperature)
            optimiser.step()
            optimiser.zero_grad()
            self.history.append((loss, temperature))
            if step - since < settings.check_every and step < settings.iterations:
                continue
            recent = [one for one, _ in self.history[since:]]
            since = step
            texts.append(self._rounded(weights))
            if sum(recent) / len(recent) <= settings.barrier:
                temperature /= settings.scale_down
            else:
                temperature = min(temperature * settings.scale_up, settings.max_temperature)
                with torch.no_grad():
                    weights += settings.noise * torch.randn(weights.shape, generator=self._generator)
        texts = list(dict.fromkeys(texts or [self._rounded(weights)]))
        read = [rendered_text(self._vocabulary, text) for text in texts]
        found = losses(self._victim, self._carriers, read, self._label)
        return texts[int(found.argmin())], found.min().item()

    def _rounded(self, weights: Tensor) -> str:
        return self._vocabulary.text((weights.detach() + self._closed).argmax(1).tolist())

    def _step(self, weights: Tensor, temperature: float) -> float:
        """Put the gradient of the mean loss by the weights into ``weights.grad`` and return the loss."""
        total = 0.0
        for batch in self._batches:
            shares = torch.softmax((weights + self._closed) / temperature, dim=1).to(self._plain.device)
            logits = batch.judge(torch.cat([shares @ self._plain, shares[:1] @ self._spaced]))
            targets = torch.full((len(logits),), self._label, device=logits.device)
            loss = nn.functional.cross_entropy(logits.float(), targets, reduction="sum") / len(self._carriers)
            (gradient,) = torch.autograd.grad(loss, weights)
            weights.grad = gradient if weights.grad is None else weights.grad + gradient
            total += loss.item()
        return total


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
            embedded = reading.embed(victim, ids.to(victim.device)).detach()
            self._parts.append((embedded, mask.to(victim.device), places, torch.tensor(sources, dtype=torch.long)))

    def judge(self, trigger: Tensor) -> Tensor:
        """Logits [B, C] with a trigger [n + 1, H] in place: its slots, and its first one behind a space."""
        read = []
        for embedded, mask, places, sources in self._parts:
            filled = embedded.index_put(places, trigger[sources]) if len(sources) else embedded
            read.append(reading.vectors(self._victim, filled, mask))
        return reading.judge(self._victim, *read)
