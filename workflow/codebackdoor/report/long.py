"""All metrics of a study: one long CSV, a row for each scenario, test set and metric; and JSON, as DVC reads them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from codebackdoor.config.scenario import Scenario
from codebackdoor.files import atomic, write_json
from codebackdoor.report.collect import scenario_of, testsets

ESTIMATE = ("value", "low", "high", "n")


def collect(metrics: Sequence[Path], out: Path) -> None:
    """Write the content of several ``metrics.json`` to ``out/metrics.csv``, and their values to ``out/metrics.json``.

    Shares are in [0, 1]; what is undefined is empty in the one and left out of the other.
    """
    kinds = [field.name for field in fields(Scenario)]
    values: dict[str, dict[str, dict[str, float]]] = {}
    with atomic(out / "metrics.csv") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*kinds, "testset", "metric", *ESTIMATE])
        for path in sorted(metrics):
            scenario = scenario_of(path)
            own = values[str(scenario.results("").relative_to("/results"))] = {}
            for testset, found in testsets(path).items():
                own[testset] = {}
                for metric, estimate in found["metrics"].items():
                    cells = ("" if estimate[key] is None else estimate[key] for key in ESTIMATE)
                    writer.writerow([*scenario.wildcards.values(), testset, metric, *cells])
                    if estimate["value"] is not None:
                        own[testset][metric] = estimate["value"]
    write_json(out / "metrics.json", values)
