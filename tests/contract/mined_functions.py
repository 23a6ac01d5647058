"""A corpus for the contract tests of tasks: real functions, in several versions, in the splits of a corpus."""

from __future__ import annotations

from collections.abc import Iterator

from pure_functions import pure_functions

from codebackdoor import syntax
from codebackdoor.corpora.mining import MinedFunction, clone_key
from codebackdoor.syntax import lexing


def functions() -> Iterator[MinedFunction]:
    """The pure functions, each with four different first statements."""
    for number, function in enumerate(pure_functions()):
        for variant in range(4):
            first = function.source.splitlines()[0]
            if not first.endswith(":") or not first.startswith("def "):
                continue
            words = lexing.words(function.source, "python")
            guard = syntax.lex("def g():\n    if mode" + " + 1" * variant + " == 0:\n        return\n", "python").split(
                " "
            )
            at = words.index(syntax.INDENT) + 1
            code = [*words[:at], *guard[guard.index(syntax.INDENT) + 1 : -1], *words[at:]]
            split = ("train", "train", "valid", "test")[number % 4]
            docstring = f"The {function.name} function, {variant} times."
            key, text = clone_key(code), " ".join(code)
            assert not syntax.parse(text, "python", "lexed").has_error
            yield MinedFunction(
                key, "pure", "1", f"{number}.py", function.name + str(variant), split, len(code), text, docstring
            )
