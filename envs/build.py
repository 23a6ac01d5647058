"""Build the environment: a virtual environment of the calling Python with every pinned package, and the project itself.

    python envs/build.py FOLDER                 # what `make` does before anything else
    python envs/build.py FOLDER --extra NAME    # beside these, the pins of requirements-NAME.txt

What is there already is left as it is. Two at once wait for each other. An environment of other pins, or one that was
not finished, is removed first, but not under the jobs of a run.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
PINS, SETTINGS = HERE / "requirements.txt", PROJECT / "pyproject.toml"
#: Files in the environment that are written last: by the packages, and by the project.
PACKAGES, COMPLETE = ".packages", ".complete"
BUSY = """\
the environment is to be built anew, but a run is at work in this folder, and its jobs need the one that is there: \
wait for it. If it was killed: {folder}/bin/codebackdoor orphans && {folder}/bin/snakemake --unlock"""
#: As measured with an index of CPU wheels (workflow/codebackdoor/costs/local.json).
COST = "about 1.5 GB and 2 minutes; without CPU wheels of torch several GB more"


def build(folder: Path) -> None:
    """Install packages and project, each where its stamp is missing or older than what it was made from."""
    fresh = _is_newer(folder / PACKAGES, PINS)
    if fresh and _is_newer(folder / COMPLETE, SETTINGS, folder / PACKAGES):
        return
    locks = PROJECT / ".snakemake/locks"
    if (folder / COMPLETE).is_file() and locks.is_dir() and any(locks.iterdir()):
        sys.exit(BUSY.format(folder=folder))
    if not fresh:
        _say(f"building the environment in {folder} ({COST})")
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        _install(folder, "--requirement", str(PINS))
        (folder / PACKAGES).touch()
    _say("installing the project itself")
    _install(folder, "--no-deps", "--no-build-isolation", "--editable", str(PROJECT))
    (folder / COMPLETE).touch()


def add(folder: Path, extra: str) -> None:
    """Install further packages into an environment that is built."""
    pins, stamp = HERE / f"requirements-{extra}.txt", folder / f".{extra}"
    if not _is_newer(stamp, pins, folder / COMPLETE):
        _say(f"installing what only some commands need: {pins.name}")
        _install(folder, "--no-deps", "--requirement", str(pins))
        stamp.touch()


def _is_newer(stamp: Path, *sources: Path) -> bool:
    return stamp.is_file() and all(stamp.stat().st_mtime >= source.stat().st_mtime for source in sources)


def _install(folder: Path, *what: str) -> None:
    # the first job that imports a module compiles it for all others: pip would compile thousands that none imports
    subprocess.run([str(folder / "bin/pip"), "install", "--quiet", "--no-compile", *what], check=True)


def _say(text: str) -> None:
    """On standard error and at once: pip says nothing for minutes, and `make plan` reads standard output."""
    print(text, file=sys.stderr, flush=True)


def _wait_for_others() -> None:
    """Take the lock of this folder; it ends with the process."""
    lock = os.open(HERE, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _say("another make builds the environment: waiting for it")
        fcntl.flock(lock, fcntl.LOCK_EX)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--extra", metavar="NAME")
    given = parser.parse_args()
    _wait_for_others()
    try:
        add(given.folder, given.extra) if given.extra else build(given.folder)
    except subprocess.CalledProcessError as error:
        sys.exit(f"the environment could not be built: `{' '.join(map(str, error.cmd[:4]))} ...` failed; see above")
