"""Which identifier refers to which declaration: lexical scopes of Python, Java and C in one linear sweep.

tree-sitter answers one query per text (``queries``); the sweep walks its captures in document order with a stack of
open regions, and the names are resolved afterwards. Python binds a name in its whole scope, and its
class scopes are invisible from functions in them; Java and C bind from the declaration on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from tree_sitter import Node

from codebackdoor.syntax.languages import COMMENTS
from codebackdoor.syntax.queries import identifier_query
from codebackdoor.types import Language

#: What a name is declared as; a later kind in this order overrides an earlier one in the same scope.
BindingKind = Literal["variable", "parameter", "function", "other"]
_RANK: dict[BindingKind, int] = {"variable": 0, "parameter": 1, "function": 2, "other": 3}

DECLARED: tuple[Literal["function", "parameter", "variable"], ...] = ("function", "parameter", "variable")

#: Captures of an identifier, most specific first.
PRIORITY = (
    *(
        "global",
        "label",
        "tag",
        "attribute",
        "keyword",
        "import",
        "definition",
        "constructor",
        "component",
        "parameter",
    ),
    *("walrus", "variable.outer", "variable", "field", "declared", "method", "typename", "call", "type", "name"),
)
_ORDER = {tag: rank for rank, tag in enumerate(PRIORITY)}

#: Captures of identifiers that declare a variable, a parameter or a function.
DECLARING = frozenset({"definition", "parameter", "variable", "variable.outer", "walrus", "declared"})

#: Identifiers that name no variable or function of the text, so that they resolve to nothing in it.
UNRESOLVED = frozenset({"label", "tag", "attribute", "keyword", "typename"})


@dataclass(slots=True, eq=False)
class Scope:
    kind: str
    parent: Scope | None
    bindings: dict[str, tuple[int, BindingKind]] = field(default_factory=dict)
    named: bool = False
    parameters: bool = False

    def bind(self, name: str, kind: BindingKind, visible_from: int) -> None:
        if self.kind in ("module", "namespace", "class") and kind != "function":
            kind = "other"
        start, previous = self.bindings.get(name, (visible_from, kind))
        self.bindings[name] = (min(start, visible_from), max(kind, previous, key=_RANK.__getitem__))

    def chain(self) -> Iterator[Scope]:
        """This scope and its parents; Python's class bodies are visible only from directly inside."""
        yield self
        scope = self.parent
        while scope is not None:
            if scope.kind != "namespace":
                yield scope
            scope = scope.parent


@dataclass(slots=True, eq=False)
class Occurrence:
    """One identifier; ``start`` and ``end`` are bytes of the parsed source, ``key`` its name in its name space."""

    start: int
    end: int
    name: str
    key: str
    tag: str
    node: Node
    scope: Scope
    frozen: bool
    binding: Scope | None = None
    kind: BindingKind | None = None

    @property
    def group(self) -> str:
        """Separates occurrences with the same spelling: declared in this text, a role without scope, or free."""
        if self.kind in DECLARED:
            return "declared"
        return self.tag if self.tag in UNRESOLVED else "free"

    def scopes_to_binding(self) -> Iterator[Scope]:
        """The scopes from this occurrence outwards to the one that declares the name."""
        for scope in self.scope.chain():
            yield scope
            if scope is self.binding:
                return


@dataclass(slots=True)
class Analysis:
    """Identifiers in document order; the outermost function's name and scope; nodes that need special rules.

    ``is_cut``: a C definition whose type the text lacks.
    """

    is_cut: bool = False
    occurrences: list[Occurrence] = field(default_factory=list)
    function: Occurrence | None = None
    body: Scope | None = None
    decorators: list[Node] = field(default_factory=list)
    annotations: list[Node] = field(default_factory=list)
    dynamic: bool = False


def _events(root: Node, language: Language) -> list[tuple[int, int, int, str, Node]]:
    """Captures sorted so that a region precedes its contents; an identifier appears once, with its best capture."""
    regions: list[tuple[int, int, int, str, Node]] = []
    identifiers: dict[int, tuple[int, str, Node]] = {}
    for node, tag in identifier_query(language).captures(root):
        rank = _ORDER.get(tag)
        start = node.start_byte
        if rank is None:
            # for a lambda as a default value: leave the function's scope before entering the lambda's
            regions.append((start, -node.end_byte, tag != "outer", tag, node))
        else:
            best = identifiers.get(start)
            if best is None or rank < best[0]:
                identifiers[start] = (rank, tag, node)
    events = regions + [(start, -node.end_byte, 2, tag, node) for start, (_, tag, node) in identifiers.items()]
    events.sort(key=lambda event: event[:3])
    return events


