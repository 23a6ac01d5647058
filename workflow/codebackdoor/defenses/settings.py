"""Settings that several kinds of defenses share."""

from __future__ import annotations

from typing import Annotated, TypeVar

T = TypeVar("T")
#: Marks a field that is read only by the decision, after measuring.
DECIDED = "decided"
Decided = Annotated[T, DECIDED]
