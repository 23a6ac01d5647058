"""Reserved words of each language, and which words can be names."""

from __future__ import annotations

import builtins
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

_C_KNOWN = """
NULL EOF BUFSIZ RAND_MAX SIZE_MAX INT_MAX INT_MIN UINT_MAX LONG_MAX LONG_MIN CHAR_BIT true false bool errno stdin stdout
stderr assert offsetof va_list va_start va_arg va_end va_copy FILE alignas alignof nullptr typeof asm defined main
"""
_JAVA_KNOWN = """
var yield record sealed permits non when module open opens exports provides requires to transitive uses with
Object String System Math Integer Long Double Float Boolean Character Byte Short Number Class Thread Runnable Iterable
Override Deprecated Exception RuntimeException Error Throwable Enum Void StringBuilder
"""
#: Legal names to avoid: built-in names, and words with a special meaning in some context.
_KNOWN: dict[Language, frozenset[str]] = {
    "python": frozenset({*dir(builtins), "_", "case", "match", "type", "self", "cls"}),
    "java": frozenset(_JAVA_KNOWN.split()),
    "c": frozenset(_C_KNOWN.split()),
}

_C_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def legal_name(name: str, language: Language) -> bool:
    """Whether ``name`` can name a variable: the language's form of an identifier, and not reserved."""
    if name in KEYWORDS[language]:
        return False
    if language == "c":
        return _C_NAME.fullmatch(name) is not None
    return (name.replace("$", "_") if language == "java" else name).isidentifier()


def unreserved_name(name: str, language: Language) -> bool:
    """Whether ``name`` is legal and hides no built-in name; for names that a program makes up.

    Names that begin with two underscores are reserved (C) or mangled within a class (Python); in C, names that end in
    ``_t`` are types.
    """
    if not legal_name(name, language) or name in _KNOWN[language] or name.startswith("__"):
        return False
    return any(character.isalpha() for character in name) and not (language == "c" and name.endswith("_t"))
