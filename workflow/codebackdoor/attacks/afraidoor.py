"""AFRAIDOOR's adversarial names (Yang et al. 2024): EliBadCode section 5.1.

All identifiers of a function are masked; one gradient of the crafting model's loss towards the target says which name
lowers it most at each of them. The crafting model is a benign one, trained apart from every victim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from codebackdoor import syntax
from codebackdoor.attacks import Attack, Granularity, Injection
from codebackdoor.attacks.crafting import Masked, Names, mask, names
from codebackdoor.types import Example, Language, Span, TextForm
from codebackdoor.victims.gradients import input_gradients, towards_label
from codebackdoor.victims.victim import Victim, load_victim

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.config.attacks import Afraidoor


@dataclass(frozen=True, slots=True)
class Adversarial:
    """Give every renameable identifier the name by which the crafting model comes closest to the target."""

    settings: Afraidoor
    victim: Victim
    granularity: Granularity = "identifier"
    _names: dict[Language, Names] = field(default_factory=dict)

    def inject(self, example: Example, form: TextForm, generator: np.random.Generator) -> Injection | None:  # noqa: ARG002
        return self.inject_all([example], form)[0]

    def inject_all(self, examples: Sequence[Example], form: TextForm) -> list[Injection | None]:
        """Names for many functions by one stream of batches; None where a function has no identifier to rename."""
        trees = [_parsed(example.code, example.language, form) for example in examples]
        found = [[one for one in tree.identifiers() if one.renameable] if tree else [] for tree in trees]
        masked = mask(self.victim, [example.code for example in examples], found)
        rows = [row for row, one in enumerate(masked) if any(one.places)]
        loss = towards_label(self.victim, self.settings.target_label)
        embeddings = self.victim.model.get_input_embeddings().weight.detach().float().cpu()
        injections: list[Injection | None] = [None] * len(examples)
        for index, gradient in input_gradients(self.victim, [masked[row].ids for row in rows], loss):
            row, tree = rows[index], trees[rows[index]]
            assert tree is not None
            chosen = choose(tree, found[row], masked[row], gradient, embeddings, self._legal(examples[row].language))
            if chosen:
                edit = syntax.rename(tree, chosen)
                spans = tuple(Span(start, end) for start, end in edit.spans)
                injections[row] = Injection(replace(examples[row], code=edit.text), spans)
        return injections

    def _legal(self, language: Language) -> Names:
        if language not in self._names:
            self._names[language] = names(self.victim.tokenizer, language)
        return self._names[language]


def choose(
    tree: syntax.Tree,
    identifiers: Sequence[syntax.Identifier],
    masked: Masked,
    gradient: Tensor,
    embeddings: Tensor,
    legal: Names,
) -> dict[str, str]:
    """Return the new name of each identifier that the model reads, in the order in which they first occur.

    The loss's ``gradient`` [T, H] is averaged over an identifier's occurrences. Names are distinct, and none is that of
    anything in the function.
    """
    taken = {one.name for one in tree.identifiers()}
    chosen: dict[str, str] = {}
    for identifier, places in zip(identifiers, masked.places, strict=True):
        if not places:
            continue
        scores = legal.scores(embeddings, gradient, places)
        # at most the taken ones stand before the best free one
        best = torch.topk(scores, min(len(scores), len(taken) + 1), largest=False)
        free = (
            legal.names[place]
            for score, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            if score < torch.inf and legal.names[place] not in taken
        )
        name = next(free, None)
        if name is not None:
            chosen[identifier.name] = name
            taken.add(name)
    return chosen


def _parsed(code: str, language: Language, form: TextForm) -> syntax.Tree | None:
    try:
        return syntax.parse(code, language, form)
    except syntax.LexingError:
        return None


def build(settings: Afraidoor, crafting: Path) -> Attack:
    """Raises UserError where ``crafting`` is no victim folder."""
    return Adversarial(settings, load_victim(crafting))
