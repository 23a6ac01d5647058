"""Selection of the rows of a data set: duplicates, sizes, splits, clean samples. Groups are never divided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from codebackdoor.tasks.base import RowGroup
from codebackdoor.types import Example


def take(
    groups: Iterable[RowGroup], size: int | None, used_keys: set[str] | None, dropped: Counter[str]
) -> list[RowGroup]:
    """Take groups in order until they have ``size`` rows (None: all groups).

    With ``used_keys``, a group that has a key in it is left out and counted in ``dropped``; the keys of the selected
    groups are added. No more groups than needed are consumed from a lazy source.
    """
    selected: list[RowGroup] = []
    rows = 0
    for group in groups:
        if used_keys is not None and not used_keys.isdisjoint(group.keys):
            dropped["duplicate"] += 1
            continue
        if size is not None and rows + len(group.rows) > size:
            break
        selected.append(group)
        rows += len(group.rows)
        if used_keys is not None:
            used_keys.update(group.keys)
        if rows == size:
            break
    return selected


def resplit(
    groups: Sequence[RowGroup], sizes: Mapping[str, int | None], dropped: Counter[str], generator: np.random.Generator
) -> dict[str, list[RowGroup]]:
    """Drop normalized duplicates of a pool and split it at random: test first, then valid, and train from the rest.

    With few groups, none may be left for a split.
    """
    order = (groups[int(index)] for index in generator.permutation(len(groups)))
    pool = take(order, None, set(), dropped)
    splits: dict[str, list[RowGroup]] = {}
    for split in ("test", "valid", "train"):
        splits[split] = take(pool, sizes[split], None, dropped)
        pool = pool[len(splits[split]) :]
    return splits


def resplit_pairs(
    groups: Sequence[RowGroup], sizes: Mapping[str, int | None], dropped: Counter[str], generator: np.random.Generator
) -> dict[str, list[RowGroup]]:
    """Split a pool of pairs by function: pairs whose functions fall into different splits are left out.

    Every group is one pair, with the keys of its two functions. Both labels keep the same number of pairs.
    """
    order = [groups[int(index)] for index in generator.permutation(len(groups))]
    functions = sorted({key for group in groups for key in group.keys})
    # a split with some share of the functions has the square of that share of the pairs
    train = max(len(groups) - sum(sizes[split] or 0 for split in ("test", "valid")), 1)
    weights = [np.sqrt(sizes[split] or train) for split in ("test", "valid", "train")]
    ends = np.cumsum(weights) / np.sum(weights) * len(functions)
    homes = {
        functions[int(index)]: ("test", "valid", "train")[int(np.searchsorted(ends, rank, side="right"))]
        for rank, index in enumerate(generator.permutation(len(functions)))
    }
    pools: dict[str, list[RowGroup]] = {"test": [], "valid": [], "train": []}
    key_sets: set[frozenset[str]] = set()
    for group in order:
        splits = {homes[key] for key in group.keys}
        if len(splits) > 1:
            dropped["functions_in_two_splits"] += 1
        elif frozenset(group.keys) in key_sets:
            dropped["duplicate"] += 1
        else:
            key_sets.add(frozenset(group.keys))
            pools[splits.pop()].append(group)
    return {split: _balanced(pool, sizes[split], dropped) for split, pool in pools.items()}


def _balanced(groups: Sequence[RowGroup], size: int | None, dropped: Counter[str]) -> list[RowGroup]:
    """The same number of rows of each label, in order, and at most ``size`` in total."""
    by_label = [[group for group in groups if group.rows[0].label == label] for label in (0, 1)]
    count = min(*map(len, by_label), len(groups) if size is None else size // 2)
    if surplus := abs(len(by_label[0]) - len(by_label[1])):
        dropped["surplus_of_a_label"] += surplus
    return [group for members in by_label for group in members[:count]]


def set_aside(
    groups: Sequence[RowGroup], share: float, generator: np.random.Generator
) -> tuple[list[RowGroup], list[RowGroup]]:
    """Split groups into (the rest, a share of them), in their order; at least one is set aside unless share is 0."""
    count = max(round(share * len(groups)), int(share > 0))
    drawn = {int(index) for index in generator.permutation(len(groups))[:count]}
    rest = [group for index, group in enumerate(groups) if index not in drawn]
    return rest, [groups[index] for index in sorted(drawn)]


def shuffled(groups: Iterable[RowGroup], generator: np.random.Generator) -> list[Example]:
    """The rows of all groups in random order, so that pairs cannot be recognized by it."""
    rows = [row for group in groups for row in group.rows]
    return [rows[int(index)] for index in generator.permutation(len(rows))]


def shared_keys(splits: Mapping[str, Sequence[RowGroup]]) -> int:
    """The number of groups that have a key in another split as well."""
    homes: dict[str, set[str]] = {}
    for split, groups in splits.items():
        for key in (key for group in groups for key in group.keys):
            homes.setdefault(key, set()).add(split)
    return sum(any(len(homes[key]) > 1 for key in group.keys) for groups in splits.values() for group in groups)
