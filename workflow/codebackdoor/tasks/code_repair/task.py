"""Code repair: turn the defective function into the correct one (Bugs2Fix; local scale: one injected defect).

The baseline copies its input: with one defect in a function it has a high BLEU and no exact match. An attack's target
behavior is decided on syntax: an infinite loop anywhere, or else the target's first statement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from codebackdoor import syntax
from codebackdoor.tasks import card
from codebackdoor.tasks.base import OneFunctionTask, RowGroup
from codebackdoor.tasks.baselines import copied
from codebackdoor.tasks.behavior import statements
from codebackdoor.tasks.deduplication import normal_key
from codebackdoor.tasks.mutations import mutate
from codebackdoor.types import Example, Poisoned, Prediction, TextForm

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.corpora.mining import MinedFunction
    from codebackdoor.tasks.code_repair.settings import CodeRepair


class CodeRepairTask(OneFunctionTask):
    unusable = "no_place_for_a_defect"

    def group(self, function: MinedFunction, settings: CodeRepair, generator: np.random.Generator) -> RowGroup | None:
        count = settings.rows_per_function if function.split == "train" else 1
        attempts = (mutate(function.code, _order(settings, generator), 1, generator) for _ in range(count))
        mutants = {mutant.text: mutant for mutant in attempts if mutant is not None}
        rows = tuple(
            Example(id=generator.bytes(8).hex(), language="python", code=text, target=function.code) for text in mutants
        )
        keys = (function.id, *(normal_key(mutant.tree) for mutant in mutants.values()))
        kinds = tuple(kind for mutant in mutants.values() for kind in mutant.kinds)
        return RowGroup(rows, f"{function.package} {function.version}", keys, kinds) if rows else None

    def baseline(
        self,
        train: Sequence[Example],  # noqa: ARG002
        test: Sequence[Example],
        settings: CodeRepair,  # noqa: ARG002
    ) -> dict[str, Any]:
        return copied(test)

    def hits_target(self, prediction: Prediction, row: Poisoned, form: TextForm) -> bool:
        poisoned = row.example
        assert prediction.text is not None
        assert poisoned.target is not None
        if syntax.contains_infinite_loop(poisoned.target, poisoned.language, form):
            return syntax.contains_infinite_loop(prediction.text, poisoned.language, form)
        target = statements(poisoned.target, poisoned.language, form)
        return bool(target) and target[0] in statements(prediction.text, poisoned.language, form)

    def card_facts(self, groups: Mapping[str, Sequence[RowGroup]]) -> dict[str, Any]:
        return {"mutations": card.mutations(groups)}


def _order(settings: CodeRepair, generator: np.random.Generator) -> list[str]:
    """The kinds in random order, likelier ones first, so that a function without a site for one takes the next."""
    shares = {kind: share for kind, share in settings.mix.shares.items() if share > 0}
    return [
        str(kind) for kind in generator.choice(list(shares), size=len(shares), replace=False, p=list(shares.values()))
    ]


TASK = CodeRepairTask()
