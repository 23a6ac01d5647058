"""Every defense against every attack at a glance: the remaining backdoor, and the cost of each defense.

Left, a row for each defense and a column for each attacked victim: the flip rate (retrieval: the drop of the ANR that
the trigger still causes). Right, a column for each data set and model: the loss on clean rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.patches import Rectangle

from codebackdoor.config.scenario import Scenario
from codebackdoor.errors import UserError
from codebackdoor.report import labels, sizes
from codebackdoor.report.collect import Results, clean_cost, collect
from codebackdoor.report.figures import style
from codebackdoor.report.study import Study
from codebackdoor.report.tables.cross import is_weak
from codebackdoor.report.tables.results import VictimGroup, build

#: Loss on clean rows that gets the darkest color, as a share.
_LARGEST_COST = 0.1
_LEFT = LinearSegmentedColormap.from_list("left", ["#FFFFFF", "#F6C9A8", style.VERMILLION])
_COST = LinearSegmentedColormap.from_list("cost", ["#FFFFFF", "#B9D7EC", style.BLUE])
#: Share of a color scale above which the text is white.
_DARK = 0.75
#: The names of a column: data set, model, and for a victim its attack.
_Column = tuple[str, ...]
#: By defense and column, for what is measured; None if the value is undefined, such as the flip rate of a victim that
#: predicts no row correctly without the trigger.
_Values = Mapping[tuple[str, _Column], float | None]
_UNDEFINED = "×"


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: the experiment's ``metrics.json`` and ``baseline.json`` files."""
    results = collect(study, inputs)
    groups = build(study, results).attacked
    if not groups:
        raise UserError(f"experiments.{study.name}: the figure 'matrix' needs an attack in the grid")
    remaining, cost = _effects(study, results, groups), _costs(study, results, groups)
    defenses = _ranked(remaining)
    victims = [_victim(group.scenario) for group in groups]
    trained = list(dict.fromkeys(column for _, column in cost))
    weak = [number for number, group in enumerate(groups) if is_weak(study, results, group.scenario)]
    width = 2.4 + 0.5 * (len(victims) + 1.3 * len(trained))
    with style.drawing(max(width, 6.5), 2.1 + 0.27 * len(defenses)) as figure:
        panels = figure.subplots(
            1, 2, gridspec_kw={"width_ratios": [len(victims), 1.3 * max(len(trained), 1)], "wspace": 0.02}
        )
        _cells(panels[0], remaining, defenses, victims, (_LEFT, Normalize(0, 1)))
        _cells(panels[1], cost, defenses, trained, (_COST, Normalize(0, _LARGEST_COST)))
        _name_columns(panels[0], [labels.attack(group.scenario) for group in groups])
        _name_columns(panels[1], [", ".join(column) for column in trained])
        _name_blocks(panels[0], [victim[:2] for victim in victims])
        effects = {labels.METRICS[study.head(group.scenario.dataset).triggered.effect] for group in groups}
        panels[0].set_title(f"What is left: {' or '.join(sorted(effects, reverse=True))}, %", pad=30)
        panels[1].set_title("Loss on clean rows, points", pad=30)
        panels[1].tick_params(axis="y", labelleft=False)
        for column in weak:
            panels[0].add_patch(
                Rectangle((column - 0.5, -0.5), 1, len(defenses), fill=False, edgecolor=style.GRAY, hatch="////", lw=0)
            )
        notes = [sizes.sentence(study)]
        if weak:
            notes.append("Hatched: the attack hardly works without a defense.")
        if None in remaining.values():
            notes.append(f"{_UNDEFINED}: no value; {labels.NO_FLIP_RATE}.")
        style.save(figure, out, " ".join(notes))


def _victim(scenario: Scenario) -> _Column:
    """The names of a column: data set, model and attack."""
    return labels.word(scenario.dataset), labels.word(scenario.model), labels.attack(scenario)


def _effects(study: Study, results: Results, groups: Sequence[VictimGroup]) -> dict[tuple[str, _Column], float | None]:
    """The trigger's remaining effect under each defense."""
    effects: dict[tuple[str, _Column], float | None] = {}
    for group in groups:
        effect = study.head(group.scenario.dataset).triggered.effect
        for name, scenario in group.scenarios.items():
            cell = results.get(scenario, group.scenario.attack, effect)
            if name != labels.BENIGN and cell is not None:
                effects[name, _victim(group.scenario)] = cell.value
    return effects


def _costs(study: Study, results: Results, groups: Sequence[VictimGroup]) -> dict[tuple[str, _Column], float | None]:
    """Means over the attacked victims of a data set and model."""
    costs: dict[tuple[str, _Column], list[float]] = {}
    for group in groups:
        for name, scenario in group.scenarios.items():
            if name != labels.BENIGN and (cost := clean_cost(study, results, scenario)) is not None:
                costs.setdefault((name, _victim(group.scenario)[:2]), []).append(cost.value)
    return {key: mean(values) for key, values in costs.items()}


def _ranked(effects: _Values) -> list[str]:
    """The undefended victim, then the defenses by the mean share of the backdoors that they leave, lowest first.

    Shares are relative to the undefended victim, so that attacks of different strength, and different metrics, count
    equally.
    """
    shares: dict[str, list[float]] = {}
    for (name, victim), value in effects.items():
        undefended = effects.get((labels.UNDEFENDED, victim))
        if value is not None and undefended is not None and undefended > 0:
            shares.setdefault(name, []).append(max(value, 0.0) / undefended)
    first = [labels.UNDEFENDED] if labels.UNDEFENDED in shares else []
    return [*first, *sorted((name for name in shares if name not in first), key=lambda name: mean(shares[name]))]


def _cells(
    axes: Axes, values: _Values, rows: Sequence[str], columns: Sequence[_Column], colors: tuple[Colormap, Normalize]
) -> None:
    """Draw colored cells with their values; a dash where nothing is measured."""
    palette, scale = colors
    table = np.array([[values.get((row, column)) for column in columns] for row in rows], dtype=float)
    axes.imshow(np.nan_to_num(table), cmap=palette, norm=scale, aspect="auto")
    for (y, x), value in np.ndenumerate(table):
        is_missing = bool(np.isnan(value))
        ink = "white" if not is_missing and scale(value) > _DARK else style.INK
        absent = _UNDEFINED if (rows[y], columns[x]) in values else labels.DASH
        text = absent if is_missing else labels.percent(value)
        axes.text(x, y, text, ha="center", va="center", color=ink, fontsize=8)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _name_columns(axes: Axes, names: Sequence[str]) -> None:
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor", fontsize=8)


def _name_blocks(axes: Axes, names: Sequence[_Column]) -> None:
    """Write data set and model once above the columns of their attacks, with a gap between the blocks."""
    starts = [number for number, name in enumerate(names) if number == 0 or name != names[number - 1]]
    for start, end in zip(starts, (*starts[1:], len(names)), strict=True):
        text = "\n".join(names[start])
        axes.text((start + end - 1) / 2, -0.6, text, ha="center", va="bottom", fontsize=8, color=style.SOFT)
        if start:
            axes.axvline(start - 0.5, color="white", linewidth=5)
