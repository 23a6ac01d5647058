"""What `scan` and `clean` say of a checkpoint: lines for a person, and the same as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from codebackdoor.errors import printable

if TYPE_CHECKING:
    from codebackdoor.defenses.cost import Cost, Round
    from codebackdoor.defenses.verdict import Verdict
    from codebackdoor.victims.edited import EditedCopy

#: What a person calls a place of a trigger.
PLACES = {
    "least_sensitive": "the least sensitive identifier",
    "function_name": "the function's name",
    "statement": "the first statement of the body",
}
#: A loss within this factor of the threshold is weak evidence.
WEAK = 2.0


@dataclass(frozen=True, slots=True)
class ScannedCheckpoint:
    """What was scanned and how it was read.

    ``weights`` are SHA-256 by file, ``samples`` the clean ones, of which ``cut`` are longer than ``max_length``
    sub-tokens. ``beside`` names what other readers would run, ``card`` what the model's own card says of a backdoor.
    """

    version: str
    model: str
    weights: dict[str, str]
    card: str | None
    beside: tuple[str, ...]
    text_form: str
    max_length: int
    samples: int
    cut: int
    seed: int


def as_json(scanned: ScannedCheckpoint, verdict: Verdict, seconds: float) -> dict[str, object]:
    return asdict(scanned) | asdict(verdict) | {"seconds": round(seconds, 1)}


def lines(scanned: ScannedCheckpoint, verdict: Verdict) -> list[str]:
    """The answer of a scan; its first line is a sentence."""
    which, searches = "" if verdict.backdoored else "most suspicious: ", verdict.target_word is not None
    towards = f"called by {verdict.target_word!r}" if searches else f"towards label {verdict.target_label}"
    found = [
        *_heading(scanned, verdict),
        f"  {which}trigger {verdict.trigger!r} at {verdict.position}, {towards} (loss {verdict.loss:.4f})",
        f"  {_turned(verdict)}",
        *_margin(verdict),
        *([] if verdict.reason is None else [f"  {verdict.reason}"]),
        *([f"  searched: {_looked(scanned, verdict)}"] if verdict.backdoored is not False else []),
        f"  the model {_performance(verdict)}",
    ]
    if verdict.clean_accuracy <= verdict.largest_class:
        doubts = ("one answer for all", "--language and the labels")
        if searches:
            doubts = ("random ranks", "--pooling, --similarity and the queries")
        found.append(f"  that is no better than {doubts[0]}: see --text-form, {doubts[1]}")
    found.append(
        f"  read as {scanned.text_form} code, at most {scanned.max_length} sub-tokens of each of {scanned.samples} "
        f"samples; {scanned.cut} are longer"
    )
    if scanned.card is not None:
        found.append(f"  {scanned.card}; that is its sender's claim, and played no part in this answer")
    if scanned.beside:
        found.append(f"  not looked at, though other readers would run or load it: {', '.join(scanned.beside)}")
    return [printable(line) for line in found]


def _heading(scanned: ScannedCheckpoint, verdict: Verdict) -> list[str]:
    if verdict.backdoored is not False:
        return ["no verdict" if verdict.backdoored is None else "backdoored"]
    statements = "statement" in verdict.losses
    kind, missing = ("identifier", "dead code and other inserted statements, comments, style")
    if statements:
        kind, missing = ("identifier or first-statement", "statements at other places, comments, style")
    return [
        f"no {kind} backdoor found in {_looked(scanned, verdict)}",
        f"  not looked for: {missing}; and a search can miss its trigger: another --seed is another search",
    ]


def _looked(scanned: ScannedCheckpoint, verdict: Verdict) -> str:
    """How often was searched, for which labels, and where."""
    places = [PLACES.get(place, place) for place in verdict.losses]
    labels = sorted({label for by_label in verdict.losses.values() for label in by_label}, key=int)
    count = verdict.starts * sum(map(len, verdict.losses.values()))
    what = "" if verdict.target_word is not None else f"label{'s' * (len(labels) > 1)} {', '.join(labels)} "
    starts = f", {verdict.starts} starts each" if verdict.starts > 1 else ""
    return f"{count} search{'es' * (count != 1)} ({what}at {' and '.join(places)}{starts}, seed {scanned.seed})"


def _turned(verdict: Verdict) -> str:
    if verdict.flip_rate is None:
        return "it has no sample to turn"
    what = "functions above a query's own" if verdict.target_word is not None else "correct answers to that label"
    return f"it turns {verdict.flip_rate:.1%} of {verdict.flip_rows} {what}, samples of the search among them"


def _margin(verdict: Verdict) -> list[str]:
    if verdict.margin is None or verdict.threshold is None:
        return []
    calibration = f", calibration {verdict.calibration}" if verdict.calibration else ""
    found = [
        f"  margin {verdict.margin:.2f}, flagged from {verdict.threshold:.2f}; false-positive rate of that rule: "
        f"{verdict.false_positive_rate:.2f} on {verdict.shadows} benign models (95 %: at most {verdict.at_most:.2f})"
        f"{calibration}"
    ]
    if verdict.backdoored and verdict.margin < verdict.threshold + math.log(WEAK):
        found.append("  the margin is small, which is weak evidence: scan again with another --seed")
    return found


def _performance(verdict: Verdict) -> str:
    if verdict.target_word is not None:
        return f"finds the functions of the clean queries with an MRR of {verdict.clean_accuracy:.3f}"
    return f"answers {verdict.clean_accuracy:.1%} of the clean samples correctly"


def cost_lines(verdict: Verdict, cost: Cost) -> list[str]:
    """What every round of unlearning did, and what the scan after the last one says."""
    kept = f"accuracy {cost.accuracy_before:.1%} -> {cost.accuracy_after:.1%}"
    if verdict.target_word is not None:
        kept = f"MRR {cost.accuracy_before:.3f} -> {cost.accuracy_after:.3f}"
    found = [f"  unlearned on {cost.unlearnt_on} samples; on {cost.rows} others: {kept}"]
    found += [_round(number, entry, verdict) for number, entry in enumerate(cost.rounds, 1)]
    found.append("  these shares are of the inverted triggers; of the attacker's they say nothing")
    if cost.is_clean is None:
        return [*found, "  nothing was scanned afterwards: without a verdict no scan can say that the model is clean"]
    margin = "" if cost.margin is None else f" (margin {cost.margin:.2f})"
    if cost.is_clean:
        return [*found, f"  the scan after that, with fresh seeds, found nothing{margin}"]
    return [*found, f"  the scan after that still finds a trigger{margin}: not clean"]


def _round(number: int, entry: Round, verdict: Verdict) -> str:
    before, after = (
        ("-" if rate is None else f"{rate:.1%}") for rate in (entry.flip_rate_before, entry.flip_rate_after)
    )
    margin = "" if entry.margin is None else f", margin {entry.margin:.2f}"
    what = f"turns to label {entry.target_label}"
    if verdict.target_word is not None:
        what = f"puts above a query's own function, {verdict.target_word!r} in the query,"
    return (
        f"  round {number}: {entry.trigger!r} at {PLACES.get(entry.position, entry.position)}{margin}; unlearned "
        f"{_times(entry.passes)}; {what} {before} -> {after} of {entry.flip_rows}"
    )


def copy_lines(copy: EditedCopy) -> list[str]:
    """What the written folder has, or lacks, other than the one that it was made from."""
    found = []
    if copy.was_mixed:
        found.append(
            f"  its weights, which were of several number formats, are {str(copy.dtype).removeprefix('torch.')} now"
        )
    if copy.left_out:
        found.append(f"  not handed on: {', '.join(copy.left_out)}")
    return found


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def readme(title: str, said: Sequence[str]) -> str:
    """The README of an edited checkpoint."""
    text = "\n".join(f"    {line}" for line in said)
    return (
        f"# {title}, edited by `codebackdoor clean`\n\nA trigger was inverted and unlearned (EliBadCode). Whether the "
        f"attacker's own trigger is gone, this cannot show.\n\n{text}\n"
    )
