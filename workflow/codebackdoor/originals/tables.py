"""Tables of comma-separated values with a header, as many data sets are published."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from codebackdoor.errors import UserError, quoted
from codebackdoor.files import check_length, read_text


def table_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield where each row begins (file and number of the row) and its values in these columns, none of them blank.

    Raises UserError for a file without one of the columns, for a row without a value, and for a text that is too long.
    """
    reader = csv.DictReader(io.StringIO(read_text(path)), strict=True)
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"{path}: no column {quoted(missing[0])}; the first line must name {', '.join(columns)}")
    try:
        for number, row in enumerate(reader, 1):
            where = f"{path}: row {number}"
            yield where, {column: _value(row.get(column), column, where) for column in columns}
    except csv.Error as error:
        raise UserError(f"{path}: after line {reader.line_num}: not comma-separated values ({error})") from None


def _value(value: str | None, column: str, where: str) -> str:
    if value is None or not value.strip():
        raise UserError(f"{where}: column {column!r} is blank")
    check_length(value, column, where)
    return value
