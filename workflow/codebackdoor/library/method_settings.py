"""The settings of a method as a caller of the library supplies them: a mapping, or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


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
