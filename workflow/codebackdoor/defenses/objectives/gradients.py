"""Weight of a row in training by the probability p of its label: DeCE's argument of section 4, for any objective.

The logits are those of a model that gives the label the probability p and shares the rest equally among the other
classes. Both curves come from automatic differentiation of the loss as it is trained with: the norm of the gradient by
the logits, and the derivative by p along these logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from codebackdoor import files
from codebackdoor.defenses.objectives import Objective

#: Classes: a vocabulary as large as CodeT5's.
CLASSES = 32100
EPOCHS = (1, 2, 5, 20)
#: Probabilities of the label, equidistant in their logits, from about 1e-6 to 0.999.
PROBABILITIES = tuple(float(p) for p in 1 / (1 + np.exp(-np.linspace(-14, 7, 43))))


def curve(
    objective: Objective, epoch: int, probabilities: Sequence[float] = PROBABILITIES, classes: int = CLASSES
) -> dict[str, list[float]]:
    """Return ``norm`` and ``derivative`` at each probability of the label."""
    norms, derivatives = [], []
    for probability in probabilities:
        p = torch.tensor(probability, dtype=torch.double, requires_grad=True)
        label = (p / (1 - p) * (classes - 1)).log()
        logits = torch.cat([label[None], label.new_zeros(classes - 1)])[None]
        loss = objective(logits, torch.zeros(1, dtype=torch.long), epoch)
        by_logits, by_p = torch.autograd.grad(loss, (logits, p))
        norms.append(float(by_logits.double().norm()))
        derivatives.append(float(by_p))
    return {"norm": norms, "derivative": derivatives}


def write_curves(objective: Objective, out: Path) -> None:
    """Write ``out``: the curves at each epoch, to six significant digits."""
    epochs = []
    for epoch in EPOCHS:
        curves = curve(objective, epoch)
        rounded = {name: [float(f"{value:.6g}") for value in values] for name, values in curves.items()}
        epochs.append({"epoch": epoch, **rounded})
    probabilities = [float(f"{p:.6g}") for p in PROBABILITIES]
    files.write_json(out, {"classes": CLASSES, "probabilities": probabilities, "epochs": epochs})
