"""How settings classes mark the fields that only a decision reads, so that evidence can be shared."""

from __future__ import annotations

from typing import Annotated, TypeVar

T = TypeVar("T")
#: Marks a field that is read only by the decision, after measuring.
DECIDED = "decided"
Decided = Annotated[T, DECIDED]
