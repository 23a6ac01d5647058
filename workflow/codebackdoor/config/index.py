"""Texts of `codebackdoor describe`: the overview of sections and methods, and one variant of a configuration."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import yaml

from codebackdoor.config.base import models_in, tag_of
from codebackdoor.config.describing import LINE_WIDTH
from codebackdoor.config.sections import SECTIONS
from codebackdoor.config.study import Config


def index() -> str:
    """Every section of the configuration with its meaning and the names of its methods, tasks or architectures."""
    return "\n".join(
        [
            *(line for name in Config.model_fields for line in _section(name)),
            "",
            "codebackdoor describe SECTION or METHOD explains its settings; codebackdoor describe all, every one;",
            "codebackdoor describe VARIANT config.yaml mine.yaml shows a variant of your configuration, with defaults.",
        ]
    )


def _section(name: str) -> Iterator[str]:
    field = Config.model_fields[name]
    tags = dict.fromkeys(tag for model in models_in(field.annotation) if (tag := tag_of(model)))
    text = " ".join(str(field.description or "").split())
    yield from textwrap.wrap(text, LINE_WIDTH, initial_indent=f"{name:13} ", subsequent_indent=" " * 14)
    if tags:
        yield from textwrap.wrap(", ".join(tags), LINE_WIDTH, initial_indent=" " * 16, subsequent_indent=" " * 16)


def variant(config: Config, name: str) -> str | None:
    """The variants with this name, each with all of its settings; None if the configuration declares none.

    ``name`` may begin with its section: ``models.codebert``.
    """
    section, _, rest = name.rpartition(".")
    blocks = []
    for kind in dict.fromkeys(SECTIONS.values()):
        declared = getattr(config, kind)
        if section in ("", kind) and rest in declared:
            settings = declared[rest]
            document = {kind: {rest: settings.model_dump(mode="json")}}
            text = yaml.safe_dump(document, sort_keys=False, width=LINE_WIDTH, allow_unicode=True)
            blocks.append(f"{text}# codebackdoor describe {tag_of(type(settings))} explains these settings")
    return "\n\n".join(blocks) or None
