"""Loading YAML files into a checked configuration, within size limits; errors name the line of a mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from codebackdoor.config.mistakes import WHOLE, explain
from codebackdoor.config.study import Config
from codebackdoor.errors import UserError, quoted
from codebackdoor.files import read_text
from codebackdoor.parsing import DEPTH, LONGEST_NUMBER, check_values, parse_json

#: Limits of one file: bytes, and values after expanding all aliases. This project's largest file has 5000 values.
FILE_BYTES, VALUES = 1 << 20, 20_000
#: The default study, in the current folder, which most other files override.
DEFAULT = Path("config.yaml")


class _Refused(yaml.MarkedYAMLError):
    """Valid YAML that is not accepted; ``problem`` is a sentence that begins with the line."""


class _Loader(yaml.SafeLoader):
    """YAML without duplicate keys; they are checked before ``<<`` is resolved, because merged keys may be overridden.

    The values behind aliases are counted before construction: a few lines can expand to more values than fit in memory.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._sizes: dict[int, int] = {}

    def construct_bytes(self, node: yaml.Node) -> Any:
        raise _Refused(problem=f"line {node.start_mark.line + 1}: settings cannot be binary; write text")

    def fetch_flow_collection_start(self, kind: Any) -> None:
        # the library takes time quadratic in the depth, and then fails
        if self.flow_level >= DEPTH:
            raise _Refused(problem=f"line {self.line + 1}: nested more than {DEPTH} levels deep")
        super().fetch_flow_collection_start(kind)

    def compose_node(self, parent: Any, index: Any) -> Any:
        line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
        is_alias = self.check_event(yaml.AliasEvent)
        node: Any = super().compose_node(parent, index)
        if is_alias:
            if id(node) not in self._sizes:
                raise _Refused(problem=f"line {line}: the alias refers to a value that contains it; write it out")
        else:
            self._sizes[id(node)] = 1 + sum(self._sizes[id(child)] for child in _children(node))
        if self._sizes[id(node)] > VALUES or len(self._sizes) > VALUES:
            raise _Refused(problem=f"line {line}: more than {VALUES} values; write fewer")
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                instead = "write both as <<: [*one, *other]" if key.value == "<<" else "remove one of them"
                name = key.value if key.value.isprintable() and len(key.value) <= LONGEST_NUMBER else quoted(key.value)
                raise _Refused(problem=f"line {line}: {name} already occurs in line {lines[key.value]}; {instead}")
            lines[key.value] = line
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        # raised by the library for an impossible date, `!!int x` and the like
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            text = quoted(node.value) if isinstance(node, yaml.ScalarNode) else "this"
            raise _Refused(problem=f"line {node.start_mark.line + 1}: {text} cannot be read ({error})") from None

    def construct_number(self, node: Any) -> Any:
        if len(node.value) > LONGEST_NUMBER:
            raise ValueError(f"a number has {len(node.value)} digits; the maximum is {LONGEST_NUMBER}")
        is_whole = node.tag == "tag:yaml.org,2002:int"
        return self.construct_yaml_int(node) if is_whole else self.construct_yaml_float(node)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:binary", _Loader.construct_bytes)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def load(paths: Sequence[Path]) -> Config:
    """Read YAML files, each overriding those before it, and check the result; UserError lists the mistakes."""
    merged: dict[str, Any] = {}
    for path in paths:
        merged = merge(merged, read_yaml(path))
    try:
        return validate(merged)
    except UserError as error:
        raise UserError(f"{error}{_base_hint(paths, str(error))}") from None


def _base_hint(paths: Sequence[Path], mistakes: str) -> str:
    """A line to add to the mistakes if they may come from reading an overlay without the file that it overrides."""
    is_partial = any("missing" in line for line in mistakes.splitlines())
    if not is_partial or not DEFAULT.is_file() or any(path.absolute() == DEFAULT.absolute() for path in paths):
        return ""
    names = " ".join(map(str, paths))
    return f"\nif this overrides other files, as its first lines may say, name them before it: {DEFAULT} {names}"


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; UserError if it cannot be read."""
    try:
        content = yaml.load(read_text(path, FILE_BYTES), _Loader)
        check_values(content)
    except _Refused as error:
        raise UserError(f"{path}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    except RecursionError:
        raise UserError(f"{path}: nested more than {DEPTH} levels deep") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected sections such as 'datasets:' and 'experiments:'")
    return content


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge ``over`` into ``base``: mappings are merged key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def validate(raw: Mapping[str, Any]) -> Config:
    """Check a merged configuration; null entries of a section (``name: null``) are removed."""
    present = {
        key: {name: value for name, value in section.items() if value is not None}
        if isinstance(section, dict)
        else section
        for key, section in raw.items()
    }
    try:
        return Config.model_validate(present)
    except ValidationError as error:
        raise UserError(explain(error, Config)) from None


def parse(kind: Any, text: str, origin: str) -> Any:
    """Parse settings of ``kind`` (a model or a union of models) from the JSON that the rules pass to commands."""
    try:
        return TypeAdapter(kind).validate_python(parse_json(text, origin))
    except ValidationError as error:
        raise UserError(f"{origin}: {explain(error, kind).removeprefix(f'{WHOLE}: ')}") from None
