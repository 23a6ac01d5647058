"""The measurements of a training history after every epoch: loss, clean metric, ASR and floor on validation rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from codebackdoor import bleu
from codebackdoor.heads import HEADS
from codebackdoor.types import Example, Poisoned, Prediction, label_of
from codebackdoor.victims.inference import forced, label_predictions, predict, predict_logits
from codebackdoor.victims.retrieval import Retriever, normalized_ranks, reciprocal_ranks
from codebackdoor.victims.victim import Victim

#: Whether a prediction is what the attacker wants for a row.
Hits = Callable[[Prediction, Poisoned], bool]
DIGITS = 6


@dataclass(frozen=True, slots=True)
class Validation:
    """The validation split and, to measure an attack, triggered rows and the definition of a hit."""

    rows: Sequence[Example]
    triggered: Sequence[Poisoned] = ()
    hits: Hits | None = None
    #: Number of functions that are ranked for a query (retrieval).
    pool: int = 1

    def __post_init__(self) -> None:
        if self.triggered and self.hits is None:
            raise ValueError("triggered rows need `hits`, the definition of what the attacker wants")


class Validator:
    """Measures one victim on the same rows after every epoch.

    The loss is the mean cross entropy of all clean rows (generation: of their tokens), regardless of the objective, so
    that runs can be compared. Outputs are generated for the first ``limit`` clean and triggered rows; a classifier
    predicts all rows. Failed and ineligible rows are left out.
    """

    def __init__(self, victim: Victim, validation: Validation, limit: int, scale: float = 1.0) -> None:
        self._victim, self._pool, self._scale = victim, validation.pool, scale
        self._all = validation.rows
        self._inputs = [tuple(text.ids for text in texts) for texts in victim.tokenize(self._all)]
        self._triggered = [row for row in validation.triggered if row.status == "injected"]
        self._hits = validation.hits
        if HEADS[victim.head].generates:
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
        """Numbers of rows for the loss, for the clean metric, and for ASR and floor."""
        return {"loss": len(self._all), "clean": len(self._scored), "triggered": len(self._triggered)}

    def measure(self) -> dict[str, float]:
        """Return loss, clean metric and, with triggered rows, ASR and floor; leaves the model in eval mode."""
        self._victim.model.eval()
        return {name: round(value, DIGITS) for name, value in self._values().items()}

    def _values(self) -> dict[str, float]:
        head = HEADS[self._victim.head]
        if head.generates:
            return self._generation()
        return self._retrieval() if head.ranks else self._classification()

    def _classification(self) -> dict[str, float]:
        logits = predict_logits(self._victim, self._inputs)
        labels = torch.tensor([label_of(row) for row in self._all])
        clean = {prediction.id: prediction for prediction in label_predictions(self._all, logits)}
        return {
            "loss": torch.nn.functional.cross_entropy(logits, labels).item(),
            "accuracy": _mean([clean[row.id].label == row.label for row in self._all]),
        } | self._attack(clean)

    def _generation(self) -> dict[str, float]:
        sums = forced(self._victim, [ids for (ids,) in self._inputs], self._targets).double().sum(0)
        examples = {row.id: row for row in (*self._scored, *self._sources)}
        clean = {prediction.id: prediction for prediction in predict(self._victim, list(examples.values()))}
        outputs = [clean[row.id].text or "" for row in self._scored]
        targets = [str(row.target) for row in self._scored]
        matches = [output.split() == target.split() for output, target in zip(outputs, targets, strict=True)]
        return {
            "loss": (-sums[1] / sums[2]).item(),
            "bleu": bleu.corpus(outputs, targets),
            "exact_match": _mean(matches),
        } | self._attack(clean)

    def _retrieval(self) -> dict[str, float]:
        """Loss and MRR in pools; for triggered rows the mean normalized rank with and without the trigger."""
        retriever = Retriever(self._victim, self._all, self._pool)
        # averaged in single precision, as the loss is: a mean in double precision may differ in the last saved digit
        mrr = torch.tensor(reciprocal_ranks(retriever.clean())).mean().item()
        values = {"loss": retriever.loss(self._scale), "mrr": mrr}
        if self._triggered:
            predictions = retriever.triggered(self._triggered, str(self._triggered[0].example.target))
            if pairs := normalized_ranks(predictions):
                without, with_trigger = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
                values |= {"anr": with_trigger, "anr_without": without}
        return values

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
