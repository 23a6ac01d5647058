"""The settings of a method as a caller of the library supplies them: a mapping, or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from codebackdoor.errors import nearest


def check_known(options: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise TypeError for an option that a function does not have, as Python would for a keyword argument."""
    for name in options:
        if name not in known:
            raise TypeError(f"unknown option {name!r}{nearest(name, known)}")


def completed(
    settings: Mapping[str, Any] | str, defaults: Mapping[str, Any], fixed: Mapping[str, Any] | None = None
) -> str:
    """The settings as JSON, with ``defaults`` for keys that they lack, and ``fixed`` values instead of their own.

    Text that is not a JSON object is returned unchanged, for the parser to refuse.
    """
    text = settings if isinstance(settings, str) else json.dumps(dict(settings))
    try:
        content = json.loads(text)
    except ValueError:
        return text
    return json.dumps({**defaults, **content, **(fixed or {})}) if isinstance(content, dict) else text
