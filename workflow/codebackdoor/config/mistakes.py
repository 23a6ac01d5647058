"""Error messages for settings: one line per mistake, with its full dotted path and the nearest valid name."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from codebackdoor.config.base import TAGS, choices_of, models_in, tag_of
from codebackdoor.errors import MAX_QUOTED, nearest, quoted

#: Maximum number of listed mistakes.
LISTED = 20
#: Location of a mistake that concerns no single key.
WHOLE = "configuration"
#: Pydantic error types for a missing mapping.
_NO_MAPPING = ("dict_type", "mapping_type", "model_type", "model_attributes_type")


def explain(error: ValidationError, root: Any) -> str:
    """One line per mistake."""
    details = error.errors(include_url=False)
    wrong = [detail["loc"] for detail in details]
    # pydantic drops invalid items before counting: a list that is too short because of that is not a separate mistake
    counted = [
        detail
        for detail in details
        if detail["type"] != "too_short" or not any(_inside(path, detail["loc"]) for path in wrong)
    ]
    lines = list(dict.fromkeys(_explain(detail, root) for detail in counted[: 2 * LISTED]))
    more = len(lines) - LISTED + max(len(counted) - 2 * LISTED, 0)
    return "\n".join([*lines[:LISTED], *([f"and {more} more mistakes"] if more > 0 else [])])


def _inside(path: Sequence[str | int], outer: Sequence[str | int]) -> bool:
    return len(path) > len(outer) and path[: len(outer)] == outer


def _explain(detail: Mapping[str, Any], root: Any) -> str:
    path, model = _follow(root, detail["loc"])
    where = ".".join(map(_quoted_part, path)) or WHOLE
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(path, model, root)
    if kind == "union_tag_invalid":
        key = context["discriminator"].strip("'")
        valid = [name.strip(" '") for name in context["expected_tags"].split(",")]
        return f"{where}: unknown {key} {quoted(context['tag'])}{nearest(str(context['tag']), valid)}"
    if kind == "union_tag_not_found":
        return f"{where}: missing key {context['discriminator']}"
    tagged = bool(path) and path[-1] in TAGS
    if kind == "missing" and tagged:
        return f"{'.'.join(path[:-1])}: missing key {path[-1]!r}"
    if kind == "literal_error" and tagged:
        valid = context["expected"].replace("'", "").split(" or ")
        word = detail["input"]
        return f"{'.'.join(path[:-1])}: unknown {path[-1]} {quoted(word)}{nearest(_word(word), valid)}"
    if kind == "missing":
        return f"{where}: missing"
    if kind == "value_error":
        text = str(detail["msg"]).removeprefix("Value error, ")
        return f"{where}: {text}" if path else text
    received = quoted(detail["input"])
    instead = f", not {received}" if len(received) <= MAX_QUOTED else ""
    if kind in _NO_MAPPING:
        return f"{where}: expected keys with values{instead}"
    if kind == "tuple_type":
        single = isinstance(detail["input"], int | float)
        return f"{where}: expected a list, such as [{received}]" if single else f"{where}: expected a list"
    if kind == "too_short":
        return f"{where}: too few items; write at least {context['min_length']}"
    if kind == "less_than_equal" and _is_percent(path, context["le"], detail["input"]):
        return f"{where}: {received} is not a share between 0 and 1; write {detail['input'] / 100:g} for {received}%"
    return f"{where}: {detail['msg'][0].lower()}{detail['msg'][1:]}{instead}"


def _quoted_part(part: str) -> str:
    """A part of a dotted path, quoted if it is long or unprintable: keys can be any text."""
    return part if part.isprintable() and len(part) <= MAX_QUOTED else quoted(part)


def _word(value: Any) -> str:
    return value if isinstance(value, str) else quoted(value)


def _is_percent(path: Sequence[str], limit: float, value: Any) -> bool:
    """Whether the value of a share was given in percent."""
    name = next((part for part in reversed(path) if not part.isdigit()), "")
    share = "share" in name or "rate" in name
    return share and limit == 1 and isinstance(value, int | float) and 1 < value <= 100


def _unknown_key(path: Sequence[str], model: type[BaseModel] | None, root: Any) -> str:
    """The mistake with the nearest valid key, preferably a sibling, and its full dotted path."""
    parent, wrong = path[:-1], path[-1][:MAX_QUOTED]
    where = ".".join(map(_quoted_part, path))
    siblings = sorted(model.model_fields) if model is not None else []
    if close := _close(wrong, siblings, model):
        return f"unknown key {where}; did you mean {'.'.join((*parent, close))}?"
    if model is not None and (tag := tag_of(model)) is not None and parent:
        keys = ", ".join(key for key in siblings if key not in TAGS)
        return f"{'.'.join(map(_quoted_part, parent))} ({tag}) has no key `{_quoted_part(path[-1])}`; its keys: {keys}"
    elsewhere = dict(_keys(root, ()))
    far = difflib.get_close_matches(wrong, list(elsewhere), n=1, cutoff=0.8)
    if far:
        section, is_below, key = elsewhere[far[0]].partition(".<name>.")
        instead = f"{key} of one of the {section}" if is_below else section
        return f"unknown key {where}; did you mean {instead}?"
    return f"unknown key {where}" + (f"; valid there: {', '.join(siblings)}" if siblings else "")


def _close(wrong: str, siblings: Sequence[str], model: type[BaseModel] | None) -> str | None:
    """The sibling that a wrong key probably means: by the label of its settings (LoRA), initials or similarity."""
    fields = model.model_fields if model is not None else {}
    for key in siblings:
        kind = fields[key].annotation
        words = [*choices_of(kind), *(str(getattr(below, "label", "")) for below in models_in(kind))]
        if wrong.lower() in map(str.lower, words):
            return key
    initials = [key for key in siblings if _abbreviates(key, wrong) or _abbreviates(wrong, key)]
    return next(iter(initials or difflib.get_close_matches(wrong, siblings, n=1)), None)


def _abbreviates(short: str, key: str) -> bool:
    """Whether a key is the initials of another one: ``lr`` of ``learning_rate``."""
    parts = key.split("_")
    return len(parts) > 1 and short == "".join(part[:1] for part in parts)


def _keys(kind: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Every key below ``kind`` with its dotted path, deepest first; ``<name>`` stands for the name of a variant."""
    for model in models_in(kind):
        for name, field in model.model_fields.items():
            below = field.annotation
            yield from _keys(below, (*path, name, *(["<name>"] if get_origin(below) is dict else [])))
            yield name, ".".join((*path, name))


def _follow(root: Any, loc: Sequence[str | int]) -> tuple[tuple[str, ...], type[BaseModel] | None]:
    """Return the dotted path as in the file (without union tags), and the model that contains its last key."""
    path: list[str] = []
    kind, holder = root, None
    for part in loc:
        models = list(models_in(kind))
        origin = get_origin(_bare(kind))
        if origin in (dict, tuple, list):
            arguments = [argument for argument in get_args(_bare(kind)) if argument is not ...]
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
        rest = [alternative for alternative in get_args(kind) if alternative is not type(None)]
        return _bare(rest[0]) if len(rest) == 1 else kind
    return kind
