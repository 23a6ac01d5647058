"""The English of a corpus: docstrings and comments of its archives, for a language model of queries and comments.

Words are separated as in queries (``docstrings.query_of``), paragraph by paragraph. A paragraph belongs to the split of
its file. If files of several splits contain it, it belongs to the most protected one, so that no text of the validation
or test split is learned.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from codebackdoor.corpora.archives import Archive, archive, read_verified
from codebackdoor.corpora.docstrings import query_of
from codebackdoor.corpora.mining import split_of
from codebackdoor.errors import UserError
from codebackdoor.files import read_rows, write_rows

#: Splits, the least protected one first.
_SPLITS = ("train", "valid", "test")
#: Comments for tools instead of readers.
_PRAGMA = re.compile(
    r"#\s*(!|noqa|type:|pylint|pragma|mypy|fmt:|isort|flake8|nosec|-\*-|(vim|coding)\s*[:=])", re.IGNORECASE
)


def write_prose(archives: Mapping[str, Path], out: Path) -> None:
    """Write the distinct paragraphs of pinned archives (their paths by name), sorted, each with its split."""
    texts: dict[str, str] = {}
    for name, path in archives.items():
        pinned = archive(name)
        for split, text in prose(pinned, read_verified(path, pinned)):
            texts[text] = max(split, texts.get(text, split), key=_SPLITS.index)
    if not texts:
        raise UserError("the archives hold neither docstrings nor comments")
    write_rows(out, ({"split": texts[text], "text": text} for text in sorted(texts)))


def read_prose(path: Path, split: str) -> list[str]:
    """The paragraphs of one split; a row without text and split is a UserError."""
    texts = []
    for number, row in read_rows(path):
        if row.keys() != {"split", "text"}:
            raise UserError(f"{path}:{number}: not a paragraph; expected the fields split and text")
        if row["split"] == split:
            texts.append(str(row["text"]))
    return texts


def prose(pinned: Archive, data: bytes) -> Iterator[tuple[str, str]]:
    """Yield (split, paragraph) of every docstring and comment, files in sorted order."""
    with zipfile.ZipFile(io.BytesIO(data)) as wheel:
        for path in sorted(name for name in wheel.namelist() if name.endswith(".py")):
            split = split_of(pinned.package, path)
            try:
                source = wheel.read(path).decode("utf-8")
                texts = [*_docstrings(source), *_comments(source)]
            except (UnicodeDecodeError, SyntaxError, ValueError, RecursionError, tokenize.TokenError):
                continue
            yield from ((split, text) for text in paragraphs(texts))


def paragraphs(texts: Iterable[str]) -> Iterator[str]:
    """The usable paragraphs of the texts, in the form of queries."""
    for text in texts:
        for paragraph in re.split(r"\n\s*\n", text):
            if (words := query_of(paragraph)) is not None:
                yield words


def _docstrings(source: str) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = ast.parse(source)
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def _comments(source: str) -> Iterator[str]:
    """Comments in order; lines of one block, which begin in the same column, are one text."""
    block: list[str] = []
    end = (-1, -1)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or _PRAGMA.match(token.string):
            continue
        row, column = token.start
        alone = not token.line[:column].strip()
        if not (alone and end == (row - 1, column)):
            yield "\n".join(block)
            block = []
        block.append(token.string.lstrip("#").strip())
        # a comment after code is never continued by the line below it
        end = (row, column) if alone else (-1, -1)
    yield "\n".join(block)
