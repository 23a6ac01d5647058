"""Makes C that was never preprocessed readable for the grammar.

Macros and GNU extensions are not part of the grammar of C: at one of them, a parser loses the function's name or takes
the next words for a declaration. This module replaces them by blanks of the same length, so that offsets stay. A name
in a hidden part is not in the tree, and is therefore never renamed (``c_unrenameable``).
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter

from tree_sitter import Node

from codebackdoor.syntax.c_tokens import CToken, tokens
from codebackdoor.syntax.languages import parse_bytes
from codebackdoor.syntax.names import KEYWORDS

_KEYWORDS = frozenset(word.encode() for word in KEYWORDS["c"])
_TYPES = frozenset(b"char double float int long short signed unsigned void _Bool struct union enum".split())
_STORAGE = frozenset(b"auto extern inline register static typedef".split())
_DECLARING = _TYPES | _STORAGE
_STATEMENTS = frozenset(b"break case continue default do else for goto if return switch while".split())
_AFTER_MACROS = _STATEMENTS | _DECLARING | {b"{", b"}", b"const"}
_BEFORE_NAMES = frozenset({b"struct", b"union", b"enum", b"goto", b".", b"->"})
_BEFORE_STATEMENTS = frozenset({b"{", b"}", b";", b":", b"else", b"do"})
_AFTER_DECLARED = frozenset({b"(", b")", b"[", b";", b",", b"="})
_CLOSING = {b")": b"(", b"]": b"[", b"}": b"{"}
_CONTROL = frozenset({b"if", b"for", b"while", b"switch"})
_OPERATORS = frozenset({b"==", b"!=", b"<=", b">=", b"<", b">"})
#: GNU spellings and the equivalent words of the grammar.
_PLAIN = {
    **dict.fromkeys((b"__inline", b"__inline__"), b"inline"),
    **dict.fromkeys((b"__volatile", b"__volatile__"), b"volatile"),
    **dict.fromkeys((b"__const", b"__const__"), b"const"),
    **dict.fromkeys((b"__restrict", b"__restrict__"), b"restrict"),
    **dict.fromkeys((b"__signed", b"__signed__"), b"signed"),
    **dict.fromkeys((b"__typeof", b"__typeof__"), b"typeof"),
    **dict.fromkeys((b"__asm", b"__asm__"), b"asm"),
    **dict.fromkeys((b"__extension__", b"__thread", b"_Thread_local", b"_Noreturn"), b""),
    b"offsetof": b"OFFSETOF",  # the grammar cannot parse all of its second arguments
}
_ATTRIBUTES = frozenset({b"__attribute", b"__attribute__", b"__declspec", b"_Alignas"})
#: Words that are not names, including those of GNU.
_RESERVED = _KEYWORDS | _ATTRIBUTES | frozenset(_PLAIN) | {b"asm", b"typeof", b"__label__"}


@dataclass(frozen=True, slots=True)
class Skeleton:
    """``source`` has the length of the original; ``damage`` is 0 if the grammar parses all of it."""

    root: Node
    source: bytes
    damage: int


def skeleton(source: bytes, root: Node) -> Skeleton:
    """The part of C ``source``, which was parsed as ``root``, that the grammar can read.

    If conditional directives cut statements into pieces, all of their branches are kept, or only the first or the last.
    """
    best = Skeleton(root, source, _damage(root))
    if not best.damage:
        return best
    words = tokens(source)
    for branches in ("as they are", "all", "first", "last"):
        text = bytearray(source)
        outside = [word for word in words if not word.in_directive]
        if branches != "as they are":
            outside = _without_directives(text, words, branches)
        _Hiding(text, outside).run()
        tree = parse_bytes(bytes(text), "c")
        candidate = Skeleton(tree.root_node, bytes(text), _damage(tree.root_node))
        best = min(best, candidate, key=attrgetter("damage"))
        if not best.damage:
            break
    return best


def lacks_type(source: bytes) -> bool:
    """Whether the text begins with a name and its parameters: a definition without its type."""
    words = tokens(source)
    match words[:2]:
        case [CToken(kind="word", text=name), CToken(text=b"(")] if name not in _RESERVED:
            after = _brackets(words)[0].get(1, len(words)) + 1
            return after < len(words) and words[after].text not in _STORAGE
    return False


def _damage(root: Node) -> int:
    """How much of a tree is not C: skipped bytes, inserted tokens, reserved words parsed as names."""
    damage, stack = 0, [root]
    while stack:
        node = stack.pop()
        if node.is_error:
            damage += 1 + node.end_byte - node.start_byte
        elif node.is_missing or (node.type in ("identifier", "type_identifier") and node.text in _KEYWORDS):
            damage += 1
        else:
            stack.extend(node.children)
    return damage


def _blank(text: bytearray, start: int, end: int, new: bytes = b"") -> None:
    """Overwrite an interval with ``new`` and blanks; line ends stay."""
    for index in range(start, end):
        if text[index] not in b"\r\n":
            text[index] = 0x20
    text[start : start + len(new)] = new


def _without_directives(text: bytearray, words: list[CToken], branches: str) -> list[CToken]:
    """Hide all directives and the unwanted branches of conditionals; return the remaining words."""
    last_branches: list[int] = []  # of each conditional
    around: list[tuple[int, int]] = []  # the conditionals around a word, each with the word's branch
    conditionals_of: list[tuple[tuple[int, int], ...]] = []
    for at, word in enumerate(words):
        if word.kind == "directive":
            name = words[at + 1].text if at + 1 < len(words) and words[at + 1].in_directive else b""
            if name in (b"if", b"ifdef", b"ifndef"):
                around.append((len(last_branches), 0))
                last_branches.append(0)
            elif name in (b"else", b"elif") and around:
                conditional, branch = around.pop()
                around.append((conditional, branch + 1))
                last_branches[conditional] = branch + 1
            elif name == b"endif" and around:
                around.pop()
        conditionals_of.append(tuple(around))
    remaining: list[CToken] = []
    for word, conditionals in zip(words, conditionals_of, strict=True):
        visible = {
            "all": None,
            "first": [0 for _ in conditionals],
            "last": [last_branches[conditional] for conditional, _ in conditionals],
        }
        if not word.in_directive and visible[branches] in (None, [branch for _, branch in conditionals]):
            remaining.append(word)
        else:
            _blank(text, word.start, word.end)
    return remaining


class _Hiding:
    """One pass over the words outside directives; each rule may hide words from an index on and returns the next index.

    ``previous`` is the index of the last word that was not hidden.
    """

    def __init__(self, text: bytearray, words: list[CToken]) -> None:
        self.text = text
        self.words = words
        self.closing, self.around = _brackets(words)
        self.previous = -1
        #: Each ``)`` after which a statement begins: of an ``if``, of a macro that is a statement.
        self.ends: set[int] = set()

    def run(self) -> None:
        rules = (self._spelling, self._extension, self._near_string, self._word, self._call, self._argument)
        at = 0
        while at < len(self.words):
            after = next((after for rule in rules if (after := rule(at)) is not None), None)
            if after is None:
                self.previous, after = at, at + 1
            at = after

    def _is(self, at: int, *texts: bytes) -> bool:
        return 0 <= at < len(self.words) and self.words[at].text in texts

    def _is_in(self, at: int, texts: frozenset[bytes]) -> bool:
        return 0 <= at < len(self.words) and self.words[at].text in texts

    def _is_name(self, at: int) -> bool:
        return 0 <= at < len(self.words) and self.words[at].kind == "word" and self.words[at].text not in _RESERVED

    def _is_upper(self, at: int) -> bool:
        return self._is_name(at) and self.words[at].text.isupper()

    def _begins_statement(self, at: int) -> bool:
        if self.around[at] >= 0 and not self._is(self.around[at], b"{"):
            return False
        return self.previous < 0 or self.previous in self.ends or self._is_in(self.previous, _BEFORE_STATEMENTS)

    def _ends_line(self, at: int) -> bool:
        return b"\n" in self.text[self.words[at].end : self.words[at + 1].start]

    def _blank(self, first: int, last: int, new: bytes = b"") -> int:
        _blank(self.text, self.words[first].start, self.words[last].end, new)
        return last + 1

    def _spelling(self, at: int) -> int | None:
        plain = _PLAIN.get(self.words[at].text)
        if plain is None:
            return None
        after = self._blank(at, at, plain)
        self.words[at] = self.words[at]._replace(text=plain)
        return None if plain else after  # other rules may apply to the word in its new spelling

    def _extension(self, at: int) -> int | None:
        """Attributes, assembler names, ``typeof``, statement expressions, ranges, ``[static 3]``."""
        text, opened = self.words[at].text, at + 1
        closed = self.closing.get(opened, -1)
        if text in _CONTROL:
            self.ends.add(closed)
        elif text == b"..." and not self._is(opened, b")"):
            return self._blank(at, at, b" + ")
        elif text == b"static" and self._is(self.previous, b"["):
            return self._blank(at, at)
        elif closed < 0:
            return None
        elif text == b"(" and self._is(opened, b"{") and self._is(closed + 1, b")"):
            return self._blank(at, closed + 1, b"0")
        elif text in _ATTRIBUTES or (text == b"asm" and self._is_name(self.previous)):
            return self._blank(at, closed)
        elif text == b"typeof" and closed > opened + 2:
            return self._blank(at, closed, b"int")
        return None

    def _near_string(self, at: int) -> int | None:
        """``"%" PRIu64``: a macro for a string, with its arguments if it has any."""
        strings = (
            near for near in (at - 1, at + 1) if 0 <= near < len(self.words) and self.words[near].kind == "string"
        )
        if not self._is_name(at) or next(strings, None) is None:
            return None
        return self._blank(at, self.closing.get(at + 1, at))

    def _word(self, at: int) -> int | None:
        """A macro without arguments where no name is allowed: ``av_cold int f``, ``NOTHING return 1;``."""
        if not self._is_name(at) or self._is_in(self.previous, _BEFORE_NAMES):
            return None
        if self._is_in(at + 1, _DECLARING) or (self._is(self.previous, b";", b"}") and self._is(at + 1, b"}")):
            return self._blank(at, at)
        if self._begins_statement(at) and self._is_in(at + 1, _STATEMENTS):
            return self._blank(at, at)
        if self._begins_statement(at) and self._is_upper(at) and self._is_name(at + 1) and self._ends_line(at):
            return self._blank(at, at)
        # between a type and the declared name, or after that name
        is_typed = self._is_name(self.previous) or self._is_in(self.previous, _TYPES) or self._is(self.previous, b"*")
        is_between = is_typed and self._is_name(at + 1) and self._is_in(at + 2, _AFTER_DECLARED)
        if is_between and (self._is_upper(at) or not self._is_upper(at + 1)):
            return self._blank(at, at)
        is_behind = self._is_name(self.previous) and self._is_upper(at) and self._is(at + 1, b")", b"{")
        is_argument = self.around[at] >= 0 and self.around[self.around[at]] >= 0
        if is_behind and (is_argument or self._is_name(self.previous - 1)):
            return self._blank(at, at)
        return None

    def _call(self, at: int) -> int | None:
        """Add a semicolon to a macro that is a statement without one, or the head of a loop."""
        closed = self.closing.get(at + 1, -1)
        if not self._is_name(at) or not self._is(at + 1, b"(") or closed < 0 or not self._begins_statement(at):
            return None
        after = closed + 1
        if self.around[at] < 0:
            is_alone = self._is_upper(at) and self._is_in(after, _DECLARING)
        else:
            is_alone = self._is_in(after, _AFTER_MACROS) or (self._is_name(after) and self._ends_line(closed))
        if is_alone:
            self.ends.add(closed)
            end = self.words[closed].end
            if self.text[end : end + 1].isspace():
                self.text[end : end + 1] = b";"
        return None

    def _argument(self, at: int) -> int | None:
        """An argument of a macro that is not an expression: a type, an operator, ``[64]``, nothing."""
        opened, text = self.around[at], self.words[at].text
        if opened < 1 or self.around[opened] < 0 or not self._is(opened, b"(") or not self._is_name(opened - 1):
            return None
        if self._is_name(opened - 2) or self._is_in(opened - 2, _TYPES) or self._is(opened - 2, b"*"):
            return None  # the parameters of a function
        ends, is_pointer = self._is(at + 1, b",", b")"), self._is(at + 1, b"*")
        if text == b"," and self._is(at + 1, b")"):
            return self._blank(at, at)
        if text == b"[" and self._is(at - 1, b",") and at in self.closing:
            return self._blank(at, self.closing[at], b"0")
        if text in _OPERATORS and ends and self._is(at - 1, b",", b"("):
            return self._blank(at, at, b"0")
        if text == b"*" and ends:
            return self._blank(at, at)
        if text in (b"struct", b"union", b"enum"):
            return self._blank(at, at) if self._is(at + 2, b",", b")", b"*") else None
        if text in _TYPES and (ends or is_pointer or self._is_in(at + 1, _TYPES)):
            return self._blank(at, at, b"0" if ends or is_pointer else b"")
        return None


def _brackets(words: list[CToken]) -> tuple[dict[int, int], list[int]]:
    """The closing bracket of each opening one, and for each word the innermost open bracket, or -1."""
    closing: dict[int, int] = {}
    around: list[int] = []
    stack: list[int] = []
    for at, word in enumerate(words):
        if word.text in _CLOSING:
            partner = next((opened for opened in reversed(stack) if words[opened].text == _CLOSING[word.text]), None)
            if partner is not None:
                closing[partner] = at
                del stack[stack.index(partner) :]
        around.append(stack[-1] if stack else -1)
        if word.text in (b"(", b"[", b"{"):
            stack.append(at)
    return closing, around
