"""Source files as inputs of a model: their functions, in the form that it reads, and edits put back into the files."""

from __future__ import annotations

import difflib
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
#: Characters of a file to replace, and what replaces them.
Edit = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class SourceText:
    """Source code with the name by which messages refer to it, such as a file's path."""

    name: str
    text: str
    language: Language


@dataclass(frozen=True, slots=True)
class SourceFunction:
    """One function of a source file.

    ``code`` is what the model reads; ``lexed`` is None if that is the source itself. ``line`` is the function's first
    line. The source of the function is its text in the file without the indentation of its first line; of the lines of
    that source ``line_starts`` are the offsets, and ``file_starts`` those in the file.
    """

    source: SourceText
    name: str
    line: int
    code: str
    is_broken: bool
    lexed: LexedSource | None
    line_starts: list[int]
    file_starts: list[int]

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}: {self.name}"

    def edits(self, spans: Sequence[Span], replaced: str) -> list[Edit]:
        """The edits of the file that correspond to replacing these spans of ``code``, which gave ``replaced``."""
        result = []
        for span, new in zip(spans, replacements(self.code, replaced, spans), strict=True):
            start, end = span.start, span.end
            if self.lexed is not None:
                start, end = self.lexed.to_source(start, end)
            result.append((self._in_file(start), self._in_file(end - 1) + 1, new))
        return result

    def _in_file(self, offset: int) -> int:
        line = bisect_right(self.line_starts, offset) - 1
        return self.file_starts[line] + offset - self.line_starts[line]


def read_sources(sources: Iterable[str | Path | SourceText], language: Language | None) -> list[SourceText]:
    """Read source files, all in one language, which is that of their names unless ``language`` says it.

    UserError for a file that cannot be read, is binary, blank or too long, or whose language is not known.
    """
    texts = [source if isinstance(source, SourceText) else _read(Path(source), language) for source in sources]
    if not texts:
        raise UserError("no source file; name at least one")
    for number, source in enumerate(texts):
        if source.name in (text.name for text in texts[:number]):
            raise UserError(f"{source.name}: named twice; name each file once")
        if not source.text.strip():
            raise UserError(f"{source.name}: empty; name a file with at least one function")
        # the parsers take seconds for a million characters
        if len(source.text) > files.TEXT_LENGTH:
            raise UserError(
                f"{source.name}: {len(source.text)} characters; the maximum is {files.TEXT_LENGTH}: split the file"
            )
        if source.language != texts[0].language:
            raise UserError(
                f"{source.name}: in {source.language}, and {texts[0].name} in {texts[0].language}: a model reads one "
                "language, so name the files of one"
            )
    return texts


def read_stream(stream: IO[bytes], language: Language | None) -> SourceText:
    """Read standard input; UserError if ``language`` does not say its language."""
    if language is None:
        raise UserError("standard input has no name that tells its language: write --language")
    return _decoded("<stdin>", stream.read(files.TEXT_BYTES), language)


def _read(path: Path, language: Language | None) -> SourceText:
    known = language or LANGUAGES.get(path.suffix)
    if known is None:
        raise UserError(f"{path}: a file of unknown language; write --language python, java or c")
    return _decoded(str(path), files.read_bytes(path), known)


def _decoded(name: str, data: bytes, language: Language) -> SourceText:
    try:
        # a null character is valid UTF-8, but in no source code
        text = data.decode("utf-8-sig") if b"\0" not in data else None
    except UnicodeDecodeError:
        text = None
    if text is None:
        raise UserError(f"{name}: a binary file, or not in UTF-8; name a text file of source code in UTF-8")
    return SourceText(name, text.replace("\r\n", "\n").replace("\r", "\n"), language)


def functions_of(source: SourceText, form: TextForm) -> list[SourceFunction]:
    """The outermost functions and methods of a source, as a model that reads this text form gets them.

    UserError if there is none, and for Python that does not parse. C and Java that need a preprocessor or a newer
    grammar do not parse as a whole; a function in which the parser had to skip something is marked as broken.
    """
    tree = syntax.parse(source.text, source.language, "raw")
    if tree.has_error and source.language == "python":
        raise UserError(f"{source.name}: does not parse as Python; correct it, or write --language")
    functions = [_function(source, form, start, end) for start, end in outermost_functions(tree)]
    if not functions:
        reason = f"does not parse as {source.language}, or" if tree.has_error else "parses, but"
        raise UserError(f"{source.name}: {reason} defines no function with a body; name a file with at least one")
    return functions


def _function(source: SourceText, form: TextForm, start: int, end: int) -> SourceFunction:
    indent = source.text[source.text.rfind("\n", 0, start) + 1 : start]
    rows = source.text[start:end].split("\n")
    # a text of several lines may have lines without the indentation; then all keep theirs
    is_indented = not indent.strip() and all(row.startswith(indent) for row in rows[1:] if row.strip())
    code, line_starts, file_starts, position = "", [], [], start
    for number, row in enumerate(rows):
        cut = len(indent) if is_indented and number and row.startswith(indent) else 0
        line_starts.append(len(code))
        file_starts.append(position + cut)
        code += row[cut:] + "\n" * (number + 1 < len(rows))
        position += len(row) + 1
    line = source.text.count("\n", 0, start) + 1
    tree = syntax.parse(code, source.language, "raw")
    identifier = tree.function_name()
    try:
        lexed = lex_source(tree) if form == "lexed" else None
    except syntax.LexingError as error:
        raise UserError(f"{source.name}:{line}: {error}") from None
    return SourceFunction(
        source,
        "function" if identifier is None else identifier.name,
        line,
        code if lexed is None else lexed.text,
        tree.has_error,
        lexed,
        line_starts,
        file_starts,
    )


def replacements(old: str, new: str, spans: Sequence[Span]) -> list[str]:
    """What stands in ``new`` for each of the spans of ``old``; everything between them is the same in both.

    ValueError if it is not. Where a replacement contains what follows its span, the shortest one counts.
    """
    edges = [0, *(edge for span in spans for edge in (span.start, span.end)), len(old)]
    first, *inner = [old[start:end] for start, end in list(pairwise(edges))[::2]]
    if not inner:
        return []
    *inner, last = inner
    position, end = len(first), len(new) - len(last)
    result = []
    for kept in inner:
        at = new.index(kept, position, end)
        result.append(new[position:at])
        position = at + len(kept)
    if not new.startswith(first) or not new.endswith(last) or position > end:
        raise ValueError(f"{quoted(new)} differs from {quoted(old)} outside of the spans")
    return [*result, new[position:end]]


def unified_diff(source: SourceText, new: str) -> str:
    """The changes of a file for ``patch -p1``; empty if there are none."""
    rows = difflib.unified_diff(
        source.text.splitlines(keepends=True),
        new.splitlines(keepends=True),
        f"a/{source.name.lstrip('/')}",
        f"b/{source.name.lstrip('/')}",
    )
    return "".join(row if row.endswith("\n") else f"{row}\n\\ No newline at end of file\n" for row in rows)
