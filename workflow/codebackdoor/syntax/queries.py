"""The tree-sitter queries for identifiers: one per language, with the same capture names in all of them.

Regions: ``scope.*`` opens a scope; ``outer`` is evaluated in the scope around the innermost one (default values,
annotations, base classes, a comprehension's first iterable); names in ``frozen`` must not change; ``opaque`` is read
by the preprocessor, so its names are not variables.

Identifiers: ``name`` captures all of them; the other captures give their role, most specific first as in
``scopes.PRIORITY``.
"""

from __future__ import annotations

from functools import cache

from tree_sitter import Query

from codebackdoor.syntax.languages import query
from codebackdoor.types import Language

_PYTHON = """
(identifier) @name
[(function_definition) (lambda)] @scope.function
(class_definition) @scope.namespace
[(list_comprehension) (set_comprehension) (dictionary_comprehension) (generator_expression)] @scope.comprehension

(default_parameter value: (_) @outer)
(typed_default_parameter type: (_) @outer value: (_) @outer)
(typed_parameter type: (_) @outer)
(function_definition return_type: (_) @outer)
(class_definition superclasses: (_) @outer)
(list_comprehension body: (_) . (for_in_clause right: (_) @outer))
(set_comprehension body: (_) . (for_in_clause right: (_) @outer))
(dictionary_comprehension body: (_) . (for_in_clause right: (_) @outer))
(generator_expression body: (_) . (for_in_clause right: (_) @outer))

(interpolation expression: (_) @frozen "=")
[(ERROR) (type_alias_statement)] @frozen
(function_definition type_parameters: (_) @frozen)
(class_definition type_parameters: (_) @frozen)

(function_definition name: (identifier) @definition)
(class_definition name: (identifier) @variable.outer)
(parameters [(identifier) @parameter (_ . (identifier) @parameter) (_ . (_ (identifier) @parameter))])
(lambda_parameters [(identifier) @parameter (_ . (identifier) @parameter)])

(assignment left: (identifier) @variable)
(augmented_assignment left: (identifier) @variable)
(for_statement left: (identifier) @variable)
(for_in_clause left: (identifier) @variable)
[(pattern_list (identifier) @variable) (tuple_pattern (identifier) @variable) (list_pattern (identifier) @variable)
 (list_splat_pattern (identifier) @variable)]
(as_pattern_target [(identifier) @variable
  (tuple [(identifier) @variable (tuple (identifier) @variable) (list_splat (identifier) @variable)])
  (list (identifier) @variable) (parenthesized_expression (identifier) @variable)])
(delete_statement [(identifier) @variable (expression_list (identifier) @variable)])
(named_expression name: (identifier) @walrus)
(aliased_import alias: (identifier) @variable)
(case_pattern (dotted_name . (identifier) @variable .))
(keyword_pattern (identifier) (dotted_name . (identifier) @variable .))
(splat_pattern (identifier) @variable)
(as_pattern (case_pattern) (identifier) @variable)

(import_statement name: (dotted_name . (identifier) @import))
(import_from_statement name: (dotted_name . (identifier) @import))
(future_import_statement name: (dotted_name . (identifier) @import))
(import_from_statement module_name: (dotted_name (identifier) @label))
(relative_import (dotted_name (identifier) @label))
(aliased_import name: (dotted_name (identifier) @label))
[(global_statement (identifier) @global) (nonlocal_statement (identifier) @global)]

(attribute attribute: (identifier) @attribute)
(dotted_name (identifier) . (identifier) @attribute)
(keyword_argument name: (identifier) @keyword)
(keyword_pattern . (identifier) @keyword)
(call function: (identifier) @call)
[(type (identifier) @type) (generic_type (identifier) @type)]
(type) @annotation
(exec_statement) @dynamic
(decorator (call)) @decorator
"""

