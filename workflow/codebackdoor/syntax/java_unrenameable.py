"""Java names that a renaming must leave alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tree_sitter import Node

from codebackdoor.syntax.scopes import Analysis, Occurrence

_ASSIGNING = frozenset({"assignment_expression", "update_expression"})
_OBJECTS = frozenset({"this", "super"})
_PATTERNS = frozenset({"instanceof_expression", "record_pattern_component", "type_pattern"})


def fixed_in_java(analysis: Analysis, declared: Mapping[str, list[Occurrence]]) -> Iterator[str]:
    """The names whose spelling something in the text depends on, and those that may be fields as well."""
    yield from _bound_methods(analysis, declared)
    for name, members in declared.items():
        if any(_is_label_or_component(occurrence.node) for occurrence in members):
            yield name
        # a class may inherit a field of that name; a variable that it captures is never assigned
        if any(_is_assigned(occurrence.node) for occurrence in members) and any(
            _is_captured_by_class(occurrence) for occurrence in members
        ):
            yield name
        yield from _patterns(members)


def _bound_methods(analysis: Analysis, declared: Mapping[str, list[Occurrence]]) -> Iterator[str]:
    """A method's name is fixed by ``@Override``, by ``this.name(...)``, ``super.name(...)`` or ``this::name``, or by a
    call of an overload."""
    function = analysis.function
    if function is None or function.name not in declared:
        return
    method = function.node.parent
    parameters = method.child_by_field_name("parameters").named_children
    variadic = any(child.type == "spread_parameter" for child in parameters)
    count = sum(child.type in ("formal_parameter", "spread_parameter") for child in parameters)
    for occurrence in analysis.occurrences:
        around = occurrence.node.parent
        if occurrence.name == "Override" and method.start_byte <= occurrence.start < function.start:
            yield function.name
        elif occurrence.name != function.name:
            continue
        elif occurrence.tag == "attribute" and around.type in ("method_invocation", "method_reference"):
            if around.children[0].type in _OBJECTS:
                yield function.name
        elif occurrence.tag == "method" and occurrence.binding is function.binding and not variadic:
            arguments = around.child_by_field_name("arguments").named_children
            if sum(not child.type.endswith("comment") for child in arguments) != count:
                yield function.name


def _is_label_or_component(node: Node) -> bool:
    """Whether a name may be an enum's constant (``case A:``), or must be that of a record's component."""
    if node.parent.type == "switch_label":
        return True
    constructor = node.parent.parent.parent if node.parent.type == "formal_parameter" else None
    if constructor is None or constructor.type != "constructor_declaration":
        return False
    around = constructor.parent.parent
    return around is not None and bool(around.type == "record_declaration")


def _is_assigned(node: Node) -> bool:
    around = node.parent
    return bool(around.type in _ASSIGNING and (around.type == "update_expression" or around.children[0] == node))


def _is_captured_by_class(occurrence: Occurrence) -> bool:
    return any(scope.kind == "class" for scope in occurrence.scopes_to_binding())


def _patterns(members: list[Occurrence]) -> Iterator[str]:
    """A pattern's variable is bound where the pattern matched; elsewhere its name may mean a field."""
    variables = [occurrence for occurrence in members if occurrence.tag == "variable"]
    patterns = [occurrence for occurrence in variables if occurrence.node.parent.type in _PATTERNS]
    scopes = {occurrence.binding for occurrence in patterns}
    spans = [span for occurrence in patterns for span in _where_it_matched(occurrence.node)]
    for occurrence in members:
        is_use = occurrence.binding in scopes and occurrence not in variables
        if is_use and not any(start <= occurrence.start < end for start, end in spans):
            yield occurrence.name


def _where_it_matched(name: Node) -> Iterator[tuple[int, int]]:
    """The spans in which a pattern is certain to have matched, from its test outwards."""
    node, matched = name.parent, True
    while node.parent is not None and node.type not in ("instanceof_expression", "switch_label"):
        node = node.parent
    while node.parent is not None:
        node, inner = node.parent, node
        if node.type in ("switch_rule", "switch_block_statement_group"):
            yield node.start_byte, node.end_byte
            return
        if node.type == "unary_expression":
            matched = not matched
        elif node.type == "binary_expression":
            if node.children[1].type != ("&&" if matched else "||"):
                return
            yield inner.end_byte, node.end_byte
        elif node.child_by_field_name("condition") == inner:
            after = node.child_by_field_name("consequence") or node.child_by_field_name("body")
            if node.type == "for_statement":
                after = node
            if matched and after is not None:
                yield after.start_byte, after.end_byte
            elif not matched:
                yield after.end_byte, node.parent.end_byte
            return
        elif node.type not in ("parenthesized_expression", "condition", "pattern", "switch_label", "guard"):
            return
