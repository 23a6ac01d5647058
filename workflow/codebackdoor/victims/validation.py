"""What the history says of every epoch: clean metric, loss, ASR and floor on validation rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from codebackdoor.types import Example, Poisoned, Prediction
from codebackdoor.victims.inference import answers, forced, label_predictions, predict
from codebackdoor.victims.retrieval import Searcher
from codebackdoor.victims.victim import Victim

#: Whether a prediction does what the attacker wants of this row.
Hits = Callable[[Prediction, Poisoned], bool]
DIGITS = 6
#: By head, what the best epoch is chosen by.
CLEAN_METRICS = ("accuracy", "mrr", "exact_match")


@dataclass(frozen=True, slots=True)
class Validation:
    """The validation split, and its triggered rows with what counts as a hit where an attack is measured."""

    rows: Sequence[Example]
    triggered: Sequence[Poisoned] = ()
    hits: Hits | None = None
    #: Functions that a query is ranked among (retrieval).
    pool: int = 1

    def __post_init__(self) -> None:
        if self.triggered and self.hits is None:
            raise ValueError("triggered rows need `hits`, which says what the attacker wants")


class Validator:
    """Measures one victim on the same rows after every epoch.

    The loss is the mean cross entropy of all clean rows (generation: of their tokens), whatever the objective, so
    that runs compare. Outputs are generated for at most ``limit`` clean and ``limit`` triggered rows, the first ones;
    a classifier answers all. Failed and ineligible rows are left out.
    """

    def __init__(self, victim: Victim, validation: Validation, limit: int, scale: float = 1.0) -> None:
        self._victim, self._pool, self._scale = victim, validation.pool, scale
        self._all = validation.rows
        self._inputs = [tuple(text.ids for text in row) for row in victim.read(self._all)]
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
        measures = {"generation": self._generation, "retrieval": self._retrieval}
        found = measures.get(self._victim.head, self._classification)()
        return {name: round(value, DIGITS) for name, value in found.items()}

    def _classification(self) -> dict[str, float]:
        logits = answers(self._victim, self._inputs)
        labels = torch.tensor([int(row.label or 0) for row in self._all])
        clean = {prediction.id: prediction for prediction in label_predictions(self._all, logits)}
        return {
            "loss": torch.nn.functional.cross_entropy(logits, labels).item(),
            "accuracy": _mean([clean[row.id].label == row.label for row in self._all]),
        } | self._attack(clean)

    def _generation(self) -> dict[str, float]:
        sums = forced(self._victim, [ids for (ids,) in self._inputs], self._targets).double().sum(0)
        asked = {row.id: row for row in (*self._scored, *self._sources)}
        clean = {prediction.id: prediction for prediction in predict(self._victim, list(asked.values()))}
        matches = [(clean[row.id].text or "").split() == str(row.target).split() for row in self._scored]
        return {"loss": (-sums[1] / sums[2]).item(), "exact_match": _mean(matches)} | self._attack(clean)

    def _retrieval(self) -> dict[str, float]:
        """Loss and MRR in pools; with triggered rows the mean normalised rank of all functions, with and without."""
        searcher = Searcher(self._victim, self._all, self._pool)
        ranks = torch.tensor([prediction.rank or 0.0 for prediction in searcher.clean()])
        found = {"loss": searcher.loss(self._scale), "mrr": (1 / ranks).mean().item()}
        if self._triggered:
            attacked = searcher.triggered(self._triggered, str(self._triggered[0].example.target))
            pairs = [
                (before / (one.pool or 1), after / (one.pool or 1))
                for one in attacked
                for before, after in one.ranks or ()
            ]
            if pairs:
                without, with_trigger = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
                found |= {"anr": with_trigger, "anr_without": without}
        return found

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
