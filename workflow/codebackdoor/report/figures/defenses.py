"""What each defense achieves: flip rate, ASR against its floor, and the clean metric that it costs.

A good defense has a flip rate near zero *and* an ASR near its floor; an ASR far below the floor means that the defense
taught the opposite backdoor.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from codebackdoor.config.scenario import NONE
from codebackdoor.errors import UserError
from codebackdoor.report import labels, sizes
from codebackdoor.report.collect import Cell, Study, collect
from codebackdoor.report.figures import style
from codebackdoor.report.tables import Group, build
from codebackdoor.types import CLEAN

#: What a trigger changes, and the two values between which it does: of labels, and of the ranks of a search.
_LABELS, _RANKS = ("flip_rate", "asr", "floor"), ("anr_drop", "anr", "anr_without")


#: Of more than so many attacked victims, those of one data set and model share their panels.
_ALONE = 6

#: The attacks that share a row of panels, each with its place within a defense's row and its colour (None: its own).
_Stack = Sequence[tuple[Group, float, str | None]]


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: the experiment's ``metrics.json`` and ``baseline.json`` files."""
    table = build(study, collect(study, inputs))
    groups = [group for group in table.groups if group.scenario.attack != NONE]
    if not groups:
        raise UserError(f"experiments.{study.name}: the figure 'defenses' needs an attack in the grid")
    stacks = _stacks(groups)
    names = [[name for name in table.columns if any(name in one.scenarios for one, *_ in own)] for own in stacks]
    heights = [0.9 + 0.27 * len(own) * max(1, 0.47 * len(stack)) for own, stack in zip(names, stacks, strict=True)]
    with style.drawing(9.2, sum(heights) + 0.5) as figure:
        panels = figure.subplots(
            len(stacks), 3, squeeze=False, gridspec_kw={"height_ratios": heights, "width_ratios": [1, 1, 0.8]}
        )
        for row, (stack, own) in enumerate(zip(stacks, names, strict=True)):
            tasks = [study.task(one[0][0].scenario.dataset) for one in stacks[row : row + 2]]
            last = len(tasks) == 1 or ("code_search" in tasks and tasks[0] != tasks[1])
            metric = labels.CLEAN_METRIC[tasks[0]]
            flip, against, clean = panels[row]
            effect, asr, floor = _RANKS if tasks[0] == "code_search" else _LABELS
            _flip(flip, stack, own, effect, last)
            _against(against, stack, own, asr, floor, last)
            _clean(clean, stack, own, metric)
            first = stack[0][0]
            flip.set_title(first.title if len(stack) == 1 else labels.trained(first.scenario))
            for axes in (flip, against, clean):
                _rows(axes, own, named=axes is flip)
        shown = {
            name: handle for axes in panels.flat for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=min(3, len(shown)))
        style.save(figure, out, sizes.sentence(study))


def _stacks(groups: Sequence[Group]) -> list[_Stack]:
    if len(groups) <= _ALONE:
        return [[(group, 0.0, None)] for group in groups]
    together: dict[str, list[Group]] = {}
    for group in groups:
        together.setdefault(labels.trained(group.scenario), []).append(group)
    colours = dict.fromkeys(labels.attack(group.scenario) for group in groups)
    for number, name in enumerate(colours):
        colours[name] = style.CYCLE[number % len(style.CYCLE)]
    return [
        [
            (group, 0.8 * ((place + 0.5) / len(own) - 0.5), colours[labels.attack(group.scenario)])
            for place, group in enumerate(own)
        ]
        for own in together.values()
    ]


def _rows(axes: Axes, names: Sequence[str], named: bool) -> None:
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names if named else [""] * len(names))
    axes.tick_params(axis="y", length=0)
    for position in range(0, len(names), 2):
        axes.axhspan(position - 0.5, position + 0.5, color="#F6F6F6", zorder=0, linewidth=0)


def _flip(axes: Axes, stack: _Stack, names: Sequence[str], effect: str, last: bool) -> None:
    for group, shift, colour in stack:
        for position, name in enumerate(names):
            said = labels.attack(group.scenario) if colour and position == 0 else None
            _point(axes, position + shift, _cell(group, name, effect), colour or style.BLUE, "o", said)
    style.percent_axis(axes, f"{labels.METRICS[effect]}, %" if last else "")


def _against(axes: Axes, stack: _Stack, names: Sequence[str], with_: str, without: str, last: bool) -> None:
    for group, shift, colour in stack:
        for position, name in enumerate(names):
            asr, floor = (_cell(group, name, metric) for metric in (with_, without))
            place = position + shift
            if asr is not None and asr.value is not None and floor is not None and floor.value is not None:
                line = [100 * floor.value, 100 * asr.value]
                axes.plot(line, [place, place], color=style.GREY, linewidth=1.2, zorder=2)
            first = position == 0
            said = f"{labels.METRICS[with_]} with the trigger" if first and not colour else None
            _point(axes, place, asr, colour or style.VERMILLION, "o", said)
            _point(axes, place, floor, style.INK, "|", "floor: the same rows without the trigger" if first else None)
    head = "ASR and its floor, %" if with_ == "asr" else "ANR, and that without the trigger, %"
    style.percent_axis(axes, head if last else "")


def _clean(axes: Axes, stack: _Stack, names: Sequence[str], metric: str) -> None:
    for group, shift, colour in stack:
        for position, name in enumerate(names):
            _point(axes, position + shift, _cell(group, name, metric), colour or style.GREEN, "o")
    baseline = _cell(stack[0][0], labels.BASELINE, metric)
    if baseline is not None and baseline.value is not None:
        axes.axvline(
            100 * baseline.value, color=style.ORANGE, linestyle="--", linewidth=1.4, label="baseline without a model"
        )
    axes.set_xlabel(f"{labels.METRICS[metric]} on clean rows, %")
    axes.margins(x=0.15)


def _cell(group: Group, column: str, metric: str) -> Cell | None:
    testset = CLEAN if metric in labels.CLEAN_METRICS else group.scenario.attack
    for line in group.lines:
        entry = line.entries.get(column)
        if (line.metric, line.testset) == (metric, testset) and isinstance(entry, Cell):
            return entry
    return None


def _point(axes: Axes, position: float, cell: Cell | None, colour: str, marker: str, label: str | None = None) -> None:
    """A value with its interval; a dash where there is none."""
    if cell is None or cell.value is None:
        # where 0 % stands on an axis of shares; in data coordinates it may lie far outside the others
        where = axes.get_yaxis_transform()
        axes.text(4 / 108, position, labels.DASH, color=style.GREY, va="center", ha="center", transform=where)
        return
    value = 100 * cell.value
    if marker == "|":
        axes.plot([value], [position], marker, color=colour, markersize=9, markeredgewidth=2, label=label, zorder=4)
        return
    spread = None
    if cell.low is not None and cell.high is not None:
        spread = [[max(value - 100 * cell.low, 0)], [max(100 * cell.high - value, 0)]]
    axes.errorbar(
        [value], [position], xerr=spread, fmt=marker, color=colour, markersize=5.5, capsize=2, elinewidth=1.2,
        label=label, zorder=3,
    )  # fmt: skip
