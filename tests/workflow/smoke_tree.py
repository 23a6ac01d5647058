"""A copy of the source tree with its own run, and what the tests ask of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("Snakefile", "config.yaml", "configs", "rules", "envs", "report", "profiles", "workflow")
CONFIGS = ("config.yaml", "configs/smoke.yaml")


@dataclass(frozen=True)
class Tree:
    """A source tree with its run under ``runs/smoke``; commands see the tree's own package."""

    root: Path

    @property
    def out(self) -> Path:
        return self.root / "runs" / "smoke"

    @property
    def environment(self) -> dict[str, str]:
        paths = {
            "PYTHONPATH": str(self.root / "workflow"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        return os.environ | paths | {"PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False)

    def snakemake(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.run("snakemake", "--configfile", CONFIGS[1], *options)

    def pending(self, *options: str) -> set[str]:
        """Outputs, below ``runs/smoke``, that the next run would make again."""
        summary = self.snakemake("--summary", *options)
        assert summary.returncode == 0, summary.stderr
        rows = [line.split("\t") for line in summary.stdout.splitlines() if line.startswith("runs/smoke/")]
        assert rows
        return {row[0].removeprefix("runs/smoke/") for row in rows if row[-1] != "no update"}

    def times(self) -> dict[str, int]:
        """Modification time of every output."""
        kept = (path for path in self.out.rglob("*") if path.is_file())
        return {str(path.relative_to(self.out)): path.stat().st_mtime_ns for path in kept}


def copy_of_sources(root: Path) -> Tree:
    root.mkdir(parents=True, exist_ok=True)
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, root / name)
    return Tree(root)
