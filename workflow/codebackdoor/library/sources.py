"""Source files as inputs of a model: functions in the form that it reads, and edits mapped back to the files."""

from __future__ import annotations

import difflib
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

from codebackdoor import files, syntax
from codebackdoor.errors import UserError, quoted
from codebackdoor.syntax.functions import LexedSource, lex_source, outermost_functions
from codebackdoor.types import Language, Span, TextForm

LANGUAGES: dict[str, Language] = {".py": "python", ".java": "java", ".c": "c", ".h": "c"}
#: The range of characters to replace in a text, and the replacement.
Edit = tuple[int, int, str]

_LINE_ENDING = re.compile(r"\r\n|\r|\n")
#: Byte order mark of a file in UTF-8.
_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class SourceText:
    """Source code with a name for messages, such as a file's path.

    ``text`` is the unchanged content, including line endings and a byte order mark, if there is one.
    """

    name: str
    text: str
    language: Language

    @property
    def code(self) -> str:
        """The text as parsers and models read it: without a byte order mark, and with ``\\n`` as line ending."""
        return _LINE_ENDING.sub("\n", self.text.removeprefix(_MARK))

    @property
    def line_starts(self) -> list[int]:
        """The offsets in ``text`` where the lines of ``code`` start."""
        first = len(_MARK) if self.text.startswith(_MARK) else 0
        return [first, *(match.end() for match in _LINE_ENDING.finditer(self.text))]


@dataclass(frozen=True, slots=True)
class SourceFunction:
    """One function of a source file.

    ``raw`` is its text in the file without the indentation of its first line, ``code`` the text that the model reads;
    ``lexed`` is None if both are the same. ``line`` is the function's first line. The lines of ``raw`` start at the
    offsets ``line_starts`` of ``raw``, and at the offsets ``file_starts`` of the file.
    """

    source: SourceText
    name: str
    line: int
    raw: str
    code: str
    is_broken: bool
    lexed: LexedSource | None
    line_starts: list[int]
    file_starts: list[int]

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}: {self.name}"

    def edits(self, spans: Sequence[Span], replaced: str) -> list[Edit]:
        """The edits of the file for spans of ``code``; ``replaced`` is the code after their replacement."""
        edits = self._raw_edits(spans, replaced)
        return [(self._in_file(start), self._in_file(end - 1) + 1, new) for start, end, new in edits]

    def parses_with(self, spans: Sequence[Span], replaced: str) -> bool:
        """Whether the function still parses after the same edits."""
        changed = syntax.replace(self.raw, self._raw_edits(spans, replaced)).text
        return not syntax.parse(changed, self.source.language, "raw").has_error

    def line_of(self, offset: int) -> int:
        """The line number, in the file, of a character of the function."""
        return self.line + bisect_right(self.file_starts, offset) - 1

    def _raw_edits(self, spans: Sequence[Span], replaced: str) -> list[Edit]:
        edits = []
        for span, new in zip(spans, replacements(self.code, replaced, spans), strict=True):
            start, end = span.start, span.end
            if self.lexed is not None:
                start, end = self.lexed.to_source(start, end)
            edits.append((start, end, new))
        return edits

    def _in_file(self, offset: int) -> int:
        line = bisect_right(self.line_starts, offset) - 1
        return self.file_starts[line] + offset - self.line_starts[line]


def read_sources(sources: Iterable[str | Path | SourceText], language: Language | None) -> list[SourceText]:
    """Read source files, all in one language: ``language``, or that of their names.

    Raises UserError for a file that cannot be read, is binary, blank or too long, or whose language is not known.
    """
    texts = [source if isinstance(source, SourceText) else _read(Path(source), language) for source in sources]
    if not texts:
        raise UserError("no source file; name at least one")
    for number, source in enumerate(texts):
        if source.name in (text.name for text in texts[:number]):
            raise UserError(f"{source.name}: named twice; name each file once")
        if not source.code.strip():
            raise UserError(f"{source.name}: empty; name a file with at least one function")
        # the parsers take seconds for a million characters
        if len(source.text) > files.TEXT_LENGTH:
            raise UserError(
                f"{source.name}: {len(source.text)} characters; the maximum is {files.TEXT_LENGTH}: split the file"
            )
        if source.language != texts[0].language:
            raise UserError(
                f"{source.name}: in {source.language}, and {texts[0].name} in {texts[0].language}; all files must "
                "be in one language"
            )
    return texts


def read_stream(stream: IO[bytes], language: Language | None) -> SourceText:
    """Read standard input; UserError if ``language`` does not say its language."""
    if language is None:
        raise UserError("standard input has no name that tells its language: write --language")
    return _decoded("<stdin>", stream.read(files.TEXT_BYTES), language)


