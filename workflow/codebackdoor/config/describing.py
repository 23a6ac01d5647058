"""Documentation of the settings: annotated defaults as YAML, a JSON schema for editors, and a table of methods."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, WithJsonSchema
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from codebackdoor.config.base import TAGS, Head, Settings, models_in, tag_of
from codebackdoor.config.sections import DEFENSES, SECTIONS
from codebackdoor.config.study import Config
from codebackdoor.config.suggestions import suggestions
from codebackdoor.defenses.elimination.settings import EliminationSettings
from codebackdoor.defenses.filtering.settings import FilterSettings
from codebackdoor.defenses.purification.settings import PurificationSettings
from codebackdoor.errors import UserError, nearest

LINE_WIDTH = 110


def schema() -> str:
    """The JSON schema of the configuration, for editors that complete and check YAML."""
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def defaults() -> str:
    """Every section with every method and field: description, and the default in the format of config.yaml."""
    head = "# Every key of a configuration with its default, made by `make schema`.\n"
    return "\n".join((head, *("\n".join(_field(*item)) + "\n" for item in Config.model_fields.items())))


def describe(path: str) -> str:
    """Describe one section or one method (``codepurify``, ``purifications.codepurify``).

    A method that belongs to several kinds is described once per kind. UserError suggests the nearest name.
    """
    section, _, method = path.partition(".")
    if section not in Config.model_fields and not method:
        sections = [name for name, field in Config.model_fields.items() if path in _methods(field)]
        if not sections:
            raise UserError(f"no section or method {path!r}{suggestions(path)}")
        if len(sections) > 1:
            return "\n\n".join(f"# {name}.{path}\n{describe(f'{name}.{path}')}" for name in sections)
        section, method = sections[0], path
    if section not in Config.model_fields:
        raise UserError(f"no section {section!r}{nearest(section, Config.model_fields)}")
    field = Config.model_fields[section]
    if not method:
        return "\n".join(_field(section, field))
    models = _methods(field)
    if method not in models:
        raise UserError(f"no method {method!r} in {section}{nearest(method, models)}")
    return "\n".join(_model(models[method], "<name>:"))


def _methods(field: FieldInfo) -> dict[str, type[BaseModel]]:
    return {tag: model for model in models_in(field.annotation) if (tag := tag_of(model))}


def _field(name: str, field: FieldInfo) -> Iterator[str]:
    yield from _comment(field.description)
    models = list(models_in(field.annotation))
    if models:
        if field.default is None:
            yield f"{name}: null"
            yield from (f"#   {line}" for model in models for line in _model(model, ""))
            return
        kind = get_origin(field.annotation)
        yield f"{name}:"
        for model in models:
            yield from _indented(_model(model, "<name>:" if kind is dict else "-" if kind is tuple else ""))
        return
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
        # names of a registry
        schemas = (item.json_schema or {} for item in field.metadata if isinstance(item, WithJsonSchema))
        choices += [name for schema in schemas for name in schema.get("enum", ())]
        yield f"{name}: {' | '.join(choices) or '(required)'}"
        return
    plain = json.loads(json.dumps(default, default=str))
    text = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=LINE_WIDTH, allow_unicode=True)
    first, *rest = text.removesuffix("...\n").rstrip().splitlines()
    yield f"{name}: {first}"
    yield from rest


def _model(model: type[BaseModel], head: str) -> Iterator[str]:
    """The fields of a model below ``head``, which is empty if the model itself is the value."""
    yield from _comment(model.__doc__)
    # the tag comes first
    ordered = sorted(fields_read(model).items(), key=lambda item: item[0] not in TAGS)
    fields = (line for name, field in ordered for line in _field(name, field))
    if not head:
        yield from fields
        return
    yield head
    yield from _indented(fields)


def fields_read(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a method's settings that are read for at least one of its heads."""
    if not issubclass(model, Settings):
        return model.model_fields
    heads = {name: values for name, (condition, values) in model.read_where.items() if condition == "head"}
    return {
        name: field
        for name, field in model.model_fields.items()
        if name not in heads or set(heads[name]) & set(model.fits)
    }


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" if line else line for line in lines)


def _comment(text: Any) -> Iterator[str]:
    for line in textwrap.wrap(" ".join(str(text or "").split()), LINE_WIDTH - 2):
        yield f"# {line}"


def methods_table(minutes: Callable[[str, Settings], float | None]) -> str:
    """Every method as a Markdown table: its kind, heads, requirements, cost and paper.

    ``minutes`` returns the GPU minutes of one job by kind and settings, None if they are not known.
    """
    columns = ("method", "`method:`", "kind", "works on", "needs", "GPU minutes", "from")
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for kind in ("attack", *DEFENSES):
        for tag, settings in _methods(Config.model_fields[SECTIONS[kind]]).items():
            if not issubclass(settings, Settings):
                continue
            # requirements may depend on the settings; show those of the defaults
            default = settings.model_validate({"method": tag})
            heads = "all" if set(settings.fits) == set(get_args(Head)) else ", ".join(settings.fits)
            heads += " of natural language" if settings.acts_on == ("query",) else ""
            paper = settings.reference
            source = "" if paper is None else f"[{_first_author(paper.authors)}, {paper.year}]({paper.url})"
            cost = _minutes(minutes(kind, default))
            cells = (settings.label, f"`{tag}`", kind, heads, ", ".join(_needs(default)) or "–", cost, source)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _needs(settings: Settings) -> Iterator[str]:
    """What a method needs besides texts: the victim, an inverted trigger, helper models."""
    is_reader = isinstance(settings, FilterSettings | PurificationSettings) and settings.reads_victim
    if is_reader or isinstance(settings, EliminationSettings):
        yield "the victim"
    if isinstance(settings, PurificationSettings) and settings.reads_trigger:
        yield "the trigger that an elimination found"
    yield from (f"helper `{helper}`" for helper in settings.helpers)


def _minutes(minutes: float | None) -> str:
    if minutes is None:
        return "?"
    return "–" if minutes == 0 else f"{minutes:.{0 if minutes >= 10 else 1}f}"


def _first_author(authors: str) -> str:
    names = authors.removesuffix(" et al.").split(", ")
    surname = names[0].split()[-1]
    return surname if authors == names[0] else f"{surname} et al."
