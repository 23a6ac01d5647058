"""How long `snakemake -n` takes for studies of hundreds to thousands of jobs, and this package's share of the time.

python benchmarks/plan.py   (minutes; needs no run)

Each study is the default one with more attacks, rates and seeds, planned in a copy of the sources without any outputs.
*own* is the share of time inside this package when Snakemake calls it: its imports, the check of the configuration, and
every input and parameter function (outermost calls, timed by wrappers); the rest is Snakemake. *core s* is processor
time (user and system) and *wall s* wall-clock time, each of the fastest of several plans.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import yaml

ROOT = Path(__file__).parents[1]
SOURCES = ("Snakefile", "config.yaml", "rules", "profiles", "report", "envs", "basemodels", "workflow")
#: Seeds of the three studies.
SEEDS = (1, 15, 59)


def study(seeds: int) -> dict[str, Any]:
    """The default study with four more attacks, two more rates and ``seeds`` seeds."""
    raw: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    raw["seeds"] = list(range(1, seeds + 1))
    raw["shadows"] = list(range(1001, 1006))
    more = {f"attack_{name}": {**raw["attacks"]["codepoisoner_func"], "name": f"testo_{name}"} for name in "abcd"}
    raw["attacks"] |= more
    defects, repair = (raw["experiments"][name]["grid"][0] for name in ("defects", "repair"))
    defects["attacks"] += [*more]
    for grid in (defects, repair):
        grid["rates"] = [0.01, 0.02, 0.05]
    return raw


class Stopwatch:
    """Sums the seconds of the functions that it wraps, counting only outermost calls."""

    def __init__(self) -> None:
        self.seconds, self.calls, self._depth = 0.0, 0, 0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            started = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.process_time() - started
                    self.calls += 1

        return timed


def timed_plan(config: str) -> None:
    """Plan in this process, timing all functions of this package that the rules call; prints JSON at the end."""
    watch = Stopwatch()
    started = time.process_time()
    from codebackdoor import dag
    from codebackdoor.config import loading
    from codebackdoor.corpora import archives
    from codebackdoor.dag import resources

    imports = time.process_time() - started
    modules = [module for name, module in sys.modules.items() if name.startswith(dag.__name__)]
    members = {member for module in modules for member in vars(module).values() if isinstance(member, type)}
    for kind in (member for member in members if member.__module__.startswith(dag.__name__)):
        for name, member in list(vars(kind).items()):
            if name.startswith("__") and name != "__init__":
                continue
            if inspect.isfunction(member):
                setattr(kind, name, watch.wrap(member))
            elif isinstance(member, property):
                assert member.fget is not None
                setattr(kind, name, property(watch.wrap(member.fget)))
    loading.validate = watch.wrap(loading.validate)
    archives.archive = watch.wrap(archives.archive)
    growing = resources._growing
    resources._growing = lambda request: {name: watch.wrap(amount) for name, amount in growing(request).items()}
    sys.argv = ["snakemake", "--profile", "profiles/default", "--dry-run", "--quiet", "all", "--configfile", config]
    try:
        runpy.run_module("snakemake", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    total = time.process_time()
    print(json.dumps({"total": total, "imports": imports, "functions": watch.seconds, "calls": watch.calls}))


def measured(seeds: int, repeats: int) -> str:
    """One row of the table."""
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        for source in SOURCES:
            path = ROOT / source
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, tree / source)
        (tree / "study.yaml").write_text(json.dumps(study(seeds)))
        plain = ["snakemake", "--profile", "profiles/default", "--dry-run", "--quiet", "host", "rules", "reason"]
        plain += ["--configfile", "study.yaml"]
        walls = []
        for _ in range(repeats):
            started = time.perf_counter()
            output = subprocess.run(plain, cwd=tree, check=True, capture_output=True, text=True).stdout
            walls.append(time.perf_counter() - started)
        jobs = re.search(r"^total +(\d+)$", output, re.MULTILINE)
        assert jobs is not None, output
        inside = [sys.executable, str(Path(__file__).resolve()), "--inside", "study.yaml"]
        runs = [subprocess.run(inside, cwd=tree, check=True, capture_output=True, text=True) for _ in range(repeats)]
        fastest = min((json.loads(run.stdout.splitlines()[-1]) for run in runs), key=lambda times: times["total"])
    in_package = fastest["imports"] + fastest["functions"]
    return (
        f"{jobs[1]:>6} {min(walls):7.1f} {fastest['total']:7.1f} {fastest['imports']:8.1f} "
        f"{fastest['functions']:10.1f} {fastest['calls']:8} {in_package / fastest['total']:6.0%}"
    )


@click.command(help=__doc__)
@click.option("--seeds", type=int, multiple=True, default=SEEDS, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--inside", hidden=True)
def main(seeds: tuple[int, ...], repeats: int, inside: str | None) -> None:
    if inside:
        timed_plan(inside)
        return
    print(f"{'jobs':>6} {'wall s':>7} {'core s':>7} {'imports':>8} {'functions':>10} {'calls':>8} {'own':>6}")
    for count in seeds:
        print(measured(count, repeats), flush=True)


if __name__ == "__main__":
    main()
