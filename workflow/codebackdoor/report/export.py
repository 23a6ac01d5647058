"""All metrics of a study: a CSV with a row for each scenario, test set and metric, and JSON in DVC's format."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from codebackdoor.files import atomic, write_json
from codebackdoor.report.collect import testsets
from codebackdoor.report.metrics import ESTIMATE, METRIC_COLUMNS
from codebackdoor.report.study import scenario_of


def collect(metrics: Sequence[Path], out: Path) -> None:
    """Write the content of several ``metrics.json`` to ``out/metrics.csv``, and their values to ``out/metrics.json``.

    Shares are in [0, 1]; undefined values are empty in the CSV and missing from the JSON.
    """
    values: dict[str, dict[str, dict[str, float]]] = {}
    with atomic(out / "metrics.csv") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(METRIC_COLUMNS)
        for path in sorted(metrics):
            scenario = scenario_of(path)
            of_scenario = values[str(scenario.results("").relative_to("/results"))] = {}
            for testset, measured in testsets(path).items():
                of_testset = of_scenario[testset] = {}
                for metric, estimate in measured["metrics"].items():
                    cells = ("" if estimate[key] is None else estimate[key] for key in ESTIMATE)
                    writer.writerow([*scenario.wildcards.values(), testset, metric, *cells])
                    if estimate["value"] is not None:
                        of_testset[metric] = estimate["value"]
    write_json(out / "metrics.json", values)
