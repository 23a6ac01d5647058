"""Weight of a row in training by the probability of its label, for each objective (DeCE, section 4).

Reads ``losses/OBJECTIVE.json``, which the command ``gradients`` writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codebackdoor.files import read_json
from codebackdoor.report import labels
from codebackdoor.report.figures import style
from codebackdoor.report.study import Study

_LINES = ("-", "--", "-.", ":")
_PANELS = {
    "norm": "Norm of the gradient by the logits",
    "derivative": "Size of the derivative by p",
}


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:  # noqa: ARG001
    """``inputs``: the file of each objective; equal curves are drawn only once."""
    with style.drawing(8.6, 4.4) as figure:
        panels = dict(zip(_PANELS, figure.subplots(1, len(_PANELS)), strict=True))
        drawn: list[Any] = []
        for path in inputs:
            measured = read_json(path)
            if measured in drawn:
                continue
            color = style.color(len(drawn))
            drawn.append(measured)
            for line, (name, epoch) in zip(_LINES, curves(labels.word(path.stem), measured["epochs"]), strict=False):
                for key, axes in panels.items():
                    sizes = [abs(value) for value in epoch[key]]
                    axes.plot(measured["probabilities"], sizes, line, color=color, label=name)
        for key, axes in panels.items():
            axes.set(xscale="log", yscale="log", xlabel="Probability p of the label", title=_PANELS[key])
        handles, names = next(iter(panels.values())).get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4)
        style.save(figure, out)


def curves(name: str, epochs: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The curves of an objective with their names; only one if the loss does not depend on the epoch."""
    first = {key: epochs[0][key] for key in _PANELS}
    if all({key: epoch[key] for key in _PANELS} == first for epoch in epochs):
        return [(name, epochs[0])]
    return [(f"{name}, epoch {epoch['epoch']}", epoch) for epoch in epochs]
