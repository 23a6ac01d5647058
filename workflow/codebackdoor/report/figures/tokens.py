"""Change of the loss when one piece of an inverted trigger is left out (EliBadCode, Figure 6).

Reads ``elimination.json`` (``anchoring.without``) and ``trigger.json`` of every flagged victim whose attack writes a
text of its own into names, and the victim's ``tokenizer.json``. A piece of this text is factual, every other one is
noise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from codebackdoor.config.scenario import NONE
from codebackdoor.errors import UserError
from codebackdoor.files import read_json
from codebackdoor.report import labels, sizes
from codebackdoor.report.collect import Study, scenario_of
from codebackdoor.report.figures import style
from codebackdoor.report.listings.inverted_triggers import factual
from codebackdoor.report.measured import pieces
from codebackdoor.report.shown import shown

#: Smaller changes are drawn here: a logarithm has no zero.
_LEAST = 1e-4
#: By model, the changes of factual pieces and of noise.
Changes = Mapping[str, Mapping[str, Sequence[float]]]


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: see above."""
    found = changes(study, inputs)
    if not found:
        raise UserError(f"experiments.{study.name}: the figure 'tokens' needs flagged victims of an attack with a name")
    betas = sorted({float(one["beta"]) for one in study.settings["eliminations"].values() if one.get("beta")})
    with style.drawing(6.4, 1.15 * len(found) + 1.2) as figure:
        rows = figure.subplots(len(found), 1, squeeze=False, sharex=True)[:, 0]
        for axes, (model, own) in zip(rows, found.items(), strict=True):
            for level, (kind, colour) in enumerate((("noise", style.GREY), ("factual", style.VERMILLION))):
                values = np.maximum(np.sort(own[kind]), _LEAST)
                # equal values beside each other, the same every time
                shift = 0.26 * np.sin(2.4 * np.arange(len(values)))
                axes.plot(values, level + shift, "o", color=colour, markersize=5, alpha=0.75, markeredgewidth=0)
            axes.set_yticks([0, 1], ["noise", "in the trigger"])
            axes.set_ylim(-0.6, 1.6)
            axes.grid(visible=False, axis="y")
            axes.set_title(labels.word(model))
            for beta in betas:
                axes.axvline(beta, color=style.INK, linestyle="--", linewidth=1.2)
        rows[0].set_xscale("log")
        for beta in betas:
            rows[0].annotate(
                f"β {beta:g}", (beta, 1), xycoords=("data", "axes fraction"), xytext=(3, -3), va="top",
                textcoords="offset points", fontsize=8,
            )  # fmt: skip
        rows[-1].set_xlabel("Change of the loss without the piece, nats")
        style.save(figure, out, sizes.sentence(study))


def changes(study: Study, inputs: Sequence[Path]) -> Changes:
    """|l - l_i| of every piece by model; l is the loss of the whole inverted trigger."""
    found: dict[str, dict[str, list[float]]] = {}
    folders = {scenario_of(path): path.parent for path in inputs}
    for one in shown("tokens", inputs):
        trigger, history = (read_json(folders[one] / name) for name in ("trigger.json", "elimination.json"))
        text = None if one.attack == NONE else injected(study.variant("attacks", one.attack))
        if text is None or not trigger["flagged"] or "anchoring" not in history:
            continue
        tokenizer = folders[replace(one, elimination=NONE)] / "tokenizer.json"
        read = {piece for row in pieces(tokenizer, [text, f" {text}"]) for piece in row}
        own = found.setdefault(one.model, {"factual": [], "noise": []})
        # in search those of the target word stand behind those of the trigger
        for piece, loss in history["anchoring"]["without"][: len(trigger["inverted_ids"])]:
            own["factual" if factual_piece(piece, text, read) else "noise"].append(abs(trigger["inverted_loss"] - loss))
    return found


def injected(attack: Mapping[str, Any]) -> str | None:
    """The text that an attack writes into names: BadCode's word with what joins it; None where it has none."""
    word = factual(attack)
    if attack["method"] == "badcode":
        return f"_{word}_" if attack["place"] == "any" else f"_{word}"
    return word


def factual_piece(piece: str, text: str, read: Collection[str]) -> bool:
    """Whether a piece is of the injected text: one of those ``read`` in it by the victim, or two and more characters.

    A single letter is in many texts; it is factual only where the victim reads it there.
    """
    return piece in read or (len(piece) > 1 and piece in text)
