"""Tables of comma-separated values with a header, as many data sets are published."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from codebackdoor.errors import UserError, quoted
from codebackdoor.files import TEXT_BYTES, check_length, read_text


def table_rows(
    path: Path, columns: Sequence[str], may_be_blank: Collection[str] = ()
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield where each row begins (file and number of the row) and its values in these columns.

    Raises UserError for a file without one of the columns, for a row with more values than columns or without one of
    these, for a blank value unless the column is in ``may_be_blank``, and for a text that is too long.
    """
    reader = csv.DictReader(io.StringIO(read_text(path)), strict=True)
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"{path}: no column {quoted(missing[0])}; the first line must name {', '.join(columns)}")
    # above csv's default limit (131072), so that check_length reports an overlong text with its row and column
    limit = csv.field_size_limit(TEXT_BYTES)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise UserError(f"{path}: after line {reader.line_num}: not comma-separated values ({error})") from None
    finally:
        csv.field_size_limit(limit)
    for number, row in enumerate(rows, 1):
        where = f"{path}: row {number}"
        if None in row:
            raise UserError(f"{where}: more values than columns; put a value that contains a comma in quotes")
        yield where, {column: _value(row[column], column, where, column in may_be_blank) for column in columns}


def _value(value: str | None, column: str, where: str, may_be_blank: bool) -> str:
    if value is None or not (may_be_blank or value.strip()):
        raise UserError(f"{where}: column {column!r} is blank")
    check_length(value, column, where)
    return value
