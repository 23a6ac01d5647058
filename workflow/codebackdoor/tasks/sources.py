"""From functions or given rows to the groups of a data set, without reading or writing anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING

from tqdm import tqdm

from codebackdoor import files, syntax
from codebackdoor.corpora.mining import Function
from codebackdoor.corpora.mirror import SPLITS
from codebackdoor.errors import UserError, shown
from codebackdoor.seeding import numpy_generator
from codebackdoor.tasks import Group, Task, selection
from codebackdoor.tasks.measure import Measure
from codebackdoor.tasks.normal import normal_key
from codebackdoor.types import Example

if TYPE_CHECKING:
    import numpy as np

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
        short = _short((some[int(index)] for index in order), settings, measure, made.dropped)
        groups = _groups(short, settings, task, measure, made.dropped, partial(numpy_generator, seed, "rows", name))
        with tqdm(groups, desc=f"{name} {split}", unit=" groups", disable=None) as progress:
            made.splits[split] = selection.take(progress, sizes(settings)[split], seen, made.dropped)
    return made


def _short(
    functions: Iterable[Function], settings: AnyDataset, measure: Measure, dropped: Counter[str]
) -> Iterator[Function]:
    """The functions that are not too long as they are."""
    lexed, limit = settings.text_form == "lexed", settings.max_tokens
    for function in functions:
        # a lexed token has one sub-token at least; what is too long without a defect needs none
        if limit is not None and (
            (lexed and function.words > limit)
            or measure.length(function.code if lexed else syntax.unlex(function.code, "python").source) > limit
        ):
            dropped["too_long"] += 1
        else:
            yield function


def _groups(
    functions: Iterator[Function],
    settings: AnyDataset,
    task: Task,
    measure: Measure,
    dropped: Counter[str],
    draw: Callable[[str], np.random.Generator],
) -> Iterator[Group]:
    for group in task.groups(functions, settings, draw):
        if group is None:
            dropped[task.unusable] += 1
            continue
        if settings.text_form != "lexed":
            group = replace(group, rows=tuple(map(_unlexed, group.rows)))
        if _is_short(group, settings, measure, dropped):
            yield group


def _is_short(group: Group, settings: AnyDataset, measure: Measure, dropped: Counter[str]) -> bool:
    """Whether no text of a group is too long; where one is, that is counted."""
    most: int | None = getattr(settings, "max_query_tokens", None)
    queries = [row.query for row in group.rows if row.query is not None]
    if settings.max_tokens is not None and measure.longest(group) > settings.max_tokens:
        dropped["too_long"] += 1
    elif most is not None and queries and max(map(measure.length, queries)) > most:
        dropped["query_too_long"] += 1
    else:
        return True
    return False


def _unlexed(row: Example) -> Example:
    def source(text: str | None) -> str | None:
        return None if text is None else syntax.unlex(text, row.language).source

    code = syntax.unlex(row.code, row.language).source
    return replace(row, code=code, code_b=source(row.code_b), target=source(row.target))


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
    read = cache(partial(_read, settings))
    for split, examples in rows.items():
        for row in tqdm(examples, desc=f"{name} {split}", unit=" rows", disable=None):
            problem = _problem(row, settings, task, ids)
            if problem is not None:
                raise UserError(f"{origins[split]}: row {shown(row.id)} {problem}")
            ids.add(row.id)
            group = _group(row, origins[split], settings, measure, made, read)
            if group is not None:
                found[split].append(group)
    if settings.resplit:
        pool = [group for groups in found.values() for group in groups]
        generator = numpy_generator(seed, "resplit", name)
        anew = selection.resplit_pairs if settings.head == "pair" else selection.resplit
        made.splits = anew(pool, sizes(settings), made.dropped, generator)
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
    return task.problem(row) or files.empty(row)


@dataclass(frozen=True, slots=True)
class _Text:
    """A text in the data set's form, the key of its duplicates, and whether it has to be repaired to be parsed."""

    text: str
    key: str
    has_error: bool


def _read(settings: AnyDataset, text: str) -> _Text:
    if settings.source == "mirror" and settings.text_form == "lexed":
        text = syntax.lex(text, settings.language)
    tree = syntax.parse(text, settings.language, settings.text_form)
    return _Text(text, normal_key(tree), tree.has_error)


def _group(
    row: Example, origin: str, settings: AnyDataset, measure: Measure, made: Made, read: Callable[[str], _Text]
) -> Group | None:
    """The row in the data set's text form; None, counted, where it has none or is too long."""
    try:
        # in pairs, a function stands in many rows
        texts = [read(text) for text in (row.code, row.code_b) if text is not None]
        target = row.target
        if target is not None and settings.source == "mirror" and settings.text_form == "lexed":
            target = syntax.lex(target, row.language)
        if target is not None and settings.source == "jsonl" and settings.text_form == "lexed":
            syntax.unlex(target, row.language)
    except syntax.LexingError as error:
        if settings.source == "jsonl":
            raise UserError(
                f"{origin}: row {shown(row.id)} is not lexed text: {error}; write `text_form: raw`?"
            ) from None
        made.dropped["not_lexable"] += 1
        return None
    row = replace(row, code=texts[0].text, code_b=texts[1].text if texts[1:] else None, target=target)
    group = Group((row,), origin, tuple(one.key for one in texts))
    if not _is_short(group, settings, measure, made.dropped):
        return None
    made.unparsed += any(one.has_error for one in texts)
    return group
