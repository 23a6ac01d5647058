"""Defenses that rewrite a test input before the victim reads it, and how one is found by its method's name."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol, cast

from codebackdoor.config.purifications import AnyPurification
from codebackdoor.types import Example, Purified


class Purifier(Protocol):
    """Rewrites inputs one by one: what comes out for an input depends on no other, nor on earlier calls.

    The stages check that, and give each call to a copy (by pickle) of what was built; chance, where a method needs
    any, is derived from the seed and the input. Inputs carry no label, no target and an opaque id, and their order says
    nothing. The result has one row per input, in the same order.
    """

    def purify(self, inputs: Sequence[Example]) -> list[Purified]: ...


class Build(Protocol):
    """``build`` of a method's module: a purifier calibrated on ``view.clean``, the clean validation split.

    ``view`` is a DefenderView, or a TextView for a method whose settings say ``reads_victim = False``.
    """

    def __call__(self, view: Any, settings: AnyPurification, seed: int) -> Purifier: ...


def load(method: str) -> Build:
    module = importlib.import_module(f"{__name__}.{method}")
    return cast(Build, module.build)
