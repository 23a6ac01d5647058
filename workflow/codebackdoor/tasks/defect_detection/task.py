"""Defect detection: is this function defective? Label 1 is defective, as in Devign's CodeXGLUE files.

Local scale: a real function against the same function with one to three injected defects, so that the classes are
paired and balanced. The baseline is a logistic regression on n-grams of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from codebackdoor.tasks import card
from codebackdoor.tasks.base import OneFunctionTask, RowGroup
from codebackdoor.tasks.baselines import ngrams
from codebackdoor.tasks.deduplication import normal_key
from codebackdoor.tasks.mutations import mutate
from codebackdoor.types import Example

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.corpora.mining import MinedFunction
    from codebackdoor.tasks.defect_detection.settings import DefectDetection


class DefectDetectionTask(OneFunctionTask):
    unusable = "no_place_for_a_defect"

    def group(
        self, function: MinedFunction, settings: DefectDetection, generator: np.random.Generator
    ) -> RowGroup | None:
        weights = settings.mutants
        count = 1 + int(generator.choice(len(weights), p=[weight / sum(weights) for weight in weights]))
        shares = settings.mix.shares
        kinds = [str(kind) for kind in generator.choice(list(shares), size=count, p=list(shares.values()))]
        mutant = mutate(function.code, kinds, count, generator)
        if mutant is None:
            return None
        rows = tuple(
            Example(id=generator.bytes(8).hex(), language="python", code=code, label=label)
            for label, code in enumerate((function.code, mutant.text))
        )
        keys = (function.id, normal_key(mutant.tree))
        return RowGroup(rows, f"{function.package} {function.version}", keys, mutant.kinds)

    def baseline(
        self,
        train: Sequence[Example],
        test: Sequence[Example],
        settings: DefectDetection,  # noqa: ARG002
    ) -> dict[str, Any]:
        return ngrams(train, test)

    def card_facts(self, groups: Mapping[str, Sequence[RowGroup]]) -> dict[str, Any]:
        return {"mutations": card.mutations(groups)}


TASK = DefectDetectionTask()
