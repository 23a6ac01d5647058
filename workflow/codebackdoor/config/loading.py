"""From YAML to a checked configuration; what is wrong is said with its full dotted path and the nearest valid name."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from codebackdoor.config.study import Config
from codebackdoor.errors import UserError, nearest
from codebackdoor.files import read_text

#: Longest input that an error repeats.
SHOWN = 80
#: Fields that tell the members of a union apart.
TAGS = ("method", "task", "architecture")


class _Twice(yaml.MarkedYAMLError):
    """A key stands twice in one mapping; YAML forbids it, and PyYAML would silently keep the last."""


class _Loader(yaml.SafeLoader):
    """YAML without doubled keys. Checked before ``<<`` is resolved, since what is merged may be overridden."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                instead = "write both as <<: [*one, *other]" if key.value == "<<" else "keep one of them"
                raise _Twice(
                    problem=f"line {line}: {key.value} is there already, in line {lines[key.value]}; {instead}"
                )
            lines[key.value] = line
        return node


def load(paths: Sequence[Path]) -> Config:
    """Read YAML files, each laid over the ones before it, and check the result; UserError says what is wrong."""
    merged: dict[str, Any] = {}
    for path in paths:
        merged = merge(merged, read_yaml(path))
    return validate(merged)


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        found = yaml.load(read_text(path), _Loader)
    except _Twice as error:
        raise UserError(f"{path}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected sections such as 'datasets:' and 'experiments:'")
    return found


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay ``over`` on ``base``: mappings are merged key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def validate(raw: Mapping[str, Any]) -> Config:
    """Check a merged configuration; an entry of a section that is null (``name: null``) is taken out."""
    kept = {
        key: {name: one for name, one in section.items() if one is not None} if isinstance(section, dict) else section
        for key, section in raw.items()
    }
    try:
        return Config.model_validate(kept)
    except ValidationError as error:
        raise UserError(explain(error, Config)) from None


def parse(kind: Any, text: str, what: str) -> Any:
    """Read settings of ``kind`` (a model or a union of models) from JSON, as the rules pass them on."""
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise UserError(f"{what}: {explain(error, kind)}") from None


def explain(error: ValidationError, root: Any) -> str:
    """One line for each thing that is wrong."""
    details = error.errors(include_url=False)
    wrong = [detail["loc"] for detail in details]
    # what is wrong in a list is left out before the rest is counted: too short is then no mistake of its own
    told = [
        detail
        for detail in details
        if detail["type"] != "too_short" or not any(_inside(path, detail["loc"]) for path in wrong)
    ]
    return "\n".join(dict.fromkeys(_explain(detail, root) for detail in told))


def _inside(path: Sequence[str | int], outer: Sequence[str | int]) -> bool:
    return len(path) > len(outer) and path[: len(outer)] == outer


def _explain(detail: Mapping[str, Any], root: Any) -> str:
    path, model = _follow(root, detail["loc"])
    where = ".".join(path) or "configuration"
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key {where}{_nearest_key(path, model, root)}"
    if kind == "union_tag_invalid":
        key = context["discriminator"].strip("'")
        known = [name.strip(" '") for name in context["expected_tags"].split(",")]
        return f"{where}: unknown {key} {context['tag']!r}{nearest(str(context['tag']), known)}"
    if kind == "union_tag_not_found":
        return f"{where}: say which one it is with {context['discriminator']}"
    tagged = bool(path) and path[-1] in TAGS
    if kind == "missing" and tagged:
        return f"{'.'.join(path[:-1])}: say which one it is with {path[-1]!r}"
    if kind == "literal_error" and tagged:
        known = context["expected"].replace("'", "").split(" or ")
        return f"{'.'.join(path[:-1])}: unknown {path[-1]} {detail['input']!r}{nearest(str(detail['input']), known)}"
    if kind == "missing":
        return f"{where}: missing"
    if kind == "value_error":
        text = str(detail["msg"]).removeprefix("Value error, ")
        return f"{where}: {text}" if path else text
    given = repr(detail["input"])
    instead = f", not {given}" if len(given) <= SHOWN else ""
    if kind == "tuple_type":
        single = isinstance(detail["input"], int | float)
        return f"{where}: write a list, such as [{given}]" if single else f"{where}: write a list"
    if kind == "too_short":
        return f"{where}: too few; write at least {context['min_length']}"
    if kind == "less_than_equal" and _is_percent(path, context["le"], detail["input"]):
        return f"{where}: {given} is not a share; write {detail['input'] / 100:g} for {given} %"
    return f"{where}: {detail['msg'][0].lower()}{detail['msg'][1:]}{instead}"


def _is_percent(path: Sequence[str], limit: float, given: Any) -> bool:
    """Whether a share was given in percent."""
    name = next((part for part in reversed(path) if not part.isdigit()), "")
    share = "share" in name or "rate" in name
    return share and limit == 1 and isinstance(given, int | float) and 1 < given <= 100


def _nearest_key(path: Sequence[str], model: type[BaseModel] | None, root: Any) -> str:
    """The nearest valid key: a sibling first, else one from anywhere, with its full dotted path."""
    parent, wrong = path[:-1], path[-1]
    siblings = sorted(model.model_fields) if model is not None else []
    close = difflib.get_close_matches(wrong, siblings, n=1)
    if close:
        return f"; did you mean {'.'.join((*parent, close[0]))}?"
    elsewhere = dict(_keys(root, ()))
    far = difflib.get_close_matches(wrong, list(elsewhere), n=1, cutoff=0.8)
    if far:
        return f"; did you mean {elsewhere[far[0]]}?"
    return f"; valid there: {', '.join(siblings)}" if siblings else ""


def _keys(kind: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Every key below ``kind`` and its dotted path; the name of a variant is written ``<name>``, deepest first."""
    for model in models_in(kind):
        for name, field in model.model_fields.items():
            below = field.annotation
            yield from _keys(below, (*path, name, *(["<name>"] if get_origin(below) is dict else [])))
            yield name, ".".join((*path, name))


def models_in(kind: Any) -> Iterator[type[BaseModel]]:
    """The models in a type: itself, the members of a union, the values of a mapping, the items of a sequence."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for argument in get_args(kind):
        yield from models_in(argument)


def _follow(root: Any, loc: Sequence[str | int]) -> tuple[tuple[str, ...], type[BaseModel] | None]:
    """Return the dotted path as the user wrote it (without tags of unions) and the model that holds its last key."""
    path: list[str] = []
    kind, holder = root, None
    for part in loc:
        models = list(models_in(kind))
        origin = get_origin(_bare(kind))
        if origin in (dict, tuple, list):
            arguments = [one for one in get_args(_bare(kind)) if one is not ...]
            kind = arguments[-1]
            path.append(str(part))
        elif len(models) > 1 and (tagged := [model for model in models if part == tag_of(model)]):
            kind = tagged[0]
        else:
            holder = models[0] if models else None
            field = holder.model_fields.get(str(part)) if holder is not None else None
            kind = field.annotation if field is not None else None
            path.append(str(part))
    return tuple(path), holder


def _bare(kind: Any) -> Any:
    """``kind`` without ``Annotated`` and ``| None``."""
    if hasattr(kind, "__metadata__"):
        return _bare(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        rest = [one for one in get_args(kind) if one is not type(None)]
        return _bare(rest[0]) if len(rest) == 1 else kind
    return kind


def tag_of(model: type[BaseModel]) -> str | None:
    """The value of the field that tells a union's members apart; None for a model that is in no union."""
    for name in TAGS:
        field = model.model_fields.get(name)
        if field is not None:
            return str(get_args(field.annotation)[0])
    return None
