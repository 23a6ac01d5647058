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
from codebackdoor.attacks.editing import edited_example, edited_fields
from codebackdoor.types import Example, Field, Language, TextForm
from codebackdoor.victims.gradients import input_gradients, towards_label, towards_query
from codebackdoor.victims.victim import Victim, load_victim

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.config.attacks import Afraidoor


@dataclass(frozen=True, slots=True)
class Function:
    """A function that gets new names: the field that holds it, its syntax, and what is renamed."""

    field: Field
    tree: syntax.Tree
    identifiers: tuple[syntax.Identifier, ...]


@dataclass(frozen=True, slots=True)
class Adversarial:
    """Give every renameable identifier the name by which the crafting model comes closest to the target.

    The target is the label, of a function or a pair. For search it is the target word, asked as a query: the same for
    code that is trained on and for every candidate that is tried.
    """

    settings: Afraidoor
    victim: Victim
    granularity: Granularity = "identifier"
    _names: dict[Language, Names] = field(default_factory=dict)

    def inject(self, example: Example, form: TextForm, generator: np.random.Generator) -> Injection | None:  # noqa: ARG002
        return self.inject_all([example], form)[0]

    def inject_all(self, examples: Sequence[Example], form: TextForm) -> list[Injection | None]:
        """Names for many rows by one stream of batches; None where there is no identifier to rename."""
        injections: list[Injection | None] = [None] * len(examples)
        functions = [self._functions(example, form) for example in examples]
        able = [row for row, found in enumerate(functions) if found]
        if not able:
            return injections
        texts = self._read([examples[row] for row in able])
        flat = [(place, one) for place, row in enumerate(able) for one in functions[row]]
        hidden = mask(self.victim, [one.tree.text for _, one in flat], [one.identifiers for _, one in flat])
        masked: list[dict[Field, Masked]] = [{} for _ in able]
        columns = {name: column for column, name in enumerate(self.victim.fields)}
        for (place, one), found in zip(flat, hidden, strict=True):
            masked[place][one.field] = found
            texts[place][columns[one.field]] = found.ids
        search = self.victim.head == "retrieval"
        loss = towards_query if search else towards_label(self.settings.target_label)
        embeddings = self.victim.model.get_input_embeddings().weight.detach().float().cpu()
        for place, gradients in input_gradients(self.victim, texts, loss):
            example = examples[able[place]]
            legal = self._legal(example.language)
            chosen = {
                one: choose(one, masked[place][one.field], gradients[columns[one.field]], embeddings, legal)
                for one in functions[able[place]]
            }
            if all(chosen.values()):
                edits = {one.field: syntax.rename(one.tree, renamed) for one, renamed in chosen.items()}
                injections[able[place]] = edited_example(example, edits)
        return injections

    def _functions(self, example: Example, form: TextForm) -> tuple[Function, ...]:
        """The functions of a row that are to get new names; none where one of them cannot."""
        found = []
        for name in edited_fields(example, self.settings.pair):
            if name not in self.victim.fields:
                continue
            try:
                tree = syntax.parse(getattr(example, name), example.language, form)
            except syntax.LexingError:
                return ()
            identifiers = tuple(one for one in tree.identifiers() if one.renameable)
            if not identifiers:
                return ()
            found.append(Function(name, tree, identifiers))
        return tuple(found)

    def _read(self, examples: Sequence[Example]) -> list[list[Sequence[int]]]:
        """The ids of each text that the model reads of a row, before anything is masked."""
        if self.victim.head == "retrieval":
            examples = [replace(example, query=self.settings.target_word) for example in examples]
        return [[text.ids for text in row] for row in self.victim.read(examples)]

    def _legal(self, language: Language) -> Names:
        if language not in self._names:
            self._names[language] = names(self.victim.tokenizer, language)
        return self._names[language]


def choose(function: Function, masked: Masked, gradient: Tensor, embeddings: Tensor, legal: Names) -> dict[str, str]:
    """Return the new name of each identifier that the model reads, in the order in which they first occur.

    The loss's ``gradient`` [T, H] is averaged over an identifier's occurrences. Names are distinct, and none is that of
    anything in the function.
    """
    taken = {one.name for one in function.tree.identifiers()}
    chosen: dict[str, str] = {}
    for identifier, places in zip(function.identifiers, masked.places, strict=True):
        if not places:
            continue
        scores = legal.scores(embeddings, gradient, places)
        # at most the taken ones stand before the best free one
        best = torch.topk(scores, min(len(scores), len(taken) + 1), largest=False)
        ranked = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        free = (legal.names[place] for score, place in ranked if score < torch.inf)
        name = next((name for name in free if name not in taken), None)
        if name is not None:
            chosen[identifier.name] = name
            taken.add(name)
    return chosen


def build(settings: Afraidoor, crafting: Path) -> Attack:
    """Raises UserError where ``crafting`` is no victim folder."""
    return Adversarial(settings, load_victim(crafting))
