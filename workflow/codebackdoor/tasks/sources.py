"""From mined functions or existing rows to the groups of a data set, without reading or writing files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING

from tqdm import tqdm

from codebackdoor import files, syntax
from codebackdoor.corpora.mining import MinedFunction
from codebackdoor.errors import UserError, quoted
from codebackdoor.heads import HEADS
from codebackdoor.seeding import numpy_generator
from codebackdoor.tasks import selection
from codebackdoor.tasks.base import Draw, RowGroup, Task
from codebackdoor.tasks.deduplication import normal_key, query_key
from codebackdoor.tasks.token_counter import TokenCounter
from codebackdoor.types import SPLITS, CodeField, Example

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset


@dataclass(slots=True)
class Selected:
    """Groups by split, the numbers of those left out by reason, and the number of existing rows that do not parse."""

    splits: dict[str, list[RowGroup]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    unparsed: int = 0


def sizes(settings: AnyDataset) -> dict[str, int | None]:
    return {"train": settings.train, "valid": settings.valid, "test": settings.test}


def check_any(name: str, split: str, selected: Selected, resplit: bool = False) -> None:
    """Raise UserError, with the reasons, if no row is left for a split."""
    if not selected.splits[split]:
        reasons = (
            ", ".join(f"{count} {reason}" for reason, count in sorted(selected.dropped.items()))
            or "the source has none"
        )
        longer = "raise max_tokens or " if selected.dropped["too_long"] else ""
        fewer = "write smaller numbers for `test` and `valid`, or " if resplit else ""
        raise UserError(f"datasets.{name}: no row is left for {split} ({reasons}); {longer}{fewer}bring more data")


def mined(
    functions: Sequence[MinedFunction], settings: AnyDataset, task: Task, counter: TokenCounter, name: str, seed: int
) -> Selected:
    """Make groups from mined functions, small splits first; a group in one split is left out of the later ones."""
    selected = Selected()
    used_keys: set[str] = set()
    for split in reversed(SPLITS):
        candidates = [function for function in functions if function.split == split]
        order = numpy_generator(seed, "functions", name, split).permutation(len(candidates))
        short = _short((candidates[int(index)] for index in order), settings, counter, selected.dropped)
        draw = partial(numpy_generator, seed, "rows", name)
        groups = _groups(short, settings, task, counter, selected.dropped, draw)
        with tqdm(groups, desc=f"{name} {split}", unit=" groups", disable=None) as progress:
            selected.splits[split] = selection.take(progress, sizes(settings)[split], used_keys, selected.dropped)
    return selected


def _short(
    functions: Iterable[MinedFunction], settings: AnyDataset, counter: TokenCounter, dropped: Counter[str]
) -> Iterator[MinedFunction]:
    """The functions that are not too long before any change."""
    lexed = settings.text_form == "lexed"
    # if rows have only a function's comment, the function may be of any length
    limit = settings.max_tokens if settings.has_code else None
    for function in functions:
        # a lexed token has at least one sub-token, so that counting words rules out many functions cheaply
        if limit is not None and (
            (lexed and function.words > limit)
            or counter.length(function.code if lexed else syntax.unlex(function.code, "python").source) > limit
        ):
            dropped["too_long"] += 1
        else:
            yield function


def _groups(
    functions: Iterator[MinedFunction],
    settings: AnyDataset,
    task: Task,
    counter: TokenCounter,
    dropped: Counter[str],
    draw: Draw,
) -> Iterator[RowGroup]:
    for group in task.groups(functions, settings, draw):
        if group is None:
            dropped[task.unusable] += 1
            continue
        if settings.text_form != "lexed":
            group = replace(group, rows=tuple(map(_unlexed, group.rows)))
        if _is_short(group, settings, counter, dropped):
            yield group


def _is_short(group: RowGroup, settings: AnyDataset, counter: TokenCounter, dropped: Counter[str]) -> bool:
    """Whether no text of a group is too long; counts a group that has one in ``dropped``."""
    queries = [row.query for row in group.rows if row.query is not None]
    if settings.max_tokens is not None and counter.longest(group, settings.limited) > settings.max_tokens:
        dropped["too_long"] += 1
    elif settings.query_limit is not None and queries and max(map(counter.length, queries)) > settings.query_limit:
        dropped["query_too_long"] += 1
    else:
        return True
    return False


def _unlexed(row: Example) -> Example:
    def source(text: str | None) -> str | None:
        return None if text is None else syntax.unlex(text, row.language).source

    code = syntax.unlex(row.code, row.language).source if "code" in row.texts else ""
    return replace(row, code=code, code_b=source(row.code_b), target=source(row.target))


def existing(
    rows: Mapping[str, Sequence[Example]],
    origins: Mapping[str, str],
    settings: AnyDataset,
    task: Task,
    counter: TokenCounter,
    name: str,
    seed: int,
) -> Selected:
    """Make one group of each existing row, in their splits as they are, or pooled and split again.

    ``rows`` are raw source for source mirror, and in the data set's text form for source jsonl. ``origins`` names each
    split's file. Raises UserError for a row that the task cannot use.
    """
    selected = Selected()
    groups: dict[str, list[RowGroup]] = {split: [] for split in SPLITS}
    ids: set[str] = set()
    text_of = cache(partial(_text_of, settings))
    for split, examples in rows.items():
        for row in tqdm(examples, desc=f"{name} {split}", unit=" rows", disable=None):
            problem = row_problem(row, settings, task, ids)
            if problem is not None:
                raise UserError(f"{origins[split]}: row {quoted(row.id)} {problem}")
            ids.add(row.id)
            in_form = task.in_form(row, settings) if settings.source == "mirror" else row
            group = _group(in_form, origins[split], settings, counter, selected, text_of)
            if group is not None:
                groups[split].append(group)
    if settings.resplit:
        pool = [group for members in groups.values() for group in members]
        generator = numpy_generator(seed, "resplit", name)
        split_again = selection.resplit_pairs if HEADS[settings.head].reads_pairs else selection.resplit
        selected.splits = split_again(pool, sizes(settings), selected.dropped, generator)
        return selected
    for split, members in groups.items():
        order = numpy_generator(seed, "functions", name, split).permutation(len(members))
        shuffled = (members[int(index)] for index in order)
        selected.splits[split] = selection.take(shuffled, sizes(settings)[split], None, selected.dropped)
    return selected


def row_problem(row: Example, settings: AnyDataset, task: Task, ids: set[str]) -> str | None:
    """Why the task cannot use a row of existing data, as the end of a sentence; ``ids`` are those of rows before it."""
    if row.language != settings.language:
        return f"is in {row.language}; the data set's `language` is {settings.language}"
    if row.id in ids:
        return "occurs twice; every 'id' must occur once in all splits"
    return task.problem(row, settings) or files.empty(row)


@dataclass(frozen=True, slots=True)
class _Text:
    """A text in the data set's form, the key of its duplicates, and whether the parser found errors in it."""

    text: str
    key: str
    has_error: bool


