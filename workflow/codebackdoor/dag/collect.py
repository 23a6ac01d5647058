"""Inputs of ``rules/collect.smk``: the metrics of all scenarios."""

from __future__ import annotations

from codebackdoor.dag.inputs import Part


class Collect(Part):
    """All metrics in one file."""

    def metrics(self) -> list[str]:
        return [str(scenario.results(self.paths.out) / "metrics.json") for scenario in self.config.scenarios()]

    def targets(self) -> list[str]:
        return [f"{self.paths.metrics}.{suffix}" for suffix in ("csv", "json")]
