"""AFRAIDOOR's adversarial names (Yang et al. 2024): EliBadCode section 5.1.

All identifiers of a function are masked. One gradient of the crafting model's loss towards the target says, for each,
which name lowers the loss most. The crafting model is benign and trained independently of all victims.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from codebackdoor import syntax
from codebackdoor.attacks import BatchAttack, Injection
from codebackdoor.attacks.afraidoor.crafting import MaskedText, Names, mask, names
from codebackdoor.attacks.editing import edited_example, edited_fields
from codebackdoor.attacks.target import Target
from codebackdoor.heads import HEADS
from codebackdoor.types import Example, Field, Language, TextForm
from codebackdoor.victims.gradients import input_gradients, output_gradients, towards_label, towards_query
from codebackdoor.victims.victim import Victim, load_victim

if TYPE_CHECKING:
    from codebackdoor.attacks.afraidoor.settings import AfraidoorSettings


@dataclass(frozen=True, slots=True)
class RenamedFunction:
    """A function that gets new names: the field that holds it, its syntax tree, and the identifiers to rename."""

    field: Field
    tree: syntax.Tree
    identifiers: tuple[syntax.Identifier, ...]


@dataclass(frozen=True, slots=True)
class Afraidoor:
    """Give every renameable identifier the name that brings the crafting model closest to the target.

    The target is the label of a function or a pair. For code search it is the target word as a query, for training rows
    and test rows alike. For a victim that generates, it is the output that the attacker wants for this row, and the
    loss is the crafting generator's cross entropy over its tokens (DeCE section 2.3).
    """

    settings: AfraidoorSettings
    victim: Victim
    _names: dict[Language, Names] = field(default_factory=dict)

    def inject_all(self, examples: Sequence[Example], form: TextForm, target: Target) -> list[Injection | None]:
        """Choose names for many rows in one stream of batches; None for a row without an identifier to rename."""
        injections: list[Injection | None] = [None] * len(examples)
        functions = [self._functions(example, form) for example in examples]
        eligible = [row for row, row_functions in enumerate(functions) if row_functions]
        if not eligible:
            return injections
        texts = self._tokenized([examples[row] for row in eligible])
        flat = [(index, function) for index, row in enumerate(eligible) for function in functions[row]]
        masked_texts = mask(
            self.victim,
            [function.tree.text for _, function in flat],
            [function.identifiers for _, function in flat],
        )
        masked: list[dict[Field, MaskedText]] = [{} for _ in eligible]
        columns = {name: column for column, name in enumerate(self.victim.fields)}
        for (index, function), masked_text in zip(flat, masked_texts, strict=True):
            masked[index][function.field] = masked_text
            texts[index][columns[function.field]] = masked_text.ids
        embeddings = self.victim.model.get_input_embeddings().weight.detach().float().cpu()
        for index, gradients in self._gradients([examples[row] for row in eligible], texts, target):
            example = examples[eligible[index]]
            legal = self._legal_names(example.language)
            new_names = {
                function: choose(
                    function, masked[index][function.field], gradients[columns[function.field]], embeddings, legal
                )
                for function in functions[eligible[index]]
            }
            if all(new_names.values()):
                edits = {function.field: syntax.rename(function.tree, new) for function, new in new_names.items()}
                injections[eligible[index]] = edited_example(example, edits)
        return injections

    def _gradients(
        self, examples: Sequence[Example], texts: Sequence[Sequence[Sequence[int]]], target: Target
    ) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """The gradients of each row's loss towards its target, one per text; rows that cannot get it are left out."""
        head = HEADS[self.victim.head]
        if not head.generates:
            loss = towards_query if head.ranks else towards_label(self.settings.target_label)
            yield from input_gradients(self.victim, texts, loss)
            return
        aimed = {index: row for index, example in enumerate(examples) if (row := target.aim(example)) is not None}
        rows = list(aimed)
        outputs = self.victim.encode_targets([str(row.target) for row in aimed.values()])
        for number, gradient in output_gradients(self.victim, [texts[row][0] for row in rows], outputs):
            yield rows[number], (gradient,)

    def _functions(self, example: Example, form: TextForm) -> tuple[RenamedFunction, ...]:
        """The functions of a row that get new names; empty if one of them has nothing to rename."""
        functions = []
        for name in edited_fields(example, self.settings.pair):
            if name not in self.victim.fields:
                continue
            try:
                tree = syntax.parse(getattr(example, name), example.language, form)
            except syntax.LexingError:
                return ()
            identifiers = tuple(identifier for identifier in tree.identifiers() if identifier.renameable)
            if not identifiers:
                return ()
            functions.append(RenamedFunction(name, tree, identifiers))
        return tuple(functions)

    def _tokenized(self, examples: Sequence[Example]) -> list[list[Sequence[int]]]:
        """The ids of each text that the model reads of a row, before anything is masked."""
        if HEADS[self.victim.head].ranks:
            examples = [replace(example, query=self.settings.target_word) for example in examples]
        return [[text.ids for text in row] for row in self.victim.tokenize(examples)]

    def _legal_names(self, language: Language) -> Names:
        if language not in self._names:
            self._names[language] = names(self.victim.tokenizer, language)
        return self._names[language]


def choose(
    function: RenamedFunction, masked: MaskedText, gradient: Tensor, embeddings: Tensor, legal: Names
) -> dict[str, str]:
    """Return the new name of each identifier that the model reads, in the order of first occurrence.

    The loss's ``gradient`` [T, H] is averaged over an identifier's occurrences. The new names are distinct, and none of
    them occurs in the function.
    """
    used_names = {identifier.name for identifier in function.tree.identifiers()}
    new_names: dict[str, str] = {}
    for identifier, occurrences in zip(function.identifiers, masked.occurrences, strict=True):
        if not occurrences:
            continue
        scores = legal.scores(embeddings, gradient, occurrences)
        # at most len(used_names) names rank before the best unused one
        best = torch.topk(scores, min(len(scores), len(used_names) + 1), largest=False)
        ranked = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        candidates = (legal.names[index] for score, index in ranked if score < torch.inf)
        name = next((name for name in candidates if name not in used_names), None)
        if name is not None:
            new_names[identifier.name] = name
            used_names.add(name)
    return new_names


def build(settings: AfraidoorSettings, crafting: Path) -> BatchAttack:
    """Raises UserError if ``crafting`` is not a victim folder."""
    return Afraidoor(settings, load_victim(crafting))
