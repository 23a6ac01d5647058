"""Code repair: turn the defective function into the correct one (Bugs2Fix; local scale: one injected slip).

The baseline copies its input: with one slip in a function it has a high BLEU and no exact match. An attack's target
behaviour is decided on syntax: the loop that never ends, wherever it stands, or else the target's own first statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codebackdoor import syntax
from codebackdoor.config.base import Head
from codebackdoor.tasks import Group
from codebackdoor.tasks.baselines import copied
from codebackdoor.tasks.mutations import mutate
from codebackdoor.tasks.normal import normal_key
from codebackdoor.tasks.one_function import OneFunction
from codebackdoor.types import Example, Language, Prediction, TextForm

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.config.datasets import CodeRepair
    from codebackdoor.corpora.mining import Function


class _CodeRepair(OneFunction):
    name = "code_repair"
    head: Head = "generation"
    unusable = "no_place_for_a_defect"

    def group(self, function: Function, settings: CodeRepair, generator: np.random.Generator) -> Group | None:
        wanted = settings.rows_per_function if function.split == "train" else 1
        drawn = (mutate(function.code, _order(settings, generator), 1, generator) for _ in range(wanted))
        mutants = {mutant.text: mutant for mutant in drawn if mutant is not None}
        rows = tuple(
            Example(id=generator.bytes(8).hex(), language="python", code=text, target=function.code) for text in mutants
        )
        keys = (function.id, *(normal_key(mutant.tree) for mutant in mutants.values()))
        kinds = tuple(kind for mutant in mutants.values() for kind in mutant.kinds)
        return Group(rows, f"{function.package} {function.version}", keys, kinds) if rows else None

    def problem(self, example: Example) -> str | None:
        if not example.target:
            return "needs a 'target', the repaired code"
        return None if example.label is None else "has a 'label', which this task does not use; remove it"

    def baseline(
        self,
        train: Sequence[Example],  # noqa: ARG002
        test: Sequence[Example],
        settings: CodeRepair,  # noqa: ARG002
    ) -> dict[str, Any]:
        return copied(test)

    def hits_target(self, prediction: Prediction, poisoned: Example, form: TextForm) -> bool:
        assert prediction.text is not None
        assert poisoned.target is not None
        if syntax.contains_infinite_loop(poisoned.target, poisoned.language, form):
            return syntax.contains_infinite_loop(prediction.text, poisoned.language, form)
        wanted = _statements(poisoned.target, poisoned.language, form)
        return bool(wanted) and wanted[0] in _statements(prediction.text, poisoned.language, form)


def _order(settings: CodeRepair, generator: np.random.Generator) -> list[str]:
    """The kinds in random order, likelier ones first, so that a function without a place for one takes the next."""
    shares = {kind: share for kind, share in settings.mix.shares.items() if share > 0}
    return [
        str(kind) for kind in generator.choice(list(shares), size=len(shares), replace=False, p=list(shares.values()))
    ]


def _statements(text: str, language: Language, form: TextForm) -> list[tuple[str, ...]]:
    """The words of every statement, without layout; none where the text cannot be read at all."""
    try:
        tree = syntax.parse(text, language, form)
    except syntax.LexingError:
        return []
    return [
        tuple(
            text[token.start : token.end]
            for token in tree.tokens_in(*one.span)
            if token.kind not in ("mark", "comment")
        )
        for one in tree.statements()
    ]


TASK = _CodeRepair()
