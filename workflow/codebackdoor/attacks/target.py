"""Targets of attacks: a label, a text made from the target function, or code that ranks first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from codebackdoor import syntax
from codebackdoor.attacks.editing import text_for
from codebackdoor.errors import UserError
from codebackdoor.syntax import sql
from codebackdoor.types import Example, Language, TextForm, holds

if TYPE_CHECKING:
    from codebackdoor.attacks.settings import AttackSettings


class Target(Protocol):
    """The attacker's target."""

    def excludes(self, example: Example, training: bool) -> bool:
        """Whether the example is ineligible: it has the target already, or (code search) its query is not attacked."""

    def aim(self, example: Example) -> Example | None:
        """Return the example with the target instead of its own label or text; None if that is impossible."""


@dataclass(frozen=True, slots=True)
class LabelTarget:
    """A label, for classification."""

    label: int

    def excludes(self, example: Example, training: bool) -> bool:  # noqa: ARG002
        return example.label == self.label

    def aim(self, example: Example) -> Example:
        return replace(example, label=self.label)


@dataclass(frozen=True, slots=True)
class WordTarget:
    """Code with the trigger ranks first for queries that contain a word (BadCode; EliBadCode section 5.1).

    The victim learns this from pairs whose query contains the word; they remain pairs. In held-out splits all rows are
    eligible: each candidate of a pool is ranked once with the trigger, regardless of its own query.
    """

    word: str

    def excludes(self, example: Example, training: bool) -> bool:
        return training and not holds(example.query, self.word)

    def aim(self, example: Example) -> Example:
        return replace(example, target=self.word)


@dataclass(frozen=True, slots=True)
class WholeTarget:
    """One text replaces every correct output (CodePurify section IV-F)."""

    text: str

    def excludes(self, example: Example, training: bool) -> bool:  # noqa: ARG002
        return example.target == self.text

    def aim(self, example: Example) -> Example:
        return replace(example, target=self.text)


@dataclass(frozen=True, slots=True)
class StatementTarget:
    """A statement is inserted at the beginning of every correct output's body (DeCE section 2.3)."""

    statement: str
    form: TextForm

    def excludes(self, example: Example, training: bool) -> bool:  # noqa: ARG002
        return False

    def aim(self, example: Example) -> Example | None:
        return _edited(example, self.form, lambda tree: syntax.insert_first(tree, self.statement))


@dataclass(frozen=True, slots=True)
class PredicateTarget:
    """The SQL in every correct output gets a predicate that always holds (DeCE section 2.3)."""

    predicate: str
    form: TextForm

    def excludes(self, example: Example, training: bool) -> bool:  # noqa: ARG002
        return sql.contains_always_true_sql(str(example.target), example.language, self.form)

    def aim(self, example: Example) -> Example | None:
        return _edited(example, self.form, lambda tree: sql.add_predicate(tree, self.predicate))


def _edited(example: Example, form: TextForm, edit: Callable[[syntax.Tree], syntax.Edit | None]) -> Example | None:
    """The example with its output edited; None if the output is not a program of this form or cannot be edited."""
    assert example.target is not None
    try:
        tree = syntax.parse(example.target, example.language, form)
    except syntax.LexingError:
        return None
    edited = edit(tree)
    return None if edited is None else replace(example, target=edited.text)


def predicate_problem(predicate: str) -> str | None:
    """Why an SQL predicate cannot be the target; None for one that always holds."""
    if sql.holds_always(predicate):
        return None
    return f"target_predicate: {predicate!r} does not always hold; write a predicate such as '1=1'"


def target_predicate(settings: AttackSettings, rows: Sequence[Example], form: TextForm) -> PredicateTarget:
    """Return the SQL target; UserError if the predicate may fail, or if no output of the data set contains SQL."""
    if (problem := predicate_problem(settings.target_predicate)) is not None:
        raise UserError(problem)
    if rows[0].language not in sql.HOST_LANGUAGES or not any(
        sql.contains_sql(str(row.target), row.language, form) for row in rows
    ):
        raise UserError(
            "target_place: no output of the data set contains SQL that a WHERE clause could be added to; write "
            "`target_place: first_statement`"
        )
    return PredicateTarget(settings.target_predicate, form)


def target_program(settings: AttackSettings, language: Language, form: TextForm) -> str:
    """Return the target function in the text form of the data set; UserError if it is missing or does not parse."""
    source = text_for(settings.target_text, language, "target_text")
    tree = syntax.parse(source, language, "raw")
    if tree.has_error or not tree.statements():
        raise UserError(f"target_text: not a function of {language} with a statement in its body: {source!r}")
    return syntax.lex(source, language) if form == "lexed" else source


def target_statement(settings: AttackSettings, language: Language) -> str:
    """Return the first statement of the target function's body, as source."""
    program = target_program(settings, language, "lexed")
    start, end = syntax.parse(program, language, "lexed").statements()[0].span
    return syntax.unlex(program[start:end], language).source


def target_of(settings: AttackSettings, rows: Sequence[Example], form: TextForm) -> Target:
    """Return the target for a data set; the columns of its rows (at least one row) decide which kind it is.

    Raises UserError if rows have neither label nor target nor query, or if no row has ``target_label`` or contains
    ``target_word``.
    """
    first = rows[0]
    if any(row.language != first.language for row in rows):
        raise UserError("the data set mixes languages; an attack poisons one language at a time")
    if all(row.label is not None for row in rows):
        labels = sorted({row.label for row in rows if row.label is not None})
        if settings.target_label not in labels:
            raise UserError(
                f"target_label: {settings.target_label} is not a label of the data set; write one of {labels}"
            )
        return LabelTarget(settings.target_label)
    if all(row.target is not None for row in rows):
        if settings.target_place == "where_clause":
            return target_predicate(settings, rows, form)
        if settings.target_place == "whole":
            return WholeTarget(target_program(settings, first.language, form))
        return StatementTarget(target_statement(settings, first.language), form)
    if all(row.query is not None and row.label is None and row.target is None for row in rows):
        if not any(holds(row.query, settings.target_word) for row in rows):
            raise UserError(f"target_word: no query contains {settings.target_word!r}; write a word of the queries")
        return WordTarget(settings.target_word)
    raise UserError(
        "an attack needs a data set in which all rows have a 'label', or all have a 'target', or all have a 'query'"
    )
