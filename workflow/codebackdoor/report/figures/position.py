"""Effect of the factual trigger and of a perturbation at each identifier of a sample (EliBadCode, Figure 3).

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
from codebackdoor.report.figures import style
from codebackdoor.report.study import Study, scenario_of

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
            handles |= _one_sample(left, example(samples))
            _all_samples(right, by_rank(samples), len(samples))
            left.set_title(labels.victim(scenario_of(path)))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
        style.save(figure, out, sizes.sentence(study))


def example(samples: Sequence[Sample]) -> Sample:
    """The sample with the most identifiers, preferably one whose perturbation works where it was optimized."""
    fooled = [sample for sample in samples if sample["positions"][0]["perturbation"] > 0.5]
    return max(fooled or samples, key=lambda sample: len(sample["positions"]))


def by_rank(samples: Sequence[Sample]) -> dict[str, list[tuple[float, int]]]:
    """Mean probability of the target and number of samples, by kind and rank (the most sensitive position first).

    The first identifier of a sample is left out, because the perturbation was optimized for it.
    """
    ranked = [sorted(sample["positions"][1:], key=lambda position: -position["change"]) for sample in samples]
    # ranks that fewer than half of the samples have are left out
    ranks = range(sorted(map(len, ranked))[len(ranked) // 2])
    means = {}
    for kind in _LINES:
        columns = [[positions[rank][kind] for positions in ranked if rank < len(positions)] for rank in ranks]
        means[kind] = [(mean(column), len(column)) for column in columns]
    return means


def _one_sample(axes: Axes, sample: Sample) -> dict[str, Any]:
    positions = sample["positions"]
    names = [
        style.shortened(f"{number} {position['name']}", _CHARACTERS) for number, position in enumerate(positions, 1)
    ]
    x = range(len(positions))
    handles: dict[str, Any] = {}
    change = axes.twinx()
    bars = change.bar(x, [item["change"] for item in positions], color=style.ORANGE, alpha=0.35, width=0.6)
    change.set_ylabel("Change of the loss when masked, nats")
    change.grid(visible=False)
    # draw lines in front of bars
    axes.set_zorder(change.get_zorder() + 1)
    axes.patch.set_visible(False)
    for kind, (name, color, marker) in _LINES.items():
        (handles[name],) = axes.plot(x, [item[kind] for item in positions], color=color, marker=marker, label=name)
    handles["sensitivity of the identifier"] = bars
    handles["unchanged"] = axes.axhline(sample["before"], color=style.INK, linestyle="--", linewidth=1.1)
    axes.axhline(0.5, color=style.GRAY, linewidth=0.8)
    axes.set_xticks(x, names, rotation=60, ha="right")
    axes.set_ylim(-0.04, 1.04)
    axes.set_ylabel("Probability of the target")
    axes.set_xlabel(f"Identifier replaced by {sample['trigger']} or {sample['perturbation']}")
    return handles


def _all_samples(axes: Axes, means: Mapping[str, Sequence[tuple[float, int]]], samples: int) -> None:
    for kind, (name, color, marker) in _LINES.items():
        values = [value for value, _ in means[kind]]
        axes.plot(range(1, len(values) + 1), values, color=color, marker=marker, label=name)
    axes.axhline(0.5, color=style.GRAY, linewidth=0.8)
    axes.set_ylim(-0.04, 1.04)
    axes.set_title(f"means of {samples} samples, without their first identifier")
    axes.set_xticks(range(1, max(2, len(means["trigger"]) + 1)))
    axes.set_xlabel("Rank of the identifier by sensitivity, 1 the most sensitive")
    axes.set_ylabel("Probability of the target")
