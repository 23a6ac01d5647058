"""The bill of a study with hub checkpoints: jobs, GPU hours, storage, whole and not what is left of it.

No GPU was measured: hours are operations (``work``) at a stated share of a stated GPU's rate. That the operations are
counted right was measured on a processor (``throughput.json``, benchmarks/throughput.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from codebackdoor.config import experiments
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.config.study import Config
from codebackdoor.costs import work
from codebackdoor.costs.sizes import SIZES
from codebackdoor.costs.work import Asked, Size, Texts, Victim, Work
from codebackdoor.defenses.elimination.elibadcode.settings import CALIBRATIONS, calibration_of
from codebackdoor.defenses.elimination.inversion.settings import InversionSettings, searched_before
from codebackdoor.types import CLEAN


@dataclass(frozen=True, slots=True)
class Gpu:
    """Peak operations a second in bfloat16 and float32, the share that is reached, seconds of one decoding step."""

    name: str
    bfloat16: float
    float32: float
    share: float
    step: float

    def hours(self, one: Work, precision: str) -> float:
        training = self.float32 if precision == "float32" else self.bfloat16
        computing = one.trained / training + one.predicted / self.float32
        return (computing / self.share + one.steps * self.step) / 3600


#: NVIDIA's data sheet; predictions are made in float32 without TF32. Share and step are assumptions.
A100 = Gpu("A100", 312e12, 19.5e12, 0.4, 0.03)


@dataclass(frozen=True, slots=True)
class Line:
    """Jobs of one kind and what they cost together; ``longest``: hours of the longest of them."""

    name: str
    jobs: int
    hours: float
    gigabytes: float
    longest: float = 0.0


def uses_hub(config: Config) -> bool:
    return any(config.models[one.model].is_hub for one in config.scenarios())


def lines(config: Config, gpu: Gpu = A100) -> list[Line]:
    """Every kind of job of the scenarios with hub checkpoints, in the order in which they run."""
    found: dict[str, Line] = {}
    for name, one, precision in _jobs(config):
        old = found.get(name, Line(name, 0, 0.0, 0.0))
        hours, size = gpu.hours(one, precision), one.megabytes / 1000
        found[name] = Line(name, old.jobs + 1, old.hours + hours, old.gigabytes + size, max(old.longest, hours))
    return list(found.values())


def _jobs(config: Config) -> Iterator[tuple[str, Work, str]]:
    """Name of the line, work, and precision of training of every job that holds a model or data."""
    used = [one for one in config.scenarios() if config.models[one.model].is_hub]
    triggered = experiments.triggered(config.scenarios())
    victims = {(one.dataset, one.model): _victim(config, one) for one in used}

    def of(one: Scenario) -> Victim:
        return victims[one.dataset, one.model]

    def tests(one: Scenario) -> list[Asked]:
        names = experiments.testsets(one.dataset, one.attack, one.purification, triggered)
        return [_testset(config, of(one), name) for name in names]

    for one in _distinct(used, ("dataset",)):
        yield f"dataset {one.dataset}", work.data(of(one)), ""
    for one in _distinct(
        [replace(s, model=model) for s in used if (model := _crafts(config, s))], ("dataset", "model")
    ):
        crafting = _victim(config, one)
        yield f"craft {one.model}, {one.dataset}", work.train(crafting, None), crafting.model.precision
    for one in _distinct([s for s in used if s.attack != NONE], ("dataset", "attack", "rate", "seed")):
        model = _crafts(config, one)
        asked = _victim(config, replace(one, model=model)) if model else None
        name = f"poison {one.dataset}" + (f" by {one.attack}" if asked else "")
        yield name, work.poison(of(one), config.attacks[one.attack], float(one.rate), asked), "float32"
    filtered = [s for s in used if s.filtering != NONE]
    for one in _distinct(filtered, ("dataset", "attack", "rate", "seed", "filtering")):
        attack, settings = config.attacks.get(one.attack), config.filterings[one.filtering]
        done = work.filtering(_sizes()["gpt2"], of(one), settings, attack, float(one.rate))
        yield f"filter {one.filtering}, {one.dataset}", done, "float32"
    for one in _distinct([replace(s, elimination=NONE, purification=NONE) for s in used]):
        attack = None if one.attack == NONE else config.attacks[one.attack]
        yield f"train {one.model}, {one.dataset}", work.train(of(one), attack), of(one).model.precision
    edited = _distinct([replace(s, purification=NONE) for s in used if s.elimination != NONE])
    calibrated = {file: one for one in edited if (file := _calibration(config, one))}
    for one in _distinct(list(calibrated.values()), ("dataset", "model")):
        for _ in config.shadows:
            yield f"train shadows of {one.model}, {one.dataset}", work.train(of(one), None), of(one).model.precision
    for one in calibrated.values():
        searched = [work.invert(of(one), config.eliminations[one.elimination]) for _ in config.shadows]
        yield f"calibrate {one.model}, {one.dataset}", reduce(add, searched), "float32"
    before = searched_before(config.eliminations)
    for one in edited:
        # of a search that takes over walks alone nothing is taken off the bill
        taken = any(
            replace(one, elimination=name) in edited and _same_search(config, name, one.elimination)
            for name in before.get(one.elimination, ())
        )
        done = work.eliminate(of(one), config.eliminations[one.elimination], taken)
        yield f"eliminate {one.elimination}", done, "float32"
    aside = [s for s in used if s.purification != NONE and not config.purifications[s.purification].reads_victim]
    both = [one for s in aside for one in (s, s.benign())]
    for one in _distinct(both, ("dataset", "attack", "rate", "seed", "purification")):
        read = _testset(config, of(one), CLEAN if one.attack == NONE else one.attack)
        done = work.rewrite(_sizes()["gpt2"], of(one), config.purifications[one.purification], read)
        yield f"rewrite {one.purification}, {one.dataset}", done, "float32"
    for one in used:
        if one.purification == NONE or not config.purifications[one.purification].reads_victim:
            yield f"predict {one.model}", work.predict(of(one), tests(one)), "float32"
        else:
            done = work.purify(of(one), config.purifications[one.purification], tests(one), _sizes()["gpt2"])
            yield f"purify {one.purification}, {one.model}", done, "float32"


def _same_search(config: Config, one: str, other: str) -> bool:
    first, second = (config.eliminations[name] for name in (one, other))
    if not (isinstance(first, InversionSettings) and isinstance(second, InversionSettings)):
        return False
    return first.trigger_settings() == second.trigger_settings()


def _calibration(config: Config, one: Scenario) -> str | None:
    """The calibration that a scenario's scan rests on and that does not ship: shadow victims are trained for it."""
    settings = config.eliminations[one.elimination]
    name = calibration_of(getattr(settings, "calibration", None), one.dataset, one.model)
    return None if name is None or (CALIBRATIONS / f"{name}.json").is_file() else name


