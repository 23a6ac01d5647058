"""Names whose spelling matters to what the code does, although the text itself declares them.

Reflection, ``global`` and ``nonlocal``, an import without an alias, a keyword argument of a call of the function
itself, a string or keyword in a decorator, ``f"{x=}"``, a macro's body, a place that does not parse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from unicodedata import is_normalized, normalize

from tree_sitter import Node

from codebackdoor.syntax.c_unrenameable import fixed_in_c
from codebackdoor.syntax.java_unrenameable import fixed_in_java
from codebackdoor.syntax.languages import ATOMS, COMMENTS
from codebackdoor.syntax.names import KEYWORDS
from codebackdoor.syntax.scopes import DECLARING, UNRESOLVED, Analysis, Occurrence
from codebackdoor.types import Language

if TYPE_CHECKING:
    from codebackdoor.syntax.parse import Tree

_WORD = re.compile(r"[\w$]+")
#: Python's functions that see local variables by name.
_REFLECTION = frozenset({"eval", "exec", "locals", "vars", "dir", "f_locals"})
#: A local variable in the text of a pandas query.
_QUERIED = re.compile(r"@(\w+)")


def fixed_names(tree: Tree) -> set[str]:
    """Return the names declared in the text that a renaming must leave alone."""
    found, language = tree.analysis, tree.language
    own: dict[str, list[Occurrence]] = {}
    for one in found.occurrences:
        if one.group == "own":
            own.setdefault(one.name, []).append(one)
    fixed = {one.name for one in found.occurrences if one.frozen or one.tag == "global"}
    is_broken = _is_broken(tree)
    for one in found.occurrences:
        if one.name in own and one.group != "own" and one.tag not in UNRESOLVED:
            # the same spelling, unresolved, where the declaration holds: before it, through a class body, or a method's
            # name in its own body, which may mean a function beside the class; anywhere, where scopes are in doubt
            homes = [member.binding for member in own[one.name] if member.key == one.key]
            if homes and (is_broken or any(scope in homes for scope in one.scope.chain())):
                fixed.add(one.name)
    if is_broken:
        fixed.update(_words_of_errors(tree.skeleton.root, language))
    fixed.update(_misread(found, language))
    if language == "c":
        return fixed.union(fixed_in_c(found, tree.source, tree.form == "raw"))
    return fixed.union(_python(found, own) if language == "python" else fixed_in_java(found, own))


def _is_broken(tree: Tree) -> bool:
    """Whether it is in doubt what belongs to which scope: errors, or a Python statement indented for no block."""
    statements = [child for child in tree.root.children if child.type not in COMMENTS]
    columns = [child.start_point[1] for child in statements] if tree.language == "python" else []
    return bool(tree.skeleton.root.has_error) or any(column > columns[0] for column in columns)


def _words_of_errors(root: Node, language: Language) -> Iterator[str]:
    """All words, those in strings and comments too, of the places that do not parse."""
    stack = [root]
    while stack:
        node = stack.pop()
        if node.type == "ERROR" or (node.has_error and node.type in ATOMS[language]):
            yield from _WORD.findall(node.text.decode())
        elif node.has_error:
            stack.extend(node.children)


def _misread(analysis: Analysis, language: Language) -> Iterator[str]:
    """Reserved words, and what is declared with one in the place of a type or a name: ``else x = 1;``."""
    yield from KEYWORDS[language]
    spans = []
    for occurrence in analysis.occurrences:
        if occurrence.name in KEYWORDS[language]:
            holder = occurrence.node.parent
            while holder.type.endswith("declarator"):
                holder = holder.parent
            if holder.type.endswith(("declaration", "definition")):
                spans.append((holder.start_byte, holder.end_byte))
    for occurrence in analysis.occurrences:
        if occurrence.tag in DECLARING and any(start <= occurrence.start < end for start, end in spans):
            yield occurrence.name


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
    for annotation in found.annotations:
        yield from (word for node in descendants(annotation, "string") for word in _WORD.findall(node.text.decode()))
    for one in found.occurrences:
        if one.tag == "attribute" and one.name == "query" and one.node.parent.parent.type == "call":
            yield from _QUERIED.findall(one.node.parent.parent.text.decode())
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


def descendants(node: Node, kind: str) -> Iterable[Node]:
    """The nodes of one type below ``node``, outermost first; what lies in one of them is not searched."""
    stack = [node]
    while stack:
        node = stack.pop()
        if node.type == kind:
            yield node
        else:
            stack.extend(reversed(node.children))
