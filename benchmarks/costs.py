"""What a job of each rule costs: writes workflow/codebackdoor/costs/local.json, from which `make plan` estimates.

python benchmarks/costs.py --environment-seconds 75   (after `make run`, in its environment)

Seconds are the means of the wall-clock seconds that Snakemake's benchmarks hold, one job a core; megabytes are those of
the files that Snakemake says a rule has made. A rule that the run did not need keeps its old numbers.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
COSTS = ROOT / "workflow/codebackdoor/costs/local.json"


def seconds_by_rule(out: Path) -> dict[str, list[float]]:
    """Wall-clock seconds of every job."""
    found: dict[str, list[float]] = {}
    for path in (out / "benchmarks").rglob("*.tsv"):
        *_, row = csv.DictReader(io.StringIO(path.read_text()), delimiter="\t")
        rule = path.relative_to(out / "benchmarks").parts[0].removesuffix(".tsv")
        found.setdefault(rule, []).append(float(row["s"]))
    return found


def megabytes_by_rule() -> dict[str, float]:
    """What all jobs of a rule have made together."""
    command = ["snakemake", "--profile", "profiles/default", "--summary"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    sizes: Counter[str] = Counter()
    for row in csv.DictReader(io.StringIO(listed), delimiter="\t"):
        path = ROOT / row["output_file"]
        if path.is_file():
            sizes[row["rule"].partition("_benign")[0]] += path.stat().st_size
    return {rule: size / 1e6 for rule, size in sizes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "runs/local", help="folder of a finished run")
    parser.add_argument("--environment-seconds", type=float, required=True, help="what making .env took")
    arguments = parser.parse_args()
    seconds, megabytes = seconds_by_rule(arguments.out), megabytes_by_rule()
    costs = json.loads(COSTS.read_text())
    for rule in sorted(seconds.keys() & megabytes.keys()):
        jobs = len(seconds[rule])
        costs["rules"][rule] = {
            "seconds": round(sum(seconds[rule]) / jobs, 1),
            "megabytes": round(megabytes[rule] / jobs, 2),
        }
    size = sum(path.stat().st_size for path in (ROOT / ".env").rglob("*") if path.is_file()) / 1e6
    costs["environment"] = {"seconds": round(arguments.environment_seconds), "megabytes": round(size)}
    COSTS.write_text(json.dumps(costs, indent=1, sort_keys=True) + "\n")
    sys.stdout.write(COSTS.read_text())


if __name__ == "__main__":
    main()
