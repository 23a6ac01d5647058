"""Defenses that rewrite a test input before the victim reads it.

A method is a folder with ``settings.py`` and ``method.py``, which has ``build(view, settings, seed) -> Purifier``, and
an entry in ``config/methods.py``. A method that keeps its evidence (``settings.EvidenceSettings``) also has
``source(view, settings) -> EvidenceSource`` and ``decider(view, settings, seed, kept) -> EvidencePurifier``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from codebackdoor.loader import implementation
from codebackdoor.types import Example, Purified

if TYPE_CHECKING:
    from codebackdoor.config.methods import AnyPurification
    from codebackdoor.defenses.views import DefenderView, TextView


class Purifier(Protocol):
    """Rewrites inputs one by one: the result for an input depends on no other input, nor on earlier calls.

    The stages check this, and give each call a fresh copy (by pickle) of the purifier; a method derives any randomness
    from the seed and the input. Inputs have no label, no target and an opaque id, and their order carries no
    information. The result has one row per input, in the same order.
    """

    def purify(self, inputs: Sequence[Example]) -> list[Purified]: ...


class SpanRemover(Purifier, Protocol):
    """A purifier that also removes what another method finds, in the way in which it removes what it finds itself."""

    def remove(self, text: str, spans: Sequence[tuple[int, int]]) -> str:
        """The text without disjoint spans, which are in order."""
        ...


class EvidenceSource(Protocol):
    """What a purification measures by asking the victim, or reads from the files of an earlier job.

    The evidence on an input is JSON-serializable and depends on that input only; floats in it are rounded.
    """

    def evidence(self, inputs: Sequence[Example]) -> Sequence[Mapping[str, Any]]: ...


class EvidencePurifier(Purifier, Protocol):
    """A purifier that decides by the evidence of ``source`` and asks no victim itself.

    ``source`` is set for each test set. Evidence read from a file must lead to the same decision: it is rounded before
    it is written, and nothing depends on types that JSON does not have.
    """

    source: EvidenceSource


class BuildPurifier(Protocol):
    """``build`` of a method: a purifier calibrated on ``view.clean``, the clean validation split.

    ``view`` is a DefenderView, or a TextView for a method whose settings say ``reads_victim = False``.
    """

    def __call__(self, view: Any, settings: AnyPurification, seed: int) -> Purifier: ...


class BuildSource(Protocol):
    """``source`` of a method that keeps its evidence: what measures it."""

    def __call__(self, view: DefenderView, settings: Any) -> EvidenceSource: ...


class BuildDecider(Protocol):
    """``decider`` of a method that keeps its evidence: a purifier that decides by the evidence of an earlier job."""

    def __call__(self, view: TextView, settings: Any, seed: int, kept: EvidenceSource) -> EvidencePurifier: ...


def load(method: str) -> BuildPurifier:
    build: BuildPurifier = implementation(__name__, method).build
    return build


def load_source(method: str) -> BuildSource:
    source: BuildSource = implementation(__name__, method).source
    return source


def load_decider(method: str) -> BuildDecider:
    decider: BuildDecider = implementation(__name__, method).decider
    return decider
