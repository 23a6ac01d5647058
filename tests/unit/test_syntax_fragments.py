"""Code that is not what a grammar expects: macros and extensions in C, what does not parse, names with two meanings.

The files ``renaming_*.txt`` hold functions in which every place of a renameable name stands in «these marks».
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syntax_support import c_diagnostics, c_variables, devign

from codebackdoor.syntax import KEYWORDS, LexingError, lex, parse, rename
from codebackdoor.types import Language, TextForm

LANGUAGES: tuple[Language, ...] = ("c", "java", "python")
#: What the lexed form does not keep: where lines end or begin, and a name that a line continuation divides.
RAW_ONLY = (
    *("a loop's macro without braces", "a name divided by a line continuation"),
    "an indentation that fits no block",
)


def corpus(language: Language) -> dict[str, str]:
    """The functions by their titles, with marks."""
    text = (Path(__file__).parent / f"renaming_{language}.txt").read_text(encoding="utf-8")
    parts = re.split(r"^==== (.*)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


CASES = [
    pytest.param(language, text, form, id=f"{language}-{title}-{form}")
    for language in LANGUAGES
    for title, text in corpus(language).items()
    for form in ("raw", "lexed")
    if form == "raw" or title not in RAW_ONLY
]


@pytest.mark.parametrize(("language", "marked", "form"), CASES)
def test_renameable_names_and_renamed_text(language: Language, marked: str, form: TextForm) -> None:
    source, expected = re.sub("[«»]", "", marked), re.sub("«(.*?)»", r"new_\1", marked)
    if form == "lexed":
        try:
            source, expected = lex(source, language), lex(expected, language)
        except LexingError:
            pytest.skip("Python that does not parse has no lexed form")
    tree = parse(source, language, form)
    names = {identifier.name for identifier in tree.identifiers() if identifier.renameable}
    assert names == set(re.findall("«(.*?)»", marked))
    assert rename(tree, {name: f"new_{name}" for name in names}).text == expected


def test_every_kind_of_fragment_is_there() -> None:
    assert {language: len(corpus(language)) > 15 for language in LANGUAGES} == dict.fromkeys(LANGUAGES, True)


@pytest.mark.parametrize("title", [title for title in corpus("c") if title.startswith(("a macro makes", "a macro is"))])
def test_a_macro_is_no_functions_name(title: str) -> None:
    assert parse(re.sub("[«»]", "", corpus("c")[title]), "c", "raw").function_name() is None


@pytest.mark.parametrize("title", ["a pointer to a function is returned", "an attribute behind a variable"])
def test_the_functions_name(title: str) -> None:
    function = parse(re.sub("[«»]", "", corpus("c")[title]), "c", "raw").function_name()
    assert function is not None
    assert (function.name, function.renameable) == ("pick" if "pointer" in title else "f", True)


WORDS = ["a", "b", "f", "MACRO", "1", '"s"', "(", ")", "{", "}", "[", "]", ";", ",", ":", "=", "*", ".", "\n", "#"]


@pytest.mark.parametrize("language", LANGUAGES)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_reserved_word_is_ever_renameable(language: Language, data: st.DataObject) -> None:
    word = st.one_of(st.sampled_from(sorted(KEYWORDS[language])), st.sampled_from(WORDS))
    head = {"c": "int f(int a) {", "java": "int f(int a) {", "python": "def f(a):\n "}[language]
    text = f"{head} {' '.join(data.draw(st.lists(word, max_size=25)))} }}"
    names = {identifier.name for identifier in parse(text, language, "raw").identifiers() if identifier.renameable}
    assert not names & KEYWORDS[language]


NAMES = st.sampled_from(["a", "b", "c", "f"])
STATEMENTS = (
    "int {0} = {1};",
    "struct s *{0} = {1}->{2};",
    "struct {{ int {0}; }} {1};",
    "{0} = {1}.{2} + {0};",
    "{0}:\n goto {0};",
    "FF_DISABLE\n {0} = {1};",
    "MACRO({0}, {1})",
    "FOREACH({0}, {1}, {2}) {{ {0}++; }}",
    "int {0} = ({{ int {1} = {2}; {1}; }});",
    "int {0} __attribute__((unused)) = {1};",
    "#ifdef {0}\n if ({1}) {{\n#else\n {{\n#endif\n {2}++; }}",
    "if ({0})\n {1}++;\n#ifdef X\n else if ({1} * {2}) {0}--;\n#endif",
    "#define {0}(x) x.{1}\n {0}({2});",
    'asm("" : [{0}] "=r"({1}) : "r"({2}));',
    'printf("%" {0} "d", {1});',
    "{0} {1};",
    "{0} * {1};",
    "extern int {0};",
    "{{ int {0} = {1}; {2} = {0}; }}",
    "int {0}(int {1}) {{ return {1}; }}",
    "else {0} = {1};",
    "void *{0} = &&{1};",
    "return offsetof(struct {0}, {1}) + sizeof({2});",
    "switch ({0}) {{ case 1 ... 2: {1}++; }}",
    "}} {0} = {1};",
    "{0} = ({1};",
)
HEADS = (
    "int f(int {0}, char *{1})\n{{\n",
    "int f({0}, {1})\n int {0}; char *{1};\n{{\n",
    "int HELPER(f)(int {0}, char *{1})\n{{\n",
    "DEFINE(f)\n{{\n",
    "static av_cold int f(int {0} MACRO, T {1})\n{{\n",
    "f(int {0}, T *{1})\n{{\n",
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(HEADS), st.lists(st.tuples(st.sampled_from(STATEMENTS), NAMES, NAMES, NAMES), max_size=6))
def test_no_variable_of_the_old_name_is_left(head: str, statements: list[tuple[str, str, str, str]]) -> None:
    body = "\n".join(text.format(*names) for text, *names in statements)
    source = f"{head.format('a', 'b')}{body}\n}}\n"
    tree = parse(source, "c", "raw")
    for identifier in tree.identifiers():
        if identifier.renameable:
            renamed = rename(tree, {identifier.name: "fresh"}).text
            assert c_variables(renamed, {identifier.name}) == [], renamed
            assert renamed.count("fresh") == len(identifier.spans)


def check_with_gcc(source: str) -> None:
    """Rename all, and let gcc compare: what it misses, or meets twice, must be the same."""
    tree = parse(source, "c", "raw")
    names = [identifier.name for identifier in tree.identifiers() if identifier.renameable]
    renamed = rename(tree, {name: f"fresh{number}_" for number, name in enumerate(names)}).text
    after = {re.sub(r"\bfresh(\d+)_", lambda match: names[int(match[1])], line) for line in c_diagnostics(renamed)}
    assert after == c_diagnostics(source), renamed


@pytest.mark.parametrize("title", [title for title in corpus("c") if "of another compiler" not in title])
def test_gcc_sees_the_same_fragment(title: str) -> None:
    check_with_gcc(re.sub("[«»]", "", corpus("c")[title]))


@pytest.mark.mirror
def test_gcc_sees_the_same_function() -> None:
    for source in devign(step=10):
        check_with_gcc(source)


@pytest.mark.mirror
def test_no_variable_of_an_old_name_is_left_in_devign() -> None:
    functions = names = 0
    for source in devign(step=1):
        tree = parse(source, "c", "raw")
        renameable = {identifier.name for identifier in tree.identifiers() if identifier.renameable}
        assert not renameable & KEYWORDS["c"]
        renamed = rename(tree, {name: f"fresh_{name}" for name in renameable}).text
        assert c_variables(renamed, renameable) == [], source
        function = tree.function_name()
        functions += function is not None and function.renameable
        names += bool(renameable - {function.name if function is not None else ""})
    assert functions > 2570  # of 2732; 63 more are named by macros, 99 do not parse
    assert names > 2600
