"""What the label scans said: flagged or clean, which label, and the inverted trigger beside the attacker's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codebackdoor.config.experiments import scenarios
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.files import read_json
from codebackdoor.report import labels
from codebackdoor.report.collect import Study


@dataclass(frozen=True, slots=True)
class Verdict:
    """One scanned victim; ``truth`` is what the defender does not know."""

    victim: str
    defense: str
    truth: str
    said: str
    right: bool
    position: str
    trigger: str
    loss: float
    margin: float | None


def verdicts(study: Study, out: Path) -> Iterator[Verdict]:
    """The verdict of every elimination of the experiment that inverts triggers, each once."""
    seen = set()
    for scenario in scenarios(study.experiment):
        path = scenario.victim(out) / "elimination.json"
        if scenario.elimination == NONE or path in seen:
            continue
        seen.add(path)
        trigger = read_json(path)["trigger"]
        if trigger is not None:
            yield _verdict(study, scenario, trigger)


def _verdict(study: Study, scenario: Scenario, trigger: dict[str, Any]) -> Verdict:
    target = None
    if scenario.attack != NONE:
        target = int(study.variant("attacks", scenario.attack)["target_label"])
    said = int(trigger["target_label"]) if trigger["flagged"] else None
    seed = f", seed {scenario.seed}" if scenario.seed != "1" else ""
    return Verdict(
        victim=f"{labels.word(scenario.dataset)}, {labels.attack(scenario)}{seed}",
        defense=labels.word(scenario.elimination),
        truth="clean" if target is None else f"label {target}",
        said="clean" if said is None else f"label {said}",
        right=said == target,
        position=str(trigger["position"]).replace("_", " "),
        trigger=str(trigger["text"]),
        loss=float(trigger["loss"]),
        margin=trigger["margin"],
    )
