"""Which words a language reserves, and which words may name something in it."""

from __future__ import annotations

import keyword
import re

from codebackdoor.types import Language

_C = """
auto break case char const continue default do double else enum extern float for goto if inline int long register
restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
_Alignas _Alignof _Atomic _Bool _Complex _Generic _Imaginary _Noreturn _Static_assert _Thread_local
"""  # ISO C11, section 6.4.1
_JAVA = """
abstract assert boolean break byte case catch char class const continue default do double else enum extends final
finally float for goto if implements import instanceof int interface long native new package private protected public
return short static strictfp super switch synchronized this throw throws transient try void volatile while _
true false null
"""  # Java Language Specification, section 3.9, and its three reserved literals

#: Words that can never be a name.
KEYWORDS: dict[Language, frozenset[str]] = {
    "python": frozenset(keyword.kwlist),
    "java": frozenset(_JAVA.split()),
    "c": frozenset(_C.split()),
}

_C_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def legal_name(name: str, language: Language) -> bool:
    """Whether ``name`` can name a variable: the language's form of an identifier, and not reserved."""
    if name in KEYWORDS[language]:
        return False
    if language == "c":
        return _C_NAME.fullmatch(name) is not None
    return (name.replace("$", "_") if language == "java" else name).isidentifier()
