"""A victim's predictions on one test set and, after a purification, the touched spans and suspicion scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codebackdoor import files, syntax
from codebackdoor.errors import UserError
from codebackdoor.evaluation import metrics
from codebackdoor.types import Poisoned, Prediction, Span, TextForm


@dataclass(frozen=True, slots=True)
class Answers:
    """Predictions by id, and the touched spans by id; ``touched`` is None without a purification.

    ``suspicion``: the purification's score of each input by id. Higher is more suspicious, minus infinity is an input
    that could not be scored; None if the method has no such score.
    """

    path: Path
    predictions: Mapping[str, Prediction]
    touched: Mapping[str, tuple[Span, ...]] | None
    suspicion: Mapping[str, float] | None = None

    def of(self, id_: str) -> Prediction:
        try:
            return self.predictions[id_]
        except KeyError:
            raise UserError(f"{self.path}: no prediction for row {id_!r}; delete the file and predict again") from None

    def rank(self, id_: str) -> float:
        rank = self.of(id_).rank
        if rank is None:
            raise UserError(
                f"{self.path}: the prediction of row {id_!r} has no rank; delete the file and predict again"
            )
        return rank

    def ranks(self, id_: str) -> tuple[tuple[tuple[float, float], ...], int]:
        """The ranks (without, with the trigger) of the attacking functions for a query, and the size of their pool."""
        prediction = self.of(id_)
        if not prediction.ranks or not prediction.pool:
            missing = "pool" if prediction.ranks else "ranks"
            raise UserError(
                f"{self.path}: the prediction of row {id_!r} has no {missing}; delete the file and predict again"
            )
        return prediction.ranks, prediction.pool

    def text(self, id_: str) -> str:
        text = self.of(id_).text
        if text is None:
            raise UserError(f"{self.path}: the prediction of row {id_!r} has no text")
        return text

    def touched_count(self, id_: str) -> dict[str, int]:
        """A column for sums over rows: whether the row was touched. Empty without a purification."""
        return {} if self.touched is None else {"touched": int(bool(self.touched[id_]))}

    def located(self, row: Poisoned) -> bool | None:
        """Whether the purification touched the row's trigger; None without a purification."""
        return None if self.touched is None else metrics.located(self.touched[row.example.id], row.spans)

    def located_exactly(self, row: Poisoned, form: TextForm) -> bool | None:
        """Whether the purification touched the row's trigger and nothing else; None without a purification."""
        if self.touched is None:
            return None
        return metrics.located_exactly(self.touched[row.example.id], row.spans, _maskable(row, form))


def _maskable(row: Poisoned, form: TextForm) -> list[Span]:
    """The tokens of the row's trigger without keywords and layout marks."""
    trees = {
        field: syntax.parse(getattr(row.example, field), row.example.language, form)
        for field in {span.field for span in row.spans}
    }
    return [
        Span(max(token.start, span.start), min(token.end, span.end), span.field)
        for span in row.spans
        for token in trees[span.field].tokens_in(span.start, span.end)
        if token.kind not in ("keyword", "mark")
    ]


def read_answers(folder: Path, name: str) -> Answers:
    """The answers on the test set ``name``: ``predictions.{name}.jsonl`` and, if there is one, ``purified.…``."""
    path = folder / f"predictions.{name}.jsonl"
    predictions = {}
    for number, row in files.read_rows(path):
        try:
            predictions[row["id"]] = Prediction(
                row["id"],
                row["confidence"],
                label=row.get("label"),
                text=row.get("text"),
                rank=row.get("rank"),
                ranks=tuple((before, after) for before, after in row["ranks"]) if "ranks" in row else None,
                pool=row.get("pool"),
            )
        except KeyError as error:
            raise UserError(f"{path}:{number}: a prediction needs {error}") from None
    purified = folder / f"purified.{name}.jsonl"
    if not purified.exists():
        return Answers(path, predictions, None)
    rows = {row["id"]: row for _, row in files.read_rows(purified)}
    return Answers(path, predictions, _touched(purified, rows, predictions), _suspicion(rows))


def _touched(
    path: Path, rows: Mapping[str, Mapping[str, Any]], predictions: Mapping[str, Prediction]
) -> dict[str, tuple[Span, ...]]:
    touched = {id_: tuple(Span(start, end, name) for name, start, end in row["touched"]) for id_, row in rows.items()}
    # a prediction with ranks is that of a query, which is attacked by many functions, each with its own row
    missing = sorted(id_ for id_, prediction in predictions.items() if prediction.ranks is None and id_ not in touched)
    if missing:
        raise UserError(f"{path}: row {missing[0]!r} has a prediction but was not purified; purify again")
    return touched


def _suspicion(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float] | None:
    details = {id_: row["detail"] for id_, row in rows.items()}
    if not all("suspicion" in detail for detail in details.values()):
        return None
    scores = {id_: detail["suspicion"] for id_, detail in details.items()}
    return {id_: -math.inf if score is None else score for id_, score in scores.items()}
