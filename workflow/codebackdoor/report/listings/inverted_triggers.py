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
    """What an attack writes into the code as a name; None for one that has no such text."""
    return next((str(attack[key]) for key in ("name", "trigger") if key in attack), None)


def _rows(study: Study, one: Scenario, trigger: Mapping[str, Any]) -> Iterator[Mapping[str, Value]]:
    if one.attack == NONE:
        return
    wanted = factual(study.variant("attacks", one.attack))
    for anchoring, key in (("yes", "text"), ("no", "inverted_text")):
        printed = {metric: _paper(study, one, metric, anchoring) for metric in ("ld", "bleu")}
        # a method that does not anchor has one row; one that dropped nothing has both where the paper prints both
        if anchoring == "no" and trigger["inverted_text"] == trigger["text"] and printed["ld"] is None:
            continue
        text = str(trigger[key])
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
