"""Rewritten functions do the same as before: every site is rewritten alone, then all at once, and the result is run."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pure_functions import pure_functions

from codebackdoor import syntax
from codebackdoor.syntax import lex, unlex
from codebackdoor.tasks.clone_detection.rewriting import RewriteSite, renameable, rewrite, rewrite_sites

EXTRA = (
    "def f(n):\n    c = 0\n    while n > c:\n        c += 1\n        if not n == 3:\n            c += 2\n"
    "        else:\n            c *= 3\n    return c, n\n",
    "def f(n):\n    t = 'a'\n    t += 'b'\n    if (n or 0) == 0:\n        if n is None:\n            return t\n"
    "        else:\n            t += f'{n}'\n    elif 5 <= n:\n        t += 'c'\n    else:\n        t += 'd'\n"
    "    return t\n",
    "def f(n):\n    s = r = []\n    r += [n]\n    x = 1\n    for x in range(3):\n        x += 1\n"
    "    return s, x, 1 < 2 < 3\n",
    "def f(n):\n    if n not in (1, 2):\n        return 1 if n == 4 else 2\n"
    "    else:\n        return (n if n else 1) == 1\n",
)
RUNNER = """
import importlib.util, inspect, itertools, json, pathlib, sys

def outcome(function, arguments):
    try:
        value = function(*arguments)
        return repr(list(itertools.islice(value, 1000)) if inspect.isgenerator(value) else value)
    except Exception as error:
        return type(error).__name__

results = {}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.py")):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    results[path.stem] = [outcome(module.FUNCTION, arguments) for arguments in module.INPUTS]
print(json.dumps(results))
"""


def turned(text: str, *sites: RewriteSite) -> str:
    return syntax.replace(text, (piece for site in sites for piece in site.pieces)).text


def test_everything_is_turned_as_it_should_be() -> None:
    def all_of(source: str) -> list[tuple[str, str]]:
        text = lex(source, "python")
        return [(site.kind, unlex(turned(text, site), "python").source) for site in rewrite_sites(text)]

    assert all_of("def f(a):\n    return (a + 1) <= 2\n") == [
        ("comparison", "def f ( a ) :\n    return ( 2 ) >= a + 1\n")
    ]
    [(kind, source), *_] = all_of("def f(a):\n    if a in b:\n        x()\n    else:\n        y()\n    return 1\n")
    assert kind == "branches"
    assert source == ("def f ( a ) :\n    if a not in b :\n        y ( )\n    else :\n        x ( )\n    return 1\n")
    assert all_of("def f():\n    n = 0\n    n -= 2\n    return n\n") == [
        ("assignment", "def f ( ) :\n    n = 0\n    n = n - 2\n    return n\n")
    ]


@pytest.mark.parametrize(
    "source",
    [
        "def f(a):\n    return a < b\n",  # either may have a type that defines its own comparison
        "def f(a):\n    return 1 < a < 2\n",
        "def f(a):\n    return (a if a else b) == 1\n",
        "def f(a):\n    if a or b:\n        x()\n    else:\n        y()\n",  # needs parentheses
        "def f(a):\n    if a:\n        x()\n    elif b or c:\n        y()\n    else:\n        z()\n",
        "def f(a):\n    a += 1\n    return a\n",  # may be a list
        "def f(a):\n    n = 0\n    n += a\n    return n\n",
        "def f(a):\n    n = 0\n    for n in a:\n        n += 1\n",
        "def f(a):\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n    return g\n",
        "def f(a):\n    return f'{a == 1}'\n",
    ],
)
def test_what_might_change_something_stays(source: str) -> None:
    assert rewrite_sites(lex(source, "python")) == []


def test_rewritten_functions_do_the_same(tmp_path: Path) -> None:
    cases = [(function.source, function.home, function.name, function.inputs) for function in pure_functions()]
    cases += [(source, None, "f", "[(0,), (1,), (2,), (3,), (4,), (7,), (None,), ('a',)]") for source in EXTRA]
    kinds = set()
    for number, (source, home, name, inputs) in enumerate(cases):
        text = lex(source, "python")
        versions = {"original": text}
        versions |= {f"place{index}": turned(text, site) for index, site in enumerate(rewrite_sites(text))}
        kinds |= {site.kind for site in rewrite_sites(text)}
        for seed in range(4):
            generator = np.random.default_rng(seed)
            names = iter(f"other_{count}" for count in range(1000))
            clone = rewrite(text, lambda _, names=names: next(names), generator)  # type: ignore[misc]
            assert clone is not None
            versions[f"clone{seed}"] = clone.tree.text
            assert {identifier.name for identifier in renameable(clone.tree)}.isdisjoint(
                identifier.name for identifier in renameable(syntax.parse(text, "python", "lexed"))
            )
        for version, changed in versions.items():
            code = unlex(changed, "python").source
            present = ast.parse(code).body[-1]
            assert isinstance(present, ast.FunctionDef)
            prelude = f"import {home}\nglobals().update(vars({home}))\nglobals().pop({name!r}, None)\n" if home else ""
            module = f"{prelude}{code}\nFUNCTION = {present.name}\nINPUTS = {inputs}\n"
            (tmp_path / f"{number}_{version}.py").write_text(module)
    assert kinds == {"comparison", "branches", "assignment"}
    run = subprocess.run(
        [sys.executable, "-I", "-c", RUNNER, tmp_path], capture_output=True, text=True, timeout=100, check=False
    )
    assert run.returncode == 0, run.stderr
    results: dict[str, list[str]] = json.loads(run.stdout)
    for name, outcomes in results.items():
        assert outcomes == results[f"{name.split('_')[0]}_original"], name


def test_a_name_that_is_taken_is_not_given() -> None:
    text = lex("def f(a, self):\n    b = len(a)\n    return f'{b}' + c\n", "python")
    for used_name in ("a", "b", "c", "len", "self"):
        clone = rewrite(text, lambda _, used_name=used_name: used_name, np.random.default_rng(1))  # type: ignore[misc]
        assert clone is not None
        assert clone.tree.text == text
        assert clone.kinds == ()
