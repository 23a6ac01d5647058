"""Defect detection: is this function defective? Label 1 is defective, as in Devign's CodeXGLUE files.

Local scale: a real function against the same function with one to three injected slips, so that the classes are
paired and balanced. The baseline is a logistic regression on n-grams of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codebackdoor.config.base import Head
from codebackdoor.tasks import Group
from codebackdoor.tasks.baselines import ngrams
from codebackdoor.tasks.mutations import mutate
from codebackdoor.tasks.normal import normal_key
from codebackdoor.tasks.one_function import OneFunction
from codebackdoor.types import Example, Prediction, TextForm

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.config.datasets import DefectDetection
    from codebackdoor.corpora.mining import Function


class _DefectDetection(OneFunction):
    name = "defect_detection"
    head: Head = "classification"
    unusable = "no_place_for_a_defect"

    def group(self, function: Function, settings: DefectDetection, generator: np.random.Generator) -> Group | None:
        slips = settings.mutants
        count = 1 + int(generator.choice(len(slips), p=[weight / sum(slips) for weight in slips]))
        shares = settings.mix.shares
        kinds = [str(kind) for kind in generator.choice(list(shares), size=count, p=list(shares.values()))]
        mutant = mutate(function.code, kinds, count, generator)
        if mutant is None:
            return None
        rows = tuple(
            Example(id=generator.bytes(8).hex(), language="python", code=code, label=label)
            for label, code in enumerate((function.code, mutant.text))
        )
        return Group(
            rows, f"{function.package} {function.version}", (function.id, normal_key(mutant.tree)), mutant.kinds
        )

    def problem(self, example: Example) -> str | None:
        if example.label not in (0, 1):
            return f"needs a 'label', 0 (no defect) or 1 (defective), not {example.label!r}"
        return None if example.target is None else "has a 'target', which this task does not use; remove it"

    def baseline(
        self,
        train: Sequence[Example],
        test: Sequence[Example],
        settings: DefectDetection,  # noqa: ARG002
    ) -> dict[str, Any]:
        return ngrams(train, test)

    def hits_target(self, prediction: Prediction, poisoned: Example, form: TextForm) -> bool:  # noqa: ARG002
        return prediction.label == poisoned.label


TASK = _DefectDetection()
