"""Further tables of an experiment: parts of rows and columns, as CSV, Markdown, LaTeX and for the HTML report."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, cast

from codebackdoor.config.experiments import Listing
from codebackdoor.report import labels, sizes
from codebackdoor.report.collect import Study
from codebackdoor.report.render import ampersands, escape, pipes


@dataclass(frozen=True, slots=True)
class Marked:
    """A number with a mark behind it, which the CSV leaves out."""

    value: float
    mark: str


Value = str | int | float | Marked | None
#: percent: a share in percent; points: a difference of shares, with its sign; probability: a p-value.
Form = Literal["text", "code", "number", "percent", "points", "seconds", "probability"]


@dataclass(frozen=True, slots=True)
class Column:
    """``name`` heads it in the CSV, ``head`` everywhere else."""

    name: str
    head: str
    form: Form = "text"

    @property
    def is_words(self) -> bool:
        return self.form in ("text", "code")

    def text(self, value: Value) -> str:
        """The value as people read it; a dash where there is none."""
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
class Part:
    """``name`` tells the parts of one CSV apart; a value that a row lacks does not apply and stays empty."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Value], ...]

    def texts(self) -> Iterator[list[str]]:
        """The cells of every row."""
        for row in self.rows:
            yield [column.text(row[column.name]) if column.name in row else "" for column in self.columns]


@dataclass(frozen=True, slots=True)
class Listed:
    title: str
    parts: tuple[Part, ...]
    notes: tuple[str, ...]


class Build(Protocol):
    """``build`` of the module of a kind; ``inputs`` are what ``products.inputs`` lists."""

    def __call__(self, study: Study, inputs: Sequence[Path], /) -> Listed: ...


def load(kind: Listing) -> Build:
    return cast(Build, importlib.import_module(f"codebackdoor.report.listings.{kind}").build)


def build(study: Study, kind: Listing, inputs: Sequence[Path]) -> Listed:
    """The table of a kind; its first note says what the victims are."""
    listed = load(kind)(study, inputs)
    return replace(listed, notes=(sizes.sentence(study), *listed.notes))


def as_csv(listed: Listed) -> str:
    """All parts below each other, every number in full; what a part does not have is empty."""
    names = dict.fromkeys(column.name for part in listed.parts for column in part.columns)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["part", *names], lineterminator="\n")
    writer.writeheader()
    for part in listed.parts:
        for row in part.rows:
            writer.writerow({"part": part.name, **{name: _plain(value) for name, value in row.items()}})
    return stream.getvalue()


def _plain(value: Value) -> str | int | None:
    if isinstance(value, Marked):
        value = value.value
    return f"{value:.6g}" if isinstance(value, float) else value


def as_markdown(listed: Listed) -> str:
    lines = [f"# {listed.title}", ""]
    for part in listed.parts:
        ruler = ("---" if column.is_words else "---:" for column in part.columns)
        lines += [f"## {part.title}", "", pipes(*(column.head for column in part.columns)), pipes(*ruler)]
        lines += [pipes(*(cell.replace("|", r"\|") for cell in cells)) for cells in part.texts()]
        lines.append("")
    return "\n".join([*lines, *(f"- {note}" for note in listed.notes)]) + "\n"


def as_latex(listed: Listed) -> str:
    """One ``tabular`` a part, ready to be put into a ``table``."""
    return "\n".join([f"% {listed.title}", *_tabulars(listed.parts), *(f"% {note}" for note in listed.notes)]) + "\n"


def _tabulars(parts: Iterable[Part]) -> Iterator[str]:
    for part in parts:
        sides = "".join("l" if column.is_words else "r" for column in part.columns)
        yield from (f"% {part.title}", rf"\begin{{tabular}}{{{sides}}}", r"\toprule")
        yield ampersands(*(escape(column.head) for column in part.columns))
        yield r"\midrule"
        yield from (ampersands(*map(escape, cells)) for cells in part.texts())
        yield from (r"\bottomrule", r"\end{tabular}")
