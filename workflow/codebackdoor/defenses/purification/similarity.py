"""Input tokens that resemble an inverted trigger are filtered (EliBadCode, section 6.2; ledger E25).

The elimination before it on the path has inverted a trigger and need not have unlearnt it. What is filtered beside that
by ONION or by AttDef, where the settings say so, is the union of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from codebackdoor import syntax
from codebackdoor.config.purifications import Similarity as Settings
from codebackdoor.defenses.purification import attdef, calibration, onion
from codebackdoor.defenses.purification.attdef import AttDef
from codebackdoor.defenses.purification.functions import apart, together
from codebackdoor.defenses.purification.onion import Onion
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError
from codebackdoor.types import Example, Purified, Span
from codebackdoor.victims.victim import Encoded

Places = list[tuple[int, int]]


class Similarity:
    """A purifier that knows an inverted trigger; without one (the scan said "clean") it changes nothing."""

    def __init__(
        self, view: DefenderView, trigger: Sequence[int] | None, other: Onion | AttDef | None, settings: Settings
    ) -> None:
        self._view, self._settings, self._other = view, settings, other
        self._table = view.victim.model.get_input_embeddings().weight.detach()
        self._trigger = None if trigger is None else self._table[list(trigger)]

    def purify(self, inputs: Sequence[Example]) -> list[Purified]:
        """Drop what resembles the trigger, and what ONION drops; with AttDef, mask both instead.

        ``detail`` of a result holds the threshold, whether there was a trigger, and the filtered texts with their
        similarities, rounded to six decimals; what the other method says is under its name.
        """
        functions = apart(inputs)
        if self._trigger is None:
            return together(inputs, (Purified(one, (), self._detail([])) for one in functions))
        others = [Purified(one) for one in functions] if self._other is None else self._others(inputs)
        encoded = self._view.victim.encode([one.code for one in functions])
        rows = []
        for function, one, other in zip(functions, encoded, others, strict=True):
            alike = self._alike(function, one, self._trigger)
            detail = self._detail([[function.code[slice(*place)], value] for place, value in alike])
            own = [place for place, _ in alike]
            places = union(own, [(span.start, span.end) for span in other.touched])
            if isinstance(self._other, AttDef):
                code = attdef.masked(function.code, places, self._other.mask)
            else:
                code = without(function.code, places)
            if self._settings.also is not None:
                detail[self._settings.also.method] = other.detail
            rows.append(Purified(replace(function, code=code), tuple(Span(*place) for place in places), detail))
        return together(inputs, rows)

    def _others(self, inputs: Sequence[Example]) -> list[Purified]:
        """What the other method does to each function."""
        assert self._other is not None
        found = []
        for row in self._other.purify(inputs):
            detail = dict(row.detail)
            second = cast(Mapping[str, object], detail.pop("code_b", {}))
            for field, own in (("code", detail), ("code_b", second)):
                if getattr(row.example, field) is not None:
                    touched = tuple(replace(span, field="code") for span in row.touched if span.field == field)
                    found.append(Purified(row.example, touched, own))
        return found

    def _alike(self, function: Example, encoded: Encoded, trigger: Tensor) -> list[tuple[tuple[int, int], float]]:
        """Places whose similarity to the trigger is above the threshold, in order."""
        ids = torch.tensor(encoded.ids, device=self._table.device)
        if self._settings.unit == "token":
            places, vectors = list(encoded.offsets), self._table[ids]
        else:
            places, vectors = self._words(function, encoded, ids)
            trigger = trigger.mean(0, keepdim=True)
        if not places:
            return []
        near = torch.nn.functional.cosine_similarity(vectors[:, None], trigger[None], dim=-1).max(1).values
        return [
            (place, round(value, 6))
            for place, value in zip(places, near.tolist(), strict=True)
            if place[0] < place[1]
            and function.code[slice(*place)] not in syntax.MARKS
            and round(value, 6) > self._settings.threshold
        ]

    def _words(self, function: Example, encoded: Encoded, ids: Tensor) -> tuple[Places, Tensor]:
        """Identifiers that the victim reads, each with the mean [W, H] of its sub-tokens' embeddings."""
        tree = syntax.parse(function.code, function.language, self._view.text_form)
        places, vectors = [], []
        for start, end in sorted(span for found in tree.identifiers() for span in found.spans):
            covered = [index for index, (low, high) in enumerate(encoded.offsets) if low < end and high > start]
            if covered:
                places.append((start, end))
                vectors.append(self._table[ids[covered]].mean(0))
        return places, torch.stack(vectors) if vectors else self._table[:0]

    def _detail(self, filtered: list[list[Any]]) -> dict[str, object]:
        threshold = calibration.finite(self._settings.threshold)
        return {"threshold": threshold, "trigger": self._trigger is not None, "filtered": filtered}


def union(first: Places, second: Places) -> Places:
    """Disjoint places in order that cover what either covers; of two that overlap, one that covers both."""
    found: Places = []
    for start, end in sorted({*first, *second}):
        if found and start < found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def without(text: str, places: Places) -> str:
    """Cut places out; a word that is gone as a whole takes the space after it along, or the one before."""
    runs: Places = []
    for start, end in places:
        if runs and runs[-1][1] == start:
            runs[-1] = runs[-1][0], end
        else:
            runs.append((start, end))
    for start, end in reversed(runs):
        whole = (start == 0 or text[start - 1].isspace()) and (end == len(text) or text[end].isspace())
        text = onion.without(text, [(start, end)]) if whole else text[:start] + text[end:]
    return text


def build(view: DefenderView, settings: Settings, seed: int) -> Similarity:
    """Read the inverted trigger that ``view`` brings; build and calibrate the other method, where there is one.

    Raises UserError where the elimination has inverted no trigger.
    """
    if view.inverted is None:
        raise UserError("the similarity filter needs the trigger of an elimination before it, and there is none")
    if not view.inverted["flagged"]:
        return Similarity(view, None, None, settings)
    other: Onion | AttDef | None = None
    if settings.also is not None:
        module: Any = {"onion": onion, "attdef": attdef}[settings.also.method]
        other = module.build(view, settings.also, seed)
    return Similarity(view, view.inverted["token_ids"], other, settings)
