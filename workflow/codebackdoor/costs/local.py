"""The cost of a run at local scale: jobs by rule, rough time, disk.

The numbers were measured in the local studies (2 cores, one job per core) and written by ``benchmarks/costs.py``: the
mean of each rule's jobs and, for rules that involve a victim, of each kind of job (task, architecture, method). Hub
checkpoints have their own bill (``paper``). Rules that no study runs (tokenizer, pretrain, calibrate, and the filters,
ONION on some of the rows) were timed separately and entered by hand.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from codebackdoor.config.study import Config
from codebackdoor.costs import amounts
from codebackdoor.defenses.elimination.inversion.calibration.settings import CalibratedSettings
from codebackdoor.errors import UserError

_TABLE = Path(__file__).parent / "local.json"
_FILTERS = ("filter", "filter_by_model", "filter_by_victim")
#: Rules whose jobs run a method: the section that declares it, and the index of its name in a job's path.
_METHODS = {
    "poison": ("attacks", 1),
    # counted from the beginning, because a model may follow the name of the filtering
    **dict.fromkeys(_FILTERS, ("filterings", 4)),
    "train": ("objectives", -2),
    "eliminate": ("eliminations", -1),
    "rewrite": ("purifications", -1),
    "suspect": ("purifications", -1),
    "purify": ("purifications", -1),
}
#: Rules whose jobs do the same work as another rule's and log under its name.
_SAME_WORK = {"train_keeping": "train"}
#: Rules whose kinds of jobs include the method.
_KIND_HAS_METHOD = ("eliminate", "suspect", "purify")


@dataclass(frozen=True, slots=True)
class RuleCost:
    """Core seconds and megabytes on disk of a rule's mean job, and core seconds by kind of job.

    ``methods``: methods whose jobs the mean includes; None if the rule runs no method, or if the mean is for any.
    """

    seconds: float
    megabytes: float
    kinds: dict[str, float] = field(default_factory=dict)
    methods: tuple[str, ...] | None = None

    def knows(self, method: str | None) -> bool:
        return method is None or self.methods is None or method in self.methods


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the table; its cost is None if the method was never timed."""

    name: str
    jobs: int
    seconds: float | None = None
    megabytes: float | None = None

    def __str__(self) -> str:
        if self.seconds is None or self.megabytes is None:
            return f"{self.name:17} {self.jobs:5} {'?':>13} {'?':>7}"
        return f"{self.name:17} {self.jobs:5} {self.seconds / 60:13.1f} {self.megabytes:7.0f}"


@cache
def _measured() -> tuple[dict[str, RuleCost], RuleCost]:
    """Costs by rule, and the cost of the environment."""
    measured = json.loads(_TABLE.read_text(encoding="utf-8"))
    return {rule: RuleCost(**cost) for rule, cost in measured["rules"].items()}, RuleCost(**measured["environment"])


@cache
def _measured_amounts() -> dict[str, float]:
    """The amounts of the measured jobs (``costs.amounts``)."""
    amounts_by_name: dict[str, float] = json.loads(_TABLE.read_text(encoding="utf-8"))["amounts"]
    return amounts_by_name


def plan(dry_run: str, config: Config | None = None) -> str:
    """Turn the output of ``snakemake --dry-run --printshellcmds`` into jobs, minutes and megabytes.

    If the output has no commands, or ``config`` is None, every job of a rule counts as the mean job. Raises UserError
    if the output has no DAG.
    """
    if "Nothing to be done" in dry_run:
        return "Nothing to be done: every file exists and is up to date."
    by_rule = _jobs_by_rule(dry_run)
    jobs: dict[str, list[tuple[str, bool]]] = {rule: [] for rule in by_rule}
    for (rule, path), reuses in (_paths(dry_run, config) if config else {}).items():
        if rule in jobs:
            jobs[rule].append((path, reuses))
    costs, environment = _measured()
    rows = [row for rule, count in by_rule.items() for row in _rows(rule, count, jobs[rule], costs.get(rule), config)]
    seconds, megabytes = sum(row.seconds or 0 for row in rows), sum(row.megabytes or 0 for row in rows)
    minutes, cores = seconds / 60, min(os.cpu_count() or 1, 2)
    lines = [
        f"{'rule':17} {'jobs':>5} {'core minutes':>13} {'MB':>7}",
        *map(str, rows),
        str(_Row("total", sum(by_rule.values()), seconds, megabytes)),
        "",
        f"About {max(1, round(minutes / cores))} minutes on {cores} cores at local scale. Creating the environment, if "
        f"it does not exist yet, takes {environment.seconds / 60:.1f} minutes and "
        f"{environment.megabytes / 1000:.1f} GB of disk.",
    ]
    if unknown := [row.name for row in rows if row.seconds is None]:
        lines.append(f"?: never timed, and not in the total: {', '.join(unknown)}.")
    if config:
        lines += [
            "",
            "Experiments:",
            *(f"  {name:17} {experiment.title}" for name, experiment in config.experiments.items()),
        ]
    return "\n".join(lines)


