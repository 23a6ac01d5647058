"""Change of the loss when one token of an inverted trigger is left out (EliBadCode, Figure 6).

Reads ``elimination.json`` (``anchoring.without``) and ``trigger.json`` of every flagged victim whose attack inserts a
fixed text into names, and the victim's ``tokenizer.json``. Tokens of this text are factual, all others are noise.
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
from codebackdoor.report.figures import style
from codebackdoor.report.figures.data import tokens_of
from codebackdoor.report.study import Study, scenario_of, scenarios_shown
from codebackdoor.report.tables.inverted_triggers import factual

#: Smaller changes are drawn at this value, because a logarithmic axis has no zero.
_SMALLEST = 1e-4
#: By data set and model, the changes of factual tokens and of noise.
Changes = Mapping[str, Mapping[str, Sequence[float]]]


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: the files listed in the module's docstring."""
    by_victim = changes(study, inputs)
    if not by_victim:
        raise UserError(f"experiments.{study.name}: the figure 'tokens' needs flagged victims of an attack with a name")
    variants = study.settings["eliminations"].values()
    betas = sorted({float(variant["beta"]) for variant in variants if variant.get("beta")})
    with style.drawing(6.4, 1.15 * len(by_victim) + 1.2) as figure:
        rows = figure.subplots(len(by_victim), 1, squeeze=False, sharex=True)[:, 0]
        for axes, (title, by_kind) in zip(rows, by_victim.items(), strict=True):
            for level, (kind, color) in enumerate((("noise", style.GRAY), ("factual", style.VERMILLION))):
                values = np.maximum(np.sort(by_kind[kind]), _SMALLEST)
                # spread equal values, reproducibly
                jitter = 0.26 * np.sin(2.4 * np.arange(len(values)))
                axes.plot(
                    values, level + jitter, "o", label=kind, color=color, markersize=5, alpha=0.75, markeredgewidth=0,
                )  # fmt: skip
            axes.set_yticks([0, 1], ["noise", "in the trigger"])
            axes.set_ylim(-0.6, 1.6)
            axes.grid(visible=False, axis="y")
            axes.set_title(title)
            for beta in betas:
                axes.axvline(beta, color=style.INK, linestyle="--", linewidth=1.2)
        rows[0].set_xscale("log")
        for beta in betas:
            rows[0].annotate(
                f"β {beta:g}", (beta, 1), xycoords=("data", "axes fraction"), xytext=(3, -3), va="top",
                textcoords="offset points",
            )  # fmt: skip
        rows[-1].set_xlabel("Change of the loss without the token, nats")
        style.save(figure, out, sizes.sentence(study))


def changes(study: Study, inputs: Sequence[Path]) -> Changes:
    """|l - l_i| of every token by data set and model; l is the loss of the whole inverted trigger."""
    by_victim: dict[str, dict[str, list[float]]] = {}
    folders = {scenario_of(path): path.parent for path in inputs}
    for scenario in scenarios_shown("tokens", inputs):
        trigger, history = (read_json(folders[scenario] / name) for name in ("trigger.json", "elimination.json"))
        text = None if scenario.attack == NONE else inserted(study.variant("attacks", scenario.attack))
        if text is None or not trigger["flagged"] or "anchoring" not in history:
            continue
        tokenizer = folders[replace(scenario, elimination=NONE)] / "tokenizer.json"
        tokens_of_text = {token for tokens in tokens_of(tokenizer, [text, f" {text}"]) for token in tokens}
        by_kind = by_victim.setdefault(labels.trained(scenario), {"factual": [], "noise": []})
        # for a retrieval model, the tokens of the target word follow those of the trigger
        for token, loss in history["anchoring"]["without"][: len(trigger["inverted_ids"])]:
            kind = "factual" if is_factual(token, text, tokens_of_text) else "noise"
            by_kind[kind].append(abs(trigger["inverted_loss"] - loss))
    return by_victim


def inserted(attack: Mapping[str, Any]) -> str | None:
    """The text that an attack inserts into names, including underscores that join it to them; None if it varies."""
    word = factual(attack)
    if word is not None and "trigger" in attack:
        return f"_{word}_" if attack["place"] == "any" else f"_{word}"
    return word


def is_factual(token: str, text: str, tokens_of_text: Collection[str]) -> bool:
    """Whether a token is part of the inserted text: one of the tokens in it, or two or more of its characters.

    A single letter occurs in many texts, so it is factual only if it is a token of this text.
    """
    return token in tokens_of_text or (len(token) > 1 and token in text)
