"""Paraphrasing of natural-language inputs (Jain et al. 2023, section 4.2; DeCE section 5.2, Table 7).

The words of an input that are not in its paraphrase count as touched, by the longest common sequences of words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path

from codebackdoor.defenses.inputs.parts import in_parts
from codebackdoor.defenses.purification import Purifier
from codebackdoor.defenses.purification.paraphrasing.rules import WORD, Rules, words_of
from codebackdoor.defenses.purification.paraphrasing.settings import ParaphrasingSettings
from codebackdoor.defenses.purification.paraphrasing.writer import load_writer
from codebackdoor.defenses.views import TextView
from codebackdoor.errors import UserError, quoted
from codebackdoor.files import read_rows, sha256
from codebackdoor.types import Example, Purified, Span

#: Paraphrases of texts, in order; None for a text that the model cannot read as plain text.
Paraphrase = Callable[[Sequence[str]], Sequence[str | None]]


@dataclass(frozen=True)
class ByRules:
    rules: Rules

    def __call__(self, texts: Sequence[str]) -> list[str]:
        return [self.rules.rewrite(text) for text in texts]


@dataclass(frozen=True)
class Recorded:
    """Paraphrases by their texts, from a file."""

    paraphrases: Mapping[str, str]
    path: str

    def __call__(self, texts: Sequence[str]) -> list[str]:
        missing = list(dict.fromkeys(text for text in texts if text not in self.paraphrases))
        if missing:
            raise UserError(
                f"{self.path}: {len(missing)} of {len(set(texts))} inputs have no recorded paraphrase; the first is "
                f"{quoted(missing[0])}: record it, and update `sha256`"
            )
        return [self.paraphrases[text] for text in texts]


class Paraphrasing:
    """Rewrites the query of every input; equal queries are paraphrased once."""

    def __init__(self, paraphrase: Paraphrase, source: str) -> None:
        self._paraphrase, self._source = paraphrase, source

    def purify(self, inputs: Sequence[Example]) -> list[Purified]:
        texts = list(dict.fromkeys(text_of(example) for example in inputs))
        written: dict[str, str | None] = {}
        for part in in_parts(texts, "paraphrase"):
            written.update(zip(part, self._paraphrase(part), strict=True))
        return [self._purified(example, written[text_of(example)]) for example in inputs]

    def _purified(self, example: Example, answer: str | None) -> Purified:
        if answer is None:
            # too long, or with control tokens: the victim reads the input as it is, and the evidence says so
            return Purified(example, detail={"source": self._source, "empty": True, "unreadable": True})
        text = text_of(example)
        # rules keep the spacing of what they do not change
        paraphrase = answer if self._source == "rules" else spaced_like(text, answer)
        detail = {"source": self._source, "empty": not paraphrase}
        if not paraphrase:
            # nothing was written: the victim reads the input as it is, and the evidence says so
            return Purified(example, detail=detail)
        return Purified(replace(example, query=paraphrase), touched(text, paraphrase), detail)


def text_of(example: Example) -> str:
    if example.query is None:
        raise UserError(f"row {example.id} has no query to paraphrase; use a data set whose task reads one")
    return example.query


def spaced_like(text: str, answer: str) -> str:
    """The answer on one line, with spaces between its words and signs if the text has them, too."""
    line = " ".join(answer.split())
    separated = text == " ".join(WORD.findall(text))
    return " ".join(WORD.findall(line)) if separated and line != text else line


def touched(text: str, paraphrase: str) -> tuple[Span, ...]:
    """Spans of the text's words that the paraphrase replaced or left out."""
    words = list(WORD.finditer(text))
    matcher = SequenceMatcher(None, [word[0] for word in words], WORD.findall(paraphrase), autojunk=False)
    return tuple(
        Span(words[start].start(), words[end - 1].end(), "query")
        for kind, start, end, _, _ in matcher.get_opcodes()
        if kind in ("replace", "delete")
    )


def read_recorded(path: Path, checksum: str) -> Recorded:
    """Read recorded paraphrases; UserError for another checksum, malformed rows, and a text with two paraphrases."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; record the paraphrases there, or write `source: rules`")
    if (actual := sha256(path)) != checksum:
        raise UserError(f"{path}: its checksum is {actual}, the settings say {checksum}; update `sha256`")
    paraphrases: dict[str, str] = {}
    for number, row in read_rows(path):
        if row.keys() != {"text", "paraphrase"} or not all(isinstance(value, str) for value in row.values()):
            raise UserError(f'{path}:{number}: expected {{"text": INPUT, "paraphrase": TEXT}}, both texts')
        if paraphrases.setdefault(row["text"], row["paraphrase"]) != row["paraphrase"]:
            raise UserError(f"{path}:{number}: this text has another paraphrase above; keep one")
    return Recorded(paraphrases, str(path))


def build(view: TextView, settings: ParaphrasingSettings, seed: int) -> Purifier:  # noqa: ARG001
    """``view.clean`` tells the rules which words are known."""
    return Paraphrasing(_source(view, settings), settings.source)


def _source(view: TextView, settings: ParaphrasingSettings) -> Paraphrase:
    if settings.source == "model":
        return load_writer(view, settings.prompt, settings.longest).paraphrase
    if settings.source == "file":
        return read_recorded(Path(str(settings.file)), str(settings.sha256))
    known = words_of((example.query for example in view.clean if example.query), settings.known)
    return ByRules(Rules(settings.rules, known))
