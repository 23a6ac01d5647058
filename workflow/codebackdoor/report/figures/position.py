"""What the factual trigger and a perturbation do at each identifier of a sample (EliBadCode, Figure 3).

Reads ``positions.json`` files, which ``codebackdoor probe`` writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.axes import Axes

from codebackdoor.errors import UserError
from codebackdoor.files import read_json
from codebackdoor.report import labels, sizes
from codebackdoor.report.collect import Study, scenario_of
from codebackdoor.report.figures import style

_LINES = {"trigger": ("factual trigger", style.VERMILLION, "o"), "perturbation": ("perturbation", style.BLUE, "s")}
_CHARACTERS = 14
Sample = Mapping[str, Any]


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: ``positions.json`` files."""
    if not inputs:
        raise UserError(
            f"experiments.{study.name}: the figure 'position' needs an attack and an elimination in the grid"
        )
    with style.drawing(11, 3.5 * len(inputs) + 0.4) as figure:
        grid = figure.subplots(len(inputs), 2, squeeze=False, gridspec_kw={"width_ratios": [1.25, 1]})
        handles: dict[str, Any] = {}
        for (left, right), path in zip(grid, inputs, strict=True):
            samples = read_json(path)["samples"]
            handles |= _one(left, example(samples))
            _all(right, by_rank(samples), len(samples))
            left.set_title(labels.victim(scenario_of(path)))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
        style.save(figure, out, sizes.sentence(study))


def example(samples: Sequence[Sample]) -> Sample:
    """The sample with the most identifiers of those whose perturbation works where it was made for; else of all."""
    fooled = [one for one in samples if one["positions"][0]["perturbation"] > 0.5]
    return max(fooled or samples, key=lambda one: len(one["positions"]))


def by_rank(samples: Sequence[Sample]) -> dict[str, list[tuple[float, int]]]:
    """By kind, and rank from the most sensitive place on: the mean probability of the target, and of how many samples.

    The first identifier of a sample is left out: the perturbation was made for it.
    """
    ranked = [sorted(one["positions"][1:], key=lambda place: -place["change"]) for one in samples]
    # ranks that fewer than half of the samples have say little
    ranks = range(sorted(map(len, ranked))[len(ranked) // 2])
    found = {}
    for kind in _LINES:
        columns = [[own[rank][kind] for own in ranked if rank < len(own)] for rank in ranks]
        found[kind] = [(mean(column), len(column)) for column in columns]
    return found


def _one(axes: Axes, sample: Sample) -> dict[str, Any]:
    places = sample["positions"]
    names = [style.shortened(f"{number} {place['name']}", _CHARACTERS) for number, place in enumerate(places, 1)]
    where = range(len(places))
    handles: dict[str, Any] = {}
    change = axes.twinx()
    bars = change.bar(where, [place["change"] for place in places], color=style.ORANGE, alpha=0.35, width=0.6)
    change.set_ylabel("Change of the loss when masked, nats")
    change.grid(visible=False)
    # the lines stand in front of the bars
    axes.set_zorder(change.get_zorder() + 1)
    axes.patch.set_visible(False)
    for kind, (name, colour, marker) in _LINES.items():
        (handles[name],) = axes.plot(where, [place[kind] for place in places], color=colour, marker=marker)
    handles["sensitivity of the place"] = bars
    handles["unchanged"] = axes.axhline(sample["before"], color=style.INK, linestyle="--", linewidth=1.1)
    axes.axhline(0.5, color=style.GREY, linewidth=0.8)
    axes.set_xticks(where, names, rotation=60, ha="right", fontsize=7)
    axes.set_ylim(-0.04, 1.04)
    axes.set_ylabel("Probability of the target")
    axes.set_xlabel(f"Identifier replaced by {sample['trigger']} or {sample['perturbation']}")
    return handles


def _all(axes: Axes, found: Mapping[str, Sequence[tuple[float, int]]], samples: int) -> None:
    for kind, (_, colour, marker) in _LINES.items():
        values = [value for value, _ in found[kind]]
        axes.plot(range(1, len(values) + 1), values, color=colour, marker=marker)
    axes.axhline(0.5, color=style.GREY, linewidth=0.8)
    axes.set_ylim(-0.04, 1.04)
    axes.set_title(f"means of {samples} samples, without their first identifier")
    axes.set_xticks(range(1, max(2, len(found["trigger"]) + 1)))
    axes.set_xlabel("Rank of the identifier by sensitivity, 1 the most sensitive")
    axes.set_ylabel("Probability of the target")
