"""What the attacks on code share: editing one or both functions of an example, and checking statements from a user."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import replace

from codebackdoor import syntax
from codebackdoor.attacks import Injection
from codebackdoor.errors import UserError
from codebackdoor.types import Example, Field, Language, Pair, Span, TextForm

_EMPTY_FUNCTION: Mapping[Language, str] = {
    "python": "def f():\n    pass\n",
    "java": "void f() { }",
    "c": "void f(void) { }",
}


def edit_code(
    example: Example,
    form: TextForm,
    pair: Pair,
    edit: Callable[[syntax.Tree], syntax.Edit | None],
) -> Injection | None:
    """Apply ``edit`` to the code of ``example``; for a pair, to the functions that ``pair`` names.

    Returns None if one of them cannot be lexed or ``edit`` returns None for it.
    """
    edits: dict[Field, syntax.Edit] = {}
    for name in edited_fields(example, pair):
        try:
            tree = syntax.parse(getattr(example, name), example.language, form)
        except syntax.LexingError:
            return None
        edited = edit(tree)
        if edited is None:
            return None
        edits[name] = edited
    return edited_example(example, edits)


def edited_example(example: Example, edits: Mapping[Field, syntax.Edit]) -> Injection:
    """The example with new code in some of its fields, and the trigger's spans in them."""
    texts = {name: edit.text for name, edit in edits.items()}
    spans = tuple(Span(start, end, name) for name, edit in edits.items() for start, end in edit.spans)
    code, code_b = texts.get("code", example.code), texts.get("code_b", example.code_b)
    return Injection(replace(example, code=code, code_b=code_b), spans)


def edited_fields(example: Example, pair: Pair) -> tuple[Field, ...]:
    """The functions of an example that get the trigger."""
    if example.code_b is None:
        return ("code",)
    return ("code", "code_b") if pair == "both" else (pair,)


def text_for(texts: Mapping[Language, str], language: Language, key: str) -> str:
    """Return the text for ``language`` from the setting ``key``; if it is missing, a UserError says what to add."""
    if language not in texts:
        raise UserError(f"the attack has no {key} for {language}; add '{language}:' under {key}")
    return texts[language]


def check_statement(statement: str, language: Language, key: str) -> None:
    """Raise UserError unless ``statement`` is a legal first statement of a function."""
    function = syntax.parse(_EMPTY_FUNCTION[language], language, "raw")
    try:
        if language == "python":
            ast.parse(statement)  # tree-sitter reads 'if x:' as complete
        edited = syntax.insert_first(function, statement) if statement.strip() else None
    except (SyntaxError, ValueError):
        edited = None
    if edited is None or syntax.parse(edited.text, language, "raw").has_error:
        raise UserError(f"{key}: not a statement of {language}: {statement!r}")
