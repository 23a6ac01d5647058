"""Accuracy on all clean rows and on those that contain a noise token (EliBadCode, Figure 10).

Reads ``predictions.clean.jsonl`` of the undefended and the defended victims, ``test.jsonl``, the victim's
``tokenizer.json``, and ``elimination.json`` and ``trigger.json`` of every elimination. A noise token is a token of an
inverted trigger whose removal changes the loss by no more than the largest beta among the variants.
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
from codebackdoor.report.figures import style
from codebackdoor.report.figures.data import tokens_of
from codebackdoor.report.figures.description import unlisted
from codebackdoor.report.study import Study, scenarios_shown
from codebackdoor.types import CLEAN

#: Numbers of correct predictions and of rows, for all rows and for those with a noise token.
Counts = tuple[tuple[int, int], tuple[int, int]]
#: Names of these two groups in the papers' statements.
_GROUPS = ("all", "with_noise_tokens")


@dataclass(frozen=True, slots=True)
class Noise:
    """One victim: its noise tokens (possibly none), and the counts by variant (``none``: undefended)."""

    tokens: tuple[str, ...]
    counts: Mapping[str, Counts]


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: the files listed in the module's docstring."""
    by_victim = noises(study, inputs)
    if not by_victim:
        raise UserError(f"experiments.{study.name}: the figure 'noise' needs a victim with labels")
    names = list(dict.fromkeys(name for noise in by_victim.values() for name in noise.counts))
    with style.drawing(4.6 * len(by_victim) + 0.4, 3.4 + 0.2 * len(names)) as figure:
        panels = figure.subplots(1, len(by_victim), squeeze=False, sharey=True)[0]
        for axes, (victim, noise) in zip(panels, by_victim.items(), strict=True):
            _panel(study, axes, victim, noise, names)
        panels[0].set_ylabel("Accuracy, clean rows, %")
        handles, legend = panels[0].get_legend_handles_labels()
        figure.legend(handles, legend, loc="outside lower center", ncols=1)
        style.save(figure, out, sizes.sentence(study))


def noises(study: Study, inputs: Sequence[Path]) -> dict[Scenario, Noise]:
    """By victim; victims without labels are left out."""
    out = Path(study.settings["out"])
    by_victim: dict[Scenario, dict[str, Scenario]] = {}
    for scenario in scenarios_shown("noise", inputs):
        by_victim.setdefault(scenario.undefended(), {})[scenario.elimination] = scenario
    measured = {victim: _noise(study, out, victim, variants) for victim, variants in by_victim.items()}
    return {victim: noise for victim, noise in measured.items() if noise is not None}


def _noise(study: Study, out: Path, victim: Scenario, variants: Mapping[str, Scenario]) -> Noise | None:
    rows = list(files.read_examples(out / "data" / victim.dataset / "test.jsonl"))
    if any(row.label is None for row in rows):
        return None
    noise_tokens = _noise_tokens(study, out, {name: scenario for name, scenario in variants.items() if name != NONE})
    texts = tokens_of(victim.victim(out) / "tokenizer.json", [row.code for row in rows])
    is_noisy = [not noise_tokens.isdisjoint(tokens) for tokens in texts]
    counts = {}
    for name, scenario in variants.items():
        path = scenario.results(out) / f"predictions.{CLEAN}.jsonl"
        predicted = {row["id"]: row["label"] for _, row in files.read_rows(path)}
        right = [predicted[row.id] == row.label for row in rows]
        right_noisy = [is_right for is_right, noisy in zip(right, is_noisy, strict=True) if noisy]
        counts[name] = ((sum(right), len(right)), (sum(right_noisy), len(right_noisy)))
    return Noise(tuple(sorted(noise_tokens)), counts)


def _noise_tokens(study: Study, out: Path, eliminated: Mapping[str, Scenario]) -> set[str]:
    """Tokens that anchoring with the largest beta of all variants would drop in any variant."""
    betas = [float(study.variant("eliminations", name).get("beta") or 0.0) for name in eliminated]
    dropped = set()
    for scenario in eliminated.values():
        folder = scenario.victim(out)
        trigger, history = (files.read_json(folder / name) for name in ("trigger.json", "elimination.json"))
        for token, loss in history.get("anchoring", {}).get("without", ()):
            if trigger is not None and abs(trigger["inverted_loss"] - loss) <= max(betas):
                # as ``tokens_of`` names them, without the space of a token that begins a word
                dropped.add(str(token).strip())
    return dropped


def _panel(study: Study, axes: Axes, victim: Scenario, noise: Noise, names: Sequence[str]) -> None:
    width = 0.8 / len(names)
    printed_values = study.printed_values("noise")
    for index, name in enumerate(names):
        color = style.GRAY if name == NONE else style.color(index - 1)
        label = labels.defense(replace(victim, elimination=name))
        printed = printed_values.get(papers.their_name(study.experiment, name), {})
        for group, (right, n) in enumerate(noise.counts.get(name, ())):
            if not n:
                continue
            low, high = binomtest(right, n).proportion_ci(method="wilson")
            share, x = right / n, group - 0.4 + (index + 0.5) * width
            interval = [[100 * (share - low)], [100 * (high - share)]]
            axes.bar(
                [x], [100 * share], 0.92 * width, color=color, yerr=interval, ecolor=style.INK, capsize=2,
                label=unlisted(label),
            )  # fmt: skip
            if _GROUPS[group] in printed:
                y = 100 * printed[_GROUPS[group]]
                axes.plot([x], [y], "D", color="white", markeredgecolor=style.INK, markersize=6, zorder=4)
        axes.bar([0], [0], color=color, label=label)
    n_all, n_noisy = (n for _, n in next(iter(noise.counts.values())))
    tokens = ", ".join(noise.tokens) or "no token of a trigger is noise"
    axes.set_xticks([0, 1], [f"all {n_all} rows", f"{n_noisy} with a noise token\n({tokens})"])
    if not n_noisy:
        axes.text(1, 50, "no such row", ha="center", color=style.GRAY)
    axes.set_xlim(-0.6, 1.6)
    axes.set_ylim(0, 100)
    axes.grid(visible=False, axis="x")
    axes.set_title(labels.victim(victim))
