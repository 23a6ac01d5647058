"""Derives the rules' inputs, parameters and resources from the configuration.

The Snakefile builds one ``Dag``. It has one part for each file of ``rules/``, with the input and parameter functions of
its rules, so that the rules contain no logic. These functions receive Snakemake's wildcards and read only their values.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from codebackdoor.config.hub import MIRROR_VARIABLE
from codebackdoor.config.study import Config
from codebackdoor.dag.collect import Collect
from codebackdoor.dag.data import Data
from codebackdoor.dag.defend import Defend
from codebackdoor.dag.evaluate import Evaluate
from codebackdoor.dag.files import Files
from codebackdoor.dag.parameters import Parameters
from codebackdoor.dag.paths import Paths
from codebackdoor.dag.poison import Poison
from codebackdoor.dag.preflight import Preflight
from codebackdoor.dag.report import Report
from codebackdoor.dag.resources import Resources
from codebackdoor.dag.testsets import Testsets
from codebackdoor.dag.train import Train


class Dag:
    """One study as the rules see it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.paths, self.parameters = Paths(config.out), Parameters(config)
        self.files = Files(config, self.paths, self.parameters)
        self.testsets = Testsets(config, self.paths)
        self.resources = Resources(config, self.parameters, self.files)
        shared = (config, self.paths, self.parameters, self.files, self.testsets)
        self.data, self.poison, self.train = Data(*shared), Poison(*shared), Train(*shared)
        self.defend, self.evaluate = Defend(*shared), Evaluate(*shared)
        self.report, self.collect = Report(*shared), Collect(*shared)

    def targets(self) -> list[str]:
        """Every table and figure of every experiment, and the metrics of all scenarios in one file."""
        return [*self.collect.targets(), *self.report.targets()]

    def check_files(self, configs: Iterable[str | Path] = ()) -> None:
        """Raise one UserError that lists every missing file and the command that provides it."""
        Preflight(self.config, self.paths, self.parameters, self.files).check(configs)

    def check_isolation(self, jobs: Iterable[Any]) -> None:
        """Raise IsolationError if one of the jobs runs generated programs and this machine cannot isolate them."""
        if any(getattr(job, "name", None) == "execute" for job in jobs):
            from codebackdoor.evaluation.execution.sandbox import Sandbox, limits_of

            Sandbox(limits_of(self.config.execution), self.config.execution.isolation).check()

    def check_rows(self) -> list[str]:
        """A sentence for the first mistake of each file of the user's own data sets, which are read completely."""
        from codebackdoor.dag import rows

        return list(rows.problems(self.config, self.files))

    def announcement(self, jobs: Iterable[Any], cores: int | None) -> tuple[str, dict[str, Any]]:
        """A description of what a run will do, and its jobs with time estimates for ``runs.terminal``."""
        # imported here because jobs on a cluster do not need the costs
        from codebackdoor.dag.announcement import announcement

        return announcement(self.config, self.paths, jobs, cores)

    def export_mirror(self) -> None:
        """Set the environment variable that tells this process's jobs where the mirror is, or that there is none."""
        os.environ[MIRROR_VARIABLE] = self.config.mirror or ""
