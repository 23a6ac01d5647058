"""C names that must not be renamed, because the text is parsed before the preprocessor has run.

The tree is not trusted: every word of the source that is spelled like a name must be one of its occurrences, or clearly
something else (a member, a tag, a label). A declaration in the tree counts only if it can be nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tree_sitter import Node

from codebackdoor.syntax.c_tokens import CToken, tokens
from codebackdoor.syntax.scopes import Analysis, Occurrence

_MEMBER = frozenset({b".", b"->"})
_TAG = frozenset({b"struct", b"union", b"enum"})
_MEMBER_DECLARATIONS = frozenset(
    {"field_declaration", "pointer_declarator", "array_declarator", "function_declarator", "parenthesized_declarator"}
)
_BEFORE_OPERANDS = frozenset({b"=", b"(", b",", b"{", b"[", b"?", b":", b"return", b"goto"})
#: Macros of the usual lists that take the names of fields: ``QTAILQ_FOREACH(entry, &head, next)``.
_LISTS = re.compile(rb"(\w*(LIST|TAILQ|SIMPLEQ|CIRCLEQ|QUEUE)_[A-Z_]+|(h?list|hlist_nulls|rb|plist)_\w*entry\w*)\Z")
_OFFSETS = frozenset({b"offsetof", b"__builtin_offsetof", b"container_of", b"OFFSETOF", b"CONTAINER_OF"})
_PASTES = re.compile(rb"#|\.|->")


def fixed_in_c(analysis: Analysis, source: bytes, keeps_lines: bool) -> Iterator[str]:
    """The names of C ``source``, with nothing hidden in it, that may be unsafe to rename.

    ``keeps_lines``: the lines are as a person wrote them, not those of the lexed form.
    """
    by_start = {occurrence.start: occurrence for occurrence in analysis.occurrences}
    words = tokens(source)
    for at, word in enumerate(words):
        if word.kind == "word":
            occurrence = by_start.get(word.start)
            before = words[at - 1].text if at else b""
            is_parsed = occurrence is not None and occurrence.name.encode() == word.text
            if occurrence is None or not is_parsed or _is_label(words, at) or not _is_plain(occurrence, word, before):
                yield word.text.decode()
    members = {occurrence.name for occurrence in analysis.occurrences if occurrence.tag == "attribute"}
    macros = _macros(words)
    for occurrence in analysis.occurrences:
        if occurrence.group == "declared":
            is_fixed = occurrence.tag in ("declared", "definition") and not _is_declared(
                occurrence, source, keeps_lines
            )
            if is_fixed or _is_no_argument(occurrence, members, macros):
                yield occurrence.name


def _is_plain(occurrence: Occurrence, word: CToken, before: bytes) -> bool:
    """Whether a word clearly is what the tree says: a name of this text, or something that cannot be a variable."""
    if word.in_directive or occurrence.frozen:
        return False
    if occurrence.group == "declared":
        return before not in _MEMBER | _TAG | {b"goto"}
    if before in _MEMBER | _TAG:
        return True
    node = occurrence.node
    if node.type == "statement_identifier":
        return before == b"goto" or bool(node.parent.type == "labeled_statement")
    return bool(node.type == "field_identifier" and node.parent.type in _MEMBER_DECLARATIONS)


def _is_label(words: list[CToken], at: int) -> bool:
    """Whether the word is a label whose address is taken: ``&&end``, which is ``& & end`` in the lexed form."""
    match [word.text for word in words[max(at - 2, 0) : at]]:
        case [b"&", b"&"]:
            return True
        case [before, b"&&"]:
            return before in _BEFORE_OPERANDS
    return False


def _macros(words: list[CToken]) -> set[bytes]:
    """The function-like macros defined in the text whose body uses more than the values of their arguments."""
    pasting = set()
    for at, word in enumerate(words[:-3]):
        if word.kind == "directive" and words[at + 1].text == b"define":
            body = []
            for token in words[at + 3 :]:
                if not token.in_directive or token.kind == "directive":
                    break
                body.append(token.text)
            if body[:1] == [b"("] and _PASTES.search(b" ".join(body)):
                pasting.add(words[at + 2].text)
    return pasting


def _is_no_argument(occurrence: Occurrence, members: set[str], macros: set[bytes]) -> bool:
    """Whether a macro may take an argument as the name of a field or as text."""
    argument = occurrence.node
    while (
        argument.parent.type in ("subscript_expression", "field_expression") and argument.parent.children[0] == argument
    ):
        argument = argument.parent
    arguments = argument.parent
    if arguments.type != "argument_list":
        return False
    callee = arguments.parent.children[0].text
    if callee in _OFFSETS:
        return True
    if argument != occurrence.node:
        return False
    if callee in macros or (callee.isupper() and occurrence.name in members):
        return True
    if not _LISTS.match(callee):
        return False
    named = [child for child in arguments.named_children if child.type != "comment"]
    return argument in named[min(len(named) - 1, 2) :]


def _is_declared(occurrence: Occurrence, source: bytes, keeps_lines: bool) -> bool:
    """Whether the tree's declaration of this name can be nothing else."""
    holder = _holder(occurrence.node)
    if holder.type == "parameter_list":
        return _is_declared_below(occurrence, holder)
    kind = holder.child_by_field_name("type")
    parts = [child for child in holder.children if child.type not in ("compound_statement", "declaration")]
    if kind is None or kind.text == b"__label__" or any(part.has_error for part in parts):
        return False
    if holder.type == "parameter_declaration":
        if any(child.is_error or child.is_missing for child in holder.parent.children):
            return False
        around = _holder(holder.parent)
        return _is_plain_type(around) or (around.type == "function_definition" and not _is_inside_function(around))
    if _is_plain_type(holder):
        return True
    if holder.type == "function_definition":
        return occurrence.kind == "function"
    # the type may be a macro on its own line, followed by something else
    is_alone = b"\n" in source[kind.end_byte : kind.next_sibling.start_byte] if keeps_lines else b"_" in kind.text
    return not (is_alone and kind.text.isupper())


def _holder(node: Node) -> Node:
    """The declaration, parameter or definition that a declarator belongs to."""
    holder = node.parent
    while holder.type.endswith("declarator"):
        holder = holder.parent
    return holder


def _is_plain_type(holder: Node) -> bool:
    """Whether the written type cannot be a macro."""
    kind = holder.child_by_field_name("type")
    return kind is not None and kind.type not in ("type_identifier", "macro_type_specifier")


def _is_inside_function(definition: Node) -> bool:
    node = definition.parent
    while node is not None and node.type != "function_definition":
        node = node.parent
    return node is not None


def _is_declared_below(occurrence: Occurrence, parameters: Node) -> bool:
    """Whether a parameter without a type is declared below the list, as before C89."""
    name = re.compile(rb"\b%s\b" % re.escape(occurrence.name.encode()))
    below = [child for child in _holder(parameters).children if child.type == "declaration" and not child.has_error]
    return any(name.search(child.text) for child in below)
