"""Further tables of an experiment ("listings"): parts of rows and columns, as CSV, Markdown, LaTeX and HTML."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, cast

from codebackdoor.report import labels, sizes
from codebackdoor.report.collect import DefinedCell
from codebackdoor.report.render import ampersands, escape, pipes
from codebackdoor.report.study import Study


@dataclass(frozen=True, slots=True)
class Marked:
    """A number followed by a mark, which the CSV leaves out."""

    value: float
    mark: str


Value = str | int | float | Marked | None


def with_interval(cell: DefinedCell | None, seeds: int | None = None) -> Value:
    """The value of a cell, marked with its interval or range.

    In a table of this number of ``seeds``, it is also marked with ``×2`` if only two of them have a value.
    """
    if cell is None:
        return None
    if cell.low is None or cell.high is None:
        return cell.value
    mark = "" if seeds is None else cell.mark(seeds)
    return Marked(cell.value, f"{mark} [{labels.percent(cell.low)}, {labels.percent(cell.high)}]")


#: percent: a share in percent; points: a signed difference of shares; probability: a p-value.
Form = Literal["text", "code", "number", "percent", "points", "seconds", "probability"]


@dataclass(frozen=True, slots=True)
class Column:
    """``name`` is the column's header in the CSV, ``head`` its header in other formats."""

    name: str
    head: str
    form: Form = "text"

    @property
    def is_words(self) -> bool:
        return self.form in ("text", "code")

    def text(self, value: Value) -> str:
        """The value as people read it; a dash if there is none."""
        if value is None:
            return labels.DASH
        if isinstance(value, str):
            return value
        if isinstance(value, Marked):
            return self.text(value.value) + value.mark
        return {
            "percent": labels.percent,
            "points": labels.points,
            "seconds": labels.seconds,
            "probability": labels.probability,
        }.get(self.form, _number)(value)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.2f}"


@dataclass(frozen=True, slots=True)
class ListingPart:
    """``name`` identifies the part in the CSV; a value that a row lacks does not apply and stays empty."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Value], ...]

    def texts(self) -> Iterator[list[str]]:
        """The cells of every row."""
        for row in self.rows:
            yield [column.text(row[column.name]) if column.name in row else "" for column in self.columns]


@dataclass(frozen=True, slots=True)
class Listing:
    title: str
    parts: tuple[ListingPart, ...]
    notes: tuple[str, ...]


class BuildListing(Protocol):
    """The function ``build`` of a listing's module; ``inputs`` are the files that ``products.inputs`` lists."""

    def __call__(self, study: Study, inputs: Sequence[Path], /) -> Listing: ...


def load(product: str) -> BuildListing:
    """The function that builds the listing of this name."""
    return cast(BuildListing, importlib.import_module(f"codebackdoor.report.tables.{product}").build)


def build(study: Study, product: str, inputs: Sequence[Path]) -> Listing:
    """The listing of this name, with notes on the victims and on what papers state about it."""
    listing = load(product)(study, inputs)
    return replace(listing, notes=(sizes.sentence(study), *listing.notes, *study.sentences(product)))


def as_csv(listing: Listing) -> str:
    """All parts one after another with unrounded numbers; columns that a part lacks are empty."""
    names = dict.fromkeys(column.name for part in listing.parts for column in part.columns)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["part", *names], lineterminator="\n")
    writer.writeheader()
    for part in listing.parts:
        for row in part.rows:
            writer.writerow({"part": part.name, **{name: _plain(value) for name, value in row.items()}})
    return stream.getvalue()


def _plain(value: Value) -> str | int | None:
    if isinstance(value, Marked):
        value = value.value
    return f"{value:.6g}" if isinstance(value, float) else value


def as_markdown(listing: Listing) -> str:
    lines = [f"# {listing.title}", ""]
    for part in listing.parts:
        ruler = ("---" if column.is_words else "---:" for column in part.columns)
        lines += [f"## {part.title}", ""]
        if not part.rows:
            lines += ["Nothing to show.", ""]
            continue
        lines += [pipes(*(column.head for column in part.columns)), pipes(*ruler)]
        lines += [pipes(*(cell.replace("|", r"\|") for cell in cells)) for cells in part.texts()]
        lines.append("")
    return "\n".join([*lines, *(f"- {note}" for note in listing.notes)]) + "\n"


def as_latex(listing: Listing) -> str:
    """One ``tabular`` for each part, to be put into a ``table``."""
    lines = [f"% {listing.title}", *_tabulars(listing.parts), *(f"% {note}" for note in listing.notes)]
    return "\n".join(lines) + "\n"


def _tabulars(parts: Iterable[ListingPart]) -> Iterator[str]:
    for part in parts:
        alignment = "".join("l" if column.is_words else "r" for column in part.columns)
        yield from (f"% {part.title}", rf"\begin{{tabular}}{{{alignment}}}", r"\toprule")
        yield ampersands(*(escape(column.head) for column in part.columns))
        yield r"\midrule"
        yield from (ampersands(*map(escape, cells)) for cells in part.texts())
        yield from (r"\bottomrule", r"\end{tabular}")