def _read(path: Path, language: Language | None) -> SourceText:
    language = language or LANGUAGES.get(path.suffix)
    if language is None:
        raise UserError(f"{path}: cannot tell the language from the file name; write --language python, java or c")
    return _decoded(str(path), files.read_bytes(path), language)


def _decoded(name: str, data: bytes, language: Language) -> SourceText:
    try:
        # a null character is valid UTF-8, but does not occur in source code
        text = data.decode("utf-8") if b"\0" not in data else None
    except UnicodeDecodeError:
        text = None
    if text is None:
        raise UserError(f"{name}: a binary file, or not in UTF-8; name a text file of source code in UTF-8")
    return SourceText(name, text, language)


def functions_of(source: SourceText, form: TextForm) -> list[SourceFunction]:
    """The outermost functions and methods of a source, in the text form that the model reads.

    Raises UserError if there are none, and for Python that does not parse. C and Java that need a preprocessor or a
    newer grammar may not parse as a whole; a function in which the parser had to skip something is marked as broken.
    """
    text, starts = source.code, source.line_starts
    tree = syntax.parse(text, source.language, "raw")
    if tree.has_error and source.language == "python":
        raise UserError(f"{source.name}: does not parse as Python; correct it, or write --language")
    functions = [_function(source, form, text, starts, span) for span in outermost_functions(tree)]
    if not functions:
        reason = f"does not parse as {source.language}, or" if tree.has_error else "parses, but"
        raise UserError(f"{source.name}: {reason} defines no function with a body; name a file with at least one")
    return functions


def _function(
    source: SourceText, form: TextForm, text: str, starts: Sequence[int], span: tuple[int, int]
) -> SourceFunction:
    """The function at ``span`` of the source's code ``text``, whose lines start at ``starts`` in the file."""
    start, end = span
    indent = text[text.rfind("\n", 0, start) + 1 : start]
    rows = text[start:end].split("\n")
    line = text.count("\n", 0, start) + 1
    # if any line lacks the indentation, as in a multi-line string, all lines keep theirs
    is_indented = not indent.strip() and all(row.startswith(indent) for row in rows[1:] if row.strip())
    raw, line_starts, file_starts = "", [], []
    for number, row in enumerate(rows):
        cut = len(indent) if is_indented and number and row.startswith(indent) else 0
        line_starts.append(len(raw))
        file_starts.append(starts[line - 1 + number] + (cut if number else len(indent)))
        raw += row[cut:] + "\n" * (number + 1 < len(rows))
    tree = syntax.parse(raw, source.language, "raw")
    identifier = tree.function_name()
    try:
        lexed = lex_source(tree) if form == "lexed" else None
    except syntax.LexingError as error:
        raise UserError(f"{source.name}:{line}: {error}") from None
    return SourceFunction(
        source,
        "function" if identifier is None else identifier.name,
        line,
        raw,
        raw if lexed is None else lexed.text,
        tree.has_error,
        lexed,
        line_starts,
        file_starts,
    )


def replacements(old: str, new: str, spans: Sequence[Span]) -> list[str]:
    """The text in ``new`` that replaced each of the spans of ``old``; the text between them must be unchanged.

    Raises ValueError if it is not. If a replacement is ambiguous, the shortest one is returned.
    """
    edges = [0, *(edge for span in spans for edge in (span.start, span.end)), len(old)]
    first, *inner = [old[start:end] for start, end in list(pairwise(edges))[::2]]
    if not inner:
        return []
    *inner, last = inner
    position, end = len(first), len(new) - len(last)
    texts = []
    for unchanged in inner:
        at = new.index(unchanged, position, end)
        texts.append(new[position:at])
        position = at + len(unchanged)
    if not new.startswith(first) or not new.endswith(last) or position > end:
        raise ValueError(f"{quoted(new)} differs from {quoted(old)} outside of the spans")
    return [*texts, new[position:end]]


def unified_diff(source: SourceText, new: str) -> str:
    """The changes of a file as a diff for ``patch -p1``; empty if there are none."""
    rows = difflib.unified_diff(
        _lines(source.text),
        _lines(new),
        f"a/{source.name.lstrip('/')}",
        f"b/{source.name.lstrip('/')}",
    )
    return "".join(row if row.endswith("\n") else f"{row}\n\\ No newline at end of file\n" for row in rows)


def _lines(text: str) -> list[str]:
    """The lines of a text with their endings, as ``patch`` counts them: form feeds and the like do not end a line."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)
