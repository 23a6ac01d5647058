"""Reading and writing rows and JSON: files are written completely or not at all; errors name the line of the input.

Only regular files of limited size are read; JSON is parsed by ``parsing``.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, TypeVar, get_args

from codebackdoor.errors import UserError, nearest, quoted
from codebackdoor.parsing import parse_json
from codebackdoor.types import Example, Language, Poisoned, Span, Status

T = TypeVar("T")

#: The file of a model folder with the checksums of its other files, in the format of ``sha256sum``.
CHECKSUMS = "SHA256SUMS"

#: Maximum size in bytes of a text, a JSON document and a row; those of this project and of checkpoints are far smaller.
TEXT_BYTES, DOCUMENT_BYTES, ROW_BYTES = 1 << 30, 1 << 26, 1 << 24
#: Maximum characters of a text and of an identifier, and the largest label (a head has a row of weights per label).
TEXT_LENGTH, ID_LENGTH, LABEL = 10**6, 1000, 10**4

_FIELDS: dict[str, type] = {
    "id": str,
    "language": str,
    "code": str,
    "code_b": str,
    "query": str,
    "label": int,
    "target": str,
}


@contextmanager
def atomic(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file next to ``path`` and rename it into place when the block ends without an error.

    Files left by a killed writer are removed; if the writer is still alive, it fails instead of corrupting this output.
    Raises UserError if ``path`` exists and is not a regular file: devices and links are not replaced.
    """
    refuse_special(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_parts(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        encoding = None if "b" in mode else "utf-8"
        with os.fdopen(handle, mode, encoding=encoding) as stream:
            yield stream
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def refuse_special(path: Path) -> None:
    """Raise UserError if an output file is a folder, a link, a pipe or a device."""
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        raise UserError(f"{path}: exists and is not a regular file; use another path")


def remove_parts(path: Path) -> None:
    """Remove the temporary files and folders that killed writers left next to ``path``."""
    prefix, suffix = f".{path.name}.", ".part"
    for left in path.parent.glob(f"{glob.escape(prefix)}*{suffix}"):
        if "." in left.name[len(prefix) : -len(suffix)]:
            # of another output, whose name begins with this one's; its writer may be alive
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with _regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def dump(value: object) -> str:
    """Serialize canonically: sorted keys, no NaN, so that equal values give equal bytes."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, value: object) -> None:
    with atomic(path) as stream:
        stream.write(dump(value))


def read_json(path: Path) -> Any:
    """The value of a JSON file; UserError, with the line if possible, if it cannot be read."""
    return parse_json(_decoded(read_bytes(path, DOCUMENT_BYTES), path), str(path), numbered=True)


def read_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file, such as a model's config.json."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object, not {quoted(value)}")
    return value


def read_text(path: Path, limit: int = TEXT_BYTES) -> str:
    """The text of a file that a user named, with line ends as ``\\n``; UserError if it cannot be read."""
    return _decoded(read_bytes(path, limit), path).replace("\r\n", "\n").replace("\r", "\n")


def _decoded(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 ({error.reason}); save it as UTF-8") from None


def read_bytes(path: Path, limit: int = TEXT_BYTES) -> bytes:
    """The content of a regular file of at most ``limit`` bytes; UserError for anything else."""
    with _regular(path) as stream:
        # files in /proc report size 0
        data = stream.read(limit + 1) if os.fstat(stream.fileno()).st_size <= limit else None
    if data is None or len(data) > limit:
        raise UserError(f"{path}: larger than the maximum of {limit >> 20} MiB; use another file")
    return data


@contextmanager
def _regular(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file; reading a device may never end, and a pipe may wait for a writer forever."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise UserError(f"{path}: is {_kind(mode)}, not a file")
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        raise _unreadable(path, error) from None


def _kind(mode: int) -> str:
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a named pipe", stat.S_ISSOCK: "a socket"}
    return next((name for test, name in kinds.items() if test(mode)), "a device")


def _unreadable(path: Path, error: OSError) -> Exception:
    """The error for a file that cannot be read."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return UserError(f"{path}: no such file")
    if isinstance(error, PermissionError):
        return UserError(f"{path}: permission denied; check the permissions of the file")
    return UserError(f"{path}: cannot be read ({error.strerror})")


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write JSON Lines; keys keep their order, absent optional values are left out by the caller."""
    with atomic(path) as stream:
        for row in rows:
            stream.write(json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n")


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSON Lines file; a line that is not an object is a UserError."""
    with _regular(path) as stream:
        for number, line in enumerate(iter(partial(stream.readline, ROW_BYTES + 1), b""), 1):
            where = f"{path}:{number}"
            if len(line) > ROW_BYTES:
                raise UserError(f"{where}: the line is longer than {ROW_BYTES >> 20} MiB; write one object per line")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"{where}: not UTF-8 ({error.reason}); save it as UTF-8") from None
            if not text.strip():
                continue
            row = parse_json(text, where, "; write one object per line")
            if not isinstance(row, dict):
                raise UserError(f"{where}: expected an object with 'id', 'language' and 'code'")
            yield number, row


def check_length(text: str, key: str, where: str, limit: int = TEXT_LENGTH) -> None:
    """Raise UserError if a text of a row is too long for a function, a query or an identifier."""
    if len(text) > limit:
        raise UserError(f"{where}: field {key!r} has {len(text)} characters; the maximum is {limit}")


def number_of(row: Mapping[str, Any], line: int, where: str) -> str:
    """The number of a row of CodeXGLUE (``idx``, or else the line number), for use in an identifier."""
    number = row.get("idx", line)
    if isinstance(number, bool) or not isinstance(number, int | str):
        raise UserError(f"{where}: field 'idx' must be a number or a string, not {quoted(number)}")
    check_length(str(number), "idx", where, ID_LENGTH)
    return str(number)


def checked(row: dict[str, Any], where: str) -> Example:
    for key, value in row.items():
        if key not in _FIELDS:
            raise UserError(f"{where}: unknown field {quoted(key)}{nearest(key, _FIELDS)}")
        expected = _FIELDS[key]
        if value is not None and (not isinstance(value, expected) or isinstance(value, bool)):
            raise UserError(
                f"{where}: field {key!r} must be {expected.__name__}, not {type(value).__name__}: {quoted(value)}"
            )
    for key in ("id", "language") if row.get("query") is not None else ("id", "language", "code"):
        if row.get(key) is None:
            raise UserError(f"{where}: field {key!r} is missing")
    check_length(row["id"], "id", where, ID_LENGTH)
    # the parsers take seconds for a million characters
    for key in ("code", "code_b", "query", "target"):
        check_length(row.get(key) or "", key, where)
    if abs(row.get("label") or 0) > LABEL:
        raise UserError(f"{where}: field 'label' is {quoted(row['label'])}; labels count from 0, to {LABEL} at most")
    if row["language"] not in get_args(Language):
        raise UserError(
            f"{where}: unknown language {quoted(row['language'])}{nearest(row['language'], get_args(Language))}"
        )
    return Example(**{**row, "code": row.get("code") or ""})


def empty(example: Example) -> str | None:
    """Return a message if a text of a supplied example is blank; otherwise None."""
    texts = [*example.texts.items(), ("target", example.target)]
    blank = next((key for key, text in texts if text is not None and not text.strip()), None)
    return f"field {blank!r} is blank; add the text, or remove the row" if blank else None


def _read_checked(path: Path, convert: Callable[[dict[str, Any], str], T]) -> list[T]:
    rows = [convert(row, f"{path}:{number}") for number, row in read_rows(path)]
    if not rows:
        raise UserError(f"{path}: the data set is empty; it needs at least one row")
    return rows


def read_examples(path: Path) -> list[Example]:
    """Read a data set; UserError names file, line and field of a malformed row."""
    return _read_checked(path, checked)


def example_row(example: Example) -> dict[str, object]:
    """The fields that the example has; a row with nothing but a query has no key ``code``."""
    texts = example.texts
    return {
        key: value for key, value in asdict(example).items() if value is not None and (key != "code" or key in texts)
    }


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    write_rows(path, (example_row(example) for example in examples))


def poisoned_row(row: Poisoned) -> dict[str, object]:
    """The example's fields and, under other names, its provenance; draws are included if an attack recorded them."""
    provenance = {
        "source_id": row.source_id,
        "attack": row.attack,
        "status": row.status,
        "original_label": row.original_label,
        "original_target": row.original_target,
        "spans": [[span.field, span.start, span.end] for span in row.spans],
    }
    return example_row(row.example) | provenance | ({"draws": row.draws} if row.draws else {})


def _poisoned(row: dict[str, Any], where: str) -> Poisoned:
    fields = {key: value for key, value in row.items() if key in _FIELDS}
    try:
        spans = tuple(Span(int(start), int(end), name) for name, start, end in row["spans"])
        if row["status"] not in get_args(Status):
            raise ValueError(f"unknown status {quoted(row['status'])}")
        return Poisoned(
            example=checked(fields, where),
            source_id=str(row["source_id"]),
            attack=str(row["attack"]),
            status=row["status"],
            original_label=row["original_label"],
            original_target=row["original_target"],
            spans=spans,
            draws={name: dict(draw) for name, draw in row.get("draws", {}).items()},
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where}: not a poisoned row ({error})") from None


def read_poisoned(path: Path) -> list[Poisoned]:
    return _read_checked(path, _poisoned)


def read_mixed(path: Path) -> list[Example | Poisoned]:
    """Read rows that may include poisoned ones: a poisoned training set, or any test set."""
    return _read_checked(path, lambda row, where: (_poisoned if "source_id" in row else checked)(row, where))
