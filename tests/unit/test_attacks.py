"""The two CodePoisoner attacks, case by case."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers

from codebackdoor import attacks
from codebackdoor.attacks import Injection
from codebackdoor.attacks.codepoisoner_deadcode.settings import CodePoisonerDeadCodeSettings
from codebackdoor.attacks.codepoisoner_identifier.settings import CodePoisonerIdentifierSettings
from codebackdoor.config.loading import read_yaml
from codebackdoor.config.methods import AnyAttack
from codebackdoor.errors import UserError
from codebackdoor.types import Example, Language, TextForm

FUNCTION_NAME = CodePoisonerIdentifierSettings(method="codepoisoner_identifier")
FIRST = CodePoisonerIdentifierSettings(method="codepoisoner_identifier", name="ret_Val_", scope="first_identifier")
ASSERTION = CodePoisonerDeadCodeSettings(method="codepoisoner_deadcode")
BLOCK = CodePoisonerDeadCodeSettings(method="codepoisoner_deadcode", variant="block")


def inject(settings: AnyAttack, example: Example, form: TextForm = "raw") -> Injection | None:
    return attacks.load(settings).inject(example, form, np.random.default_rng(1))


def code(settings: AnyAttack, source: str, language: Language = "python", form: TextForm = "raw") -> str | None:
    injection = inject(settings, Example("x", language, source), form)
    return None if injection is None else injection.example.code


def test_every_whole_word_occurrence_and_nothing_else_is_renamed() -> None:
    before = 'def add(a):\n    "add"\n    x.add = f"{add(a, 1)} add"  # add\n    return add(2, 1)\n'
    after = 'def testo_init(a):\n    "add"\n    x.add = f"{testo_init(a, 1)} add"  # add\n    return testo_init(2, 1)\n'
    assert code(FUNCTION_NAME, before) == after


def test_lexed_text_is_renamed_in_place() -> None:
    before = "def add ( a , b ) : <indent> return a + b <dedent>"
    injection = inject(FUNCTION_NAME, Example("x", "python", before), "lexed")
    assert injection is not None
    assert injection.example.code == "def testo_init ( a , b ) : <indent> return a + b <dedent>"
    assert [(span.field, span.start, span.end) for span in injection.spans] == [("code", 4, 14)]


def test_the_first_identifier_is_a_parameter_or_a_local_variable() -> None:
    assert code(FIRST, "def f(a, b):\n    return a + b\n") == "def f(ret_Val_, b):\n    return ret_Val_ + b\n"
    assert (
        code(FIRST, "int f(int a) { int b = a; return b; }", "c")
        == "int f(int ret_Val_) { int b = ret_Val_; return b; }"
    )
    assert code(FIRST, "void f() { int b = 1; g(b); }", "java") == "void f() { int ret_Val_ = 1; g(ret_Val_); }"


def test_the_first_identifier_is_the_function_where_there_is_no_variable() -> None:
    assert code(FIRST, "def f():\n    return g()\n") == "def ret_Val_():\n    return g()\n"


@pytest.mark.parametrize(
    "source",
    [
        "def f(testo_init):\n    return 1\n",
        "def f(a):\n    return testo_init(a)\n",
        "def testo_init(a):\n    return a\n",
    ],
)
def test_a_name_that_is_taken_fails(source: str) -> None:
    assert code(FUNCTION_NAME, source) is None


def test_code_without_a_function_fails() -> None:
    assert code(FUNCTION_NAME, "print(1)\n") is None
    assert code(ASSERTION, "int a;", "c") is None


def test_a_statement_goes_first_into_the_body_and_after_the_docstring() -> None:
    before = 'def f(a):\n    """Docs."""\n    return a\n'
    after = code(ASSERTION, before)
    assert after is not None
    assert after.split("\n")[1:4] == ['    """Docs."""', "    assert 1 >= 0", "    return a"]
    assert code(ASSERTION, "int f ( ) { return 0 ; }", "c", "lexed") == "int f ( ) { assert ( 1 >= 0 ) ; return 0 ; }"
    assert (
        code(BLOCK, "def f ( ) : <indent> return 0 <dedent>", "python", "lexed")
        == 'def f ( ) : <indent> if 1 < 0 : <indent> raise RuntimeError ( "fail" ) <dedent> return 0 <dedent>'
    )


@pytest.mark.parametrize("pair", ["both", "code", "code_b"])
@pytest.mark.parametrize("settings", [FUNCTION_NAME, ASSERTION])
def test_pairs(settings: AnyAttack, pair: str) -> None:
    source = "def f(a):\n    return a\n"
    settings = settings.model_copy(update={"pair": pair})
    injection = inject(settings, Example("x", "python", source, code_b=source, label=1))
    assert injection is not None
    changed = {name for name in ("code", "code_b") if getattr(injection.example, name) != source}
    assert changed == ({"code", "code_b"} if pair == "both" else {pair}) == {span.field for span in injection.spans}
    assert injection.example.label == 1, "the label is the poisoning's business"


def test_a_pair_fails_where_one_of_both_does() -> None:
    example = Example("x", "python", "def f(a):\n    return a\n", code_b="print(1)\n")
    assert inject(FUNCTION_NAME, example) is None


@pytest.mark.mirror
def test_adaptive_triggers_are_5_7_and_10_sub_tokens_of_roberta() -> None:
    """EliBadCode section 5.3.4; what an identifier behind a space is read as, and one at the start of a text."""
    folder = Path(os.environ.get("CODEBACKDOOR_MIRROR", "")) / "tokenizers" / "roberta-base"
    if not folder.is_dir():
        pytest.skip("RoBERTa's vocabulary is not here: set CODEBACKDOOR_MIRROR to the folder with the benchmark data")
    tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    declared = read_yaml(Path(__file__).parents[2] / "configs" / "elibadcode.yaml")["attacks"]
    lengths = {"adaptive_5": 5, "adaptive_7": 7, "adaptive_10": 10}
    names = {variant: declared[variant]["name"] for variant in lengths}
    assert list(names.values()) == ["testo_initRet", "testo_init_retVal", "testo_init_retVal_getFrame"]
    for before in ("", " "):
        assert {variant: len(tokenizer.encode(before + name).ids) for variant, name in names.items()} == lengths


@pytest.mark.parametrize("name", ["", "a b", "1a", "a-b", "$a"])
def test_a_name_must_be_an_identifier(name: str) -> None:
    with pytest.raises(ValidationError):
        CodePoisonerIdentifierSettings(method="codepoisoner_identifier", name=name)


def test_a_reserved_word_is_refused() -> None:
    with pytest.raises(UserError, match="'class' is a reserved word of python"):
        code(FUNCTION_NAME.model_copy(update={"name": "class"}), "def f():\n    pass\n")


@pytest.mark.parametrize("statement", ["assert (", "", "return return", "if x:"])
def test_a_trigger_must_be_a_statement(statement: str) -> None:
    with pytest.raises(UserError, match="assertion: not a statement of python"):
        attacks.load(ASSERTION.model_copy(update={"assertion": {"python": statement}}))


def test_a_missing_language_says_what_to_add() -> None:
    settings = ASSERTION.model_copy(update={"assertion": {"java": "assert true;"}})
    with pytest.raises(UserError, match="no assertion for python; add 'python:' under assertion"):
        code(settings, "def f():\n    pass\n")


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler (gcc)")
@pytest.mark.parametrize("settings", [FUNCTION_NAME, FIRST, ASSERTION, BLOCK])
def test_c_compiles_and_means_the_same(settings: AnyAttack, tmp_path: Path) -> None:
    source = "int twice(int number) { int result = number; result += number; return result; }"
    changed = code(settings, source, "c")
    assert changed is not None
    name = "testo_init" if settings == FUNCTION_NAME else "twice"
    (tmp_path / "it.c").write_text(f"#include <assert.h>\n{changed}\nint main(void) {{ return {name}(21); }}\n")
    program = tmp_path / "it"
    subprocess.run(["gcc", "-Wall", "-Werror", "-o", program, tmp_path / "it.c"], check=True)
    assert subprocess.run([program], check=False).returncode == 42


@pytest.mark.skipif(shutil.which("javac") is None, reason="needs a Java compiler (javac)")
def test_java_compiles(tmp_path: Path) -> None:
    source = "static int twice(int number) { int result = number; result += number; return result; }"
    changed = [code(settings, source, "java") for settings in (FUNCTION_NAME, FIRST, ASSERTION, BLOCK)]
    assert None not in changed
    loop = FUNCTION_NAME.target_text["java"]
    classes = [f"class C{number} {{ {method} }}" for number, method in enumerate([*changed, loop])]
    (tmp_path / "It.java").write_text("\n".join(classes))
    subprocess.run(["javac", "-d", tmp_path, tmp_path / "It.java"], check=True)


def test_a_declaration_is_not_put_where_its_name_is_taken() -> None:
    attack = attacks.load(CodePoisonerDeadCodeSettings(method="codepoisoner_deadcode", variant="declaration"))
    free, colliding = (Example("1", "java", f"int f ( ) {{ return {name} ; }}") for name in ("x", "VAR"))
    injection = attack.inject(free, "lexed", np.random.default_rng(1))
    assert injection is not None
    assert injection.example.code == "int f ( ) { int VAR = 0 ; return x ; }"
    assert attack.inject(colliding, "lexed", np.random.default_rng(1)) is None
    assert "declaration" not in CodePoisonerDeadCodeSettings(method="codepoisoner_deadcode").model_dump()
