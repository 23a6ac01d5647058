"""Injected defects: one to three slips in a lexed Python function (Allamanis et al. 2018 for the kinds).

A mutant differs from its original in its tokens, still parses, and is a real change as far as that can be read off
the text: identical or symmetric arguments are not exchanged, and no variable is replaced by its alias.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codebackdoor import syntax
from codebackdoor.syntax import unlex
from codebackdoor.tasks.defect_sites import Kind, Replacement, Site, find

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Mutant:
    """A defective text with its syntax, the kinds of its slips, and where they stand (character offsets)."""

    tree: syntax.Tree
    kinds: tuple[Kind, ...]
    spans: tuple[tuple[int, int], ...]

    @property
    def text(self) -> str:
        return self.tree.text


def mutate(text: str, kinds: Sequence[str], count: int, generator: np.random.Generator) -> Mutant | None:
    """Return ``text``, one lexed Python function, with at most ``count`` slips of the given kinds.

    ``kinds`` are tried in their order, each once, until there are ``count`` slips; a kind that the function has no
    place for is passed over. None where not one slip can be made.
    """
    unlexed = unlex(text, "python")
    with warnings.catch_warnings():
        # Python warns of odd but legal code, such as the comparison of literals by identity
        warnings.simplefilter("ignore")
        try:
            places = find(unlexed.source)
        except (SyntaxError, ValueError, RecursionError):
            return None
        for _ in range(_ATTEMPTS):
            chosen = _draw(places, kinds, count, generator)
            if not chosen:
                return None
            replacements = [
                (unlexed.to_text(start), unlexed.to_text(end), new)
                for _, option in chosen
                for start, end, new in option
            ]
            edit = syntax.replace(text, replacements)
            tree = _parsed(edit.text)
            if tree is not None and edit.text != text:
                return Mutant(tree, tuple(site.kind for site, _ in chosen), edit.spans)
    return None


def _draw(
    places: Sequence[Site], kinds: Sequence[str], count: int, generator: np.random.Generator
) -> list[tuple[Site, tuple[Replacement, ...]]]:
    """Draw a place of each kind and what happens to it, up to ``count`` places that do not overlap."""
    chosen: list[tuple[Site, tuple[Replacement, ...]]] = []
    left = list(places)
    for kind in kinds:
        of_kind = [site for site in left if site.kind == kind]
        if of_kind:
            site = of_kind[int(generator.integers(len(of_kind)))]
            chosen.append((site, site.options[int(generator.integers(len(site.options)))]))
            left = [other for other in left if other.end <= site.start or site.end <= other.start]
        if len(chosen) == count:
            break
    return chosen


def _parsed(text: str) -> syntax.Tree | None:
    """The tree of a text that both parsers take: Python's own, which knows more rules, and that of all later stages."""
    try:
        ast.parse(unlex(text, "python").source)
    except (SyntaxError, ValueError, RecursionError):
        return None
    tree = syntax.parse(text, "python", "lexed")
    return None if tree.has_error else tree
