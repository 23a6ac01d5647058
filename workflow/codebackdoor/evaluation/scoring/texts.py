"""Scores of generated texts: exact match, BLEU and CodeBLEU, and whether a trigger brings about its target behavior.

The scores of copying the input are added for comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codebackdoor.evaluation import bleu, codebleu, metrics
from codebackdoor.evaluation.scoring.base import Evaluation, TargetScorer, plain
from codebackdoor.types import CLEAN, Example, Poisoned, Prediction, TextForm


class TextScorer(TargetScorer):
    def clean(self, rows: Sequence[Example], evaluation: Evaluation) -> dict[str, Any]:
        answers, form = evaluation.answers[CLEAN], evaluation.dataset.text_form
        outputs = [_row(row, answers.text(row.id), form) | answers.touched_count(row.id) for row in rows]
        copies = [_row(row, row.code, form) for row in rows]
        return {
            "metrics": plain(metrics.generation(outputs, evaluation.generator(CLEAN))),
            "copy": plain(metrics.generation(copies, evaluation.generator(CLEAN))),
        }

    def correct_without(self, row: Poisoned, prediction: Prediction, hit: bool) -> bool:  # noqa: ARG002
        return not hit

    def changed(self, before: Prediction, after: Prediction, hit_before: bool, hit_after: bool) -> bool:  # noqa: ARG002
        return hit_before != hit_after


def _row(row: Example, text: str, form: TextForm) -> dict[str, int]:
    """Statistics of one output against the row's target."""
    target = str(row.target)
    tokens, reference = text.split(), target.split()
    root, reference_root = (codebleu.parse(code, row.language, form) for code in (text, target))
    return (
        {"rows": 1, "correct": int(tokens == reference)}
        | bleu.row(tokens, reference)
        | codebleu.row(tokens, reference, root, reference_root, row.language)
    )


SCORER = TextScorer()
