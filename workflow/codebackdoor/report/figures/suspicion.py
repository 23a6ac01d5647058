"""The evidence of a purification: suspicion scores of one input with and without its trigger, and all entropies.

The input is the triggered one with the median entropy (CodePurify, Figure 1). The histograms show the entropies of all
clean and all triggered inputs, and the threshold.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from codebackdoor import files
from codebackdoor.config.scenario import Scenario
from codebackdoor.errors import UserError
from codebackdoor.report import labels, sizes
from codebackdoor.report.figures import style
from codebackdoor.report.study import Study, scenarios_shown
from codebackdoor.report.webpages.layout import first_line
from codebackdoor.types import CLEAN, Span

_ELEMENTS, _CHARACTERS, _BINS = 14, 26, 28
Detail = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Profile:
    """Elements of one input in source order: text, score, and whether it contains the trigger."""

    texts: list[str]
    scores: list[float]
    triggers: list[bool]
    left_out: int


@dataclass(frozen=True, slots=True)
class _Evidence:
    triggered: _Profile
    clean: _Profile
    entropies: Mapping[str, list[float]]
    threshold: float | None


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: ``purified.*.jsonl`` of clean and triggered inputs, and the original ``test.jsonl`` files."""
    out_folder = Path(study.settings["out"])
    evidences = {scenario: _evidence(scenario, out_folder) for scenario in scenarios_shown("suspicion", inputs)}
    scored = {scenario: evidence for scenario, evidence in evidences.items() if evidence is not None}
    if not scored:
        raise UserError(f"experiments.{study.name}: the figure 'suspicion' needs a purification that scores elements")
    with style.drawing(11.5, 3.3 * len(scored) + 0.5) as figure:
        grid = figure.subplots(len(scored), 3, squeeze=False, gridspec_kw={"width_ratios": [1, 1, 1.1]})
        for row, (scenario, evidence) in zip(grid, scored.items(), strict=True):
            highest = max((*evidence.triggered.scores, *evidence.clean.scores, 0.01))
            _bars(row[0], evidence.triggered, highest)
            _bars(row[1], evidence.clean, highest)
            _entropies(row[2], evidence)
            row[0].set_title(f"{labels.group(scenario)}: {labels.defense(scenario)}\nAn input with the trigger")
            row[1].set_title("The same input without it")
            row[2].set_title("Entropy of all inputs", pad=20)
        style.save(figure, out, sizes.sentence(study))


def _evidence(scenario: Scenario, out: Path) -> _Evidence | None:
    """The scores and entropies of one scenario; None if the method found nothing to score."""
    clean, triggered = (_details(scenario.results(out), testset) for testset in (CLEAN, scenario.attack))
    rows = [row for row in files.read_poisoned(scenario.poison(out) / "test.jsonl") if row.status == "injected"]
    scored = [row for row in rows if triggered[row.example.id]["entropy"] is not None]
    if not scored:
        return None
    median = statistics.median_low([triggered[row.example.id]["entropy"] for row in scored])
    row = next(row for row in scored if triggered[row.example.id]["entropy"] == median)
    examples = files.read_examples(out / "data" / scenario.dataset / "test.jsonl")
    source = next(example for example in examples if example.id == row.source_id)
    return _Evidence(
        triggered=_profile(triggered[row.example.id], row.example.code, row.spans),
        clean=_profile(clean[source.id], source.code, ()),
        entropies={
            "with the trigger": _entropies_of(triggered[row.example.id] for row in rows),
            "clean": _entropies_of(clean.values()),
        },
        threshold=next(iter(clean.values()))["threshold"],
    )


def _details(folder: Path, testset: str) -> dict[str, Detail]:
    return {row["id"]: row["detail"] for _, row in files.read_rows(folder / f"purified.{testset}.jsonl")}


def _entropies_of(details: Iterable[Detail]) -> list[float]:
    return [detail["entropy"] for detail in details if detail["entropy"] is not None]


def _profile(detail: Detail, code: str, spans: Sequence[Span]) -> _Profile:
    """The elements with the highest scores, in source order; for a pair, those of the first function."""
    elements = [(Span(start, end), score) for _, start, end, score, *second in detail["profile"] if not second]
    highest = sorted(elements, key=lambda pair: -pair[1])[:_ELEMENTS]
    spans_by_start = sorted(highest, key=lambda pair: (pair[0].start, -pair[0].end))
    return _Profile(
        texts=[style.shortened(first_line(code[span.start : span.end]), _CHARACTERS) for span, _ in spans_by_start],
        scores=[score for _, score in spans_by_start],
        triggers=[any(span.overlaps(trigger) for trigger in spans) for span, _ in spans_by_start],
        left_out=len(elements) - len(spans_by_start),
    )


def _bars(axes: Axes, profile: _Profile, highest: float) -> None:
    colors = [style.VERMILLION if is_trigger else style.SKY for is_trigger in profile.triggers]
    axes.barh(range(len(profile.scores)), profile.scores, color=colors, height=0.72)
    axes.set_yticks(range(len(profile.texts)), profile.texts, fontfamily="DejaVu Sans Mono")
    for tick, is_trigger in zip(axes.get_yticklabels(), profile.triggers, strict=True):
        tick.set_color(style.VERMILLION if is_trigger else style.INK)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.05 * highest)
    omitted = f" ({profile.left_out} lower ones left out)" if profile.left_out else ""
    axes.set_xlabel(f"Suspicion score{omitted}")


def _entropies(axes: Axes, evidence: _Evidence) -> None:
    highest = max(max(values, default=0.0) for values in evidence.entropies.values())
    bins = np.linspace(0, highest or 1.0, _BINS)
    for (name, values), color in zip(evidence.entropies.items(), (style.VERMILLION, style.BLUE), strict=True):
        weights = np.full(len(values), 100 / max(len(values), 1))
        axes.hist(values, bins=bins.tolist(), weights=weights, color=color, alpha=0.35, histtype="stepfilled")
        axes.hist(values, bins=bins.tolist(), weights=weights, color=color, histtype="step", linewidth=1.6, label=name)
    if evidence.threshold is not None:
        axes.axvline(evidence.threshold, color=style.INK, linestyle="--", linewidth=1.4, label="threshold")
    axes.set_xlabel("Entropy of the suspicion scores")
    axes.set_ylabel("Inputs, %")
    # above the axes, where the line of the threshold cannot cross it
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderpad=0, columnspacing=1.2, handlelength=1.4)
