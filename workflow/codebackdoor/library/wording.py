"""The output of `scan` and `clean` about a checkpoint, as text and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from codebackdoor.errors import printable

if TYPE_CHECKING:
    from codebackdoor.library.cleaning_cost import Cost, Round
    from codebackdoor.library.verdict import Verdict
    from codebackdoor.victims.edited import EditedCopy

#: Descriptions of the trigger positions.
PLACES = {
    "least_sensitive": "the least sensitive identifier",
    "function_name": "the function's name",
    "statement": "the first statement of the body",
}
#: A loss within this factor of the threshold counts as weak evidence.
WEAK = 2.0


@dataclass(frozen=True, slots=True)
class ScannedCheckpoint:
    """The scanned checkpoint, and how it was read.

    ``weights``: SHA-256 by file. ``samples``: number of clean samples, ``cut`` of which are longer than ``max_length``
    sub-tokens. ``not_examined``: files and keys that other software would run. ``card``: the model card's own claim
    about a backdoor.
    """

    version: str
    model: str
    weights: dict[str, str]
    card: str | None
    not_examined: tuple[str, ...]
    text_form: str
    max_length: int
    samples: int
    cut: int
    seed: int


def as_json(scanned: ScannedCheckpoint, verdict: Verdict, seconds: float) -> dict[str, object]:
    return asdict(scanned) | asdict(verdict) | {"seconds": round(seconds, 3)}


def lines(scanned: ScannedCheckpoint, verdict: Verdict) -> list[str]:
    """The result of a scan; the first line is the verdict."""
    prefix, searches = "" if verdict.backdoored else "most suspicious: ", verdict.target_word is not None
    target = f"target word {verdict.target_word!r}" if searches else f"target label {verdict.target_label}"
    result = [
        *_heading(scanned, verdict),
        f"  {prefix}trigger {verdict.trigger!r} at {_place(verdict.position)}, {target} (loss {verdict.loss:.4f})",
        f"  {_effect(verdict)}",
        *_margin(verdict),
        *([] if verdict.reason is None else [f"  {verdict.reason}"]),
        *([f"  based on {_searches(scanned, verdict)}"] if verdict.backdoored is not False else []),
        f"  the model {_performance(verdict)}",
    ]
    if verdict.clean_accuracy <= verdict.largest_class:
        doubts = ("always predicting one label", "--language and the labels")
        if searches:
            doubts = ("random ranks", "--pooling, --similarity and the queries")
        result.append(f"  that is no better than {doubts[0]}: check --text-form, {doubts[1]}")
    result.append(
        f"  read as {scanned.text_form} code, up to {scanned.max_length} sub-tokens of each of {scanned.samples} "
        f"samples; {scanned.cut} are longer"
    )
    if scanned.card is not None:
        result.append(f"  {scanned.card}; this claim of its author was not used for the verdict")
    if scanned.not_examined:
        result.append(
            f"  not examined, although other software would run or load it: {', '.join(scanned.not_examined)}"
        )
    return [printable(line) for line in result]


def _heading(scanned: ScannedCheckpoint, verdict: Verdict) -> list[str]:
    if verdict.backdoored is not False:
        return ["no verdict" if verdict.backdoored is None else "backdoored"]
    statements = "statement" in verdict.losses
    kind, missing = ("identifier", "dead code and other inserted statements, comments, code style")
    if statements:
        kind, missing = ("identifier or first-statement", "statements elsewhere, comments, code style")
    return [
        f"no {kind} backdoor found in {_searches(scanned, verdict)}",
        f"  not covered: {missing}; a search can also miss a trigger, so try another --seed",
    ]


def _searches(scanned: ScannedCheckpoint, verdict: Verdict) -> str:
    """The number of searches, their labels and positions."""
    places = _enumerated([_place(position) for position in verdict.losses])
    labels = sorted({label for by_label in verdict.losses.values() for label in by_label}, key=int)
    count = verdict.starts * sum(map(len, verdict.losses.values()))
    targets = "" if verdict.target_word is not None else f"label{'s' * (len(labels) > 1)} {', '.join(labels)} "
    starts = f", {verdict.starts} starts each" if verdict.starts > 1 else ""
    return f"{count} search{'es' * (count != 1)} ({targets}at {places}{starts}, seed {scanned.seed})"


def _effect(verdict: Verdict) -> str:
    if verdict.flip_rate is None:
        return "there are no correct predictions that it could flip"
    share = f"{verdict.flip_rate:.1%} of {verdict.flip_rows}"
    effect = f"flips {share} correct predictions to that label"
    if verdict.target_word is not None:
        effect = f"moves {share} functions above the query's own"
    return f"it {effect} (including samples of the search)"


def _margin(verdict: Verdict) -> list[str]:
    if verdict.margin is None or verdict.threshold is None:
        return []
    calibration = f", calibration {verdict.calibration}" if verdict.calibration else ""
    result = [
        f"  margin {verdict.margin:.2f}, flagged from {verdict.threshold:.2f} on; false-positive rate of this rule: "
        f"{verdict.false_positive_rate:.2f} on {verdict.shadows} benign models (95% upper bound {verdict.at_most:.2f})"
        f"{calibration}"
    ]
    if verdict.backdoored and verdict.margin < verdict.threshold + math.log(WEAK):
        result.append("  the margin is small, which is weak evidence: scan again with another --seed")
    return result


def _performance(verdict: Verdict) -> str:
    if verdict.target_word is not None:
        return f"reaches an MRR of {verdict.clean_accuracy:.3f} on the clean queries"
    return f"predicts {verdict.clean_accuracy:.1%} of the clean samples correctly"


def cost_lines(verdict: Verdict, cost: Cost) -> list[str]:
    """The effect of each round of unlearning, and the result of the final scan."""
    change = f"accuracy {cost.accuracy_before:.1%} -> {cost.accuracy_after:.1%}"
    if verdict.target_word is not None:
        change = f"MRR {cost.accuracy_before:.3f} -> {cost.accuracy_after:.3f}"
    result = [f"  unlearned on {cost.unlearned_on} samples; on {cost.rows} held-out samples: {change}"]
    result += [_round(number, entry, verdict) for number, entry in enumerate(cost.rounds, 1)]
    result.append("  these rates are for the inverted triggers and say nothing about the attacker's own trigger")
    if cost.is_clean is None:
        return [*result, "  not scanned again: without a verdict, no scan can call the model clean"]
    margin = "" if cost.margin is None else f" (margin {cost.margin:.2f})"
    if cost.is_clean:
        return [*result, f"  a final scan with fresh seeds found nothing{margin}"]
    return [*result, f"  a final scan with fresh seeds still finds a trigger{margin}: not clean"]


def _round(number: int, entry: Round, verdict: Verdict) -> str:
    before, after = (
        ("-" if rate is None else f"{rate:.1%}") for rate in (entry.flip_rate_before, entry.flip_rate_after)
    )
    margin = "" if entry.margin is None else f", margin {entry.margin:.2f}"
    effect = f"flips to label {entry.target_label}"
    if verdict.target_word is not None:
        effect = f"functions moved above the query's own (with {verdict.target_word!r} in the query)"
    return (
        f"  round {number}: {entry.trigger!r} at {_place(entry.position)}{margin}; unlearned {_times(entry.passes)}; "
        f"{effect}: {before} -> {after} of {entry.flip_rows}"
    )


def copy_lines(copy: EditedCopy) -> list[str]:
    """The differences between the written folder and the original one."""
    result = []
    if copy.was_mixed:
        result.append(f"  its weights had several number formats and are now {str(copy.dtype).removeprefix('torch.')}")
    if copy.left_out:
        result.append(f"  not copied: {', '.join(copy.left_out)}")
    return result


def _place(position: str) -> str:
    return PLACES.get(position, position)


def _enumerated(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def readme(title: str, answer: Sequence[str]) -> str:
    """The README of an edited checkpoint."""
    text = "\n".join(f"    {line}" for line in answer)
    return (
        f"# {title}, edited by `codebackdoor clean`\n\nA trigger was inverted and unlearned (EliBadCode). This "
        f"does not show whether the attacker's own trigger is gone.\n\n{text}\n"
    )