def _crafts(config: Config, one: Scenario) -> str | None:
    """The model of the hub that a scenario's attack asks."""
    found = config.crafting(one.attack)
    return found if found is not None and config.models[found].is_hub else None


def _testset(config: Config, victim: Victim, name: str) -> Asked:
    return victim.clean("test") if name == CLEAN else victim.triggered("test", config.attacks[name])


def _distinct(scenarios: list[Scenario], kinds: tuple[str, ...] | None = None) -> list[Scenario]:
    """The first scenario of each set of values; of all values where no kinds are named."""
    found: dict[Any, Scenario] = {}
    for one in scenarios:
        found.setdefault(one if kinds is None else tuple(getattr(one, kind) for kind in kinds), one)
    return list(found.values())


def _victim(config: Config, one: Scenario) -> Victim:
    model, dataset = config.models[one.model], config.datasets[one.dataset]
    return Victim(_sizes()[model.architecture], _texts(dataset.task), model, dataset)


def _texts(task: str) -> Texts:
    counted = {name: value for name, value in _read("texts.json")[task].items() if name != "counted"}
    return Texts(SIZES[task], **({"target_tokens": 0.0} | counted))


def _sizes() -> dict[str, Size]:
    return {name: Size(**size) for name, size in _read("throughput.json")["sizes"].items()}


def _read(name: str) -> Any:
    return json.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))


def plan(config: Config, limit: float, gpu: Gpu = A100) -> str:
    """The bill as a table, what it rests on, and which jobs take longer than the ``limit`` of a scheduler, in hours."""
    found = lines(config, gpu)
    width = max(len(line.name) for line in found)
    rows = [f"{'jobs of hub checkpoints':{width}} {'jobs':>5} {'GPU hours':>10} {'GB':>7}"]
    total = Line("total", *(sum(getattr(line, key) for line in found) for key in ("jobs", "hours", "gigabytes")))
    rows += [f"{line.name:{width}} {line.jobs:5} {line.hours:10.1f} {line.gigabytes:7.1f}" for line in [*found, total]]
    reached = "; ".join(
        f"{device[model]['training_gflops'] / device['matmul_gflops'][kind]:.0%} ({model}, {name})"
        for name, device in _read("throughput.json")["devices"].items()
        for kind in ["bfloat16" if "bfloat16" in device["matmul_gflops"] else "float32"]
        for model in ("codebert", "codet5")
    )
    largest = max(size.parameters for size in _sizes().values())
    rows += [
        "",
        f"Not measured on a GPU: counted operations at {gpu.share:.0%} of an {gpu.name}'s {gpu.bfloat16 / 1e12:.0f} "
        "TFLOP/s in training (bfloat16)",
        f"and {gpu.float32 / 1e12:.1f} in prediction (float32), and {gpu.step} s a decoding step. Of the rate of one "
        "large matrix product,",
        f"the same count reaches in training: {reached}.",
        "This is the whole study, whatever is there already. Scores, tables and figures come on top, minutes without a "
        "GPU.",
        f"While a training runs, its progress takes up to {16 * largest / 1e9:.1f} GB more.",
        "",
        *_beyond(found, limit),
    ]
    return "\n".join(rows)


def _beyond(found: list[Line], limit: float) -> list[str]:
    """What to know before jobs are submitted to a cluster that ends each after ``limit`` hours."""
    long = sorted((line for line in found if line.longest > limit), key=lambda line: -line.longest)
    if not long:
        return [f"No job is expected to take longer than {limit:g} h, where SLURM's limit ends it (docs/hpc.md)."]
    return [
        f"Longer than {limit:g} h a job, where SLURM's limit ends it (docs/hpc.md: another limit, or fewer rows):",
        *(f"  {line.name}: up to {line.longest:.0f} h" for line in long),
    ]
