"""What a run costs, before it begins: jobs by rule, rough time, disk.

The table was measured on the default study (2 cores, one job a core); hub checkpoints and real data sets cost more,
and a plan says that it does not know them.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from codebackdoor.errors import UserError


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one job: seconds of one core, megabytes that stay on disk."""

    seconds: float
    megabytes: float


#: By rule, at local scale: rounded from the jobs of the default study, their start included.
COSTS = {
    "fetch": Cost(1.5, 4.1),
    "collect": Cost(1, 0.1),
    "mine": Cost(8, 5),
    "corpus": Cost(3, 35),
    "tokenizer": Cost(10, 0.3),
    "pretrain": Cost(3000, 7),
    "dataset": Cost(25, 12),
    "poison": Cost(1.5, 12),
    "train": Cost(150, 6),
    "eliminate": Cost(65, 6),
    "calibrate": Cost(600, 0.01),
    "predict": Cost(12, 0.5),
    "purify": Cost(80, 1),
    "score": Cost(1.5, 0.01),
    "table": Cost(0.5, 0.01),
    "figure": Cost(3, 0.3),
}
ENVIRONMENT = Cost(90, 1500)


def plan(dry_run: str) -> str:
    """Turn the output of ``snakemake --dry-run`` into jobs, minutes and megabytes; UserError if it holds no DAG."""
    if "Nothing to be done" in dry_run:
        return "Nothing to be done: every file is there and up to date."
    jobs = {name: int(count) for name, count in re.findall(r"^([a-z]\w*) +(\d+)$", dry_run, re.MULTILINE)}
    total = jobs.pop("total", 0)
    jobs.pop("all", None)
    if not total:
        raise UserError("no job statistics on standard input; run `make plan`, which asks snakemake for them")
    by_rule: dict[str, int] = {}
    for name, count in jobs.items():
        rule = name.partition("_benign")[0]
        by_rule[rule] = by_rule.get(rule, 0) + count
    cores = os.cpu_count() or 1
    known = {rule: COSTS[rule] for rule in by_rule if rule in COSTS}
    seconds = sum(cost.seconds * by_rule[rule] for rule, cost in known.items())
    megabytes = sum(cost.megabytes * by_rule[rule] for rule, cost in known.items())
    lines = [f"{'rule':12} {'jobs':>5} {'core minutes':>13} {'MB':>7}"]
    for rule, count in by_rule.items():
        cost = known.get(rule)
        numbers = f"{cost.seconds * count / 60:13.1f} {cost.megabytes * count:7.0f}" if cost else f"{'?':>13} {'?':>7}"
        lines.append(f"{rule:12} {count:5} {numbers}")
    lines += [
        f"{'total':12} {sum(by_rule.values()):5} {seconds / 60:13.1f} {megabytes:7.0f}",
        "",
        f"About {max(1, round(seconds / 60 / min(cores, 2)))} minutes on {min(cores, 2)} cores at local scale; the "
        f"environment takes {ENVIRONMENT.megabytes / 1000:.1f} GB of disk beside it.",
    ]
    return "\n".join(lines)
