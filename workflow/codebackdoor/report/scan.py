"""What the label scans said, what is left of the backdoor after unlearning, and what a verdict of "clean" rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scipy.special import betaincinv

from codebackdoor.config.experiments import scenarios
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.defenses.elimination.elibadcode.settings import CALIBRATIONS, calibration_of
from codebackdoor.files import read_json
from codebackdoor.report import labels
from codebackdoor.report.collect import Study, testsets

#: Truth and verdict of a victim without a backdoor.
CLEAN_VICTIM = "clean"


#: At most so large a flip rate is left where a backdoor counts as removed.
REMOVED = 0.15


@dataclass(frozen=True, slots=True)
class Verdict:
    """One scanned victim; ``truth`` is what the defender does not know.

    ``scans``: how often it was scanned and what the last scan said, None where the method scans once. ``left``: the
    flip rate afterwards, None where there is none (a benign victim, code search) or the experiment does not measure
    it. ``seconds``: what the elimination took, None where that was not asked for.
    """

    victim: str
    defense: str
    truth: str
    said: str
    right: bool
    position: str
    trigger: str
    loss: float
    margin: float | None
    scans: str | None
    left: float | None
    seconds: float | None = None

    @property
    def is_removed(self) -> bool:
        return self.left is None or self.left <= REMOVED


@dataclass(frozen=True, slots=True)
class Calibration:
    """Losses of benign shadow victims by which a scan says "clean", and how often it is wrong about the shadows.

    ``flagged`` of the ``shadows`` are, where each is left out and the others judge it at the ratio ``tried``;
    ``differs`` are the settings of data set and recipe that are not those of the victims that are scanned.
    """

    name: str
    shadows: int
    ratio: float
    tried: float
    flagged: int
    differs: tuple[str, ...]

    @property
    def highest(self) -> float:
        """Upper end of the one-sided 95 % interval of the false-positive rate (Clopper and Pearson 1934)."""
        left = self.shadows - self.flagged
        return float(betaincinv(self.flagged + 1, left, 0.95)) if left else 1.0


def calibrations(study: Study) -> Iterator[Calibration]:
    """The calibration of every scan of the experiment that has one, for each data set and model."""
    scanned = ((one.elimination, one.dataset, one.model) for one in scenarios(study.experiment))
    for elimination, dataset, model in dict.fromkeys(scanned):
        settings = {} if elimination == NONE else study.variant("eliminations", elimination)
        name = calibration_of(settings.get("calibration"), dataset, model)
        if name is not None:
            shipped = CALIBRATIONS / f"{name}.json"
            found = read_json(shipped if shipped.is_file() else Path(name))
            made, left_out = found["provenance"], found["leave_one_out"]
            then = {**made.get("dataset", {}), **made.get("recipe", {})}
            now = {**study.variant("datasets", dataset), **study.variant("models", model)}
            shadows = len(made["shadows"])
            yield Calibration(
                name=name,
                shadows=shadows,
                ratio=settings["ratio"],
                tried=left_out["ratio"],
                flagged=round(left_out["false_positive_rate"] * shadows),
                differs=tuple(key for key in sorted(then) if now.get(key) != then[key]),
            )


def verdicts(study: Study, out: Path) -> Iterator[Verdict]:
    """The verdict of every elimination of the experiment that inverts triggers, each once."""
    seen = set()
    for scenario in scenarios(study.experiment):
        path = scenario.victim(out) / "trigger.json"
        if scenario.elimination == NONE or path in seen:
            continue
        seen.add(path)
        trigger = read_json(path)
        if trigger is not None:
            yield replace(verdict(study, scenario, trigger, out), seconds=_seconds(path.parent))


def _seconds(folder: Path) -> float:
    """Of all phases of an elimination, also those taken over from another; only these differ from run to run."""
    job = read_json(folder / "provenance.json")
    return float(sum(job["phases"].values()) if job.get("phases") else job["seconds"])


def verdict(study: Study, scenario: Scenario, trigger: Mapping[str, Any], out: Path) -> Verdict:
    """What ``trigger.json`` says, beside the truth, and what was left of the backdoor afterwards."""
    attack = None if scenario.attack == NONE else study.variant("attacks", scenario.attack)
    truth, said = (CLEAN_VICTIM if attack is None else f"label {attack['target_label']}"), CLEAN_VICTIM
    if trigger["flagged"]:
        said = f"label {trigger['target_label']}"
    right = said == truth
    if study.task(scenario.dataset) == "code_search":
        # a search has no labels: what counts is whether the victim was called backdoored
        right = trigger["flagged"] == (attack is not None)
        truth = CLEAN_VICTIM if attack is None else f"word {attack['target_word']}"
        said = f"word {trigger.get('target_word')}" if trigger["flagged"] else CLEAN_VICTIM
    seed = f", seed {scenario.seed}" if scenario.seed != "1" else ""
    return Verdict(
        victim=f"{labels.word(scenario.dataset)}, {labels.attack(scenario)}{seed}",
        defense=labels.word(scenario.elimination),
        truth=truth,
        said=said,
        right=right,
        position=str(trigger["position"]).replace("_", " "),
        trigger=str(trigger["text"]),
        loss=float(trigger["loss"]),
        margin=trigger["margin"],
        scans=_scans(read_json(scenario.victim(out) / "elimination.json").get("rounds")),
        left=_left(study, scenario, out),
    )


def _scans(rounds: Sequence[Mapping[str, Any]] | None) -> str | None:
    """Of a method that scans again after unlearning: it may end because its rounds are used up."""
    if not rounds:
        return None
    return f"{len(rounds)}, the last {'still flags' if rounds[-1]['flagged'] else 'clean'}"


def _left(study: Study, scenario: Scenario, out: Path) -> float | None:
    """The flip rate of the edited victim alone, under the trigger that it was attacked with."""
    alone = replace(scenario, purification=NONE)
    if scenario.attack == NONE or alone not in scenarios(study.experiment):
        return None
    metrics = testsets(alone.results(out) / "metrics.json")[scenario.attack]["metrics"]
    value = metrics.get("flip_rate", {}).get("value")
    return None if value is None else float(value)
