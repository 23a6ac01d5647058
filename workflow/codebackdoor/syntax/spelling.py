"""Names whose spelling matters to what the code does, although the text itself declares them.

Reflection, ``global`` and ``nonlocal``, an import without an alias, a keyword argument of a call of the function
itself, a string or keyword in a decorator, ``f"{x=}"``, a macro's body, a place that does not parse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from unicodedata import is_normalized, normalize

from tree_sitter import Node

from codebackdoor.syntax.languages import parse_bytes
from codebackdoor.syntax.scopes import UNRESOLVED, Analysis, Occurrence, analyse
from codebackdoor.types import Language

#: Python's functions that see local variables by name.
_REFLECTION = frozenset({"eval", "exec", "locals", "vars", "dir"})


def fixed_names(found: Analysis, language: Language) -> set[str]:
    """Return the names declared in the text that a renaming must leave alone."""
    own: dict[str, list[Occurrence]] = {}
    for one in found.occurrences:
        if one.group == "own":
            own.setdefault(one.name, []).append(one)
    fixed = {one.name for one in found.occurrences if one.frozen or one.tag == "global"}
    for one in found.occurrences:
        if one.name in own and one.group != "own" and one.tag not in UNRESOLVED:
            # the same spelling, unresolved, where the declaration holds: before it, through a class body, or a method's
            # name in its own body, which may mean a function beside the class
            homes = [member.binding for member in own[one.name] if member.key == one.key]
            if any(scope in homes for scope in one.scope.chain()):
                fixed.add(one.name)
    rules = {"python": _python, "java": _java, "c": _c}
    return fixed | set(rules[language](found, own))


def _python(found: Analysis, own: dict[str, list[Occurrence]]) -> Iterator[str]:
    function = found.function
    private = {one.name for one in found.occurrences if one.name.startswith("__") and not one.name.endswith("__")}
    for name, members in own.items():
        classes = any(one.tag == "variable.outer" for one in members)
        if (name.startswith("__") and function not in members) or (private and classes):
            yield name  # a class's name is part of its private names
        if not name.isascii() and not is_normalized("NFKC", name):
            yield from (name, normalize("NFKC", name))  # two spellings of one name
    if found.dynamic or any(one.name in _REFLECTION and one.binding is None for one in found.occurrences):
        yield from (name for name, members in own.items() if any(one.kind != "function" for one in members))
    parameters = {name: members for name, members in own.items() if any(one.kind == "parameter" for one in members)}
    for one in found.occurrences:
        if one.tag == "keyword" and one.name in parameters:
            nested = any(member.binding is not found.body for member in parameters[one.name])
            if nested or _calls_itself(one.node, found):
                yield one.name
    for decorator in found.decorators:
        strings = [node.text.decode() for node in descendants(decorator, "string")]
        keywords = {node.children[0].text.decode() for node in descendants(decorator, "keyword_argument")}
        yield from (name for name in parameters if name in keywords or any(name in string for string in strings))
    if function is not None and any(_binds_again(one, function) for one in found.occurrences):
        yield function.name


def _calls_itself(keyword: Node, found: Analysis) -> bool:
    """Whether a keyword argument is handed to the function itself: called, called on an object, or in a partial."""
    call = keyword.parent.parent.parent
    if found.function is None or call is None or call.type != "call":
        return False
    name = found.function.name.encode()
    callee, arguments = call.child_by_field_name("function"), call.child_by_field_name("arguments")
    if callee.type == "attribute" and (name == b"__init__" or callee.children[0].text.startswith(b"super(")):
        return False
    return any(
        node.type in ("identifier", "attribute") and node.text.rsplit(b".", 1)[-1].strip() == name
        for node in (callee, *arguments.children)
    )


def _binds_again(one: Occurrence, function: Occurrence) -> bool:
    """Whether this occurrence needs the Python function's name as it is: in its decorators or signature, evaluated
    before it exists (``@name.setter``), or as an attribute of the object that it is a method of."""
    if one is function or one.name != function.name:
        return False
    definition = function.node.parent
    if one.tag == "attribute":
        first = next((child for child in definition.child_by_field_name("parameters").children if child.is_named), None)
        return first is not None and bool(one.node.parent.children[0].text == first.text)
    around, body = definition.parent, definition.child_by_field_name("body")
    start = around.start_byte if around.type == "decorated_definition" else definition.start_byte
    declared_elsewhere = one.tag in UNRESOLVED or one.binding not in (None, function.binding)
    return not declared_elsewhere and bool(start <= one.start < body.start_byte)


def _java(found: Analysis, own: dict[str, list[Occurrence]]) -> Iterator[str]:
    """A method's name is bound by ``@Override``, by ``this.name(...)`` and by a call of an overload beside it."""
    function = found.function
    if function is None or function.name not in own:
        return
    method = function.node.parent
    parameters = method.child_by_field_name("parameters").named_children
    variadic = any(child.type == "spread_parameter" for child in parameters)
    count = sum(child.type in ("formal_parameter", "spread_parameter") for child in parameters)
    for one in found.occurrences:
        if one.name == "Override" and method.start_byte <= one.start < function.start:
            yield function.name
        elif one.name == function.name and one.node.parent.type == "method_invocation":
            call = one.node.parent
            if one.tag == "attribute" and call.children[0].type == "this":
                yield function.name
            elif one.tag == "method" and one.binding is function.binding and not variadic:
                arguments = call.child_by_field_name("arguments").named_children
                if sum(not child.type.endswith("comment") for child in arguments) != count:
                    yield function.name


def _c(found: Analysis, own: dict[str, list[Occurrence]]) -> Iterator[str]:
    """The bodies of macros, and arguments of macros that may be the names of fields."""
    for body in found.macros:
        inside = analyse(parse_bytes(body.text, "c").root_node, body.text, "c")
        yield from (one.name for one in inside.occurrences)
    fields = {one.name for one in found.occurrences if one.tag == "attribute"}
    for one in found.occurrences:
        if one.name in own and one.name in fields and one.node.parent.type == "argument_list":
            callee = one.node.parent.parent.children[0]
            if callee.text.isupper() or callee.text in (b"container_of", b"offsetof"):
                yield one.name


def descendants(node: Node, kind: str) -> Iterable[Node]:
    """The nodes of one type below ``node``, outermost first; what lies in one of them is not searched."""
    stack = [node]
    while stack:
        node = stack.pop()
        if node.type == kind:
            yield node
        else:
            stack.extend(reversed(node.children))
