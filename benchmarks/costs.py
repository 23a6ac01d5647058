"""Measures the cost of a job of each rule: writes workflow/codebackdoor/costs/local.json, which `make plan` uses.

python benchmarks/costs.py config.yaml --environment-seconds 75   (after `make run`, in its environment)
python benchmarks/costs.py config.yaml configs/elibadcode.yaml    (after that run, or a part of it)

Seconds are means of the wall-clock seconds in Snakemake's benchmarks, one job per core: over all jobs of a rule, and
over those of one kind (task, architecture, method, taken over or not). The methods that ran are listed, so that a plan
shows others as never timed, and so are the rows, epochs and steps of these jobs, so that a plan can scale the times.
Megabytes are those of the files that a rule made, according to Snakemake. Rules and kinds that the run did not need
keep their old numbers, and the run of an overlay writes only kinds, methods and new rules: the mean job of a rule is
that of the default study.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from codebackdoor.config.loading import load
from codebackdoor.costs import amounts
from codebackdoor.costs.local import kinds_of, method_of

ROOT = Path(__file__).parents[1]
COSTS = ROOT / "workflow/codebackdoor/costs/local.json"


@dataclass
class Measured:
    """Seconds of all jobs of a rule, seconds by kind of job, and the methods that they ran."""

    seconds: list[float] = field(default_factory=list)
    kinds: dict[str, list[float]] = field(default_factory=dict)
    methods: set[str] = field(default_factory=set)
    amounts: dict[str, float] = field(default_factory=dict)


def measured_by_rule(configs: list[Path], known: dict[str, float]) -> dict[str, Measured]:
    """Wall-clock seconds and methods of the jobs of each rule.

    The shipped prices are for the amounts in ``known`` (rows, epochs, steps), so seconds are scaled to these.
    """
    config = load(configs)
    kind_of = kinds_of(snakemake(configs, "--dry-run", "--forceall", "--printshellcmds"), config)
    folder = ROOT / config.out / "benchmarks"
    rules: dict[str, Measured] = {}
    for path in folder.rglob("*.tsv"):
        *_, row = csv.DictReader(io.StringIO(path.read_text()), delimiter="\t")
        rule, *rest = path.relative_to(folder).with_suffix("").parts
        measured = rules.setdefault(rule, Measured())
        seconds = float(row["s"])
        if amount := amounts.amount(rule, "/".join(rest), config):
            name, value = amount
            seconds = amounts.scaled(seconds, known.get(name, value) / value)
            measured.amounts.setdefault(name, known.get(name, value))
        measured.seconds.append(seconds)
        if kind := kind_of.get((rule, "/".join(rest))):
            measured.kinds.setdefault(kind, []).append(seconds)
        if method := method_of(rule, "/".join(rest), config):
            measured.methods.add(method)
    return rules


def megabytes_by_rule(configs: list[Path]) -> dict[str, float]:
    """Total megabytes of the files that all jobs of a rule made."""
    sizes: Counter[str] = Counter()
    for row in csv.DictReader(io.StringIO(snakemake(configs, "--summary")), delimiter="\t"):
        path = ROOT / row["output_file"]
        if path.is_file():
            sizes[row["rule"].partition("_benign")[0]] += path.stat().st_size
    return {rule: size / 1e6 for rule, size in sizes.items()}


def snakemake(configs: list[Path], *options: str) -> str:
    command = ["snakemake", "--profile", "profiles/default", "--configfile", *map(str, configs), *options]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def mean(seconds: list[float]) -> float:
    return round(sum(seconds) / len(seconds), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", type=Path, nargs="+", help="configuration files of a run, finished or in part")
    parser.add_argument("--environment-seconds", type=float, help="how long creating .env took")
    arguments = parser.parse_args()
    costs = json.loads(COSTS.read_text())
    rules, megabytes = measured_by_rule(arguments.configs, costs["amounts"]), megabytes_by_rule(arguments.configs)
    for rule in sorted(rules.keys() & megabytes.keys()):
        measured, cost = rules[rule], costs["rules"].setdefault(rule, {})
        if len(arguments.configs) == 1 or not cost:
            size = round(megabytes[rule] / len(measured.seconds), 2)
            cost |= {"seconds": mean(measured.seconds), "megabytes": size}
        if measured.kinds:
            cost.setdefault("kinds", {}).update({kind: mean(seconds) for kind, seconds in measured.kinds.items()})
        if measured.methods:
            cost["methods"] = sorted({*cost.get("methods", ()), *measured.methods})
        costs["amounts"] |= measured.amounts
    if arguments.environment_seconds:
        size = sum(path.stat().st_size for path in (ROOT / ".env").rglob("*") if path.is_file()) / 1e6
        costs["environment"] = {"seconds": round(arguments.environment_seconds), "megabytes": round(size)}
    COSTS.write_text(json.dumps(costs, indent=1, sort_keys=True) + "\n")
    sys.stdout.write(COSTS.read_text())


if __name__ == "__main__":
    main()
