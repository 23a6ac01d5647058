"""Trigger anchoring: keep the pieces of an inverted trigger that carry its effect (EliBadCode, Algorithm 1, 24-34)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codebackdoor.defenses.elimination.inversion.carriers import Carrier
from codebackdoor.defenses.elimination.inversion.classifier import losses
from codebackdoor.defenses.elimination.inversion.loss import InversionLoss
from codebackdoor.defenses.elimination.inversion.vocabulary import TriggerVocabulary, joined, rendered_text
from codebackdoor.victims.victim import Victim


@dataclass(frozen=True, slots=True)
class Anchored:
    """The anchored trigger's text and loss, and for each piece the loss without it.

    ``is_whole``: the inverted trigger was left as it is, because the pieces to keep do not reach its loss together.
    ``words``, for code search, are the target words, anchored in the same way.
    """

    text: str
    loss: float
    without: tuple[tuple[str, float], ...]
    is_whole: bool
    words: str | None = None


@dataclass(frozen=True, slots=True)
class AnchoringRule:
    """Which parts of a trigger are anchored: those without which its ``loss`` changes by more than ``beta``."""

    loss: float
    beta: float

    def is_kept_by(self, loss: float) -> bool:
        """Whether a trigger with this loss has the same effect."""
        return abs(self.loss - loss) <= self.beta

    def anchored(self, without: Sequence[tuple[str, float]]) -> list[str]:
        """The anchored ones of the parts, each given with the loss without it."""
        return [part for part, loss in without if abs(self.loss - loss) > self.beta]


def anchor(
    victim: Victim,
    carriers: Sequence[Carrier],
    vocabulary: TriggerVocabulary,
    trigger: Sequence[int],
    loss_function: InversionLoss,
    beta: float,
) -> Anchored:
    """Drop every piece t_i whose removal leaves the loss within ``beta``: |l - l_i| <= beta.

    The loss of the whole trigger and the losses without each piece are computed in one stream, of the texts as the
    victim would read them. Two copies of one effective piece would both be dropped, since each makes the other
    superfluous; so the whole trigger is kept where the loss of the remaining pieces differs from l by more than
    ``beta``.
    """
    pieces = [vocabulary.pieces[index] for index in trigger]
    text = joined(pieces)
    shorter = [joined(pieces[:slot] + pieces[slot + 1 :]) for slot in range(len(pieces))]
    variants = [rendered_text(vocabulary, variant) if variant else ((), ()) for variant in [text, *shorter]]
    loss, *changed_losses = losses(victim, carriers, variants, loss_function).tolist()
    without = tuple(zip(pieces, changed_losses, strict=True))
    rule = AnchoringRule(loss, beta)
    anchored = joined(rule.anchored(without))
    if anchored:
        anchored_loss = losses(victim, carriers, [rendered_text(vocabulary, anchored)], loss_function).item()
        if rule.is_kept_by(anchored_loss):
            return Anchored(anchored, anchored_loss, without, is_whole=False)
    return Anchored(text, loss, without, is_whole=True)
