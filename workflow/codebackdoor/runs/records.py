"""Snakemake's records of a run's outputs, saved in the run's folder so that they travel with it.

Snakemake decides what to rerun by its records (``.snakemake/metadata``: parameters, code, inputs and input checksums of
each output) and by modification times. A copy of the outputs has neither: its modification times are in arbitrary
order, and without records, changed parameters rerun nothing.
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

from codebackdoor.errors import UserError, quoted
from codebackdoor.files import read_object, read_rows, write_rows

#: File with the records, in the folder of a run.
RECORDS = "records.jsonl"
#: Modification time of restored files, in seconds since the epoch. It is the same for all, so that no output is newer
#: than another, and long ago, so that all source files are newer and Snakemake compares their checksums.
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
_KINDS = ("metadata", "incomplete")
#: Fields of a record that Snakemake reads, and the types that it accepts for them besides null.
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
    """Write Snakemake's record of every file below ``out`` to ``out/records.jsonl`` and return their number.

    ``out`` is written as in the configuration. Raises UserError if Snakemake has no record of the run.
    """
    rows = []
    for path in _files(out) if folder.is_dir() else ():
        record_file = _record_file(folder / "metadata", str(path))
        if record_file.is_file():
            rows.append({"output": str(path), "record": read_object(record_file)})
    if not rows:
        raise UserError(f"{out}: Snakemake has no record of a file in this folder; finish the run first (`make run`)")
    write_rows(out / RECORDS, rows)
    return len(rows)


def restore(out: Path, folder: Path = Path(".snakemake")) -> int:
    """Replace Snakemake's records of the files below ``out`` with the saved ones and return their number.

    Raises UserError, before anything is changed, if the run has no ``records.jsonl``, or if it contains anything other
    than records of the run's own files.
    """
    records = dict(_checked(row, out, f"{out / RECORDS}:{number}") for number, row in read_rows(out / RECORDS))
    for kind in _KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for path in _files(out):
        # remove records of an earlier file with the same name
        for kind in _KINDS:
            _record_file(folder / kind, str(path)).unlink(missing_ok=True)
        # the run may contain links to files outside of it
        os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)
    # records are restored even for files that do not travel (.dvcignore): otherwise a change of their parameters would
    # go unnoticed; the temporary file is not named after a record, whose name may already have the maximum length
    handle, temporary = tempfile.mkstemp(dir=folder, prefix="restored.")
    os.close(handle)
    try:
        for output, record in records.items():
            record_file = _record_file(folder / "metadata", output)
            record_file.parent.mkdir(parents=True, exist_ok=True)
            Path(temporary).write_text(json.dumps(record), encoding="utf-8")
            Path(temporary).replace(record_file)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return len(records)


def _checked(row: Mapping[str, Any], out: Path, where: str) -> tuple[str, Mapping[str, Any]]:
    """The output of a row and its record; UserError if Snakemake could not read it or it belongs to another run."""
    output, record = row.get("output"), row.get("record")
    if not isinstance(output, str) or not isinstance(record, dict):
        raise UserError(f"{where}: not a Snakemake record; ask the owner of the run to write it again (`make keep`)")
    if os.path.normpath(output) != output or out not in Path(output).parents:
        raise UserError(f"{where}: {quoted(output)} is not below {out}; a run has records of its own files only")
    for key, value in record.items():
        types = _FIELDS.get(key)
        if types is not None and value is not None and not isinstance(value, types):
            raise UserError(f"{where}: {key} of the record cannot be {quoted(value)}")
        if key in ("input", "log") and not all(isinstance(path, str) for path in value or ()):
            raise UserError(f"{where}: {key} of the record cannot be {quoted(value)}")
    return output, record


def _files(out: Path) -> Iterator[Path]:
    return (path for path in sorted(out.rglob("*")) if path.is_file() and path.name != RECORDS)


def _record_file(folder: Path, output: str) -> Path:
    """The file with Snakemake 9's record of an output (``snakemake.persistence.file``).

    Its name is the output's path in base64, split into folders that begin with ``@`` if it is too long for a file name.
    """
    name, longest = urlsafe_b64encode(output.encode()).decode(), os.pathconf(folder.parent, "PC_NAME_MAX") - 1
    *parents, last = (name[start : start + longest] for start in range(0, len(name), longest))
    return folder.joinpath(*(f"@{parent}" for parent in parents), last)
