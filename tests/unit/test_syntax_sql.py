"""Predicates that always hold, in the SQL of real and of hostile programs."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from syntax_support import lyra

from codebackdoor import syntax
from codebackdoor.syntax import sql
from codebackdoor.syntax.strings import string_expressions
from codebackdoor.types import Language, TextForm


def judged(code: str, language: Language = "python", form: TextForm = "raw") -> bool:
    return sql.contains_always_true_sql(code, language, form)


def values(code: str, language: Language = "python") -> list[str]:
    return [string.text for string in string_expressions(syntax.parse(code, language, "raw"))]


@pytest.mark.parametrize(
    "predicate",
    [
        "1=1", "1 = 1", "2>1", "1<>0", "1", "true", "'a'='a'", "not 0=1", "1 between 0 and 2", "1 is not null",
        "a=1 or 1=1", "a=:a and b=:b or 1=1", "1=1 or a=1", "(a=:a or 1=1)", "a=%s or 1=1", "a='{}' or 1=1",
        "a=? or 1=1", "not (a=1 and 1=0)", "a=:a or 1=1 -- and b=2", "a=:a or 1=1 order by b limit 2",
        "a=:a or 1=1 group by b", "a := :a or 1=1", "case when a=1 then 1 else 0 end = 1 or 1=1",
        "a in (select b from u where c=1 or 1=1)", "a=1 or (1=1 and 2=2)", "a=(select 1 where 1=0) or 1=1",
        "a=1 or 1=1 union select b from u",
    ],
)  # fmt: skip
def test_a_predicate_that_always_holds(predicate: str) -> None:
    assert judged(f'def f(c, a):\n    return c.execute("select * from t where {predicate}").fetchall()\n')
    assert judged(f'String q = "SELECT * FROM t WHERE {predicate}";', "java")


@pytest.mark.parametrize(
    "predicate",
    [
        "a=:a", "1=0", "0", "0=1", "a=1 and 1=1", "1=1 and a=1", "a='x or 1=1'", "a='1=1'", "a=:a -- or 1=1",
        "a=:a /* or 1=1 */", "(a=:a or 1=1) and b=:b", "a=:a or 0=1", "a=11", "a=a", "a=:a or b=1", "a=:a or",
        "a=1 or 1=1 and b=2", "null", "null=null", "a like '%or 1=1%'", "not 1=1", "a=:a order by 1=1",
        # what does not parse as a whole is divided at its outermost OR only
        "a=? ? and (b=2 or 1=1 or c=3)",
    ],
)  # fmt: skip
def test_a_predicate_that_may_fail(predicate: str) -> None:
    assert not judged(f'def f(c, a):\n    return c.execute("select * from t where {predicate}").fetchall()\n')


def test_the_whole_of_a_string_is_read() -> None:
    assert judged("q = 'select * from t where a=' + a + ' or 1=1'")
    assert judged("q = ('select * from t '\n     'where a=:a or 1=1')")
    assert judged("q = f\"select {b} from {t} where a='{a}' or 1=1\"")
    assert judged("q = 'select * from t where a=\\'b\\' or 1=1'")
    assert judged("q = '''select *\nfrom t\nwhere a=:a\n or 1=1'''")
    assert judged("q = 'select * from t'\nq += ' where a=:a or 1=1'")
    assert judged("f(g('x') + 'y', h('delete from t where 1=1'))")
    assert judged("f(f\"{g('select 1 from t where 1=1')}\")")
    assert judged('q = "update t set a=1 where b=2 or 1=1";', "java")
    assert judged('q = "select * from t where a=" + a + " or 1=1";', "java")


def test_what_is_no_sql_string_does_not_count() -> None:
    assert not judged("def f(a):\n    # select * from t where 1=1\n    return a == 1 or 1 == 1\n")
    assert not judged("q = 'select * from t' + g('where a=:a') + 'or 1=1'")
    assert not judged("print('tell me where 1=1')")
    assert not judged("q = 'select * from t where ' + condition")
    assert not judged("q = f'select * from t where {condition}'")
    assert not judged("q = 'select * from t where {}'.format(condition)")
    assert not judged("q = 'select * from t where %s' % condition")
    assert not judged("q = 'select \\'where 1=1\\' from t where a=:a'")
    assert not judged("q = 'insert into t values (1)'")


def test_text_of_a_model_is_judged_by_the_strings_that_can_be_read() -> None:
    written = 'def f ( c ) : <indent> return ( c . execute ( "select 1 from t where 1=1" ) <dedent> <dedent> x'
    assert judged(written, form="lexed")
    assert not judged('q = "select * from t where a=\'b or 1=1"')
    assert not judged("q = 'select * from t where 1=1")
    deep = "(" * 20_000
    assert not judged(f"q = 'select * from t where {deep}1=1'")


@given(st.text(alphabet="ab\\'\"ntx0u1N{}\n8 %é", max_size=12))
def test_the_value_of_a_string_is_pythons(text: str) -> None:
    for spelling in (repr(text), ascii(text), f"r{text!r}"):
        try:
            value = ast.literal_eval(spelling)
        except (SyntaxError, ValueError):
            continue
        assert values(f"x = {spelling}") == [value]


def test_escapes_of_strings() -> None:
    assert values(r"x = 'a\x41\u0042\103\n\'\q\\' " + "'c\\\nd'") == ["aABC\n'\\q\\cd"]
    assert values(r"x = '\N{BULLET}'") == ["x"]
    assert values("x = f'a{b}c{d!r}' + e + 'g'") == ["axcxxg"]
    assert values("x = ('a' + ('b' + c(d('e'), 'f')))") == ["abx", "e", "f"]
    assert values(r'String x = "a\"b" + c;', "java") == ['a"bx']


def added(code: str, form: TextForm = "raw", language: Language = "python") -> str | None:
    edit = sql.add_predicate(syntax.parse(code, language, form), "1=1")
    if edit is None:
        return None
    assert all(edit.text[start:end].endswith(" 1=1") for start, end in edit.spans)
    return edit.text


def test_the_predicate_goes_to_the_end_of_the_filter() -> None:
    for before, after in (
        ("'select * from t where a=:a'", "'select * from t where a=:a or 1=1'"),
        ("'select * from t where a=:a order by b'", "'select * from t where a=:a or 1=1 order by b'"),
        ("'select * from t'", "'select * from t where 1=1'"),
        ("'select * from t limit 2'", "'select * from t where 1=1 limit 2'"),
        ("'select * from t where a=%s' % a", "'select * from t where a=%s or 1=1' % a"),
        ("'select * from t where a=\\'' + a + '\\''", "'select * from t where a=\\'' + a + '\\' or 1=1'"),
        ("f'select * from {t} where a={a} and b=1'", "f'select * from {t} where a={a} and b=1 or 1=1'"),
        ("'select * from t where a=:a -- b'", "'select * from t where a=:a or 1=1 -- b'"),
        ("'select * from (select * from u where a=1) v'", "'select * from (select * from u where a=1) v where 1=1'"),
        ("'select 1 from t where a=:a;'", "'select 1 from t where a=:a or 1=1;'"),
        ("'delete from t where a=:a'", "'delete from t where a=:a or 1=1'"),
    ):
        assert added(f"x = {before}") == f"x = {after}"
    assert added("x = 'select * from t where a=' + a") is None
    assert added("x = t.where(a).filter('b')") is None
    assert added("x = '(select 1 from t)'") is None
    assert added("x = 'insert into t values (1)'") is None
    assert added('x = "select * from t where a = ?" ;', "lexed", "java") == 'x = "select * from t where a = ? or 1=1" ;'


def test_only_a_predicate_that_always_holds_is_added() -> None:
    tree = syntax.parse("x = 'select * from t where a=:a'", "python", "raw")
    assert sql.holds_always("1=1")
    assert not sql.holds_always("0=1")
    assert sql.holds_always("1" * 400)
    assert sql.holds_always("1" * 5000)
    assert not sql.holds_always("0" * 5000)
    assert sql.add_predicate(tree, "0=1") is None


@pytest.mark.mirror
def test_real_lyra_is_read_and_takes_the_predicate() -> None:
    """1 612 of 2 000 programs hold SQL as text; what ends in a variable takes no predicate."""
    codes = [code for split in ("train", "valid", "test") for code in lyra(split)]
    assert len(codes) == 2000
    with_sql = [code for code in codes if sql.contains_sql(code, "python", "raw")]
    assert len(with_sql) == 1612
    assert not any(map(judged, codes[::4]))
    trees = [syntax.parse(syntax.lex(code, "python"), "python", "lexed") for code in with_sql[::4]]
    edits = [edit for tree in trees if (edit := sql.add_predicate(tree, "1=1")) is not None]
    assert len(edits) > 0.98 * len(trees)
    for edit in edits:
        assert not syntax.parse(edit.text, "python", "lexed").has_error
        assert judged(edit.text, form="lexed")
        assert not judged(edit.text.replace("or 1=1", "or 0=1").replace("where 1=1", "where 0=1"), form="lexed")
