"""Checks of a configuration across sections, which no section can make alone; each yields a sentence per problem.

A check belongs in the module of what it is about: ``references``, ``controls``, ``combinations`` or ``products``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from codebackdoor.config.checks import combinations, controls, products, references

if TYPE_CHECKING:
    from codebackdoor.config.study import Config


def problems(config: Config) -> list[str]:
    """What is wrong with a configuration; combinations are checked once all names are declared."""
    undeclared = list(dict.fromkeys(_declarations(config)))
    return undeclared or list(dict.fromkeys(_uses(config)))


def _declarations(config: Config) -> Iterator[str]:
    yield from references.undeclared(config)
    yield from references.impossible_homes(config)
    yield from controls.impossible_stops(config)
    yield from controls.impossible_checkpoints(config)
    yield from references.misnamed(config)
    yield from references.reserved(config)


def _uses(config: Config) -> Iterator[str]:
    yield from combinations.unfit_scenarios(config)
    yield from products.unfit_products(config)
    yield from combinations.unlabeled(config)
