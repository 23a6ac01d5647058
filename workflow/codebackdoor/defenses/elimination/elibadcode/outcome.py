"""What a scan comes to, of classifiers and of searching victims alike: the trigger, and how the search for it went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from codebackdoor.config.eliminations import EliBadCode
from codebackdoor.defenses.elimination import Trigger
from codebackdoor.defenses.elimination.elibadcode.anchoring import Anchored
from codebackdoor.defenses.elimination.elibadcode.position import MASK, seeded
from codebackdoor.defenses.elimination.elibadcode.scan import Finding
from codebackdoor.defenses.elimination.elibadcode.shadows import budget
from codebackdoor.defenses.elimination.elibadcode.vocabulary import encode
from codebackdoor.defenses.elimination.elibadcode.walks import search_of
from codebackdoor.defenses.views import DefenderView
from codebackdoor.victims.tokens import stand_in


def trigger_of(
    worst: Finding, flagged: bool, anchored: Anchored, findings: Sequence[Finding], settings: EliBadCode, seed: int
) -> Trigger:
    """The most suspicious finding as ``trigger.json`` holds it, with the losses of all others."""
    tokenizer, inverted = worst.vocabulary.tokenizer, worst.inversion
    losses: dict[str, dict[str, float]] = {}
    for found in findings:
        losses.setdefault(found.place, {})[str(found.label)] = found.inversion.loss
    return Trigger(
        text=anchored.text,
        token_ids=tuple(encode(tokenizer, [anchored.text], spaced=True)[0]),
        target_label=worst.label,
        flagged=flagged,
        position=seeded(worst.place, seed),
        occurrences=settings.occurrences,
        loss=anchored.loss,
        inverted_text=worst.vocabulary.text(inverted.trigger),
        inverted_ids=tuple(worst.vocabulary.ids(inverted.trigger, spaced=True)),
        inverted_loss=inverted.loss,
        margin=worst.margin,
        losses=losses,
        target_word=anchored.words,
    )


def history(
    view: DefenderView,
    settings: EliBadCode,
    seed: int,
    samples: Mapping[int, int],
    searches: Sequence[Mapping[str, object]],
    anchored: Anchored,
) -> dict[str, object]:
    """What ``elimination.json`` holds of phases (a) to (c); ``samples`` are counted by label."""
    return {
        "task": view.task,
        "budget": budget(settings, view.victim.head),
        "search": search_of(settings, seed),
        "samples": {str(label): count for label, count in samples.items()},
        "mask": stand_in(view.victim.tokenizer, MASK)[0],
        "searches": list(searches),
        "anchoring": {"without": [list(pair) for pair in anchored.without], "whole": anchored.whole},
    }


def searched(found: Finding) -> dict[str, object]:
    """One search in that history: the walk that ended lowest, and all of them."""
    return {
        "place": found.place,
        "label": found.label,
        "vocabulary": len(found.vocabulary),
        "first_pieces": len(found.vocabulary.first),
        "trigger": found.vocabulary.text(found.inversion.trigger),
        "loss": list(found.inversion.history),
        "margin": found.margin,
        "scored": found.inversion.scored,
        "dropped": found.inversion.dropped,
        "walks": [asdict(walk) for walk in found.walks],
    }
