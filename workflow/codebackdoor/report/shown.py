"""Which scenarios a table or figure shows: of those whose files it is made from, the ones that it draws."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from codebackdoor import files
from codebackdoor.config.experiments import defenses
from codebackdoor.config.products import POSITIONS, Product
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.report.collect import anonymous, scenario_of
from codebackdoor.types import CLEAN

#: The file of each scenario by which a product knows it.
_FILES = {
    "table": "metrics.json",
    "defenses": "metrics.json",
    "inversion": "elimination.json",
    "epochs": "history.json",
    "suspicion": f"purified.{CLEAN}.jsonl",
    "overview": "metrics.json",
    "ordering": "metrics.json",
    "significance": "metrics.json",
    "seeds": "metrics.json",
    "sweep": "metrics.json",
    "layers": "metrics.json",
    "detection": "trigger.json",
    "inverted_triggers": "trigger.json",
    "tokens": "trigger.json",
    "times": "provenance.json",
    "sensitivity": "elimination.json",
    "convergence": "elimination.json",
    "noise": f"predictions.{CLEAN}.jsonl",
    "position": POSITIONS,
    # of a data set, not of a scenario
    "identifiers": "",
}


def shown(product: Product, paths: Iterable[Path]) -> list[Scenario]:
    """The scenarios that the product shows, in order, each once; ``paths`` are what ``products.inputs`` lists."""
    found = {scenario_of(path): path for path in paths if path.name == _FILES[product]}
    if product == "defenses":
        return [one for one in found if one.attack != NONE or not defenses(one)]
    if product in ("detection", "inverted_triggers", "tokens"):
        return [one for one, path in found.items() if files.read_json(path)]
    if product in ("inversion", "sensitivity", "convergence"):
        return [one for one, path in found.items() if files.read_json(path).get("searches")]
    if product == "suspicion":
        scored = [one for one, path in found.items() if "profile" in first_detail(path)]
        # one example is enough: that of the first seed
        first: dict[Scenario, Scenario] = {}
        for one in scored:
            first.setdefault(anonymous(one), one)
        return list(first.values())
    return list(found)


def first_detail(path: Path) -> dict[str, Any]:
    """What a purification says of the first row of a test set; empty where there is none."""
    detail: dict[str, Any] = next((row["detail"] for _, row in files.read_rows(path)), {})
    return detail
