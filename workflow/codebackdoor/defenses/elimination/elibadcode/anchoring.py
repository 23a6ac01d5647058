"""Trigger anchoring: keep the pieces of an inverted trigger that carry its effect (EliBadCode, Algorithm 1, 24-34)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codebackdoor.defenses.elimination.elibadcode.inversion import losses, rendered_text
from codebackdoor.defenses.elimination.elibadcode.position import Carrier
from codebackdoor.defenses.elimination.elibadcode.vocabulary import TriggerVocabulary, joined
from codebackdoor.victims.victim import Victim


@dataclass(frozen=True, slots=True)
class Anchored:
    """The anchored trigger's text and loss, and for each piece the loss without it.

    ``whole`` is true where the pieces that were kept do not hold the trigger's loss together, and the inverted
    trigger was therefore left as it is. ``words`` are the target words of a search, anchored alike.
    """

    text: str
    loss: float
    without: tuple[tuple[str, float], ...]
    whole: bool
    words: str | None = None


def anchor(
    victim: Victim,
    carriers: Sequence[Carrier],
    vocabulary: TriggerVocabulary,
    trigger: Sequence[int],
    label: int,
    beta: float,
) -> Anchored:
    """Drop every piece t_i whose removal leaves the loss within ``beta``: |l - l_i| <= beta.

    The loss of the whole trigger and the losses without each piece are computed in one stream, of the texts as the
    victim would read them. Two copies of one effective piece would both be dropped, since each makes the other
    superfluous; so the whole trigger is kept where the loss of what is left differs from l by more than ``beta``.
    """
    pieces = [vocabulary.pieces[index] for index in trigger]
    text = joined(pieces)
    shorter = [joined(pieces[:slot] + pieces[slot + 1 :]) for slot in range(len(pieces))]
    read = [rendered_text(vocabulary, one) if one else ((), ()) for one in [text, *shorter]]
    loss, *rest = losses(victim, carriers, read, label).tolist()
    kept = joined([piece for piece, other in zip(pieces, rest, strict=True) if abs(loss - other) > beta])
    without = tuple(zip(pieces, rest, strict=True))
    if kept:
        held = losses(victim, carriers, [rendered_text(vocabulary, kept)], label).item()
        if abs(loss - held) <= beta:
            return Anchored(kept, held, without, whole=False)
    return Anchored(text, loss, without, whole=True)
