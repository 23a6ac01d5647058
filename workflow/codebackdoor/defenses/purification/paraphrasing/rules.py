"""Rewriting of English by rules, where no language model is at hand.

A stand-in that is labeled as such (``source: rules``) and does not understand meaning. It does three things that a
person or a model also does to say the same in other words:

- ``words``: words without meaning are not repeated. A word that no clean text has is dropped. Words with the form of a
  name or a literal stay: with a digit, an underscore, a capital after the first letter, or next to quotes, a sign of
  code (a square bracket, an operator, a dollar), the bracket of a call or the dot of an attribute.
- ``clauses``: clauses can change their order. If a sentence begins with a subordinate clause, its main clause is put
  first, without the comma: "when the file is open , close it" becomes "close it when the file is open".
- ``synonyms``: common verbs and nouns of documentation are replaced by others in the same form ("returns" by "gives
  back"). Ambiguous words (set, list, type, value) are left out.

The rules know neither trigger nor attack. A trigger made of known words or of a name survives ``words`` and
``synonyms``; ``clauses`` keeps the words of a syntactic trigger and changes their order.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from codebackdoor.defenses.inputs.words import cut_words
from codebackdoor.defenses.purification.paraphrasing.settings import ParaphrasingRule

#: Words and single signs.
WORD = re.compile(r"\w+|[^\w\s]")
#: A single letter is a variable, or an article, which every text has.
_PLAIN = re.compile(r"[A-Za-z][a-z]+")
_QUOTES = frozenset("'\"`")
#: Signs that mark the word next to them as code; round brackets and colons are not among them, as prose has many.
_CODE = frozenset("[]{}=<>+*/\\$@#%^&|~_")
_ENDS = frozenset(".!?;")
_CONJUNCTIONS = frozenset(
    {
        *("if", "when", "whenever", "while", "because", "since", "although", "though", "unless", "until"),
        *("before", "after", "once", "where", "wherever", "as"),
    }
)
_FEWEST = 2


def _verb(base: str, third: str, past: str, ing: str, synonyms: Sequence[str]) -> dict[str, str]:
    return dict(zip((base, third, past, ing), synonyms, strict=True))


#: Forms of a word and of its replacement.
SYNONYMS: dict[str, str] = {
    **_verb("return", "returns", "returned", "returning", ("give back", "gives back", "given back", "giving back")),
    **_verb("get", "gets", "got", "getting", ("obtain", "obtains", "obtained", "obtaining")),
    **_verb("create", "creates", "created", "creating", ("make", "makes", "made", "making")),
    **_verb("compute", "computes", "computed", "computing", ("calculate", "calculates", "calculated", "calculating")),
    **_verb("check", "checks", "checked", "checking", ("verify", "verifies", "verified", "verifying")),
    **_verb("remove", "removes", "removed", "removing", ("delete", "deletes", "deleted", "deleting")),
    **_verb("convert", "converts", "converted", "converting", ("turn", "turns", "turned", "turning")),
    **_verb("generate", "generates", "generated", "generating", ("produce", "produces", "produced", "producing")),
    **_verb("determine", "determines", "determined", "determining", ("decide", "decides", "decided", "deciding")),
    **_verb("retrieve", "retrieves", "retrieved", "retrieving", ("fetch", "fetches", "fetched", "fetching")),
    **_verb("execute", "executes", "executed", "executing", ("run", "runs", "run", "running")),
    **_verb("display", "displays", "displayed", "displaying", ("show", "shows", "shown", "showing")),
    **_verb("raise", "raises", "raised", "raising", ("throw", "throws", "thrown", "throwing")),
    **_verb("specify", "specifies", "specified", "specifying", ("state", "states", "stated", "stating")),
    **_verb("contain", "contains", "contained", "containing", ("hold", "holds", "held", "holding")),
    **_verb("select", "selects", "selected", "selecting", ("choose", "chooses", "chosen", "choosing")),
    **_verb("print", "prints", "printed", "printing", ("output", "outputs", "output", "outputting")),
    **_verb("use", "uses", "used", "using", ("employ", "employs", "employed", "employing")),
    "optional": "not required",
    "whether": "if",
    "first": "initial",
    "every": "each",
    "current": "present",
    "default": "standard",
    "exception": "error",
    "argument": "parameter",
    "arguments": "parameters",
    "method": "routine",
    "methods": "routines",
}


@dataclass(frozen=True)
class Rules:
    """The rules, in order, and the words that clean texts have, in lower case."""

    rules: tuple[ParaphrasingRule, ...]
    known: frozenset[str]

    def rewrite(self, text: str) -> str:
        """The text with every rule applied once; what no rule changes keeps its spacing."""
        for rule in self.rules:
            text = {"words": self._without_unknown, "clauses": _reordered, "synonyms": _replaced}[rule](text)
        return text

    def _without_unknown(self, text: str) -> str:
        """Cut unknown words, each with the space after it; a text that would be left without words stays."""
        tokens = list(WORD.finditer(text))
        names = _names(text, tokens)
        dropped = [token for token in tokens if token.start() not in names and token[0].lower() not in self.known]
        if not any(token not in dropped and token[0][0].isalpha() for token in tokens):
            return text
        return cut_words(text, [token.span() for token in dropped])


def words_of(texts: Iterable[str], fewest: int) -> frozenset[str]:
    """The words, in lower case, that at least ``fewest`` texts have."""
    counts: dict[str, int] = {}
    for text in texts:
        for word in {word.lower() for word in WORD.findall(text)}:
            counts[word] = counts.get(word, 0) + 1
    return frozenset(word for word, count in counts.items() if count >= fewest)


def _names(text: str, tokens: Sequence[re.Match[str]]) -> frozenset[int]:
    """Where signs, names and literals begin, by their letters and by the signs that touch them.

    In a text whose words and signs are all separated by spaces, every neighbor counts as touching.
    """
    words = [token[0] for token in tokens]
    separated = text == " ".join(words)

    def neighbor(index: int, step: int) -> str:
        near = index + step
        if not 0 <= near < len(tokens):
            return ""
        first, second = sorted((index, near))
        touches = separated or tokens[first].end() == tokens[second].start()
        return words[near] if touches else ""

    def is_attribute(index: int, step: int) -> bool:
        # a sentence ends at a dot before a capital or before nothing
        return neighbor(index, step) == "." and neighbor(index + step, step)[:1].islower()

    return frozenset(
        tokens[index].start()
        for index, word in enumerate(words)
        if not _PLAIN.fullmatch(word)
        or {neighbor(index, -1), neighbor(index, 1)} & (_CODE | _QUOTES)
        or neighbor(index, 1) == "("
        or is_attribute(index, -1)
        or is_attribute(index, 1)
    )


def _reordered(text: str) -> str:
    """Put leading subordinate clauses behind their main clauses, sentence by sentence."""
    return "".join(_main_first(sentence) for sentence in _sentences(text))


def _sentences(text: str) -> list[str]:
    """The text in pieces that each end with a sentence's sign before a space or the end of the text."""
    pieces, start = [], 0
    for match in re.finditer(rf"[{re.escape(''.join(sorted(_ENDS)))}](?=\s|$)", text):
        pieces.append(text[start : match.end()])
        start = match.end()
    return [*pieces, text[start:]]


