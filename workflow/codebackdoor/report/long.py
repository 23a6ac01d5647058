"""All metrics of a study in one long CSV: a row for each scenario, test set and metric."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from codebackdoor.config.scenario import Scenario
from codebackdoor.files import atomic, read_json
from codebackdoor.report.collect import scenario_of

ESTIMATE = ("value", "low", "high", "n")


def collect(metrics: Sequence[Path], out: Path) -> None:
    """Write the content of several ``metrics.json`` to ``out``; shares are in [0, 1], what is undefined is empty."""
    kinds = [field.name for field in fields(Scenario)]
    with atomic(out) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*kinds, "testset", "metric", *ESTIMATE])
        for path in sorted(metrics):
            scenario = [scenario_of(path).wildcards[kind] for kind in kinds]
            for testset, found in read_json(path)["testsets"].items():
                for metric, estimate in found["metrics"].items():
                    values = (estimate[key] for key in ESTIMATE)
                    writer.writerow([*scenario, testset, metric, *("" if one is None else one for one in values)])
