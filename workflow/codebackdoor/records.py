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
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from codebackdoor.errors import UserError, shown
from codebackdoor.files import read_object, read_rows, write_rows

#: The file of the records, in the folder of a run.
NAME = "records.jsonl"
#: What a restored file was last modified at, in seconds since the epoch. All alike: no output is newer than another.
#: Long ago: every source file is newer, and of those Snakemake compares the checksums with the recorded ones.
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
_KINDS = ("metadata", "incomplete")
#: Fields of a record by which Snakemake decides, and what it takes in them beside null.
_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("rule", "shellcmd", "code", "conda_env", "container_img_url", "software_stack_hash"), str),
    **dict.fromkeys(("input", "log", "params"), list),
    **dict.fromkeys(("record_format_version", "job_hash"), int),
    **dict.fromkeys(("starttime", "endtime"), (int, float)),
    "incomplete": bool,
    "external_jobid": str,
    "input_checksums": dict,
}


def keep(out: Path, folder: Path = Path(".snakemake")) -> int:
    """Write Snakemake's record of every file below ``out`` to ``out/records.jsonl``; how many there are.

    ``out`` is named as in the configuration. Raises UserError where Snakemake has no record of the run.
    """
    found = []
    for path in _files(out) if folder.is_dir() else ():
        place = _place(folder / "metadata", str(path))
        if place.is_file():
            found.append({"output": str(path), "record": read_object(place)})
    if not found:
        raise UserError(f"{out}: Snakemake has no record of a file there; make the run first")
    write_rows(out / NAME, found)
    return len(found)


def restore(out: Path, folder: Path = Path(".snakemake")) -> int:
    """Give Snakemake its records of ``out`` back, in place of what it has of those files; how many there are.

    Raises UserError, before anything is changed, where the run came without ``records.jsonl``, or with one that has
    something else than records of its own files.
    """
    records = dict(_checked(row, out, f"{out / NAME}:{number}") for number, row in read_rows(out / NAME))
    for kind in _KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for path in _files(out):
        # what is known of an earlier file of that name
        for kind in _KINDS:
            _place(folder / kind, str(path)).unlink(missing_ok=True)
        # the run may hold links to files of others
        os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)
    # also of files that do not travel (.dvcignore): without it, a change of their parameters would go unseen
    # a name of its own: that of a record may be as long as names can be
    handle, new = tempfile.mkstemp(dir=folder, prefix="restored.")
    os.close(handle)
    try:
        for output, record in records.items():
            place = _place(folder / "metadata", output)
            place.parent.mkdir(parents=True, exist_ok=True)
            Path(new).write_text(json.dumps(record), encoding="utf-8")
            Path(new).replace(place)
    finally:
        Path(new).unlink(missing_ok=True)
    return len(records)


def _checked(row: Mapping[str, Any], out: Path, where: str) -> tuple[str, Mapping[str, Any]]:
    """The output of a row and its record; UserError for a record that Snakemake could not read, or of another run."""
    output, record = row.get("output"), row.get("record")
    if not isinstance(output, str) or not isinstance(record, dict):
        raise UserError(f"{where}: not a record of Snakemake; have the run's owner write it again (`make keep`)")
    if os.path.normpath(output) != output or out not in Path(output).parents:
        raise UserError(f"{where}: {shown(output)} is no file below {out}; a run has records of its own files only")
    for key, value in record.items():
        kinds = _FIELDS.get(key)
        if kinds is not None and value is not None and not isinstance(value, kinds):
            raise UserError(f"{where}: the record's {key} cannot be {shown(value)}")
        if key in ("input", "log") and not all(isinstance(path, str) for path in value or ()):
            raise UserError(f"{where}: the record's {key} cannot be {shown(value)}")
    return output, record


def _files(out: Path) -> Iterator[Path]:
    return (path for path in sorted(out.rglob("*")) if path.is_file() and path.name != NAME)


def _place(folder: Path, output: str) -> Path:
    """Where Snakemake 9 keeps what it knows of an output (``snakemake.persistence.file``).

    The name is the output's path in base64; one too long for a file name is cut into folders that begin with ``@``.
    """
    name, longest = urlsafe_b64encode(output.encode()).decode(), os.pathconf(folder.parent, "PC_NAME_MAX") - 1
    *parents, last = (name[start : start + longest] for start in range(0, len(name), longest))
    return folder.joinpath(*(f"@{parent}" for parent in parents), last)