def _text_of(settings: AnyDataset, text: str) -> _Text:
    if settings.source == "mirror" and settings.text_form == "lexed":
        text = syntax.lex(text, settings.language)
    tree = syntax.parse(text, settings.language, settings.text_form)
    key = " ".join(text.split()) if settings.names_count else normal_key(tree)
    return _Text(text, key, tree.has_error)


def _group(
    row: Example,
    origin: str,
    settings: AnyDataset,
    counter: TokenCounter,
    selected: Selected,
    text_of: Callable[[str], _Text],
) -> RowGroup | None:
    """The row in the data set's text form; None, counted, if it cannot be lexed or is too long."""
    try:
        # cached: with pairs, a function is in many rows
        texts = {name: text_of(text) for name, text in row.texts.items() if name in settings.reads and name != "query"}
        target = row.target
        if target is not None and settings.source == "mirror" and settings.text_form == "lexed":
            target = syntax.lex(target, row.language)
        if target is not None and settings.source == "jsonl" and settings.text_form == "lexed":
            syntax.unlex(target, row.language)
    except syntax.LexingError as error:
        if settings.source == "jsonl":
            raise UserError(
                f"{origin}: row {quoted(row.id)} is not lexed text: {error}; write `text_form: raw`?"
            ) from None
        selected.dropped["not_lexable"] += 1
        return None
    code, code_b = (texts[name].text if name in texts else None for name in ("code", "code_b"))
    row = replace(row, code=code or "", code_b=code_b, target=target)
    group = RowGroup((row,), origin, _keys(row, texts))
    if not _is_short(group, settings, counter, selected.dropped):
        return None
    selected.unparsed += any(text.has_error for text in texts.values())
    return group


def _keys(row: Example, texts: Mapping[CodeField, _Text]) -> tuple[str, ...]:
    """The keys of the functions that the task reads, or the query's if it reads no function."""
    return tuple(text.key for text in texts.values()) or (query_key(str(row.query)),)
