"""A scenario: one path through the DAG, and the locations of its files."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from decimal import Decimal
from pathlib import Path

NONE = "none"
#: The objective of undefended victims.
UNDEFENDED_OBJECTIVE = "cross_entropy"
NAME = r"[a-z][a-z0-9_]*"
#: Maximum length of the name of a variant or an experiment, which is part of file names.
NAME_LENGTH = 100

#: Allowed values of each wildcard, as regular expressions; the wildcard constraints of the Snakefile.
CONSTRAINTS: dict[str, str] = {
    "dataset": NAME,
    "model": NAME,
    "attack": NAME,
    "rate": r"[0-9]+(\.[0-9]+)?",
    "seed": r"[0-9]+",
    "filtering": NAME,
    "objective": NAME,
    "elimination": NAME,
    "purification": NAME,
}

POISON = "{out}/data/{dataset}/{attack}-{rate}/seed{seed}"
#: A test set rewritten by a purification that does not read the victim; the clean test set is below ``none-0``.
REWRITTEN = f"{POISON}/{{purification}}"
#: Training rows that a filtering keeps, for all victims; those of benign victims are below ``none-0``.
FILTERED = f"{POISON}/filtered/{{filtering}}"
#: Training rows kept by a filtering that looks at each model's own victim.
FILTERED_BY_VICTIM = f"{FILTERED}/{{model}}"
VICTIM = "{out}/models/{dataset}/{model}/{attack}-{rate}/seed{seed}/{filtering}/{objective}/{elimination}"
#: The model with which an attack crafts its triggers: benign, with a seed that no victim has.
CRAFTING = "{out}/models/crafting/{dataset}/{model}"
RESULTS = (
    "{out}/results/{dataset}/{model}/{attack}-{rate}/seed{seed}/{filtering}/{objective}/{elimination}/{purification}"
)
#: The weights after every epoch (names: EPOCH/NAME), in the folder of a victim that keeps them.
EPOCH_WEIGHTS = "epochs/weights.safetensors"
#: Results of the rule ``audit`` (how well a filtering tells poisoned rows from clean ones), and the folder of its
#: ``provenance.json``, both below the results of the filtered victim.
AUDITED, AUDIT = "filter.json", "audit"
#: Folder of the ``provenance.json`` of the rule ``score``, below a scenario's results.
SCORE = "score"
#: Folder of the ``provenance.json`` of the rule ``execute``, below a scenario's results.
EXECUTE = "execute"
#: Measurements of the rule ``probe`` at each identifier, below a scenario's results.
POSITIONS = "positions.json"
#: Folder of the ``provenance.json`` of that rule, below a scenario's results.
PROBE = "probe"
#: Principal components of hidden states, and the folder of the ``provenance.json`` of the rule ``states``, both below
#: the results of a poisoned victim.
STATES, STATES_RECORD = "states.json", "states"


def rate_text(rate: float) -> str:
    """The rate in a path: ``0`` for the benign victim, else the shortest decimal of this rate."""
    text = format(Decimal(repr(rate)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True, slots=True, order=True)
class Scenario:
    """One path through the DAG; every value is the name of a variant, ``none`` if no method of a kind is used."""

    dataset: str
    model: str
    attack: str = NONE
    rate: str = "0"
    seed: str = "1"
    filtering: str = NONE
    objective: str = UNDEFENDED_OBJECTIVE
    elimination: str = NONE
    purification: str = NONE

    @property
    def wildcards(self) -> dict[str, str]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def poison(self, out: str | Path) -> Path:
        """Folder of the poisoned training set and the triggered validation and test sets."""
        return Path(POISON.format(out=out, **self.wildcards))

    def victim(self, out: str | Path) -> Path:
        """Folder of the model that this scenario predicts with."""
        return Path(VICTIM.format(out=out, **self.wildcards))

    def results(self, out: str | Path) -> Path:
        """Folder of predictions and metrics."""
        return Path(RESULTS.format(out=out, **self.wildcards))

    def folders(self, out: str | Path) -> list[Path]:
        """Every folder below ``out`` with a ``provenance.json`` of a job of this scenario, in the order of the jobs."""
        trained = replace(self, elimination=NONE, purification=NONE)
        rewritten = [Path(REWRITTEN.format(out=out, **scenario.wildcards)) for scenario in (self.benign(), self)]
        data = [Path(out) / "data" / self.dataset, self.poison(out)]
        if self.filtering != NONE:
            # only one of the two exists
            data += [Path(pattern.format(out=out, **self.wildcards)) for pattern in (FILTERED, FILTERED_BY_VICTIM)]
        results = self.results(out)
        return list(
            dict.fromkeys(
                [*data, trained.victim(out), self.victim(out), *rewritten, results, results / EXECUTE, results / SCORE]
            )
        )

    def benign(self) -> Scenario:
        """The same scenario with the victim trained on clean data."""
        return replace(self, attack=NONE, rate="0")

    def undefended(self) -> Scenario:
        return replace(self, filtering=NONE, objective=UNDEFENDED_OBJECTIVE, elimination=NONE, purification=NONE)
