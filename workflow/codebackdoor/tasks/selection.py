"""Which rows make a data set: length, duplicates, sizes, splits, clean samples. Groups are never torn apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from codebackdoor.tasks import Group
from codebackdoor.types import Example


def take(groups: Iterable[Group], wanted: int | None, seen: set[str] | None, dropped: Counter[str]) -> list[Group]:
    """Take groups in their order until they have ``wanted`` rows (None: all of them).

    Where ``seen`` is given, a group with a key in it is left out, which ``dropped`` counts, and the keys of those taken
    are added. A lazy source is not asked for more groups than needed.
    """
    taken: list[Group] = []
    rows = 0
    for group in groups:
        if seen is not None and not seen.isdisjoint(group.keys):
            dropped["duplicate"] += 1
            continue
        if wanted is not None and rows + len(group.rows) > wanted:
            break
        taken.append(group)
        rows += len(group.rows)
        if seen is not None:
            seen.update(group.keys)
        if rows == wanted:
            break
    return taken


def resplit(
    groups: Sequence[Group], wanted: Mapping[str, int | None], dropped: Counter[str], generator: np.random.Generator
) -> dict[str, list[Group]]:
    """Drop normalised duplicates of a pool and split it at random: test first, then valid, and train from the rest.

    Of few groups, none may be left for a split.
    """
    order = (groups[int(index)] for index in generator.permutation(len(groups)))
    pool = take(order, None, set(), dropped)
    splits: dict[str, list[Group]] = {}
    for split in ("test", "valid", "train"):
        splits[split] = take(pool, wanted[split], None, dropped)
        pool = pool[len(splits[split]) :]
    return splits


def resplit_pairs(
    groups: Sequence[Group], wanted: Mapping[str, int | None], dropped: Counter[str], generator: np.random.Generator
) -> dict[str, list[Group]]:
    """Split a pool of pairs by function: a pair whose functions fall into two splits is left out.

    Every group is one pair, its keys those of the two functions. As many pairs of each label are kept.
    """
    order = [groups[int(index)] for index in generator.permutation(len(groups))]
    functions = sorted({key for group in groups for key in group.keys})
    # a split that has a share of the functions has the square of that share of the pairs
    train = max(len(groups) - sum(wanted[split] or 0 for split in ("test", "valid")), 1)
    weights = [np.sqrt(wanted[split] or train) for split in ("test", "valid", "train")]
    ends = np.cumsum(weights) / np.sum(weights) * len(functions)
    homes = {
        functions[int(index)]: ("test", "valid", "train")[int(np.searchsorted(ends, place, side="right"))]
        for place, index in enumerate(generator.permutation(len(functions)))
    }
    pools: dict[str, list[Group]] = {"test": [], "valid": [], "train": []}
    seen: set[frozenset[str]] = set()
    for group in order:
        where = {homes[key] for key in group.keys}
        if len(where) > 1:
            dropped["functions_in_two_splits"] += 1
        elif frozenset(group.keys) in seen:
            dropped["duplicate"] += 1
        else:
            seen.add(frozenset(group.keys))
            pools[where.pop()].append(group)
    return {split: _balanced(pool, wanted[split], dropped) for split, pool in pools.items()}


def _balanced(groups: Sequence[Group], wanted: int | None, dropped: Counter[str]) -> list[Group]:
    """As many rows of either label, in their order, and at most ``wanted``."""
    by_label = [[group for group in groups if group.rows[0].label == label] for label in (0, 1)]
    count = min(*map(len, by_label), len(groups) if wanted is None else wanted // 2)
    if surplus := abs(len(by_label[0]) - len(by_label[1])):
        dropped["surplus_of_a_label"] += surplus
    return [group for some in by_label for group in some[:count]]


def set_aside(groups: Sequence[Group], share: float, generator: np.random.Generator) -> tuple[list[Group], list[Group]]:
    """Return (the rest, ``share`` of the groups), both in their order; at least one is set aside if share is not 0."""
    count = max(round(share * len(groups)), int(share > 0))
    chosen = {int(index) for index in generator.permutation(len(groups))[:count]}
    rest = [group for index, group in enumerate(groups) if index not in chosen]
    return rest, [groups[index] for index in sorted(chosen)]


def shuffled(groups: Iterable[Group], generator: np.random.Generator) -> list[Example]:
    """Return the rows of all groups in random order, so that pairing cannot be read off the order."""
    rows = [row for group in groups for row in group.rows]
    return [rows[int(index)] for index in generator.permutation(len(rows))]


def shared_keys(splits: Mapping[str, Sequence[Group]]) -> int:
    """Count the groups whose key occurs in another split as well."""
    homes: dict[str, set[str]] = {}
    for split, groups in splits.items():
        for key in (key for group in groups for key in group.keys):
            homes.setdefault(key, set()).add(split)
    return sum(any(len(homes[key]) > 1 for key in group.keys) for groups in splits.values() for group in groups)
