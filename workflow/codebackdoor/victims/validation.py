"""What the history says of every epoch: clean metric, loss, ASR and floor on validation rows (DESIGN section 8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from codebackdoor.types import Example, Poisoned, Prediction
from codebackdoor.victims.inference import class_logits, forced, label_predictions, predict
from codebackdoor.victims.victim import Victim

#: Whether a prediction does what the attacker wants of this row.
Hits = Callable[[Prediction, Poisoned], bool]
DIGITS = 6


@dataclass(frozen=True, slots=True)
class Validation:
    """The validation split, and its triggered rows with what counts as a hit where an attack is measured."""

    rows: Sequence[Example]
    triggered: Sequence[Poisoned] = ()
    hits: Hits | None = None

    def __post_init__(self) -> None:
        if self.triggered and self.hits is None:
            raise ValueError("triggered rows need `hits`, which says what the attacker wants")


class Validator:
    """Measures one victim on the same rows after every epoch.

    The loss is the mean cross entropy of all clean rows (generation: of their tokens), whatever the objective, so
    that runs compare. Outputs are generated for at most ``limit`` clean and ``limit`` triggered rows, the first ones;
    a classifier answers all. Failed and ineligible rows are left out.
    """

    def __init__(self, victim: Victim, validation: Validation, limit: int) -> None:
        self._victim = victim
        self._all = validation.rows
        self._inputs = [encoded.ids for encoded in victim.encode([row.code for row in self._all])]
        self._triggered = [row for row in validation.triggered if row.status == "injected"]
        self._hits = validation.hits
        if victim.head == "generation":
            self._targets = victim.encode_targets([str(row.target) for row in self._all])
            self._triggered = self._triggered[:limit]
            self._scored = self._all[:limit]
        else:
            self._scored = self._all
        by_id = {row.id: row for row in self._all}
        missing = [row.source_id for row in self._triggered if row.source_id not in by_id]
        if missing:
            raise ValueError(f"triggered row made from {missing[0]!r}, which is not in the validation split")
        self._sources = [by_id[row.source_id] for row in self._triggered]

    @property
    def counts(self) -> dict[str, int]:
        """Rows behind the loss, behind the clean metric, and behind ASR and floor."""
        return {"loss": len(self._all), "clean": len(self._scored), "triggered": len(self._triggered)}

    def measure(self) -> dict[str, float]:
        """Return loss, clean metric and, with triggered rows, ASR and floor; leaves the model in eval mode."""
        self._victim.model.eval()
        found = self._classification() if self._victim.head == "classification" else self._generation()
        return {name: round(value, DIGITS) for name, value in found.items()}

    def _classification(self) -> dict[str, float]:
        logits = class_logits(self._victim, self._inputs)
        labels = torch.tensor([int(row.label or 0) for row in self._all])
        clean = {prediction.id: prediction for prediction in label_predictions(self._all, logits)}
        return {
            "loss": torch.nn.functional.cross_entropy(logits, labels).item(),
            "accuracy": _mean([clean[row.id].label == row.label for row in self._all]),
        } | self._attack(clean)

    def _generation(self) -> dict[str, float]:
        sums = forced(self._victim, self._inputs, self._targets).double().sum(0)
        asked = {row.id: row for row in (*self._scored, *self._sources)}
        clean = {prediction.id: prediction for prediction in predict(self._victim, list(asked.values()))}
        matches = [(clean[row.id].text or "").split() == str(row.target).split() for row in self._scored]
        return {"loss": (-sums[1] / sums[2]).item(), "exact_match": _mean(matches)} | self._attack(clean)

    def _attack(self, clean: dict[str, Prediction]) -> dict[str, float]:
        if not self._triggered or self._hits is None:
            return {}
        predictions = predict(self._victim, [row.example for row in self._triggered])
        return {
            "asr": _mean([self._hits(*pair) for pair in zip(predictions, self._triggered, strict=True)]),
            "floor": _mean([self._hits(clean[row.source_id], row) for row in self._triggered]),
        }


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / len(values)
