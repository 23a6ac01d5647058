"""What a run at local scale costs: jobs by rule, rough time, disk.

The numbers are those of the default study at local scale (2 cores, one job a core), written by ``benchmarks/costs.py``;
of hub checkpoints they say nothing (``paper`` does). What that study does not run (tokenizer, pretrain, calibrate)
was timed by itself and written by hand.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from codebackdoor.errors import UserError


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one job: seconds of one core, megabytes that stay on disk."""

    seconds: float
    megabytes: float


@cache
def _measured() -> tuple[dict[str, Cost], Cost]:
    """Costs by rule, and that of the environment."""
    known = json.loads((Path(__file__).parent / "local.json").read_text(encoding="utf-8"))
    return {rule: Cost(**cost) for rule, cost in known["rules"].items()}, Cost(**known["environment"])


def plan(dry_run: str) -> str:
    """Turn the output of ``snakemake --dry-run`` into jobs, minutes and megabytes; UserError if it holds no DAG."""
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
    cores = os.cpu_count() or 1
    costs, environment = _measured()
    known = {rule: costs[rule] for rule in by_rule if rule in costs}
    seconds = sum(cost.seconds * by_rule[rule] for rule, cost in known.items())
    megabytes = sum(cost.megabytes * by_rule[rule] for rule, cost in known.items())
    lines = [f"{'rule':17} {'jobs':>5} {'core minutes':>13} {'MB':>7}"]
    for rule, count in by_rule.items():
        cost = known.get(rule)
        numbers = f"{cost.seconds * count / 60:13.1f} {cost.megabytes * count:7.0f}" if cost else f"{'?':>13} {'?':>7}"
        lines.append(f"{rule:17} {count:5} {numbers}")
    lines += [
        f"{'total':17} {sum(by_rule.values()):5} {seconds / 60:13.1f} {megabytes:7.0f}",
        "",
        f"About {max(1, round(seconds / 60 / min(cores, 2)))} minutes on {min(cores, 2)} cores at local scale. The "
        f"environment, where it is not there yet, takes {environment.seconds / 60:.1f} minutes and "
        f"{environment.megabytes / 1000:.1f} GB of disk.",
    ]
    return "\n".join(lines)
