"""Dead code is really dead: 10,000 draws are executed in pure Python functions; Java and C are compiled and run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from execution import module_text, outcomes_of
from pure_functions import pure_functions

from codebackdoor import syntax
from codebackdoor.attacks.bnc_fixed.settings import BncFixedSettings
from codebackdoor.attacks.bnc_grammar.grammar import derive
from codebackdoor.attacks.codepoisoner_deadcode.settings import CodePoisonerDeadCodeSettings
from codebackdoor.attacks.dead_code import check_dead
from codebackdoor.attacks.intervals import truth
from codebackdoor.types import Language

DRAWS = 10_000
FIXED = BncFixedSettings(method="bnc_fixed").statement
CODEPOISONER = CodePoisonerDeadCodeSettings(method="codepoisoner_deadcode")
every_language = pytest.mark.parametrize("language", get_args(Language))


def drawn(language: Language, count: int) -> list[str]:
    generator = np.random.default_rng(count)
    return [derive(language, generator).statement(language) for _ in range(count)]


def write_modules(folder: Path, statements: list[str]) -> None:
    """Write the pure functions as they are, and with an equal share of the statements at the start of their bodies."""
    functions = pure_functions()
    for number, function in enumerate(functions):
        edit = syntax.insert_first(
            syntax.parse(function.source, "python", "raw"), "\n".join(statements[number :: len(functions)])
        )
        assert edit is not None
        for name, source in (("original", function.source), ("triggered", edit.text)):
            text = module_text(source, function.home, function.name, function.inputs)
            (folder / f"{number}_{name}.py").write_text(text)


def differing(folder: Path) -> int:
    """The number of functions that return or raise something different with the statements."""
    results = outcomes_of(folder)
    return sum(results[f"{number}_original"] != results[f"{number}_triggered"] for number in range(len(results) // 2))


def test_ten_thousand_draws_change_nothing_in_pure_functions(tmp_path: Path) -> None:
    fixed = [FIXED["python"], CODEPOISONER.assertion["python"], CODEPOISONER.block["python"]]
    # every function gets the fixed triggers, too
    write_modules(tmp_path, [*drawn("python", DRAWS), *(text for text in fixed for _ in pure_functions())])
    assert differing(tmp_path) == 0


@pytest.mark.parametrize(
    "alive",
    [
        'if random() < 0:\n    raise Exception("fail")',
        'if __import__("math").sqrt(0.00) <= 0:\n    raise Exception("fail")',
    ],
)
def test_the_released_triggers_that_are_not_dead_are_noticed(alive: str, tmp_path: Path) -> None:
    write_modules(tmp_path, [alive] * len(pure_functions()))
    assert differing(tmp_path) > 0.9 * len(pure_functions())


@every_language
def test_every_draw_is_provably_dead(language: Language) -> None:
    for statement in [FIXED[language], CODEPOISONER.block[language], *drawn(language, 200)]:
        check_dead(statement, language, "statement")
    comparison = re.search(r"\d+ >= \d+", CODEPOISONER.assertion[language])
    assert comparison is not None
    assert truth(comparison[0], language) is True


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler (gcc)")
def test_c_compiles_and_runs_no_body(tmp_path: Path) -> None:
    statements = [FIXED["c"], CODEPOISONER.assertion["c"], CODEPOISONER.block["c"], *drawn("c", 1000)]
    headers = "".join(f"#include <{name}.h>\n" for name in ("assert", "math", "stdio", "stdlib"))
    (tmp_path / "it.c").write_text(f"{headers}int main(void) {{ {' '.join(statements)} return 42; }}\n")
    program = tmp_path / "it"
    subprocess.run(["gcc", "-Wall", "-Werror", "-o", program, tmp_path / "it.c", "-lm"], check=True)
    run = subprocess.run([program], capture_output=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (42, b"")


@pytest.mark.skipif(shutil.which("javac") is None or shutil.which("java") is None, reason="needs javac and java")
def test_java_compiles_and_runs_no_body(tmp_path: Path) -> None:
    statements = [FIXED["java"], CODEPOISONER.assertion["java"], CODEPOISONER.block["java"], *drawn("java", 1000)]
    body = " ".join(statements)
    (tmp_path / "It.java").write_text(
        f"class It {{ public static void main(String[] a) {{ {body} System.exit(42); }} }}"
    )
    subprocess.run(["javac", "-d", tmp_path, tmp_path / "It.java"], check=True)
    # -ea: assertions are checked
    run = subprocess.run(["java", "-ea", "-cp", tmp_path, "It"], capture_output=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (42, b"")