_JAVA = """
(identifier) @name
(type_identifier) @typename
[(method_declaration) (constructor_declaration) (lambda_expression)] @scope.function
[(block) (for_statement) (enhanced_for_statement) (catch_clause) (try_with_resources_statement)
 (switch_block)] @scope.block
[(class_body) (interface_body) (enum_body) (record_declaration)] @scope.class
(ERROR) @frozen

(method_declaration name: (identifier) @definition)
(constructor_declaration name: (identifier) @constructor)
(formal_parameter name: (identifier) @parameter)
(spread_parameter (variable_declarator name: (identifier) @parameter))
(inferred_parameters (identifier) @parameter)
(lambda_expression parameters: (identifier) @parameter)
(catch_formal_parameter name: (identifier) @variable)
(resource name: (identifier) @variable)
(enhanced_for_statement name: (identifier) @variable)
(instanceof_expression name: (identifier) @variable)
(local_variable_declaration declarator: (variable_declarator name: (identifier) @variable))
(record_pattern_component (_) (identifier) @variable)
(type_pattern (_) (identifier) @variable)

(field_declaration declarator: (variable_declarator name: (identifier) @field))
(constant_declaration declarator: (variable_declarator name: (identifier) @field))
(enum_constant name: (identifier) @field)
(record_declaration parameters: (formal_parameters [(formal_parameter name: (identifier) @component)
 (spread_parameter (variable_declarator name: (identifier) @component))]))
[(class_declaration name: (identifier) @typename) (interface_declaration name: (identifier) @typename)
 (enum_declaration name: (identifier) @typename) (record_declaration name: (identifier) @typename)
 (annotation_type_declaration name: (identifier) @typename)
 (record_pattern . (identifier) @typename)
 (marker_annotation name: (identifier) @typename) (annotation name: (identifier) @typename)]

(method_invocation name: (identifier) @method)
(method_invocation object: (_) name: (identifier) @attribute)
(field_access field: (identifier) @attribute)
(method_reference (_) "::" (identifier) @attribute)
(scoped_identifier name: (identifier) @attribute)
(element_value_pair key: (identifier) @keyword)
[(labeled_statement . (identifier) @label) (break_statement (identifier) @label)
 (continue_statement (identifier) @label)]
"""

_C = """
(identifier) @name
(type_identifier) @type
[(struct_specifier name: (type_identifier) @tag) (union_specifier name: (type_identifier) @tag)
 (enum_specifier name: (type_identifier) @tag)]
(field_identifier) @attribute
(statement_identifier) @label
(function_definition) @scope.function
[(compound_statement) (for_statement)] @scope.block
(parameter_list) @scope.parameters
(ERROR) @frozen
(function_definition declarator: (identifier)) @frozen
((declaration (storage_class_specifier) @storage (#eq? @storage "extern")) @frozen)

(function_declarator declarator: [(identifier) @definition
  (parenthesized_declarator . (identifier) @definition)])
(parameter_declaration declarator: (identifier) @declared)
(parameter_list (identifier) @declared)
(declaration declarator: (identifier) @declared)
(init_declarator declarator: (identifier) @declared)
(pointer_declarator declarator: (identifier) @declared)
(array_declarator declarator: (identifier) @declared)
(parenthesized_declarator (identifier) @declared)
(attributed_declarator . (identifier) @declared)
(enumerator name: (identifier) @field)
(call_expression function: (identifier) @call)

[(preproc_def name: (identifier) @label) (preproc_function_def name: (identifier) @label)
 (preproc_params (identifier) @label) (preproc_ifdef name: (identifier) @label)]
(preproc_if condition: (_) @opaque)
(preproc_elif condition: (_) @opaque)
[(gnu_asm_output_operand symbol: (identifier) @label) (gnu_asm_input_operand symbol: (identifier) @label)
 (gnu_asm_goto_list (identifier) @label)]
"""

_TEXTS: dict[Language, str] = {"python": _PYTHON, "java": _JAVA, "c": _C}


@cache
def identifier_query(language: Language) -> Query:
    return query(language, _TEXTS[language])
