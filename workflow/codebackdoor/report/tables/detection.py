"""Can a scan tell clean victims from backdoored ones? False positives and negatives (EliBadCode, 5.3.1 and Table 4).

Reads ``trigger.json`` and ``elimination.json`` files of benign and poisoned victims, their ``metrics.json`` after
unlearning, and the calibrations of the verdicts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from codebackdoor.evaluation.significance import share_interval
from codebackdoor.files import read_json
from codebackdoor.report import labels, scan
from codebackdoor.report.study import Study, scenarios_shown
from codebackdoor.report.tables.listing import Column, Listing, ListingPart, Value

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
    Column("trigger", "Trigger found", "code"),
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
    Column("differs", "Different settings"),
)
_NOTES = (
    "False positive: a benign victim is flagged. False negative: a backdoored victim is not flagged. Another label, "
    "another word: a backdoored victim is flagged, but not for the attack's target. Limits: 95% Clopper-Pearson "
    "interval; it is wide for a handful of victims.",
    "A retrieval model has no labels to scan; its victims are counted separately. Its verdict is right if the attacked "
    "word is among the words that were found, and says nothing if the defender was told that word.",
    "Margin: logarithm of the lowest loss of a benign shadow over that of the search; a label is flagged if it is at "
    "least the logarithm of one over `flagged at`.",
    "Flip rate left: of the edited victim, under the trigger that it was attacked with. A right label alone removes no "
    "backdoor. Scans: for a method that scans again after unlearning, how often; a dash: it scans once.",
)


def build(study: Study, inputs: Sequence[Path]) -> Listing:
    out = Path(study.settings["out"])
    scanned = {
        scenario: scan.verdict(study, scenario, read_json(path), out)
        for scenario, path in scenarios_shown("detection", inputs).items()
    }
    by_defense: dict[tuple[str, bool], list[scan.ScanVerdict]] = {}
    for scenario, verdict in scanned.items():
        predicts_label = study.head(scenario.dataset).predicts_label
        by_defense.setdefault((scenario.elimination, predicts_label), []).append(verdict)
    rates = [
        row
        for key, verdicts in by_defense.items()
        if any(verdict.right is not None for verdict in verdicts)
        for row in _rates(study, *key, verdicts)
    ]
    calibrations = list(dict.fromkeys(scan.calibrations(study)))
    parts = [ListingPart("rates", "False positives and false negatives", _RATES, tuple(rates))]
    if calibrations:
        rows = tuple(map(_calibration, calibrations))
        parts.append(ListingPart("calibrations", "Calibrations of the verdicts", _CALIBRATIONS, rows))
    verdicts = tuple(map(_verdict, scanned.values()))
    parts.append(ListingPart("verdicts", "Every victim", _VERDICTS, verdicts))
    return Listing(f"{study.experiment.title}: clean or backdoored", tuple(parts), _NOTES)


def _verdict(verdict: scan.ScanVerdict) -> Mapping[str, Value]:
    return {
        "victim": verdict.victim,
        "defense": verdict.defense,
        "truth": verdict.truth,
        "verdict": verdict.verdict,
        "right": None if verdict.right is None else "yes" if verdict.right else "no",
        "left": verdict.left,
        "scans": verdict.scans,
        "margin": verdict.margin,
        "loss": verdict.loss,
        "trigger": verdict.trigger,
    }


def _rates(
    study: Study, elimination: str, predicts_label: bool, verdicts: Sequence[scan.ScanVerdict]
) -> Iterator[Mapping[str, Value]]:
    printed = study.printed_values("detection")
    method = str(study.variant("eliminations", elimination)["method"])
    benign = [verdict for verdict in verdicts if verdict.truth == scan.CLEAN_VICTIM]
    poisoned = [verdict for verdict in verdicts if verdict.truth != scan.CLEAN_VICTIM]
    flagged = [verdict for verdict in poisoned if verdict.verdict != scan.CLEAN_VICTIM]
    counts = [
        ("False positive", sum(verdict.verdict != scan.CLEAN_VICTIM for verdict in benign), len(benign)),
        ("False negative", len(poisoned) - len(flagged), len(poisoned)),
    ]
    wrong_target = "Another label" if predicts_label else "Another word"
    counts.append((wrong_target, sum(not verdict.right for verdict in flagged), len(flagged)))
    defense = f"{labels.word(elimination)}{'' if predicts_label else ', search'}"
    for error, hits, n in counts:
        low, high = share_interval(hits, n)
        row: dict[str, Value] = {"defense": defense, "error": error, "hits": hits, "n": n}
        row |= {"value": hits / n if n else None, "low": low, "high": high}
        # a paper prints the rate of the method itself, on victims with labels
        if error == "False positive" and elimination == method and method in printed and predicts_label:
            row["paper"] = printed[method]
        yield row


def _calibration(calibration: scan.ScanCalibration) -> Mapping[str, Value]:
    return {
        "calibration": calibration.name,
        "shadows": calibration.shadows,
        "ratio": calibration.ratio,
        "tried": calibration.tested_ratio,
        "flagged": calibration.flagged,
        "highest": calibration.highest,
        "differs": ", ".join(calibration.differs) or "none",
    }
