"""A copy of the source tree with its own run, and what the tests ask of it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CONFIGS = ("config.yaml", "configs/smoke.yaml")


@dataclass(frozen=True)
class Tree:
    """A source tree with its run under ``runs/smoke``; commands see the tree's own package."""

    root: Path

    @property
    def out(self) -> Path:
        return self.root / "runs" / "smoke"

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        paths = {
            "PYTHONPATH": str(self.root / "workflow"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        environment = os.environ | paths | {"PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)

    def snakemake(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.run("snakemake", "--configfile", CONFIGS[1], *options)

    def pending(self, *options: str) -> set[str]:
        """Outputs, below ``runs/smoke``, that the next run would make again."""
        found = self.snakemake("--summary", *options)
        assert found.returncode == 0, found.stderr
        rows = [line.split("\t") for line in found.stdout.splitlines() if line.startswith("runs/smoke/")]
        assert rows
        return {row[0].removeprefix("runs/smoke/") for row in rows if row[-1] != "no update"}

    def times(self) -> dict[str, int]:
        """Modification time of every output."""
        kept = (path for path in self.out.rglob("*") if path.is_file())
        return {str(path.relative_to(self.out)): path.stat().st_mtime_ns for path in kept}


def cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
