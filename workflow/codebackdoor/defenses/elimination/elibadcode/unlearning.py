"""Phase (d): the clean samples, some of them with the trigger, on which the victim unlearns (EliBadCode, 4.5)."""

from __future__ import annotations

import numpy as np

from codebackdoor.config.eliminations import Unlearning
from codebackdoor.defenses.elimination.elibadcode.position import places
from codebackdoor.defenses.elimination.last_layer import Row, label_of
from codebackdoor.types import DefenderView

#: Clean samples whose places are looked for at a time.
CHUNK = 64


def stamp(
    view: DefenderView,
    text: str,
    target: int,
    position: str,
    occurrences: str,
    settings: Unlearning,
    generator: np.random.Generator,
) -> list[Row]:
    """Return the clean samples in their order, a share of them with the trigger's text at the defender's place.

    The share is of the samples of the chosen classes. A sample without such a place keeps its code and another is
    drawn for it; where too few have one, fewer are stamped. The label is the sample's own; under ``ascent`` it is
    the target's, which is unlearnt.
    """
    eligible = [
        index for index, example in enumerate(view.clean) if settings.classes == "all" or example.label != target
    ]
    wanted = round(settings.rate * len(eligible))
    order = [eligible[drawn] for drawn in generator.permutation(len(eligible))]
    stamped: dict[int, str] = {}
    for start in range(0, len(order), CHUNK):
        if len(stamped) == wanted:
            break
        chunk = order[start : start + CHUNK]
        found = places(view, [view.clean[index] for index in chunk], position, occurrences)
        for index, place in zip(chunk, found, strict=True):
            if place is not None and len(stamped) < wanted:
                stamped[index] = place.replace(view.clean[index].code, text)
    return [
        Row(
            text=stamped.get(index, example.code),
            label=target if index in stamped and settings.labels == "ascent" else label_of(example),
            stamped=index in stamped,
        )
        for index, example in enumerate(view.clean)
    ]
