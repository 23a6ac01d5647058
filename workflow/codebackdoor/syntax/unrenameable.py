"""Names that the text declares but that cannot be renamed without changing what the code does.

Causes: reflection, ``global`` and ``nonlocal``, an import without an alias, a keyword argument in a call of the
function itself, a string or keyword in a decorator, ``f"{x=}"``, a macro's body, code that does not parse.
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
    """The names declared in the text that must not be renamed."""
    analysis, language = tree.analysis, tree.language
    declared: dict[str, list[Occurrence]] = {}
    for occurrence in analysis.occurrences:
        if occurrence.group == "declared":
            declared.setdefault(occurrence.name, []).append(occurrence)
    fixed = {occurrence.name for occurrence in analysis.occurrences if occurrence.frozen or occurrence.tag == "global"}
    is_broken = _is_broken(tree)
    for occurrence in analysis.occurrences:
        if occurrence.name in declared and occurrence.group != "declared" and occurrence.tag not in UNRESOLVED:
            # the same spelling, unresolved, in the declaration's scope: before it, through a class body, or a method's
            # name in its body, which may mean a function outside the class; anywhere, if scopes are in doubt
            scopes = [member.binding for member in declared[occurrence.name] if member.key == occurrence.key]
            if scopes and (is_broken or any(scope in scopes for scope in occurrence.scope.chain())):
                fixed.add(occurrence.name)
    if is_broken:
        fixed.update(_words_of_errors(tree.skeleton.root, language))
    fixed.update(_misread(analysis, language))
    if language == "c":
        return fixed.union(fixed_in_c(analysis, tree.source, tree.form == "raw"))
    return fixed.union(_python(analysis, declared) if language == "python" else fixed_in_java(analysis, declared))


def _is_broken(tree: Tree) -> bool:
    """Whether scopes are in doubt: syntax errors, or a Python statement that is indented but in no block."""
    statements = [child for child in tree.root.children if child.type not in COMMENTS]
    columns = [child.start_point[1] for child in statements] if tree.language == "python" else []
    return bool(tree.skeleton.root.has_error) or any(column > columns[0] for column in columns)


def _words_of_errors(root: Node, language: Language) -> Iterator[str]:
    """All words of the parts that do not parse, including those in strings and comments."""
    stack = [root]
    while stack:
        node = stack.pop()
        if node.type == "ERROR" or (node.has_error and node.type in ATOMS[language]):
            yield from _WORD.findall(node.text.decode())
        elif node.has_error:
            stack.extend(node.children)


def _misread(analysis: Analysis, language: Language) -> Iterator[str]:
    """Reserved words, and names declared with one as their type or name: ``else x = 1;``."""
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


def _python(analysis: Analysis, declared: dict[str, list[Occurrence]]) -> Iterator[str]:
    function = analysis.function
    private = {
        occurrence.name
        for occurrence in analysis.occurrences
        if occurrence.name.startswith("__") and not occurrence.name.endswith("__")
    }
    for name, members in declared.items():
        classes = any(occurrence.tag == "variable.outer" for occurrence in members)
        if (name.startswith("__") and function not in members) or (private and classes):
            yield name  # private names contain the name of their class
        if not name.isascii() and not is_normalized("NFKC", name):
            yield from (name, normalize("NFKC", name))  # two spellings of one name
    if analysis.dynamic or any(
        occurrence.name in _REFLECTION and occurrence.binding is None for occurrence in analysis.occurrences
    ):
        yield from (
            name for name, members in declared.items() if any(occurrence.kind != "function" for occurrence in members)
        )
    for annotation in analysis.annotations:
        yield from (word for node in descendants(annotation, "string") for word in _WORD.findall(node.text.decode()))
    for occurrence in analysis.occurrences:
        if (
            occurrence.tag == "attribute"
            and occurrence.name == "query"
            and occurrence.node.parent.parent.type == "call"
        ):
            yield from _QUERIED.findall(occurrence.node.parent.parent.text.decode())
    parameters = {
        name: members
        for name, members in declared.items()
        if any(occurrence.kind == "parameter" for occurrence in members)
    }
    for occurrence in analysis.occurrences:
        if occurrence.tag == "keyword" and occurrence.name in parameters:
            nested = any(member.binding is not analysis.body for member in parameters[occurrence.name])
            if nested or _calls_itself(occurrence.node, analysis):
                yield occurrence.name
    for decorator in analysis.decorators:
        strings = [node.text.decode() for node in descendants(decorator, "string")]
        keywords = {node.children[0].text.decode() for node in descendants(decorator, "keyword_argument")}
        yield from (name for name in parameters if name in keywords or any(name in string for string in strings))
    if function is not None and any(_binds_again(occurrence, function) for occurrence in analysis.occurrences):
        yield function.name


def _calls_itself(keyword: Node, analysis: Analysis) -> bool:
    """Whether a keyword argument is passed to the function itself: in a call, a call on an object, or a partial."""
    call = keyword.parent.parent.parent
    if analysis.function is None or call is None or call.type != "call":
        return False
    name = analysis.function.name.encode()
    callee, arguments = call.child_by_field_name("function"), call.child_by_field_name("arguments")
    if callee.type == "attribute" and (name == b"__init__" or callee.children[0].text.startswith(b"super(")):
        return False
    return any(
        node.type in ("identifier", "attribute") and node.text.rsplit(b".", 1)[-1].strip() == name
        for node in (callee, *arguments.children)
    )


def _binds_again(occurrence: Occurrence, function: Occurrence) -> bool:
    """Whether this occurrence needs the Python function's original name: in its decorators or signature, which are
    evaluated before it exists (``@name.setter``), or as an attribute of the object that it is a method of."""
    if occurrence is function or occurrence.name != function.name:
        return False
    definition = function.node.parent
    if occurrence.tag == "attribute":
        first = next((child for child in definition.child_by_field_name("parameters").children if child.is_named), None)
        return first is not None and bool(occurrence.node.parent.children[0].text == first.text)
    wrapper, body = definition.parent, definition.child_by_field_name("body")
    start = wrapper.start_byte if wrapper.type == "decorated_definition" else definition.start_byte
    declared_elsewhere = occurrence.tag in UNRESOLVED or occurrence.binding not in (None, function.binding)
    return not declared_elsewhere and bool(start <= occurrence.start < body.start_byte)


def descendants(node: Node, kind: str) -> Iterable[Node]:
    """The nodes of one type below ``node``, outermost first; their descendants are not searched."""
    stack = [node]
    while stack:
        node = stack.pop()
        if node.type == kind:
            yield node
        else:
            stack.extend(reversed(node.children))