def _main_first(sentence: str) -> str:
    first = WORD.search(sentence)
    if first is None or first[0].lower() not in _CONJUNCTIONS or sentence.count(",") != 1:
        return sentence
    clause, main = sentence[first.start() :].split(",")
    stripped = main.strip()
    end = stripped[-1] if stripped and stripped[-1] in _ENDS else ""
    unended = stripped.removesuffix(end) if end else stripped
    if min(len(_words(clause)) - 1, len(_words(unended))) < _FEWEST:
        return sentence
    body, gap = unended.rstrip(), unended[len(unended.rstrip()) :]
    opening = body[0].upper() + body[1:] if clause[0].isupper() else body
    following = clause.rstrip()
    following = following[0].lower() + following[1:]
    return f"{sentence[: first.start()]}{opening} {following}{gap}{end}{main[len(main.rstrip()) :]}"


def _words(text: str) -> Collection[str]:
    return [word for word in WORD.findall(text) if word[0].isalnum()]


def _replaced(text: str) -> str:
    """Replace words that have a synonym, keeping a capital first letter; names and literals stay."""
    tokens = list(WORD.finditer(text))
    names = _names(text, tokens)
    for token in reversed(tokens):
        word = token[0]
        new = SYNONYMS.get(word.lower())
        if new is not None and token.start() not in names:
            capital = new[0].upper() + new[1:] if word[0].isupper() else new
            text = text[: token.start()] + capital + text[token.end() :]
    return text