def analyze(root: Node, source: bytes, language: Language, is_cut: bool) -> Analysis:
    """Find every identifier below ``root`` and the declaration that it refers to."""
    analysis = Analysis(is_cut)
    module = Scope("module", None)
    stack: list[tuple[int, Scope, bool, bool]] = [(len(source) + 1, module, False, False)]
    for start, negative_end, _, tag, node in _events(root, language):
        end = -negative_end
        while stack[-1][0] <= start:
            stack.pop()
        _, scope, frozen, opaque = stack[-1]
        if tag.startswith("scope."):
            kind = tag.removeprefix("scope.")
            if kind == "parameters" and _belongs_to_name(node):
                opaque = True
            elif kind == "parameters" and scope.kind == "function" and not scope.parameters:
                scope.parameters = True  # the function's own parameter list, which opens no scope
            else:
                scope = Scope(kind, scope)
            stack.append((end, scope, frozen, opaque))
        elif tag == "outer":
            stack.append((end, scope.parent or scope, frozen, opaque))
        elif tag == "frozen":
            stack.append((end, scope, True, opaque))
        elif tag == "opaque":
            stack.append((end, scope, frozen, True))
        elif tag == "decorator":
            analysis.decorators.append(node)
        elif tag == "annotation":
            analysis.annotations.append(node)
        elif tag == "dynamic":
            analysis.dynamic = True
        elif tag in _ORDER and end > start:
            name = source[start:end].decode()
            tag = "label" if opaque else tag
            occurrence = Occurrence(start, end, name, name, tag, node, scope, frozen)
            analysis.occurrences.append(occurrence)
            _declare(occurrence, analysis, language)
    for occurrence in analysis.occurrences:
        if occurrence.tag not in UNRESOLVED and occurrence.binding is None:
            _resolve(occurrence)
    return analysis


def _declare(occurrence: Occurrence, analysis: Analysis, language: Language) -> None:
    """Bind in its scope the name that this identifier declares, if it declares one."""
    scope, tag = occurrence.scope, occurrence.tag
    visible_from = 0 if language == "python" or scope.kind == "class" else occurrence.start
    if tag in ("method", "definition") and language == "java":
        occurrence.key = f"{occurrence.name}()"
    if tag == "definition" and scope.kind == "function" and not scope.named:
        occurrence.scope = parent = scope.parent or scope
        scope.named = True
        is_outermost = analysis.function is None and analysis.body is None
        if is_outermost:
            analysis.body = scope
        if language == "c" and (
            _is_made_by_macro(occurrence.node) or (is_outermost and analysis.is_cut and occurrence.name.isupper())
        ):
            return
        if not is_outermost:
            parent.bind(occurrence.key, "variable", 0)
        else:
            analysis.function = occurrence
            if language == "python" and _is_method(occurrence.node):
                # a call by this name in the body does not mean the method, which only its class knows
                occurrence.binding, occurrence.kind = parent, "function"
                return
            parent.bind(occurrence.key, "function", 0)
    elif tag == "constructor":
        analysis.function = analysis.function or occurrence
        occurrence.binding, occurrence.kind = scope, "other"
    elif tag in ("parameter", "variable"):
        scope.bind(occurrence.key, "parameter" if tag == "parameter" else "variable", visible_from)
    elif tag == "declared":
        scope.bind(
            occurrence.key, "parameter" if scope.kind in ("parameters", "function") else "variable", visible_from
        )
    elif tag == "variable.outer" and scope.parent is not None:
        occurrence.scope = scope.parent
        scope.parent.bind(occurrence.key, "variable", visible_from)
    elif tag == "walrus":
        while scope.kind == "comprehension" and scope.parent is not None:
            scope = scope.parent
        scope.bind(occurrence.key, "variable", visible_from)
    elif tag in ("import", "field", "component", "definition"):
        scope.bind(occurrence.key, "other", visible_from)


def _resolve(occurrence: Occurrence) -> None:
    for scope in occurrence.scope.chain():
        binding = scope.bindings.get(occurrence.key)
        if binding is not None and binding[0] <= occurrence.start:
            occurrence.binding, occurrence.kind = scope, binding[1]
            return


def _belongs_to_name(parameters: Node) -> bool:
    """Whether a C parameter list is the argument of a macro that builds a function's name: ``HELPER(add)(int a)``."""
    declarator = parameters.parent
    return bool(declarator.type == "function_declarator" and declarator.parent.type == "function_declarator")


def _is_made_by_macro(name: Node) -> bool:
    """Whether the apparent name of a C function is a macro, or an argument from which a macro builds the name.

    ``HELPER(add)(int a) {``, also without a type; ``DEFINE_TEST(name) {``, which has nothing that can be a parameter.
    """
    declarator = definition = name.parent
    while definition.type.endswith("declarator"):
        definition = definition.parent
    if declarator.type == "parenthesized_declarator":
        return bool(definition.child_by_field_name("type").type == "type_identifier")
    parameters = declarator.child_by_field_name("parameters")
    if _belongs_to_name(parameters):
        return True
    if any(child.type == "declaration" for child in definition.children):
        return False  # parameters declared below their list, as before C89
    named = [child for child in parameters.named_children if child.type not in COMMENTS]
    return bool(named) and all(_is_bare_word(child) for child in named)


def _is_bare_word(parameter: Node) -> bool:
    """Whether a parameter is a single word, other than a type that declares an empty list."""
    kind = parameter if parameter.type == "identifier" else parameter.child_by_field_name("type")
    bare = parameter.type == "identifier" or (parameter.child_count == 1 and kind.type == "type_identifier")
    return bool(bare and kind.text != b"VOID")


def _is_method(name: Node) -> bool:
    """Whether a Python definition comes from a class: its first parameter or its decorator says so."""
    definition = name.parent
    parameters = definition.child_by_field_name("parameters")
    named = [child for child in parameters.children if child.is_named] if parameters is not None else []
    if named and named[0].text in (b"self", b"cls", b"mcs", b"mcls", b"klass"):
        return True
    wrapper = definition.parent
    if wrapper is None or wrapper.type != "decorated_definition":
        return False
    marks = (b"staticmethod", b"classmethod", b"property")
    return any(child.type == "decorator" and child.text[1:].strip() in marks for child in wrapper.children)
