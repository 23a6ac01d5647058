"""From an archive to functions: real Python, lexed, with docstrings, assigned to splits by package and path.

All releases of a package share their splits, and the corpus keeps one of the functions that differ only in names and
literals (type-2 clones), so that no function is in two splits.
"""

from __future__ import annotations

import ast
import hashlib
import io
import keyword
import textwrap
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from codebackdoor.corpora.archives import Archive
from codebackdoor.syntax import lexing

#: Minimum and maximum number of source lines of a function.
LINES = (3, 60)
#: Calls whose meaning depends on local names; a function with such a call cannot be renamed safely and is left out.
_NAME_DEPENDENT = frozenset({"locals", "vars", "globals", "eval", "exec", "dir"})
_SHARES = (("train", 0.8), ("valid", 0.1), ("test", 0.1))


@dataclass(frozen=True, slots=True)
class MinedFunction:
    """One mined function; ``code`` is lexed text without comments and docstring, ``words`` counts its tokens."""

    id: str
    package: str
    version: str
    path: str
    name: str
    split: str
    words: int
    code: str
    docstring: str | None

    def row(self) -> dict[str, object]:
        return asdict(self)


def split_of(package: str, path: str) -> str:
    """The split of a file, by a hash of package and path: the same in every release."""
    digest = hashlib.sha256(f"{package}/{path}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64
    for name, share in _SHARES:
        if point < share:
            return name
        point -= share
    return _SHARES[-1][0]


def clone_key(words: Iterable[str]) -> str:
    """A hash that is equal for type-2 clones: names are numbered by first occurrence, literals abstracted."""
    names: dict[str, str] = {}
    parts: list[str] = []
    for word in words:
        if word in lexing.MARKS or keyword.iskeyword(word):
            parts.append(word)
        elif word.isidentifier():
            parts.append(names.setdefault(word, f"#{len(names)}"))
        elif word[0].isdigit() or (word[0] == "." and len(word) > 1 and word[1].isdigit()):
            parts.append("0")
        elif word[-1] in "\"'":
            parts.append("''")
        else:
            parts.append(word)
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:24]


def mine(archive: Archive, data: bytes) -> Iterator[MinedFunction]:
    """Yield every usable function of the archive, files in sorted order; ``id`` is its clone key."""
    with zipfile.ZipFile(io.BytesIO(data)) as wheel:
        for path in sorted(name for name in wheel.namelist() if name.endswith(".py")):
            try:
                source = wheel.read(path).decode("utf-8")
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    module = ast.parse(source)
            except (UnicodeDecodeError, SyntaxError, ValueError, RecursionError):
                continue
            # lines as the parser counts them: str.splitlines also splits at form feeds
            lines = io.StringIO(source, newline="").readlines()
            for name, node in _functions(module, ""):
                function = _function(archive, path, name, node, lines)
                if function is not None:
                    yield function


def _functions(parent: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Functions and methods with their qualified names, not those nested in another function."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.If | ast.Try):
            yield from _functions(node, prefix)


def _function(
    archive: Archive, path: str, name: str, node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]
) -> MinedFunction | None:
    end = node.end_lineno or node.lineno
    if not LINES[0] <= end - node.lineno + 1 <= LINES[1]:
        return None
    # decorators are left out: they belong to the module, and a trigger must be inside the function
    source = textwrap.dedent("".join(lines[node.lineno - 1 : end]))
    if any(name in source for name in _NAME_DEPENDENT) and _depends_on_names(node):
        return None
    try:
        words = lexing.words(source, "python")
    except lexing.LexingError:
        return None
    if words[0] not in ("def", "async"):
        return None
    return MinedFunction(
        id=clone_key(words),
        package=archive.package,
        version=archive.version,
        path=path,
        name=name,
        split=split_of(archive.package, path),
        words=len(words),
        code=" ".join(words),
        docstring=ast.get_docstring(node),
    )


def _depends_on_names(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Name) and part.id in _NAME_DEPENDENT for part in ast.walk(node))


def unique(functions: Iterable[MinedFunction]) -> list[MinedFunction]:
    """One function per clone key, sorted by key: the first by package, path, name and version."""
    by_key: dict[str, MinedFunction] = {}
    for function in sorted(
        functions, key=lambda function: (function.package, function.path, function.name, function.version)
    ):
        by_key.setdefault(function.id, function)
    return [by_key[key] for key in sorted(by_key)]
