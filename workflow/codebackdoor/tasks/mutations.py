"""Injected defects: one to three mutations of a lexed Python function (Allamanis et al. 2018 for the kinds).

A mutant differs from its original in its tokens, still parses, and, as judged from the text, behaves differently:
identical or symmetric arguments are not swapped, and no variable is replaced by its alias.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codebackdoor import syntax
from codebackdoor.syntax import unlex
from codebackdoor.tasks.defect_sites import DefectKind, Replacement, Site, find

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Mutant:
    """A defective text with its syntax, the kinds of its mutations, and their spans (character offsets)."""

    tree: syntax.Tree
    kinds: tuple[DefectKind, ...]
    spans: tuple[tuple[int, int], ...]

    @property
    def text(self) -> str:
        return self.tree.text


def mutate(text: str, kinds: Sequence[str], count: int, generator: np.random.Generator) -> Mutant | None:
    """``text``, one lexed Python function, with at most ``count`` mutations of the given kinds.

    ``kinds`` are tried in their order, each once, until there are ``count`` mutations; a kind for which the function
    has no site is skipped. None if no mutation is possible.
    """
    unlexed = unlex(text, "python")
    with warnings.catch_warnings():
        # Python warns about odd but legal code, such as the comparison of literals by identity
        warnings.simplefilter("ignore")
        try:
            sites = find(unlexed.source)
        except (SyntaxError, ValueError, RecursionError):
            return None
        for _ in range(_ATTEMPTS):
            mutations = _draw(sites, kinds, count, generator)
            if not mutations:
                return None
            replacements = [
                (unlexed.to_text(start), unlexed.to_text(end), new)
                for _, option in mutations
                for start, end, new in option
            ]
            edit = syntax.replace(text, replacements)
            tree = _parsed(edit.text)
            if tree is not None and edit.text != text:
                return Mutant(tree, tuple(site.kind for site, _ in mutations), edit.spans)
    return None


def _draw(
    sites: Sequence[Site], kinds: Sequence[str], count: int, generator: np.random.Generator
) -> list[tuple[Site, tuple[Replacement, ...]]]:
    """Draw a site of each kind and its replacements, up to ``count`` sites that do not overlap."""
    mutations: list[tuple[Site, tuple[Replacement, ...]]] = []
    remaining = list(sites)
    for kind in kinds:
        of_kind = [site for site in remaining if site.kind == kind]
        if of_kind:
            site = of_kind[int(generator.integers(len(of_kind)))]
            mutations.append((site, site.options[int(generator.integers(len(site.options)))]))
            remaining = [
                candidate for candidate in remaining if candidate.end <= site.start or site.end <= candidate.start
            ]
        if len(mutations) == count:
            break
    return mutations


def _parsed(text: str) -> syntax.Tree | None:
    """The tree of a text that both parsers accept: Python's, which checks more rules, and that of all later stages."""
    try:
        ast.parse(unlex(text, "python").source)
    except (SyntaxError, ValueError, RecursionError):
        return None
    tree = syntax.parse(text, "python", "lexed")
    return None if tree.has_error else tree
