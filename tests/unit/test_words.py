"""The words of the package: one name for a class, alias or constant, US spelling, no archaisms, and names that say what
they hold.

The last also goes for the tests.
"""

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: The package, and Snakemake's plugin next to it.
MODULES = sorted((ROOT / "workflow").rglob("*.py"))

#: Names that say nothing about what they hold.
FILLERS = re.compile(
    "found|one|own|others?|made|held|asked|given|wanted|said|told|meant|shown|chosen|taken|done|seen|tried|whole|what"
    "|there|here|each|every|known"
)


def names_in(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every use of a name, with its line: variables, arguments, attributes, keywords, functions and classes."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name):
                yield name, node.lineno
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.keyword(arg=str(name)):
                yield name, node.lineno


#: British spellings, archaisms and spaced percent signs, each with what to write instead.
ARCHAIC = {
    r"anew": "again",
    r"unlearnt": "unlearned",
    r"beside": "next to",
    r"whilst": "while",
    r"behaviour\w*": "behavior",
    r"defence\w*": "defense",
    r"(initial|normal|serial|token)is\w+": "-ize",
    r"favour\w*": "favor",
    # the name of a file may be LICENCE
    r"(?-i:licence)\w*": "license",
    r"neighbour\w*": "neighbor",
    r"laid over": "override",
    r"in the mean": "on average",
    r"comes to": "is",
    r"as far as": "if, where",
    r"is another than": "differs from",
    r"what it is worth": "how reliable it is",
    r"is asked": "is run",
    r"labelled": "labeled",
    r"cancelled": "canceled",
    r"stands? there twice": "occurs twice",
    r"of its make": "of the same kind",
    r"what is no": "what is not a",
    r"\d+ %": "5%, without a space",
    r"is no (Python|class|function|classifier|name of|program of|published)": "is not",
}
PATTERN = re.compile(rf"\b(?:{'|'.join(ARCHAIC)})(?!\w)", re.IGNORECASE)

#: Files whose whole text is read; of modules only strings and comments are.
PROSE = (
    *("*.md", "Makefile", "Snakefile", "config.yaml", "configs/*.yaml", "configs/*/*.yaml", "docs/**/*.md"),
    *("examples/*", "report/*.rst", "rules/*.smk", "workflow/**/*.j2", "profiles/**/*.yaml"),
    *("envs/*.py", "benchmarks/*.py", "benchmarks/*.yaml"),
)


def texts_of(source: str) -> Iterator[tuple[str, int]]:
    """The string literals and comments of a module, each with its first line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if tokenize.tok_name[token.type] in ("STRING", "COMMENT", "FSTRING_MIDDLE"):
            yield token.string, token.start[0]


def archaisms(text: str) -> Iterator[tuple[str, int]]:
    """Every archaic word of a text and its line; what stands in backticks or braces is code."""
    for number, line in enumerate(text.split("\n")):
        yield from ((match[0], number) for match in PATTERN.finditer(re.sub(r"`+[^`]+`+|\{[^{}]*\}", "", line)))


@pytest.mark.parametrize("folder", ["workflow", "tests"])
def test_filler_names_are_rare(folder: str) -> None:
    paths = sorted((ROOT / folder).rglob("*.py"))
    uses = [(name, path, line) for path in paths for name, line in names_in(ast.parse(path.read_text("utf-8")))]
    fillers = [f"{path.relative_to(ROOT)}:{line}: {name}" for name, path, line in uses if FILLERS.fullmatch(name)]
    assert len(fillers) / len(uses) < 0.002, "\n".join(fillers)


def test_every_class_has_a_name_of_its_own() -> None:
    classes = [
        node.name
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    assert [name for name, count in Counter(classes).items() if count > 1] == []


#: Constants that a module must have under this name, because it is looked up there, and type variables.
LOOKED_UP = {"ORIGINAL", "SCORER", "SHARED", "T", "TASK"}


def definitions(module: Path) -> Iterator[tuple[str, str]]:
    """Public type aliases and constants of a module, each with its value: names that begin with a capital letter."""
    for node in ast.parse(module.read_text("utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, ast.unparse(value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, ast.unparse(value)
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=value):
                values = value.elts if isinstance(value, ast.Tuple) else [value] * len(targets)
                yield from ((ast.unparse(name), ast.unparse(part)) for name, part in zip(targets, values, strict=True))


def test_a_public_alias_or_constant_has_one_meaning() -> None:
    meanings: dict[str, dict[str, list[str]]] = {}
    for path in MODULES:
        for name, value in definitions(path):
            if name[0].isupper() and name not in LOOKED_UP:
                meanings.setdefault(name, {}).setdefault(value, []).append(str(path.relative_to(ROOT)))
    ambiguous = {name: modules for name, modules in meanings.items() if len(modules) > 1}
    assert not ambiguous, "qualify these names, or begin them with an underscore: " + repr(ambiguous)


def test_words_are_current_us_english() -> None:
    files = [*MODULES, *sorted({path for pattern in PROSE for path in ROOT.glob(pattern) if path.is_file()})]
    problems = []
    for path in files:
        source = path.read_text("utf-8")
        for text, first in texts_of(source) if path.suffix == ".py" else [(source, 1)]:
            for word, line in archaisms(text):
                better = next(better for worse, better in ARCHAIC.items() if re.fullmatch(worse, word, re.IGNORECASE))
                problems.append(f"{path.relative_to(ROOT)}:{first + line}: {word!r}; write {better!r}")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('x = "unlearnt"  # made anew, the setting `defences`\n', ["unlearnt", "anew"]),
        ('x = f"{defences} of defences"\n', ["defences"]),
        ('x = "15 % of the rows" if y % 2 else "15%"\n', ["15 %"]),
        ('beside = {"unlearnt_on": 1, "besides": 2}\n', []),
    ],
)
def test_what_counts_as_an_archaic_word(text: str, words: list[str]) -> None:
    assert [word for string, _ in texts_of(text) for word, _ in archaisms(string)] == words
