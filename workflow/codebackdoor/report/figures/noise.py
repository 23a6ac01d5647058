"""Accuracy on all clean rows and on those that hold a noise token (EliBadCode, Figure 10).

Reads ``predictions.clean.jsonl`` of the undefended and the defended victims, ``test.jsonl``, the victim's
``tokenizer.json``, and of every elimination ``elimination.json`` and ``trigger.json``: a noise token is a piece of an
inverted trigger whose absence changes the loss by no more than the largest beta among the variants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.axes import Axes
from scipy.stats import binomtest

from codebackdoor import files
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.errors import UserError
from codebackdoor.report import labels, papers, sizes
from codebackdoor.report.collect import Study
from codebackdoor.report.figures import style
from codebackdoor.report.measured import pieces
from codebackdoor.report.shown import shown
from codebackdoor.types import CLEAN

#: Right predictions and rows, of all rows and of those with a noise token.
Counts = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Noise:
    """One victim: its noise tokens (there may be none), and by variant (none: undefended) what is predicted right."""

    pieces: tuple[str, ...]
    counts: Mapping[str, Counts]


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: see above."""
    found = noises(study, inputs)
    if not found:
        raise UserError(f"experiments.{study.name}: the figure 'noise' needs a victim with labels")
    names = list(dict.fromkeys(name for own in found.values() for name in own.counts))
    with style.drawing(4.6 * len(found) + 0.4, 3.4 + 0.2 * len(names)) as figure:
        panels = figure.subplots(1, len(found), squeeze=False, sharey=True)[0]
        for axes, (victim, own) in zip(panels, found.items(), strict=True):
            _panel(study, axes, victim, own, names)
        panels[0].set_ylabel("Accuracy, clean rows, %")
        handles, heads = panels[0].get_legend_handles_labels()
        figure.legend(handles, heads, loc="outside lower center", ncols=1)
        style.save(figure, out, sizes.sentence(study))


def noises(study: Study, inputs: Sequence[Path]) -> dict[Scenario, Noise]:
    """By victim; those without labels are left out."""
    out = Path(study.settings["out"])
    found: dict[Scenario, dict[str, Scenario]] = {}
    for one in shown("noise", inputs):
        found.setdefault(one.undefended(), {})[one.elimination] = one
    return {
        victim: own for victim, members in found.items() if (own := _noise(study, out, victim, members)) is not None
    }


def _noise(study: Study, out: Path, victim: Scenario, members: Mapping[str, Scenario]) -> Noise | None:
    rows = list(files.read_examples(out / "data" / victim.dataset / "test.jsonl"))
    if any(row.label is None for row in rows):
        return None
    eliminated = {name: one for name, one in members.items() if name != NONE}
    noisy = _noisy(study, out, eliminated)
    read = pieces(victim.victim(out) / "tokenizer.json", [row.code for row in rows])
    holding = [not noisy.isdisjoint(own) for own in read]
    counts = {}
    for name, one in members.items():
        said = {row["id"]: row["label"] for _, row in files.read_rows(one.results(out) / f"predictions.{CLEAN}.jsonl")}
        right = [said[row.id] == row.label for row in rows]
        with_noise = [hit for hit, holds in zip(right, holding, strict=True) if holds]
        counts[name] = ((sum(right), len(right)), (sum(with_noise), len(with_noise)))
    return Noise(tuple(sorted(noisy)), counts)


def _noisy(study: Study, out: Path, eliminated: Mapping[str, Scenario]) -> set[str]:
    """Pieces that anchoring drops in any variant, by the largest beta: that of the variant that anchors most."""
    betas = [float(study.variant("eliminations", name).get("beta") or 0.0) for name in eliminated]
    found = set()
    for one in eliminated.values():
        folder = one.victim(out)
        trigger, history = (files.read_json(folder / name) for name in ("trigger.json", "elimination.json"))
        for piece, loss in history.get("anchoring", {}).get("without", ()):
            if trigger is not None and abs(trigger["inverted_loss"] - loss) <= max(betas):
                found.add(str(piece))
    return found


def _panel(study: Study, axes: Axes, victim: Scenario, own: Noise, names: Sequence[str]) -> None:
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        colour = style.GREY if name == NONE else style.CYCLE[(index - 1) % len(style.CYCLE)]
        for place, (right, n) in enumerate(own.counts.get(name, ())):
            if not n:
                continue
            low, high = binomtest(right, n).proportion_ci(method="wilson")
            value, where = right / n, place - 0.4 + (index + 0.5) * width
            spread = [[100 * (value - low)], [100 * (high - value)]]
            axes.bar([where], [100 * value], 0.92 * width, color=colour, yerr=spread, ecolor=style.INK, capsize=2)
            printed = _printed(study, name, ("all", "with_noise_tokens")[place])
            if printed is not None:
                axes.plot(
                    [where], [100 * printed], "D", color="white", markeredgecolor=style.INK, markersize=6, zorder=4
                )
        axes.bar([0], [0], color=colour, label=labels.defense(replace(victim, elimination=name)))
    rows, noisy = (next(iter(own.counts.values()))[place][1] for place in (0, 1))
    which = ", ".join(own.pieces) or "no piece of a trigger is one"
    axes.set_xticks([0, 1], [f"all {rows} rows", f"{noisy} with a noise token\n({which})"], fontsize=8)
    if not noisy:
        axes.text(1, 50, "no such row", ha="center", color=style.GREY)
    axes.set_xlim(-0.6, 1.6)
    axes.set_ylim(0, 100)
    axes.grid(visible=False, axis="x")
    axes.set_title(labels.victim(victim))


def _printed(study: Study, name: str, which: str) -> float | None:
    printed = papers.quoted("elibadcode")["noise_tokens"]["accuracy"]
    value: float | None = printed.get(papers.their_name(study.experiment, name), {}).get(which)
    return value
