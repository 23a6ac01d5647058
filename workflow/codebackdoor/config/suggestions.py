"""Suggestions of `codebackdoor describe` for a word that is not a section or method: settings, values, products."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import BaseModel

from codebackdoor.config.base import Settings, choices_of, models_in, tag_of
from codebackdoor.config.study import Config
from codebackdoor.report.products import PRODUCTS

#: Maximum number of suggestions, and of methods that one of them names.
MOST, _METHODS = 5, 3


class Meaning(NamedTuple):
    """What a word is (``the setting `adapters```), its section, and its method, if it belongs to one."""

    word: str
    is_what: str
    section: str
    method: str | None


def suggestions(word: str) -> str:
    """The end of an error message: the meaning of a word, or the nearest names; at most five."""
    meanings = list(_meanings())
    sections = {name for meaning in meanings for name in (meaning.section, meaning.method) if name is not None}
    if misspelled := difflib.get_close_matches(word, sections, n=1, cutoff=0.9):
        return f"; did you mean {misspelled[0]!r}?"
    methods: dict[tuple[str, str, str], list[str]] = {}
    for meaning in meanings:
        if meaning.word.lower() == word.lower():
            tags = methods.setdefault((meaning.word, meaning.is_what, meaning.section), [])
            tags += [meaning.method] if meaning.method is not None else []
    if methods:
        return "".join(f"\n{_sentence(*key, tags)}" for key, tags in list(methods.items())[:MOST])
    for names in (sections, {meaning.word for meaning in meanings}):
        lower = {name.lower(): name for name in sorted(names)}
        if close := difflib.get_close_matches(word.lower(), lower, n=MOST, cutoff=0.75):
            return f"; did you mean {' or '.join(repr(lower[name]) for name in close)}?"
    return (
        "; `codebackdoor describe` lists all. For a variant, also name the configuration that declares it; "
        "docs/glossary.md explains terms"
    )


def _sentence(word: str, is_what: str, section: str, methods: list[str]) -> str:
    if not methods:
        return f"{word} is {is_what} of {section}: codebackdoor describe {section}"
    names = ", ".join(methods[:_METHODS]) + (", ..." if len(methods) > _METHODS else "")
    return f"{word} is {is_what} of {section} ({names}): codebackdoor describe {methods[0]}"


def _meanings() -> Iterator[Meaning]:
    """Every word that a user may look for."""
    for section, field in Config.model_fields.items():
        for model in models_in(field.annotation):
            tag = tag_of(model)
            if tag is not None and issubclass(model, Settings) and model.label:
                yield Meaning(model.label, "the label", section, tag)
            yield from _settings(model, section, tag)
    for name, product in PRODUCTS.items():
        yield Meaning(name, "a figure" if product.kind == "figure" else "a table", "experiments", None)


def _settings(model: type[BaseModel], section: str, tag: str | None, outer: str = "") -> Iterator[Meaning]:
    """The settings of a method, at every depth, and the words that are their values."""
    for name, field in model.model_fields.items():
        key = f"{outer}{name}"
        yield Meaning(name, f"the setting `{key}`" if outer else "a setting", section, tag)
        for choice in choices_of(field.annotation):
            yield Meaning(choice, f"a value of `{key}`", section, tag)
        for nested in models_in(field.annotation):
            if issubclass(nested, Settings) and nested.label:
                yield Meaning(nested.label, f"the setting `{key}`", section, tag)
            yield from _settings(nested, section, tag, f"{key}.")
