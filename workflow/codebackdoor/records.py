"""What Snakemake knows of a run's outputs, kept beside them: it travels with the run.

Snakemake decides by its records (``.snakemake/metadata``: parameters, code, inputs and their checksums of each output)
and by modification times. A copy of the outputs has neither: their times are in arbitrary order, and where there is no
record, a changed parameter reruns nothing.
"""

from __future__ import annotations

import json
import os
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from codebackdoor.errors import UserError
from codebackdoor.files import read_rows, write_rows

#: The file of the records, in the folder of a run.
NAME = "records.jsonl"
#: What a restored file was last modified at, in seconds since the epoch. All alike: no output is newer than another.
#: Long ago: every source file is newer, and of those Snakemake compares the checksums with the recorded ones.
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
_KINDS = ("metadata", "incomplete")


def keep(out: Path, folder: Path = Path(".snakemake")) -> int:
    """Write Snakemake's record of every file below ``out`` to ``out/records.jsonl``; how many there are.

    ``out`` is named as in the configuration. Raises UserError where Snakemake has no record of the run.
    """
    found = []
    for path in _files(out) if folder.is_dir() else ():
        place = _place(folder / "metadata", str(path))
        if place.is_file():
            found.append({"output": str(path), "record": json.loads(place.read_text(encoding="utf-8"))})
    if not found:
        raise UserError(f"{out}: Snakemake has no record of a file there; make the run first")
    write_rows(out / NAME, found)
    return len(found)


def restore(out: Path, folder: Path = Path(".snakemake")) -> int:
    """Give Snakemake its records of ``out`` back, in place of what it has of those files; how many there are.

    Raises UserError where the run came without ``records.jsonl``.
    """
    records = {row["output"]: row["record"] for _, row in read_rows(out / NAME)}
    for kind in _KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for path in _files(out):
        # what is known of an earlier file of that name
        for kind in _KINDS:
            _place(folder / kind, str(path)).unlink(missing_ok=True)
        os.utime(path, (LONG_AGO, LONG_AGO))
    # also of files that do not travel (.dvcignore): without it, a change of their parameters would go unseen
    # a name of its own: that of a record may be as long as names can be
    handle, new = tempfile.mkstemp(dir=folder, prefix="restored.")
    os.close(handle)
    for output, record in records.items():
        place = _place(folder / "metadata", output)
        place.parent.mkdir(parents=True, exist_ok=True)
        Path(new).write_text(json.dumps(record), encoding="utf-8")
        Path(new).replace(place)
    Path(new).unlink(missing_ok=True)
    return len(records)


def _files(out: Path) -> Iterator[Path]:
    return (path for path in sorted(out.rglob("*")) if path.is_file() and path.name != NAME)


def _place(folder: Path, output: str) -> Path:
    """Where Snakemake 9 keeps what it knows of an output (``snakemake.persistence.file``).

    The name is the output's path in base64; one too long for a file name is cut into folders that begin with ``@``.
    """
    name, longest = urlsafe_b64encode(output.encode()).decode(), os.pathconf(folder.parent, "PC_NAME_MAX") - 1
    *parents, last = (name[start : start + longest] for start in range(0, len(name), longest))
    return folder.joinpath(*(f"@{parent}" for parent in parents), last)
