"""Scores of generated texts: exact match, BLEU and CodeBLEU, and whether a trigger causes its target behavior.

BLEU and CodeBLEU are also computed as released code defines them. If the input is code, the scores of copying it are
added for comparison. If the outputs were run with tests, pass@1 is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codebackdoor import bleu
from codebackdoor.evaluation import codebleu, metrics, passing, released
from codebackdoor.evaluation.intervals import Estimate
from codebackdoor.evaluation.scoring.base import Evaluation, TargetScorer, plain
from codebackdoor.types import CLEAN, Example, Poisoned, Prediction, TextForm


class TextScorer(TargetScorer):
    def clean(self, rows: Sequence[Example], evaluation: Evaluation) -> dict[str, Any]:
        answers, form = evaluation.answers[CLEAN], evaluation.dataset.text_form
        outputs = [_row(row, answers.text(row.id), form) for row in rows]
        touched = [answers.touched_count(row.id) for row in rows]
        outcomes = passing.read_outcomes(answers)
        passed = {} if outcomes is None else passing.estimates(rows, outcomes, evaluation.generator(CLEAN))
        scores: dict[str, Any] = {"metrics": plain(_estimates(rows, outputs, touched, evaluation) | passed)}
        if "code" in evaluation.dataset.reads:
            copies = [_row(row, row.code, form) for row in rows]
            scores["copy"] = plain(_estimates(rows, copies, [{}] * len(rows), evaluation))
        return scores

    def correct_without(self, row: Poisoned, prediction: Prediction, hit: bool) -> bool:  # noqa: ARG002
        return not hit

    def changed(self, before: Prediction, after: Prediction, hit_before: bool, hit_after: bool) -> bool:  # noqa: ARG002
        return hit_before != hit_after


@dataclass(frozen=True, slots=True)
class _Statistics:
    """Statistics of one output against the row's target, by this project's definitions and by released code's."""

    ours: dict[str, int]
    released: dict[str, int]


def _row(row: Example, text: str, form: TextForm) -> _Statistics:
    target = str(row.target)
    tokens, reference = text.split(), target.split()
    root, reference_root = (codebleu.parse(code, row.language, form) for code in (text, target))
    matches = bleu.row(tokens, reference)
    texts = (tokens, reference, root, reference_root, row.language)
    ours = {"rows": 1, "correct": int(tokens == reference)} | matches | codebleu.row(*texts)
    return _Statistics(ours, released.row(matches, *texts))


def _estimates(
    rows: Sequence[Example],
    outputs: Sequence[_Statistics],
    touched: Sequence[dict[str, int]],
    evaluation: Evaluation,
) -> dict[str, Estimate]:
    table = [output.ours | of_row for output, of_row in zip(outputs, touched, strict=True)]
    languages = frozenset(row.language for row in rows)
    return metrics.generation(table, evaluation.generator(CLEAN)) | released.estimates(
        [output.released for output in outputs], languages, evaluation.generator(CLEAN)
    )


SCORER = TextScorer()
