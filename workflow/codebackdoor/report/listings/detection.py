"""Can a scan tell clean victims from backdoored ones? False positives and negatives (EliBadCode, 5.3.1 and Table 4).

Reads ``trigger.json`` and ``elimination.json`` files of benign and poisoned victims, what their ``metrics.json`` say
after unlearning, and the calibrations that the verdicts rest on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from codebackdoor.evaluation.significance import share_interval
from codebackdoor.files import read_json
from codebackdoor.report import labels, papers, scan
from codebackdoor.report.collect import Study, scenario_of
from codebackdoor.report.listed import Column, Listed, Part, Value
from codebackdoor.report.shown import shown

_VERDICTS = (
    Column("victim", "Victim"),
    Column("defense", "Defense"),
    Column("truth", "Truth"),
    Column("verdict", "Verdict"),
    Column("right", "Right"),
    Column("left", "Flip rate left, %", "percent"),
    Column("scans", "Scans"),
    Column("margin", "Margin", "number"),
    Column("loss", "Loss, nats", "number"),
    Column("trigger", "Anchored trigger", "code"),
)
_RATES = (
    Column("defense", "Defense"),
    Column("error", "Error"),
    Column("hits", "Victims", "number"),
    Column("n", "Of", "number"),
    Column("value", "Rate, %", "percent"),
    Column("low", "At least, %", "percent"),
    Column("high", "At most, %", "percent"),
    Column("paper", "Paper, %", "percent"),
)
_CALIBRATIONS = (
    Column("calibration", "Calibration"),
    Column("shadows", "Benign shadows", "number"),
    Column("ratio", "Flagged at", "number"),
    Column("tried", "Tried at", "number"),
    Column("flagged", "Flagged, left out", "number"),
    Column("highest", "False positives at most, %", "percent"),
    Column("differs", "Made with another"),
)


def build(study: Study, inputs: Sequence[Path]) -> Listed:
    paths = {scenario_of(path): path for path in inputs if path.name == "trigger.json"}
    out = Path(study.settings["out"])
    found = [(one, scan.verdict(study, one, read_json(paths[one]), out)) for one in shown("detection", inputs)]
    verdicts: list[Mapping[str, Value]] = [
        {
            "victim": f"{labels.word(one.model)} · {verdict.victim}",
            "defense": verdict.defense,
            "truth": verdict.truth,
            "verdict": verdict.said,
            "right": "yes" if verdict.right else "no",
            "left": verdict.left,
            "scans": verdict.scans,
            "margin": verdict.margin,
            "loss": verdict.loss,
            "trigger": verdict.trigger,
        }
        for one, verdict in found
    ]
    by_defense: dict[tuple[str, bool], list[scan.Verdict]] = {}
    for one, verdict in found:
        search = study.task(one.dataset) not in labels.LABELLED
        by_defense.setdefault((one.elimination, search), []).append(verdict)
    rates = [row for (name, search), own in by_defense.items() for row in _rates(study, name, own, search=search)]
    calibrations = list(dict.fromkeys(scan.calibrations(study)))
    parts = [Part("rates", "False positives and false negatives", _RATES, tuple(rates))]
    if calibrations:
        parts.append(Part("calibrations", "What the verdicts rest on", _CALIBRATIONS, tuple(map(_row, calibrations))))
    parts.append(Part("verdicts", "Every victim", _VERDICTS, tuple(verdicts)))
    said = papers.quoted("elibadcode")["detection"]
    notes = (
        "False positive: a benign victim is flagged. False negative: a backdoored one is not. Another label: it is "
        "flagged, but not for the attack's target. Limits: 95 % interval of Clopper and Pearson; a handful of victims "
        "says little.",
        f"The paper, {said['where']}: as many as the two tasks with labels have. A search has no labels to scan; its "
        "victims are counted apart, as flagged or not.",
        "Margin: logarithm of the lowest loss of a benign shadow over that of the search; a label is flagged where it "
        "is at least the logarithm of one over `flagged at`.",
        "Flip rate left: of the edited victim, under the trigger that it was attacked with: a right label alone "
        "removes nothing. Scans: of a method that scans again after unlearning, how often; a dash: it scans once.",
    )
    return Listed(f"{study.experiment.title}: clean or backdoored", tuple(parts), notes)


def _rates(
    study: Study, elimination: str, verdicts: Sequence[scan.Verdict], *, search: bool
) -> Iterator[Mapping[str, Value]]:
    said = papers.quoted("elibadcode")["detection"]["false_positive_rate"]
    method = str(study.variant("eliminations", elimination)["method"])
    benign = [one for one in verdicts if one.truth == scan.CLEAN_VICTIM]
    poisoned = [one for one in verdicts if one.truth != scan.CLEAN_VICTIM]
    flagged = [one for one in poisoned if one.said != scan.CLEAN_VICTIM]
    counts = [
        ("False positive", sum(one.said != scan.CLEAN_VICTIM for one in benign), len(benign)),
        ("False negative", len(poisoned) - len(flagged), len(poisoned)),
    ]
    if not search:
        counts.append(("Another label", sum(not one.right for one in flagged), len(flagged)))
    defense = f"{labels.word(elimination)}{', search' * search}"
    for error, hits, n in counts:
        low, high = share_interval(hits, n)
        row: dict[str, Value] = {"defense": defense, "error": error, "hits": hits, "n": n}
        row |= {"value": hits / n if n else None, "low": low, "high": high}
        # the paper's victims are told apart by any method under its own name
        if error == "False positive" and elimination == method and method in said and not search:
            row["paper"] = said[method]
        yield row


def _row(one: scan.Calibration) -> Mapping[str, Value]:
    return {
        "calibration": one.name,
        "shadows": one.shadows,
        "ratio": one.ratio,
        "tried": one.tried,
        "flagged": one.flagged,
        "highest": one.highest,
        "differs": ", ".join(one.differs) or "nothing",
    }
