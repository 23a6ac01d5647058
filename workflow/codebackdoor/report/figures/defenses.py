"""What each defense achieves: flip rate, ASR and its floor, and the clean metric.

A good defense has a flip rate near zero *and* an ASR near its floor; an ASR far below the floor means that the defense
taught the opposite backdoor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from codebackdoor.errors import UserError
from codebackdoor.heads import TriggeredMetrics
from codebackdoor.report import labels, sizes
from codebackdoor.report.collect import DefinedCell, collect
from codebackdoor.report.figures import style
from codebackdoor.report.figures.description import unlisted
from codebackdoor.report.study import Study
from codebackdoor.report.tables.results import VictimGroup, build, by_model

#: Maximum number of attacked victims with their own panels; with more, attacks on a data set and model share them.
_ALONE = 6

#: The attacks in one row of panels, each with its offset within a defense's row and its color (None: default).
_Stack = Sequence[tuple[VictimGroup, float, str | None]]


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: the experiment's ``metrics.json`` and ``baseline.json`` files."""
    table = build(study, collect(study, inputs))
    if not table.attacked:
        raise UserError(f"experiments.{study.name}: the figure 'defenses' needs an attack in the grid")
    stacks = _stacks(table.attacked)
    names = [
        [name for name in table.columns if any(name in group.scenarios for group, *_ in stack)] for stack in stacks
    ]
    heights = [0.9 + 0.27 * len(row) * max(1, 0.47 * len(stack)) for row, stack in zip(names, stacks, strict=True)]
    with style.drawing(9.2, sum(heights) + 0.5) as figure:
        panels = figure.subplots(
            len(stacks), 3, squeeze=False, gridspec_kw={"height_ratios": heights, "width_ratios": [1, 1, 0.8]}
        )
        datasets = [stack[0][0].scenario.dataset for stack in stacks]
        measured = [study.head(dataset).triggered for dataset in datasets]
        metrics = [study.dataset_class(dataset).clean_metric for dataset in datasets]
        for row, (stack, columns) in enumerate(zip(stacks, names, strict=True)):
            triggered = measured[row]
            # panels with the same metrics have axis labels only below the last one
            is_last = row + 1 == len(measured) or measured[row + 1].success != triggered.success
            flip, against, clean = panels[row]
            _flip(flip, stack, columns, triggered, is_last)
            _against(against, stack, columns, triggered, is_last)
            _clean(clean, stack, columns, metrics[row], metrics[row] not in metrics[row + 1 :])
            first = stack[0][0]
            flip.set_title(first.title if len(stack) == 1 else labels.trained(first.scenario))
            for axes in (flip, against, clean):
                _rows(axes, columns, has_names=axes is flip)
        _share_axes(panels[:, 2], metrics)
        legend = {
            name: handle for axes in panels.flat for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=min(3, len(legend)))
        style.save(figure, out, sizes.sentence(study))


def _stacks(groups: Sequence[VictimGroup]) -> list[_Stack]:
    if len(groups) <= _ALONE:
        return [[(group, 0.0, None)] for group in groups]
    colors = dict.fromkeys(labels.attack(group.scenario) for group in groups)
    for number, name in enumerate(colors):
        colors[name] = style.color(number)
    return [
        [
            (group, 0.8 * ((number + 0.5) / len(stack) - 0.5), colors[labels.attack(group.scenario)])
            for number, group in enumerate(stack)
        ]
        for stack in by_model(groups)
    ]


def _rows(axes: Axes, names: Sequence[str], has_names: bool) -> None:
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, labelleft=has_names)
    for y in range(0, len(names), 2):
        axes.axhspan(y - 0.5, y + 0.5, color="#F6F6F6", zorder=0, linewidth=0)


def _flip(axes: Axes, stack: _Stack, names: Sequence[str], triggered: TriggeredMetrics, is_last: bool) -> None:
    for group, offset, color in stack:
        for row, name in enumerate(names):
            label = labels.attack(group.scenario) if color else unlisted(labels.METRICS[triggered.effect])
            _point(axes, row + offset, group.cell(name, triggered.effect), color or style.BLUE, "o", label)
    style.percent_axis(axes, f"{labels.METRICS[triggered.effect]}, %" if is_last else "")


def _against(axes: Axes, stack: _Stack, names: Sequence[str], triggered: TriggeredMetrics, is_last: bool) -> None:
    for group, offset, color in stack:
        for row, name in enumerate(names):
            success, floor = (group.cell(name, metric) for metric in (triggered.success, triggered.floor))
            y = row + offset
            if success is not None and floor is not None:
                ends = [100 * floor.value, 100 * success.value]
                axes.plot(ends, [y, y], color=style.GRAY, linewidth=1.2, zorder=2)
            attack = labels.attack(group.scenario)
            label = attack if color else f"{labels.METRICS[triggered.success]} with the trigger"
            _point(axes, y, success, color or style.VERMILLION, "o", label)
            _point(axes, y, floor, style.INK, "|", "floor: the same rows without the trigger")
    style.percent_axis(axes, triggered.axis if is_last else "")


def _clean(axes: Axes, stack: _Stack, names: Sequence[str], metric: str, is_last: bool) -> None:
    for group, offset, color in stack:
        for row, name in enumerate(names):
            label = labels.attack(group.scenario) if color else unlisted(labels.METRICS[metric])
            _point(axes, row + offset, group.cell(name, metric), color or style.GREEN, "o", label)
    baseline = stack[0][0].cell(labels.BASELINE, metric)
    if baseline is not None:
        axes.axvline(
            100 * baseline.value,
            color=style.ORANGE,
            linestyle="--",
            linewidth=1.4,
            label="baseline without a neural model",
        )
    axes.set_xlabel(f"{labels.METRICS[metric]} on clean rows, %" if is_last else "")
    axes.margins(x=0.15)


def _share_axes(panels: Iterable[Axes], metrics: Sequence[str]) -> None:
    """Give all panels of a metric the same limits, so that rows can be compared."""
    by_metric: dict[str, list[Axes]] = {}
    for axes, metric in zip(panels, metrics, strict=True):
        by_metric.setdefault(metric, []).append(axes)
    for of_metric in by_metric.values():
        limits = [end for axes in of_metric for end in axes.get_xlim()]
        for axes in of_metric:
            axes.set_xlim(min(limits), max(limits))


def _point(axes: Axes, y: float, cell: DefinedCell | None, color: str, marker: str, label: str | None = None) -> None:
    """Draw a value with its interval; a dash if there is no value."""
    if cell is None:
        # at the edge of the axes: 0 in data coordinates may be far outside the other values
        transform = axes.get_yaxis_transform()
        axes.text(4 / 108, y, labels.DASH, color=style.GRAY, va="center", ha="center", transform=transform)
        return
    x = 100 * cell.value
    if marker == "|":
        axes.plot([x], [y], marker, color=color, markersize=9, markeredgewidth=2, label=label, zorder=4)
        return
    axes.errorbar(
        [x], [y], xerr=style.interval(cell), fmt=marker, color=color, markersize=5.5, capsize=2, elinewidth=1.2,
        label=label, zorder=3,
    )  # fmt: skip
