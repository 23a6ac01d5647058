"""Which identifier refers to which declaration: lexical scopes of Python, Java and C in one linear sweep.

tree-sitter answers one query per text (``queries``); the sweep walks its captures in document order with a stack of
open regions, and the names are resolved afterwards. Python binds in a whole scope wherever the assignment stands and
its classes are invisible from the functions in them; Java and C bind from the declaration on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from tree_sitter import Node

from codebackdoor.syntax.languages import COMMENTS
from codebackdoor.syntax.queries import identifier_query
from codebackdoor.types import Language

#: What a declaration makes of a name; a later one in this order overrides an earlier one in the same scope.
BindingKind = Literal["variable", "parameter", "function", "other"]
_RANK: dict[BindingKind, int] = {"variable": 0, "parameter": 1, "function": 2, "other": 3}

OWN: tuple[Literal["function", "parameter", "variable"], ...] = ("function", "parameter", "variable")

#: Captures of an identifier, most telling first.
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
_ORDER = {tag: place for place, tag in enumerate(PRIORITY)}

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
        start, known = self.bindings.get(name, (visible_from, kind))
        self.bindings[name] = (min(start, visible_from), max(kind, known, key=_RANK.__getitem__))

    def chain(self) -> Iterator[Scope]:
        """This scope and those around it; Python's class bodies are seen from directly inside only."""
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
        """What keeps occurrences of one spelling apart: declared in this text, a role without scope, or free."""
        if self.kind in OWN:
            return "own"
        return self.tag if self.tag in UNRESOLVED else "free"

    def way(self) -> Iterator[Scope]:
        """The scopes from this place out to the one that declares the name."""
        for scope in self.scope.chain():
            yield scope
            if scope is self.binding:
                return


@dataclass(slots=True)
class Analysis:
    """Identifiers in document order; the outermost function's name and scope; nodes that need a rule of their own.

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
    """Captures sorted so that a region precedes what it holds; an identifier appears once, by its best capture."""
    regions: list[tuple[int, int, int, str, Node]] = []
    identifiers: dict[int, tuple[int, str, Node]] = {}
    for node, tag in identifier_query(language).captures(root):
        rank = _ORDER.get(tag)
        start = node.start_byte
        if rank is None:
            # a default value that is a lambda: first out of the function's scope, then into the lambda's
            regions.append((start, -node.end_byte, tag != "outer", tag, node))
        else:
            known = identifiers.get(start)
            if known is None or rank < known[0]:
                identifiers[start] = (rank, tag, node)
    events = regions + [(start, -node.end_byte, 2, tag, node) for start, (_, tag, node) in identifiers.items()]
    events.sort(key=lambda event: event[:3])
    return events


def analyse(root: Node, source: bytes, language: Language, is_cut: bool) -> Analysis:
    """Find every identifier below ``root`` and what it refers to."""
    found = Analysis(is_cut)
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
                scope.parameters = True  # the function's own parameter list, which is no scope of its own
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
            found.decorators.append(node)
        elif tag == "annotation":
            found.annotations.append(node)
        elif tag == "dynamic":
            found.dynamic = True
        elif tag in _ORDER and end > start:
            name = source[start:end].decode()
            tag = "label" if opaque else tag
            one = Occurrence(start, end, name, name, tag, node, scope, frozen)
            found.occurrences.append(one)
            _declare(one, found, language)
    for one in found.occurrences:
        if one.tag not in UNRESOLVED and one.binding is None:
            _resolve(one)
    return found


def _declare(one: Occurrence, found: Analysis, language: Language) -> None:
    """Enter into its scope what this identifier declares, if it declares anything."""
    scope, tag = one.scope, one.tag
    visible_from = 0 if language == "python" or scope.kind == "class" else one.start
    if tag in ("method", "definition") and language == "java":
        one.key = f"{one.name}()"
    if tag == "definition" and scope.kind == "function" and not scope.named:
        one.scope = outer = scope.parent or scope
        scope.named = True
        is_outermost = found.function is None and found.body is None
        if is_outermost:
            found.body = scope
        if language == "c" and (_is_made_by_macro(one.node) or (is_outermost and found.is_cut and one.name.isupper())):
            return
        if not is_outermost:
            outer.bind(one.key, "variable", 0)
        else:
            found.function = one
            if language == "python" and _is_method(one.node):
                # what the body calls by this name is not the method, which only its class knows
                one.binding, one.kind = outer, "function"
                return
            outer.bind(one.key, "function", 0)
    elif tag == "constructor":
        found.function = found.function or one
        one.binding, one.kind = scope, "other"
    elif tag in ("parameter", "variable"):
        scope.bind(one.key, "parameter" if tag == "parameter" else "variable", visible_from)
    elif tag == "declared":
        scope.bind(one.key, "parameter" if scope.kind in ("parameters", "function") else "variable", visible_from)
    elif tag == "variable.outer" and scope.parent is not None:
        one.scope = scope.parent
        scope.parent.bind(one.key, "variable", visible_from)
    elif tag == "walrus":
        while scope.kind == "comprehension" and scope.parent is not None:
            scope = scope.parent
        scope.bind(one.key, "variable", visible_from)
    elif tag in ("import", "field", "component", "definition"):
        scope.bind(one.key, "other", visible_from)


def _resolve(one: Occurrence) -> None:
    for scope in one.scope.chain():
        known = scope.bindings.get(one.key)
        if known is not None and known[0] <= one.start:
            one.binding, one.kind = scope, known[1]
            return


def _belongs_to_name(parameters: Node) -> bool:
    """Whether a parameter list of C is the argument of a macro that makes a function's name: ``HELPER(add)(int a)``."""
    declarator = parameters.parent
    return bool(declarator.type == "function_declarator" and declarator.parent.type == "function_declarator")


def _is_made_by_macro(name: Node) -> bool:
    """Whether what stands for the name of a C function is a macro, or what a macro makes the name of.

    ``HELPER(add)(int a) {``, without a type, too; ``DEFINE_TEST(name) {``, which has no parameter that could be one.
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
        return False  # its parameters are declared below their list
    named = [child for child in parameters.named_children if child.type not in COMMENTS]
    return bool(named) and all(_is_bare_word(child) for child in named)


def _is_bare_word(parameter: Node) -> bool:
    """Whether a parameter is one word, and no type that a function may be declared to take nothing with."""
    kind = parameter if parameter.type == "identifier" else parameter.child_by_field_name("type")
    bare = parameter.type == "identifier" or (parameter.child_count == 1 and kind.type == "type_identifier")
    return bool(bare and kind.text != b"VOID")


def _is_method(name: Node) -> bool:
    """Whether a lone Python definition was written for a class: its first parameter or its decorator says so."""
    definition = name.parent
    parameters = definition.child_by_field_name("parameters")
    named = [child for child in parameters.children if child.is_named] if parameters is not None else []
    if named and named[0].text in (b"self", b"cls", b"mcs", b"mcls", b"klass"):
        return True
    around = definition.parent
    if around is None or around.type != "decorated_definition":
        return False
    marks = (b"staticmethod", b"classmethod", b"property")
    return any(child.type == "decorator" and child.text[1:].strip() in marks for child in around.children)
