"""Code as syntax: lexing, parsing, identifiers, statements and rewriting for Python, Java and C.

The only importer of tree-sitter. All offsets at this interface count characters of the stored text, in either text
form.
"""

from codebackdoor.syntax.docstrings import without_docstring
from codebackdoor.syntax.identifiers import Identifier, IdentifierRole
from codebackdoor.syntax.lexing import DEDENT, INDENT, MARKS, NEWLINE, LexingError, lex, unlex, unlexed
from codebackdoor.syntax.loops import contains_infinite_loop
from codebackdoor.syntax.names import KEYWORDS, legal_name, unreserved_name
from codebackdoor.syntax.parse import Tree, parse
from codebackdoor.syntax.rewrite import Edit, RenamingError, first_place, insert_first, is_taken, rename, replace
from codebackdoor.syntax.statements import Statement
from codebackdoor.syntax.tokens import Token

__all__ = [
    "DEDENT",
    "INDENT",
    "KEYWORDS",
    "MARKS",
    "NEWLINE",
    "Edit",
    "Identifier",
    "IdentifierRole",
    "LexingError",
    "RenamingError",
    "Statement",
    "Token",
    "Tree",
    "contains_infinite_loop",
    "first_place",
    "insert_first",
    "is_taken",
    "legal_name",
    "lex",
    "parse",
    "rename",
    "replace",
    "unlex",
    "unlexed",
    "unreserved_name",
    "without_docstring",
]
