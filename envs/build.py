"""Build the environment: a virtual environment of the calling Python with every pinned package. `make` calls it.

    python envs/build.py FOLDER

Two at once wait for each other. What was built for other pins, or was not finished, is removed first.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PINS = HERE / "requirements.txt"
#: The last file that is written.
STAMP = ".packages"


def build(folder: Path) -> None:
    stamp = folder / STAMP
    lock = os.open(HERE, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another make builds the environment: waiting for it", file=sys.stderr)
        fcntl.flock(lock, fcntl.LOCK_EX)
    if stamp.is_file() and stamp.stat().st_mtime >= PINS.stat().st_mtime:
        return
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    # the first job that imports a module compiles it for all others: pip would compile thousands that none imports
    pip = [str(folder / "bin/pip"), "install", "--quiet", "--no-compile"]
    subprocess.run([*pip, "--requirement", str(PINS)], check=True)
    stamp.touch()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        build(Path(sys.argv[1]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"the environment could not be built: `{' '.join(map(str, error.cmd[:4]))} ...` failed; see above")
