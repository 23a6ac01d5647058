"""Filter input tokens that resemble an inverted trigger (EliBadCode, section 6.2; ledger E25).

The preceding elimination on the path has inverted a trigger; whether it also unlearned it does not matter. If the
settings name ONION or AttDef, tokens that either of the two methods finds are filtered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from codebackdoor import syntax
from codebackdoor.defenses import purification, thresholds
from codebackdoor.defenses.inputs.functions import apart, together
from codebackdoor.defenses.inputs.words import cut_spans
from codebackdoor.defenses.purification import SpanRemover
from codebackdoor.defenses.purification.similarity.settings import SimilaritySettings
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError
from codebackdoor.types import Example, Purified, Span
from codebackdoor.victims.victim import Encoded

Spans = list[tuple[int, int]]


class Similarity:
    """A purifier that knows an inverted trigger; without one (the scan said "clean") it changes nothing."""

    def __init__(
        self,
        view: DefenderView,
        trigger: Sequence[int] | None,
        combined: SpanRemover | None,
        settings: SimilaritySettings,
    ) -> None:
        self._view, self._settings, self._combined = view, settings, combined
        self._table = view.victim.model.get_input_embeddings().weight.detach()
        self._trigger = None if trigger is None else self._table[list(trigger)]

    def purify(self, inputs: Sequence[Example]) -> list[Purified]:
        """Drop the tokens that resemble the trigger, and those that ONION drops; with AttDef, mask both instead.

        ``detail`` of a result holds the threshold, whether there was a trigger, and the filtered texts with their
        similarities, rounded to six decimals; the evidence of the combined method is under its name.
        """
        functions = apart(inputs)
        if self._trigger is None:
            return together(inputs, (Purified(function, (), self._detail([])) for function in functions))
        remove = cut_spans if self._combined is None else self._combined.remove
        combined = list(map(Purified, functions)) if self._combined is None else self._combined_results(inputs)
        encodings = self._view.victim.encode([function.code for function in functions])
        rows = []
        for function, encoded, combined_row in zip(functions, encodings, combined, strict=True):
            similar = self._similar(function, encoded, self._trigger)
            detail = self._detail([[function.code[slice(*span)], value] for span, value in similar])
            spans = union([span for span, _ in similar], [(span.start, span.end) for span in combined_row.touched])
            code = remove(function.code, spans)
            if self._settings.also is not None:
                detail[self._settings.also.method] = combined_row.detail
            rows.append(Purified(replace(function, code=code), tuple(Span(*span) for span in spans), detail))
        return together(inputs, rows)

    def _combined_results(self, inputs: Sequence[Example]) -> list[Purified]:
        """What the combined method does to each function."""
        assert self._combined is not None
        results = []
        for row in self._combined.purify(inputs):
            detail = dict(row.detail)
            second = cast(Mapping[str, object], detail.pop("code_b", {}))
            for field, field_detail in (("code", detail), ("code_b", second)):
                if getattr(row.example, field) is not None:
                    touched = tuple(replace(span, field="code") for span in row.touched if span.field == field)
                    results.append(Purified(row.example, touched, field_detail))
        return results

    def _similar(self, function: Example, encoded: Encoded, trigger: Tensor) -> list[tuple[tuple[int, int], float]]:
        """Spans whose similarity to the trigger is above the threshold, in order, with the similarity."""
        ids = torch.tensor(encoded.ids, device=self._table.device)
        if self._settings.unit == "token":
            spans, vectors = list(encoded.offsets), self._table[ids]
        else:
            spans, vectors = self._words(function, encoded, ids)
            trigger = trigger.mean(0, keepdim=True)
        if not spans:
            return []
        similarities = torch.nn.functional.cosine_similarity(vectors[:, None], trigger[None], dim=-1).max(1).values
        return [
            (span, round(value, 6))
            for span, value in zip(spans, similarities.tolist(), strict=True)
            if span[0] < span[1]
            and function.code[slice(*span)] not in syntax.MARKS
            and round(value, 6) > self._settings.threshold
        ]

    def _words(self, function: Example, encoded: Encoded, ids: Tensor) -> tuple[Spans, Tensor]:
        """Identifiers that the victim reads, and the mean [W, H] of the embeddings of each one's sub-tokens."""
        tree = syntax.parse(function.code, function.language, self._view.text_form)
        spans, vectors = [], []
        for start, end in sorted(span for identifier in tree.identifiers() for span in identifier.spans):
            covered = [index for index, (low, high) in enumerate(encoded.offsets) if low < end and high > start]
            if covered:
                spans.append((start, end))
                vectors.append(self._table[ids[covered]].mean(0))
        return spans, torch.stack(vectors) if vectors else self._table[:0]

    def _detail(self, filtered: list[list[Any]]) -> dict[str, object]:
        threshold = thresholds.finite(self._settings.threshold)
        return {"threshold": threshold, "trigger": self._trigger is not None, "filtered": filtered}


def union(first: Spans, second: Spans) -> Spans:
    """Disjoint spans in order that cover what either list covers; overlapping ones are merged."""
    merged: Spans = []
    for start, end in sorted({*first, *second}):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def build(view: DefenderView, settings: SimilaritySettings, seed: int) -> Similarity:
    """Use the inverted trigger in ``view``; build and calibrate the combined method, if there is one.

    Raises UserError if the elimination inverted no trigger.
    """
    if view.inverted is None:
        raise UserError("the similarity filter needs the trigger of an elimination before it, and there is none")
    if not view.inverted["flagged"]:
        return Similarity(view, None, None, settings)
    combined = None
    if settings.also is not None:
        combined = cast(SpanRemover, purification.load(settings.also.method)(view, settings.also, seed))
    return Similarity(view, view.inverted["token_ids"], combined, settings)
