"""Build the environment: a virtual environment of the calling Python with every pinned package, and the project itself.

    python envs/build.py FOLDER                 # what `make` does before anything else
    python envs/build.py FOLDER --extra NAME    # adds the pins of requirements-NAME.txt

Packages are installed by uv, with pip's indexes, or by pip if uv is not available. A complete environment is left
unchanged. Concurrent builds wait for each other. An unfinished environment, or one with other pins, is removed first,
but not while a run uses it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
PINS, SETTINGS = HERE / "requirements.txt", PROJECT / "pyproject.toml"
#: Stamp files in the environment: all packages are installed, and the project is installed.
PACKAGES, COMPLETE = ".packages", ".complete"
BUSY = """\
the environment must be rebuilt, but a run in this folder still uses it: wait until the run has ended. \
If it was killed: {folder}/bin/codebackdoor orphans && {folder}/bin/snakemake --unlock"""
#: Measured with pip and an index of CPU wheels (workflow/codebackdoor/costs/local.json); uv takes less time.
COST = (
    "about 1.5 GB and 2 minutes; without CPU wheels of torch several GB more, unless you stop and run "
    "export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu"
)
#: Installs packages several times faster than pip; any recent version will do, because it installs pinned versions.
UV = "uv>=0.5"
#: Settings of pip (its files and environment variables) that uv must be told.
PIP_SETTINGS = re.compile(r"\.(index-url|extra-index-url|find-links|constraint)='(.*)'$", re.MULTILINE)


def build(folder: Path) -> None:
    """Install packages and project, each if its stamp is missing or older than its sources."""
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
        # without uv in the index, pip installs everything
        pip = [str(folder / "bin/pip"), "install", "--quiet", "--no-compile", UV]
        subprocess.run(pip, check=False, stderr=subprocess.DEVNULL)
        _install(folder, "--requirement", str(PINS))
        (folder / PACKAGES).touch()
    _say("installing the project itself")
    _install(folder, "--no-deps", "--no-build-isolation", "--editable", str(PROJECT))
    (folder / COMPLETE).touch()


def add(folder: Path, extra: str) -> None:
    """Install an extra's packages into a complete environment."""
    pins, stamp = HERE / f"requirements-{extra}.txt", folder / f".{extra}"
    if not _is_newer(stamp, pins, folder / COMPLETE):
        _say(f"installing what only some commands need: {pins.name}")
        _install(folder, "--no-deps", "--requirement", str(pins))
        stamp.touch()


def _is_newer(stamp: Path, *sources: Path) -> bool:
    return stamp.is_file() and all(stamp.stat().st_mtime >= source.stat().st_mtime for source in sources)


def _install(folder: Path, *arguments: str) -> None:
    uv = folder / "bin/uv"
    if uv.is_file():
        command = [str(uv), "pip", "install", "--quiet", "--python", str(folder / "bin/python"), *_indexes(folder)]
        if subprocess.run([*command, *arguments], check=False, env=_uv_environment()).returncode == 0:
            return
        _say("uv could not install this: trying pip")
    # without compiling: the first import of a module compiles it, and pip would compile thousands that are never used
    subprocess.run([str(folder / "bin/pip"), "install", "--quiet", "--no-compile", *arguments], check=True)


def _indexes(folder: Path) -> list[str]:
    """Options for uv: the indexes, folders of wheels and constraints that pip is configured to use."""
    command = [str(folder / "bin/pip"), "config", "list"]
    settings = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    pairs = ((name, value) for name, values in PIP_SETTINGS.findall(settings) for value in values.split())
    options = [part for name, value in dict.fromkeys(pairs) for part in (f"--{name}", value)]
    # like pip, search all indexes; the pins determine the version
    return [*options, "--index-strategy", "unsafe-best-match"]


def _uv_environment() -> dict[str, str]:
    """The environment with the certificates that pip is told to trust."""
    certificates = os.environ.get("PIP_CERT")
    return os.environ | ({"SSL_CERT_FILE": certificates} if certificates else {})


def _say(text: str) -> None:
    """Print to standard error, unbuffered: pip is silent for minutes, and `make plan` reads standard output."""
    print(text, file=sys.stderr, flush=True)


def _wait_for_others() -> None:
    """Take the lock of this folder, which is released when the process ends."""
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
    arguments = parser.parse_args()
    _wait_for_others()
    try:
        add(arguments.folder, arguments.extra) if arguments.extra else build(arguments.folder)
    except subprocess.CalledProcessError as error:
        sys.exit(f"the environment could not be built: `{' '.join(map(str, error.cmd[:4]))} ...` failed; see above")
