"""Import the implementation of a method by the method's name."""

from __future__ import annotations

import importlib
from typing import Any


def implementation(package: str, method: str) -> Any:
    """The module ``method`` in the folder of a method; ``package`` is the full name of the package of its kind."""
    return importlib.import_module(f"{package}.{method}.method")
