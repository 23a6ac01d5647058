"""The remaining backdoor and the clean metric over a numeric setting of the defense.

EliBadCode's Figures 7 (``unlearning.rate``), 11 (``samples``), 12 (``top_k``) and 13 (``candidates``), and the
iterations of its RQ3. Reads ``metrics.json`` files; the setting is the experiment's ``swept``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from codebackdoor.config.experiments import swept_values
from codebackdoor.config.scenario import Scenario
from codebackdoor.errors import UserError
from codebackdoor.report import labels, sizes
from codebackdoor.report.collect import Results, collect
from codebackdoor.report.figures import style
from codebackdoor.report.figures.data import PlottedMetric, plotted_metrics
from codebackdoor.report.study import Study, attacked

#: The axis is logarithmic if the largest value is more than this many times the smallest.
_WIDE = 8
#: Values closer than this share of the axis would overlap: then all values are evenly spaced.
_CLOSE = 0.08
#: For each victim, the scenario of each value of the setting.
Lines = Mapping[Scenario, Mapping[float, Scenario]]


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: ``metrics.json`` files."""
    swept = str(study.experiment.swept)
    lines = variants(study, swept)
    if not lines:
        raise UserError(
            f"experiments.{study.name}.swept: no defense against an attack in the grid has a number as {swept!r}"
        )
    results = collect(study, inputs)
    x = positions(sorted({value for by_value in lines.values() for value in by_value}))
    datasets = list(dict.fromkeys(victim.dataset for victim in lines))
    with style.drawing(9.2, 2.5 * len(datasets) + 0.3 + 0.22 * len(lines)) as figure:
        grid = figure.subplots(len(datasets), 3, squeeze=False)
        for row, dataset in zip(grid, datasets, strict=True):
            metrics = plotted_metrics(study, dataset)
            for axes, metric in zip(row, metrics, strict=False):
                for index, (victim, by_value) in enumerate(lines.items()):
                    if victim.dataset == dataset:
                        _line(axes, results, metric, victim, {x[value]: by_value[value] for value in by_value}, index)
                _label(axes, metric, swept, x)
                if not any(len(line.get_xdata()) for line in axes.lines):
                    axes.text(0.5, 0.5, "no value", ha="center", va="center", transform=axes.transAxes)
            row[0].set_title(labels.word(dataset))
            for axes in row[len(metrics) :]:
                axes.set_visible(False)
        handles = {labels.group(victim): index for index, victim in enumerate(lines)}
        marks = [_mark(grid[0][0], index) for index in handles.values()]
        figure.legend(marks, list(handles), loc="outside lower center", ncols=1 if len(handles) < 3 else 2)
        style.save(figure, out, sizes.sentence(study))


def variants(study: Study, swept: str) -> Lines:
    """The scenarios that have a defense with the setting, by victim and value."""
    lines: dict[Scenario, dict[float, Scenario]] = {}
    for scenario in attacked(study.experiment):
        for value in swept_values(scenario, swept, study.variant):
            lines.setdefault(scenario.undefended(), {})[value] = scenario
    return {victim: dict(sorted(by_value.items())) for victim, by_value in lines.items()}


def positions(values: Sequence[float]) -> dict[float, float]:
    """Where each of the sorted values stands on the axis: at itself, or at its rank if two of them would overlap."""
    gaps = [later - earlier for earlier, later in pairwise(values)]
    if gaps and not _is_wide(values) and min(gaps) < _CLOSE * (values[-1] - values[0]):
        return {value: float(rank) for rank, value in enumerate(values)}
    return {value: value for value in values}


def _is_wide(values: Sequence[float]) -> bool:
    return values[0] > 0 and values[-1] / values[0] > _WIDE


def _line(
    axes: Axes,
    results: Results,
    metric: PlottedMetric,
    victim: Scenario,
    by_value: Mapping[float, Scenario],
    index: int,
) -> None:
    color = style.color(index)
    cells_of = {value: metric.cell(results, scenario) for value, scenario in by_value.items()}
    points = {value: cell for value, cell in cells_of.items() if cell is not None}
    if points:
        low = [_distance(cell.value, cell.low) for cell in points.values()]
        high = [_distance(cell.value, cell.high) for cell in points.values()]
        axes.errorbar(
            list(points), [100 * cell.value for cell in points.values()], yerr=[low, high], color=color,
            marker=style.marker(index), markersize=4.5, capsize=2, elinewidth=0.8,
            label=labels.group(victim),
        )  # fmt: skip
    floors_of = {value: metric.floor_cell(results, scenario) for value, scenario in by_value.items()}
    floors = {value: cell for value, cell in floors_of.items() if cell is not None}
    axes.plot(list(floors), [100 * cell.value for cell in floors.values()], ":", color=color, linewidth=1.2)
    undefended = metric.cell(results, victim)
    if not metric.triggered and undefended is not None:
        axes.axhline(100 * undefended.value, color=color, linestyle="--", linewidth=0.9)


def _distance(value: float, end: float | None) -> float:
    return 0.0 if end is None else 100 * abs(end - value)


def _label(axes: Axes, metric: PlottedMetric, swept: str, x: Mapping[float, float]) -> None:
    if _is_wide(list(x)):
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(list(x.values()), [f"{value:g}" for value in x])
    name = swept.replace("_", " ").replace(".", ", ")
    axes.set_xlabel(name[:1].upper() + name[1:])
    axes.set_ylabel(metric.axis)
    if metric.triggered:
        axes.set_ylim(-4, 104)


def _mark(axes: Axes, index: int) -> Artist:
    color, marker = style.color(index), style.marker(index)
    (line,) = axes.plot([], [], color=color, marker=marker, markersize=4.5)
    return line