def _jobs_by_rule(dry_run: str) -> dict[str, int]:
    """Number of jobs of each rule; the variants of a rule for benign victims count as the rule itself."""
    jobs = {name: int(count) for name, count in re.findall(r"^([a-z]\w*) +(\d+)$", dry_run, re.MULTILINE)}
    total = jobs.pop("total", 0)
    jobs.pop("all", None)
    if not total:
        output = dry_run.strip()
        hint = f"; there was instead:\n{output}" if output else ""
        raise UserError(f"no job statistics on standard input: run `make plan`, which asks snakemake for them{hint}")
    by_rule: Counter[str] = Counter()
    for name, count in jobs.items():
        by_rule[_SAME_WORK.get(name, name.partition("_benign")[0])] += count
    return dict(by_rule)


def _rows(
    rule: str, count: int, jobs: list[tuple[str, bool]], cost: RuleCost | None, config: Config | None
) -> Iterator[_Row]:
    """The row of a rule, and separate rows for jobs of methods that were never timed.

    ``jobs`` are those whose path is known: the others count as the mean job.
    """
    if cost is None:
        yield _Row(rule, count)
        return
    seconds: list[float] = []
    never_timed: Counter[str | None] = Counter()
    for path, reuses in jobs:
        assert config is not None  # which paths need
        price = job_seconds(rule, path, reuses, config)
        if price is None:
            never_timed[method_of(rule, path, config)] += 1
        else:
            seconds.append(price)
    if (timed := count - never_timed.total()) > 0:
        yield _Row(rule, timed, sum(seconds) + (timed - len(seconds)) * cost.seconds, cost.megabytes * timed)
    for method, number in never_timed.items():
        yield _Row(f"{rule} {method}", number)


def method_of(rule: str, path: str, config: Config) -> str | None:
    """The method that a job runs; None if the rule runs none, or if the variant is not declared.

    ``path`` is that of the job's log below the rule's folder.
    """
    if rule not in _METHODS:
        return None
    section, part = _METHODS[rule]
    parts = path.split("/")
    variant = parts[part] if -len(parts) <= part < len(parts) else ""
    # the name of an attack is followed by its rate
    settings = getattr(config, section).get(variant.rpartition("-")[0] if section == "attacks" else variant)
    return None if settings is None else str(settings.method)


def _kind(rule: str, path: str, config: Config, reuses: bool = False) -> str | None:
    """The kind of a job, as "TASK ARCHITECTURE [METHOD [in rounds]] [taken over]".

    Of a filter "TASK METHOD", of a base model its family. None if no victim is involved, or if it is not declared.
    ``path`` is that of the job's log below the rule's folder: data set, model and so on (``dag.paths``).
    """
    if rule == "pretrain":
        return config.pretraining[path].family if path in config.pretraining else None
    dataset, _, rest = path.partition("/")
    if rule in _FILTERS:
        method = method_of(rule, path, config)
        return f"{config.datasets[dataset].task} {method}" if method and dataset in config.datasets else None
    model, _, rest = rest.partition("/")
    if dataset not in config.datasets or model not in config.models:
        return None
    names: list[str] = [config.datasets[dataset].task, config.models[model].architecture]
    if rule in _KIND_HAS_METHOD:
        variant = getattr(config, _METHODS[rule][0]).get(rest.rpartition("/")[2])
        if variant is None:
            return None
        names.append(variant.method)
        if isinstance(variant, CalibratedSettings) and variant.rounds > 1:
            names.append("in rounds")
    # reuses the search of another elimination
    names += ["taken over"] * reuses
    return " ".join(names)


def kinds_of(dry_run: str, config: Config) -> dict[tuple[str, str], str]:
    """The kind of every job with a victim, by rule and path.

    An elimination that reuses the search of another one has its own kind.
    """
    kinds: dict[tuple[str, str], str] = {}
    for (rule, path), reuses in _paths(dry_run, config).items():
        if kind := _kind(rule, path, config, reuses):
            kinds[rule, path] = kind
    return kinds


def job_seconds(rule: str, path: str, reuses: bool, config: Config) -> float | None:
    """Core seconds of one job at local scale; None if it was never timed. ``path`` is that of its log."""
    cost = _measured()[0].get(rule)
    method = method_of(rule, path, config)
    if cost is None or not cost.knows(method):
        return None
    seconds = cost.kinds.get(_kind(rule, path, config, reuses) or "")
    if seconds is None:
        same_method = [price for kind, price in cost.kinds.items() if rule in _FILTERS and kind.endswith(f" {method}")]
        seconds = max(same_method, default=cost.seconds)
    amount, measured_amounts = amounts.amount(rule, path, config), _measured_amounts()
    if amount is None or amount[0] not in measured_amounts:
        return seconds
    return amounts.scaled(seconds, amount[1] / measured_amounts[amount[0]])


def _paths(dry_run: str, config: Config) -> dict[tuple[str, str], bool]:
    """Rule and path of every job, from the log that its command writes, and whether it reuses an inverted trigger.

    The log is OUT/logs/RULE/PATH.log.
    """
    log = re.compile(rf"(?P<reuses>--inverted=.*)?> '?{re.escape(config.out)}/logs/([a-z]\w*)/(.+?)\.log'? ")
    return {(rule, path): bool(reuses) for reuses, rule, path in log.findall(dry_run)}
