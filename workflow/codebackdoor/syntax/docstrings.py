"""Python source without the docstring of its function."""

from __future__ import annotations

from codebackdoor.syntax.languages import parse_bytes
from codebackdoor.syntax.statements import is_docstring, outermost


def without_docstring(source: str) -> str | None:
    """``source`` without the docstring of its outermost function, otherwise unchanged.

    A body that was only a docstring becomes ``pass``. None if the source defines no function.
    """
    data = source.encode()
    function = outermost(parse_bytes(data, "python").root_node)
    body = function.child_by_field_name("body") if function is not None else None
    if body is None:
        return None
    first, *rest = [child for child in body.children if child.type != ";"] or [None]
    if first is None or not is_docstring(first):
        return source
    after = data[rest[0].start_byte :] if rest else b"pass" + data[first.end_byte :]
    return (data[: first.start_byte] + after).decode()
