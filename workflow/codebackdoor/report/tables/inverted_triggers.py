"""How close the inverted triggers are to the factual ones, with and without anchoring (EliBadCode, Table 6).

Reads ``trigger.json`` files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.evaluation.closeness import bleu, levenshtein
from codebackdoor.files import read_json
from codebackdoor.report import labels
from codebackdoor.report.study import Study, scenarios_shown
from codebackdoor.report.tables.listing import Column, Listing, ListingPart, Value

_COLUMNS = (
    Column("victim", "Victim"),
    Column("defense", "Defense"),
    Column("factual", "Factual trigger", "code"),
    Column("anchoring", "Anchoring"),
    Column("inverted", "Inverted trigger", "code"),
    Column("ld", "LD", "number"),
    Column("bleu", "BLEU, %", "percent"),
    Column("paper_ld", "Paper's LD", "number"),
    Column("paper_bleu", "Paper's BLEU, %", "percent"),
)
_NOTES = (
    "LD: Levenshtein distance, the smallest number of changes of one character that turn the inverted trigger into the "
    "factual one. BLEU: BLEU-4 of characters.",
    f"{labels.DASH}: the attack has no fixed trigger; it makes one for each sample.",
    "If a defense flagged nothing, its most suspicious trigger is shown, marked (clean).",
)


def build(study: Study, inputs: Sequence[Path]) -> Listing:
    shown = scenarios_shown("inverted_triggers", inputs)
    rows = tuple(row for scenario, path in shown.items() for row in _rows(study, scenario, read_json(path)))
    part = ListingPart("triggers", "Inverted and factual triggers", _COLUMNS, rows)
    return Listing(f"{study.experiment.title}: inverted triggers", (part,), _NOTES)


def factual(attack: Mapping[str, Any]) -> str | None:
    """The trigger as the paper names it (section 5.1: ``testo_init``, ``rb``); None if each sample has its own.

    LD and BLEU are computed against this text. The paper prints them only for ``testo_init``. For BadCode the text is
    ``rb``, which the paper calls the trigger, without the underscore that joins it to a name.
    """
    return next((str(attack[key]) for key in ("name", "trigger") if key in attack), None)


def _rows(study: Study, scenario: Scenario, trigger: Mapping[str, Any]) -> Iterator[Mapping[str, Value]]:
    if scenario.attack == NONE:
        return
    target = factual(study.variant("attacks", scenario.attack))
    anchored, unanchored = ("yes", "text", None), ("no", "inverted_text", "without_anchoring")
    # both rows even if anchoring dropped nothing, because the paper prints different values
    anchors = "beta" in study.variant("eliminations", scenario.elimination)
    for anchoring, key, run in (anchored, unanchored) if anchors else (unanchored,):
        text = str(trigger[key])
        printed = {metric: study.printed(scenario, scenario.attack, metric, run) for metric in ("ld", "bleu")}
        yield {
            "victim": labels.victim(scenario),
            "defense": labels.word(scenario.elimination),
            "factual": target,
            "anchoring": anchoring,
            "inverted": text if trigger["flagged"] else f"{text} (clean)",
            "ld": None if target is None else levenshtein(text, target),
            "bleu": None if target is None else bleu(text, target),
            **{f"paper_{metric}": value.value for metric, value in printed.items() if value is not None},
        }
