"""From functions or given rows to the groups of a data set, without reading or writing anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tqdm import tqdm

from codebackdoor import syntax
from codebackdoor.corpora.mining import Function
from codebackdoor.corpora.mirror import SPLITS
from codebackdoor.errors import UserError
from codebackdoor.seeding import numpy_generator
from codebackdoor.tasks import Group, Task, selection
from codebackdoor.tasks.measure import Measure
from codebackdoor.tasks.normal import normal_key
from codebackdoor.types import Example

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset


@dataclass(slots=True)
class Made:
    """Groups by split, how many were left out and why, and how many given rows do not parse."""

    splits: dict[str, list[Group]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    unparsed: int = 0


def sizes(settings: AnyDataset) -> dict[str, int | None]:
    return {"train": settings.train, "valid": settings.valid, "test": settings.test}


def mined(
    functions: Sequence[Function], settings: AnyDataset, task: Task, measure: Measure, name: str, seed: int
) -> Made:
    """Make groups of mined functions, the small splits first: what is in one of them does not enter a later one."""
    made = Made()
    seen: set[str] = set()
    for split in reversed(SPLITS):
        some = [one for one in functions if one.split == split]
        order = numpy_generator(seed, "functions", name, split).permutation(len(some))
        groups = _groups((some[int(index)] for index in order), settings, task, measure, made.dropped, name, seed)
        with tqdm(groups, desc=f"{name} {split}", unit=" groups", disable=None) as progress:
            made.splits[split] = selection.take(progress, sizes(settings)[split], seen, made.dropped)
    return made


def _groups(
    functions: Iterable[Function],
    settings: AnyDataset,
    task: Task,
    measure: Measure,
    dropped: Counter[str],
    name: str,
    seed: int,
) -> Iterator[Group]:
    """A function's rows depend on the seed and that function alone, whatever the sizes are."""
    lexed, limit = settings.text_form == "lexed", settings.max_tokens
    for function in functions:
        # a lexed token has one sub-token at least; what is too long without a defect needs none
        if limit is not None and (
            (lexed and function.words > limit)
            or measure.length(function.code if lexed else syntax.unlex(function.code, "python").source) > limit
        ):
            dropped["too_long"] += 1
            continue
        group = task.group(function, settings, numpy_generator(seed, "rows", name, function.id))
        if group is None:
            dropped["no_place_for_a_defect"] += 1
            continue
        if not lexed:
            group = replace(group, rows=tuple(map(_unlexed, group.rows)))
        if limit is not None and measure.longest(group) > limit:
            dropped["too_long"] += 1
        else:
            yield group


def _unlexed(row: Example) -> Example:
    target = None if row.target is None else syntax.unlex(row.target, row.language).source
    return replace(row, code=syntax.unlex(row.code, row.language).source, target=target)


def given(
    rows: Mapping[str, Sequence[Example]],
    origins: Mapping[str, str],
    settings: AnyDataset,
    task: Task,
    measure: Measure,
    name: str,
    seed: int,
) -> Made:
    """Make groups of rows that are there, one a row: in their splits as they are, or pooled and split anew.

    ``rows`` are raw source for source mirror, and in the data set's text form for source jsonl. ``origins`` names each
    split's file. Raises UserError for a row that the task cannot use.
    """
    made = Made()
    found: dict[str, list[Group]] = {split: [] for split in SPLITS}
    ids: set[str] = set()
    for split, examples in rows.items():
        for row in tqdm(examples, desc=f"{name} {split}", unit=" rows", disable=None):
            problem = _problem(row, settings, task, ids)
            if problem is not None:
                raise UserError(f"{origins[split]}: row {row.id!r} {problem}")
            ids.add(row.id)
            group = _group(row, origins[split], settings, measure, made)
            if group is not None:
                found[split].append(group)
    if settings.resplit:
        pool = [group for groups in found.values() for group in groups]
        generator = numpy_generator(seed, "resplit", name)
        made.splits = selection.resplit(pool, sizes(settings), made.dropped, generator)
        return made
    for split, groups in found.items():
        order = numpy_generator(seed, "functions", name, split).permutation(len(groups))
        shuffled = (groups[int(index)] for index in order)
        made.splits[split] = selection.take(shuffled, sizes(settings)[split], None, made.dropped)
    return made


def _problem(row: Example, settings: AnyDataset, task: Task, ids: set[str]) -> str | None:
    if row.language != settings.language:
        return f"is in {row.language}; the data set's `language` is {settings.language}"
    if row.id in ids:
        return "stands there twice; every 'id' must occur once in all splits"
    return task.problem(row)


def _group(row: Example, origin: str, settings: AnyDataset, measure: Measure, made: Made) -> Group | None:
    """The row in the data set's text form; None, counted, where it has none or is too long."""
    try:
        if settings.source == "mirror" and settings.text_form == "lexed":
            target = None if row.target is None else syntax.lex(row.target, row.language)
            row = replace(row, code=syntax.lex(row.code, row.language), target=target)
        group = Group((row,), origin, ())
        if settings.max_tokens is not None and measure.longest(group) > settings.max_tokens:
            made.dropped["too_long"] += 1
            return None
        tree = syntax.parse(row.code, row.language, settings.text_form)
    except syntax.LexingError:
        made.dropped["not_lexable"] += 1
        return None
    made.unparsed += tree.has_error
    return replace(group, keys=(normal_key(tree),))
