"""What a run at local scale costs: jobs by rule, rough time, disk.

The numbers are those of the local studies (2 cores, one job a core), written by ``benchmarks/costs.py``: a mean job of
each rule and, where a victim is involved, one of each kind (task, architecture, method). Of hub checkpoints they say
nothing (``paper`` does). What no study runs (tokenizer, pretrain, calibrate, and filter on a part of the rows) was
timed by itself and written by hand.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from codebackdoor.config.study import Config
from codebackdoor.errors import UserError

#: Rules whose jobs differ by the method that the last part of their path names, and the section that declares it.
_BY_METHOD = {"eliminate": "eliminations", "purify": "purifications"}


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a rule's mean job: seconds of one core, megabytes that stay on disk; seconds by kind of job."""

    seconds: float
    megabytes: float
    kinds: dict[str, float] = field(default_factory=dict)


@cache
def _measured() -> tuple[dict[str, Cost], Cost]:
    """Costs by rule, and that of the environment."""
    known = json.loads((Path(__file__).parent / "local.json").read_text(encoding="utf-8"))
    return {rule: Cost(**cost) for rule, cost in known["rules"].items()}, Cost(**known["environment"])


def _kind(rule: str, path: str, config: Config) -> str | None:
    """What a job does, as "TASK ARCHITECTURE [METHOD [in rounds]]".

    None where no victim is involved, or one that is not declared. ``path`` is that of its log below the rule's folder:
    data set, model and so on (``dag.victim_path``).
    """
    dataset, _, rest = path.partition("/")
    model, _, rest = rest.partition("/")
    if dataset not in config.datasets or model not in config.models:
        return None
    names: list[str] = [config.datasets[dataset].task, config.models[model].architecture]
    if rule in _BY_METHOD:
        variant = getattr(config, _BY_METHOD[rule]).get(rest.rpartition("/")[2])
        if variant is None:
            return None
        names.append(variant.method)
        if getattr(variant, "rounds", 1) > 1:
            names.append("in rounds")
    return " ".join(names)


def plan(dry_run: str, config: Config | None = None) -> str:
    """Turn the output of ``snakemake --dry-run --printshellcmds`` into jobs, minutes and megabytes.

    Where the commands are not in it, or ``config`` is None, every job of a rule counts as its mean one. UserError if
    it holds no DAG.
    """
    if "Nothing to be done" in dry_run:
        return "Nothing to be done: every file is there and up to date."
    jobs = {name: int(count) for name, count in re.findall(r"^([a-z]\w*) +(\d+)$", dry_run, re.MULTILINE)}
    total = jobs.pop("total", 0)
    jobs.pop("all", None)
    if not total:
        said = dry_run.strip()
        hint = f"; there was instead:\n{said}" if said else ""
        raise UserError(f"no job statistics on standard input: run `make plan`, which asks snakemake for them{hint}")
    by_rule: dict[str, int] = {}
    for name, count in jobs.items():
        rule = name.partition("_benign")[0]
        by_rule[rule] = by_rule.get(rule, 0) + count
    kinds: dict[str, Counter[str]] = {rule: Counter() for rule in by_rule}
    for (rule, _), kind in (kinds_of(dry_run, config) if config else {}).items():
        if rule in kinds:
            kinds[rule][kind] += 1
    cores = os.cpu_count() or 1
    costs, environment = _measured()
    seconds = {rule: _seconds(costs[rule], count, kinds[rule]) for rule, count in by_rule.items() if rule in costs}
    megabytes = {rule: costs[rule].megabytes * by_rule[rule] for rule in seconds}
    lines = [f"{'rule':17} {'jobs':>5} {'core minutes':>13} {'MB':>7}"]
    for rule, count in by_rule.items():
        known = rule in seconds
        numbers = f"{seconds[rule] / 60:13.1f} {megabytes[rule]:7.0f}" if known else f"{'?':>13} {'?':>7}"
        lines.append(f"{rule:17} {count:5} {numbers}")
    minutes = sum(seconds.values()) / 60
    lines += [
        f"{'total':17} {sum(by_rule.values()):5} {minutes:13.1f} {sum(megabytes.values()):7.0f}",
        "",
        f"About {max(1, round(minutes / min(cores, 2)))} minutes on {min(cores, 2)} cores at local scale. The "
        f"environment, where it is not there yet, takes {environment.seconds / 60:.1f} minutes and "
        f"{environment.megabytes / 1000:.1f} GB of disk.",
    ]
    if unknown := [rule for rule in by_rule if rule not in seconds]:
        lines.append(f"?: jobs of a kind that was never timed ({', '.join(unknown)}) are not in the sums.")
    if config:
        lines += ["", "Experiments:", *(f"  {name:17} {one.title}" for name, one in config.experiments.items())]
    return "\n".join(lines)


def kinds_of(dry_run: str, config: Config) -> dict[tuple[str, str], str]:
    """The kind of every job with a victim, by rule and path, from the file that its command writes to.

    That is OUT/logs/RULE/PATH.log. An elimination that takes a search over from another is of a kind of its own.
    """
    sent = re.compile(rf"(?P<taken>--inverted=.*)?> '?{re.escape(config.out)}/logs/([a-z]\w*)/(.+?)\.log'? ")
    found: dict[tuple[str, str], str] = {}
    for taken, rule, path in sent.findall(dry_run):
        if kind := _kind(rule, path, config):
            found[rule, path] = f"{kind} taken over" if taken else kind
    return found


def _seconds(cost: Cost, jobs: int, kinds: Counter[str]) -> float:
    """Of all jobs of a rule: those of a kind that was measured at its price, the others as the mean job."""
    measured = {kind: count for kind, count in kinds.items() if kind in cost.kinds}
    others = jobs - sum(measured.values())
    return others * cost.seconds + sum(count * cost.kinds[kind] for kind, count in measured.items())
