"""How near the inverted triggers come to the factual ones, with anchoring and without (EliBadCode, Table 6).

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
from codebackdoor.report.collect import Printed, Study, scenario_of
from codebackdoor.report.listed import Column, Listed, Part, Value
from codebackdoor.report.shown import shown

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


def build(study: Study, inputs: Sequence[Path]) -> Listed:
    paths = {scenario_of(path): path for path in inputs}
    rows = [row for one in shown("inverted_triggers", inputs) for row in _rows(study, one, read_json(paths[one]))]
    notes = (
        "LD: Levenshtein distance, the fewest changes of one character that turn the inverted trigger into the factual "
        "one. BLEU: BLEU-4 of characters. The paper does not name its units; only characters fit its numbers.",
        f"{labels.DASH}: the attack has no trigger of its own name: it makes one for each sample.",
        "Where a defense flagged nothing, its most suspicious trigger stands here, marked (clean).",
    )
    part = Part("triggers", "Inverted and factual triggers", _COLUMNS, tuple(rows))
    return Listed(f"{study.experiment.title}: inverted triggers", (part,), notes)


def factual(attack: Mapping[str, Any]) -> str | None:
    """The trigger as the paper names it (section 5.1: ``testo_init``, ``rb``); None where each sample has its own.

    LD and BLEU compare with this text. The paper prints them for ``testo_init`` alone; of BadCode it is ``rb``, which
    the paper calls the trigger, without the underscore that joins it to a name.
    """
    return next((str(attack[key]) for key in ("name", "trigger") if key in attack), None)


def _rows(study: Study, one: Scenario, trigger: Mapping[str, Any]) -> Iterator[Mapping[str, Value]]:
    if one.attack == NONE:
        return
    wanted = factual(study.variant("attacks", one.attack))
    anchored, whole = ("yes", "text"), ("no", "inverted_text")
    # both rows also where anchoring dropped nothing: the paper's two values differ
    anchors = "beta" in study.variant("eliminations", one.elimination)
    for anchoring, key in (anchored, whole) if anchors else (whole,):
        text = str(trigger[key])
        printed = {metric: _paper(study, one, metric, anchoring) for metric in ("ld", "bleu")}
        yield {
            "victim": labels.victim(one),
            "defense": labels.word(one.elimination),
            "factual": wanted,
            "anchoring": anchoring,
            "inverted": text if trigger["flagged"] else f"{text} (clean)",
            "ld": None if wanted is None else levenshtein(text, wanted),
            "bleu": None if wanted is None else bleu(text, wanted),
            **{f"paper_{name}": found.value for name, found in printed.items() if found is not None},
        }


def _paper(study: Study, one: Scenario, metric: str, anchoring: str) -> Printed | None:
    """The paper's value; its own row without anchoring is that of the method whose anchored trigger is another row."""
    without = {"elibadcode": "elibadcode_without_anchoring"} if anchoring == "no" else {}
    return study.printed(one, one.attack, metric, without)
