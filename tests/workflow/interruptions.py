"""Kill the smoke study at random moments, go on after each, and compare its end with that of an undisturbed run.

    python tests/workflow/interruptions.py --kills 20 --seed 1        (make test-kills)

Each kill is SIGKILL to the whole process group of Snakemake. Before the next start nothing is cleared by hand but what
`make settle` clears. At the end every file must be there that an undisturbed run makes and no other, and every
metrics.json, data set and victim must have the same bytes. Exit status 1 where one has not.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
from smoke_tree import CONFIGS, Tree, copy_of_sources

RUN = ("snakemake", "--profile", "profiles/default", "--cores", "2", "--configfile", CONFIGS[1])
#: What may differ between two runs: how long something took, and where.
VARYING = ("logs/", "benchmarks/")
VARYING_NAMES = ("provenance.json",)


def files(tree: Tree) -> dict[str, Path]:
    """Every file of the run by its path below the run's folder."""
    return {str(path.relative_to(tree.out)): path for path in sorted(tree.out.rglob("*")) if path.is_file()}


def live(tree: Tree, seconds: float) -> int | None:
    """Run the study for so long, then kill it; the exit status where it ended before."""
    with (tree.root / "run.log").open("a") as log:
        run = subprocess.Popen(RUN, cwd=tree.root, env=tree.environment, stdout=log, stderr=log, start_new_session=True)
        try:
            return run.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            return None


def settle(tree: Tree) -> str:
    """Do what `make settle` does; what it said of jobs that were left."""
    orphans = tree.run("codebackdoor", "orphans")
    assert orphans.returncode == 0, orphans.stderr
    unlocked = tree.run(*RUN, "--unlock")
    assert unlocked.returncode == 0, unlocked.stderr
    return orphans.stdout.strip().splitlines()[-1]


def undisturbed(folder: Path) -> tuple[Tree, float]:
    tree = copy_of_sources(folder)
    begun = time.monotonic()
    status = live(tree, 3600)
    assert status == 0, (tree.root / "run.log").read_text()[-4000:]
    return tree, time.monotonic() - begun


def disturb(tree: Tree, kills: int, seconds: float, chance: random.Random) -> Counter[str]:
    """Kill the run so many times, at moments that together span about one whole run."""
    counts: Counter[str] = Counter()
    begun = time.monotonic()
    assert tree.run(*RUN, "--dry-run").returncode == 0
    # each life has to plan before it can go on; some are killed in that, too
    longest = time.monotonic() - begun + 2 * seconds / kills
    while counts["kills"] < kills:
        share = chance.uniform(0, longest)
        status = live(tree, share)
        if status is not None:
            assert status == 0, (tree.root / "run.log").read_text()[-4000:]
            counts["ends between kills"] += 1
            # begin again: every kill hits a run that is at work
            shutil.rmtree(tree.out)
            continue
        counts["kills"] += 1
        locked = bool(list((tree.root / ".snakemake/locks").glob("*")))
        parts = [path for path in tree.out.rglob(".*") if path.name.endswith(".part")]
        working = list(tree.out.rglob(".*.progress"))
        counts["locks left"] += locked
        counts["temporary files left"] += len(parts)
        counts["trainings and scans cut"] += len(working)
        report = settle(tree)
        counts["jobs that outlived the kill"] += 0 if report.startswith("no job") else int(report.split()[0])
        print(
            f"kill {counts['kills']:2} after {share:5.1f} s: {len(files(tree)):3} files, {len(parts)} temporary, "
            f"{len(working)} cut, {report}",
            flush=True,
        )
    return counts


def compare(expected: Tree, disturbed: Tree) -> int:
    """Print what differs; the number of differences that may not be."""
    ours, theirs = files(disturbed), files(expected)
    for name in sorted(ours.keys() - theirs.keys()):
        print(f"left over: {name}")
    for name in sorted(theirs.keys() - ours.keys()):
        print(f"missing: {name}")
    bad = len(ours.keys() ^ theirs.keys())
    kinds: Counter[str] = Counter()
    for name in sorted(ours.keys() & theirs.keys()):
        if name.startswith(VARYING) or Path(name).name in VARYING_NAMES:
            continue
        kind = "metrics.json" if Path(name).name == "metrics.json" else "other outputs"
        kinds[kind] += 1
        if ours[name].read_bytes() != theirs[name].read_bytes():
            print(f"differs: {name}")
            bad += 1
    print(", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())), "compared byte by byte")
    return bad


@click.command(help=__doc__)
@click.option("--kills", type=click.IntRange(1), default=20, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the moments.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep the two trees there.")
def main(kills: int, seed: int, folder: Path | None) -> None:
    place = folder or Path(tempfile.mkdtemp(prefix="codebackdoor-kills-"))
    reference, seconds = undisturbed(place / "undisturbed")
    print(f"undisturbed: {seconds:.0f} s, {len(files(reference))} files", flush=True)
    tree = copy_of_sources(place / "killed")
    begun = time.monotonic()
    counts = disturb(tree, kills, seconds, random.Random(seed))
    last = live(tree, 3600)
    assert last == 0, (tree.root / "run.log").read_text()[-4000:]
    print(f"{', '.join(f'{count} {kind}' for kind, count in counts.items())}; {time.monotonic() - begun:.0f} s in all")
    bad = compare(reference, tree)
    print("identical" if not bad else f"{bad} differences")
    if folder is None:
        shutil.rmtree(place)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
