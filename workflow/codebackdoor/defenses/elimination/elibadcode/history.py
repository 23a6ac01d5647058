"""The results of a scan, of classifiers and of retrieval victims: the trigger, and how the search for it went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from codebackdoor.defenses.elimination import Trigger
from codebackdoor.defenses.elimination.elibadcode.anchoring import Anchored
from codebackdoor.defenses.elimination.elibadcode.scan import Finding, Scan, losses_of
from codebackdoor.defenses.elimination.inversion.calibration.losses import budget
from codebackdoor.defenses.elimination.inversion.position import MASK_TOKEN, seeded
from codebackdoor.defenses.elimination.inversion.reuse import search_of
from codebackdoor.defenses.elimination.inversion.vocabulary import encode
from codebackdoor.victims.tokens import stand_in


def trigger_of(scan: Scan, worst: Finding, flagged: bool, anchored: Anchored, findings: Sequence[Finding]) -> Trigger:
    """The most suspicious finding as ``trigger.json`` holds it, with the losses of all others."""
    tokenizer, inverted = worst.vocabulary.tokenizer, worst.best
    return Trigger(
        text=anchored.text,
        token_ids=tuple(encode(tokenizer, [anchored.text], spaced=True)[0]),
        target_label=worst.label,
        flagged=flagged,
        position=seeded(worst.position, scan.seed),
        occurrences=scan.settings.occurrences,
        loss=anchored.loss,
        inverted_text=worst.vocabulary.text(inverted.trigger),
        inverted_ids=tuple(worst.vocabulary.ids(inverted.trigger, spaced=True)),
        inverted_loss=inverted.loss,
        margin=worst.margin,
        losses=losses_of(findings),
        target_word=anchored.words,
    )


def history(scan: Scan, anchored: Anchored, findings: Sequence[Finding]) -> dict[str, object]:
    """What ``elimination.json`` holds of phases (a) to (c)."""
    victim = scan.view.victim
    return {
        "task": scan.view.task,
        "budget": budget(scan.settings, victim.head),
        "search": search_of(scan.settings, scan.seed),
        "samples": {str(label): len(drawn.examples) for label, drawn in scan.samples.items()},
        "mask": stand_in(victim.tokenizer, MASK_TOKEN)[0],
        "searches": [{**_entry(finding), **scan.facts(finding)} for finding in findings],
        "anchoring": {"without": [list(pair) for pair in anchored.without], "whole": anchored.is_whole},
    }


def _entry(finding: Finding) -> dict[str, object]:
    """The searches of one finding in that history: the one that ended lowest, and all of them."""
    return {
        "place": finding.position,
        "label": finding.label,
        "vocabulary": len(finding.vocabulary),
        "first_pieces": len(finding.vocabulary.first),
        "trigger": finding.vocabulary.text(finding.best.trigger),
        "loss": list(finding.best.history),
        "margin": finding.margin,
        "scored": finding.best.scored,
        "dropped": finding.best.dropped,
        "walks": [asdict(trajectory) for trajectory in finding.trajectories],
    }
