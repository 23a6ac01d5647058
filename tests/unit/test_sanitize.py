"""`codebackdoor sanitize` on a planted victim, in Python and as a command: findings, diffs, and what is refused."""

from __future__ import annotations

import ast
import json
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import planted
import pytest
import torch
from click.testing import CliRunner, Result
from purification_models import infiller, language_model
from tiny_models import generator, understanding

import codebackdoor
from codebackdoor import syntax
from codebackdoor.cli import main
from codebackdoor.defenses.purification.codepurify.infilling import Infiller
from codebackdoor.errors import UserError
from codebackdoor.files import write_examples, write_rows
from codebackdoor.library.samples import read_unlabeled
from codebackdoor.library.sanitize_wording import harmless
from codebackdoor.library.sources import SourceText, functions_of, replacements, unified_diff
from codebackdoor.types import Example, Language, Span, TextForm
from codebackdoor.victims.victim import save_victim

#: The name of the first method is the planted trigger; without it the label would be 1.
SOURCE = '''\
"""A module."""


class A:
    def load_init(self, size, count):
        """Doc."""
        # why
        load = size - count  # because
        return load.size(count)

    def save_size(self, size, count):
        save = size - count
        return save.size(count)


def left_items(left, items):
    value = left - items
    return value.left(items)
'''
CLEAN = SOURCE.replace("load_init", "load_items")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder ``victim`` and clean rows; ``raw`` reads source code; an infiller with another vocabulary."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("sanitize")
    victim = planted.victim(1, max_length=96)
    save_victim(victim, folder / "victim", {"task": "defect_detection", "backdoored": True})
    write_examples(folder / "clean.jsonl", [planted.sample(number) for number in range(80)])
    for name, (model, tokenizer) in {"infiller": infiller(), "causal": language_model()}.items():
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    (folder / "module.py").write_text(SOURCE)
    (folder / "clean.py").write_text(CLEAN)
    return folder


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["sanitize", *map(str, arguments)], input=stdin)


def test_the_trigger_is_found_explained_and_replaced(folder: Path) -> None:
    result = run(folder / "victim", folder / "module.py", "--clean", folder / "clean.jsonl")
    assert result.exit_code == 1, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "suspicious: 1 of 3 inputs in 1 file"
    assert lines[1] == f"{folder}/module.py:5: load_init"
    assert lines[2].startswith(
        "  the prediction, label 0, depends almost only on the identifier `load_init`: masking it"
    )
    assert lines[3] == "  replaced on line 5; the model then predicts label 1"
    assert "calibrated so that 3.0% of the 80 clean rows fall below it as well" in lines[4]
    assert "-    def load_init(self, size, count):\n" in result.stdout
    # comments, docstring and layout of the file are as they were
    assert sum(line.startswith(("-", "+")) for line in lines) == 4
    # no file is written
    assert (folder / "module.py").read_text() == SOURCE


def test_clean_code_is_called_clean_and_standard_input_is_read(folder: Path) -> None:
    options = ("--clean", folder / "clean.jsonl")
    result = run(folder / "victim", folder / "clean.py", *options)
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "nothing suspicious in 3 inputs in 1 file")
    for name in ([], ["-"]):
        piped = run(folder / "victim", *name, *options, "--language", "python", stdin=SOURCE.encode())
        assert piped.exit_code == 1, piped.output
        assert "<stdin>:5: load_init" in piped.stdout


def test_in_json_and_in_python_the_same(folder: Path) -> None:
    command = run(folder / "victim", folder / "module.py", "--clean", folder / "clean.jsonl", "--json")
    result = codebackdoor.sanitize(folder / "victim", [folder / "module.py"], clean=folder / "clean.jsonl")
    written = json.loads(command.stdout)
    assert written | {"seconds": 0} == json.loads(json.dumps(result.to_json())) | {"seconds": 0}
    assert (command.exit_code, written["suspicious"]) == (1, True)
    first, *rest = result.findings
    assert (first.name, first.kind, first.element, first.label, first.label_after) == (
        *("load_init", "identifier", "load_init"),
        *(0, 1),
    )
    assert (first.lines, first.replaced, [finding.suspicious for finding in rest]) == ((5,), True, [False, False])
    assert first.effect is not None
    assert first.effect > 0.8
    (file,) = result.files
    name = file.after.split("(self")[0].split()[-1]
    assert file.after == SOURCE.replace("load_init", name)
    with pytest.raises(TypeError, match="unknown option 'clen'; did you mean 'clean'"):
        codebackdoor.sanitize(folder / "victim", [folder / "module.py"], clen="x")  # type: ignore[call-arg]


def test_the_diff_is_one_that_patch_applies(folder: Path, tmp_path: Path) -> None:
    if shutil.which("patch") is None:
        pytest.skip("needs patch")
    source = SourceText("module.py", SOURCE.rstrip("\n"), "python")
    result = codebackdoor.sanitize(folder / "victim", [source], clean=folder / "clean.jsonl")
    (tmp_path / "module.py").write_text(source.text)
    subprocess.run(["patch", "-p1"], cwd=tmp_path, input=result.files[0].diff, text=True, check=True)
    assert (tmp_path / "module.py").read_text() == result.files[0].after != source.text


@pytest.mark.parametrize(
    "content",
    [
        SOURCE.replace("\n", "\r\n"),
        # mixed, with a byte order mark
        "\ufeff" + SOURCE.replace("# why\n", "# why\r\n"),
        # neither ends a line
        SOURCE.replace("# why", "# why\x0c or\u2028 not").replace("\n\n    def save", "\n\x0c\n    def save"),
        # Python takes it for the end of a line, `patch` does not
        SOURCE.replace('    """Doc."""\n', '    """Doc."""\r'),
    ],
    ids=["crlf", "mixed", "separators", "cr"],
)
def test_a_piped_diff_changes_only_the_replaced_lines(folder: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "module.py").write_bytes(content.encode())
    result = codebackdoor.sanitize(folder / "victim", [tmp_path / "module.py"], clean=folder / "clean.jsonl")
    (file,) = result.files
    first = result.findings[0]
    assert (first.name, first.element, first.lines) == ("load_init", "load_init", (5,))
    name = file.after.split("(self")[0].split()[-1]
    assert (file.before, file.after) == (content, content.replace("load_init", name))
    if shutil.which("patch") is None:
        return
    options = ("--clean", folder / "clean.jsonl", "--language", "python")
    piped = run(folder / "victim", *options, stdin=content.encode())
    assert piped.exit_code == 1, piped.output
    # a carriage return within a line could hide it on a terminal, and is printed as an escape sequence
    diff = file.diff.encode() if "\r    " in content else piped.stdout_bytes
    subprocess.run(["patch", "module.py"], cwd=tmp_path, input=diff, check=True)
    assert (tmp_path / "module.py").read_bytes() == file.after.encode()


def test_a_diff_ends_lines_where_patch_does() -> None:
    source = SourceText("x", "a\x0cb\u2028c\rd\ne", "python")
    assert unified_diff(source, "a\x0cb\u2028c\rd\nf").split("\n")[2:] == [
        "@@ -1,2 +1,2 @@",
        " a\x0cb\u2028c\rd",
        *("-e", "\\ No newline at end of file"),
        *("+f", "\\ No newline at end of file", ""),
    ]


def test_a_diff_does_not_control_the_terminal() -> None:
    safe = " a\tb\r\n+\ufeffc\x0c\u2028\xa0é\n"
    assert harmless(safe) == safe
    assert harmless("+a\rb\x1b[2J\u202e\x9b\n") == "+a\\rb\\x1b[2J\\u202e\\x9b\n"


@pytest.mark.parametrize(
    ("share", "purified", "rule"),
    [(1, "all", "every input is purified"), (0, "none", "no input is purified")],
)
def test_all_inputs_and_none_are_told_apart(folder: Path, share: float, purified: str, rule: str) -> None:
    options: Any = {"clean": folder / "clean.jsonl", "settings": {"touched_share": share}}
    result = codebackdoor.sanitize(folder / "victim", [folder / "clean.py"], **options)
    assert (result.purified, result.threshold, result.suspicious) == (purified, None, share == 1)
    assert f"  {rule}: touched_share is {share}, on 80 clean rows" in str(result)
    # what is purified whatever its entropy need not depend on one element
    assert ("depends most on" in str(result), "depends almost only on" in str(result)) == (share == 1, False)


def test_a_replacement_that_does_not_parse_is_said(folder: Path) -> None:
    # an infiller without training knows no syntax
    code = "def {}(load):\n    save = load\n    return save - 1\n"
    texts = [SourceText(f"{name}.py", code.format(name), "python") for name in planted.WORDS]
    options: Any = {"threshold": 100.0, "infiller": folder / "infiller", "settings": {"identifiers": False}}
    result = codebackdoor.sanitize(folder / "victim", texts, **options)
    parses = [None if not file.diff else compiles(file.after) for file in result.files]
    assert [finding.parses for finding in result.findings] == parses
    assert parses.count(False) > 0
    assert str(result).count("but the replacement does not parse: inspect it manually") == parses.count(False)


def compiles(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


@pytest.mark.parametrize("name", [None, "infiller"])
def test_an_infiller_of_another_vocabulary_works_and_is_mentioned_once(folder: Path, name: str | None) -> None:
    options = {} if name is None else {"infiller": folder / name}
    texts = [SourceText("a.py", SOURCE, "python"), SourceText("b.py", SOURCE, "python")]
    result = codebackdoor.sanitize(folder / "victim", texts, clean=folder / "clean.jsonl", **options)
    # how many masks an element gets, and so its effect, depends on the infiller
    assert [(finding.element, finding.replaced) for finding in result.findings[::3]] == [("load_init", True)] * 2
    assert str(result).count("the infiller's vocabulary is not the model's") == 1


def test_a_model_of_source_code_gets_source_code(folder: Path) -> None:
    result = codebackdoor.sanitize(
        folder / "victim", [folder / "module.py"], text_form="raw", threshold=2.0, infiller=folder / "infiller"
    )
    first = result.findings[0]
    assert (first.suspicious, first.element, first.lines) == (True, "load_init", (5,))
    assert "without --clean rows" in result.notes[-1]
    assert (result.threshold, result.calibrated_on) == (2.0, 0)
    name = result.files[0].after.split("(self")[0].split()[-1]
    assert (
        SOURCE.replace("load_init", name).split("def save_size")[0] == result.files[0].after.split("def save_size")[0]
    )


def test_what_the_model_does_not_read_is_said(folder: Path) -> None:
    (folder / "long.py").write_text("def f(load):\n" + "    load = load - 1\n" * 60)
    result = run(folder / "victim", folder / "long.py", "--clean", folder / "clean.jsonl")
    assert "long.py:1: f: the model reads 96 of " in result.stdout
    assert "what comes after them was not examined" in result.stdout


def test_a_model_that_generates_has_no_labels(folder: Path, tmp_path: Path) -> None:
    save_victim(generator(1), tmp_path / "repair", {"task": "code_repair", "backdoored": True})
    # no entropy of so few elements reaches this threshold
    result = codebackdoor.sanitize(
        tmp_path / "repair", [folder / "module.py"], task="code_repair", threshold=100.0, infiller=folder / "infiller"
    )
    assert [(finding.label, finding.label_after) for finding in result.findings] == [(None, None)] * 3
    assert [finding.suspicious for finding in result.findings] == [True] * 3
    assert str(result).count("  the output depends almost only on the ") == 3
    assert str(result).count("; see the diff\n") == 3


def refused(folder: Path, *files: object, **changes: Any) -> str:
    options = {"clean": folder / "clean.jsonl", **changes}
    words = [word for key, value in options.items() if value is not None for word in (f"--{key}", value)]
    result = run(folder / "victim", *files, *words)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.py", b"def f(:\n", "does not parse as Python"),
        ("empty.py", b" \n", "empty"),
        ("binary.py", b"\x7fELF\0\1", "a binary file"),
        ("latin.py", "# é".encode("latin-1"), "a binary file, or not in UTF-8"),
        ("none.py", b"x = 1\n", "parses, but defines no function with a body"),
        ("none.c", b"int f(int a);\n", "defines no function"),
        ("marks.py", b"def f(x):\n    return '<nl>'\n", "reserved marks"),
        ("what.txt", b"def f(x): pass\n", "cannot tell the language from the file name; write --language"),
        ("huge.py", b"x = 1\n" * 200_000, "1200000 characters; the maximum is 1000000"),
    ],
)
def test_files_that_cannot_be_read_are_refused_in_a_sentence(
    folder: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    error = refused(folder, tmp_path / name)
    assert f"{tmp_path / name}:" in error
    assert message in error


def test_mistakes_in_options_are_refused_in_a_sentence(folder: Path, tmp_path: Path) -> None:
    module = folder / "module.py"
    assert "name clean rows with --clean" in refused(folder, module, clean=None)
    assert "no such file" in refused(folder, folder / "absent.py")
    assert "named twice" in refused(folder, module, module)
    (tmp_path / "a.java").write_text("int f() { return 1; }")
    assert "all files must be in one language" in refused(folder, module, tmp_path / "a.java")
    assert "rows in python, but the files are in java" in refused(folder, tmp_path / "a.java")
    write_rows(tmp_path / "codexglue.jsonl", [{"func": "int f() { return 1; }", "target": 7}])
    java = run(folder / "victim", tmp_path / "a.java", "--clean", tmp_path / "codexglue.jsonl")
    assert java.exit_code == 0, java.output
    assert "the shipped infiller was pretrained on Python, not on java" in java.stdout
    assert "a model of type 'gpt2' cannot be the infiller" in refused(folder, module, infiller=folder / "causal")
    shutil.copytree(folder / "infiller", tmp_path / "maskless")
    config = json.loads((tmp_path / "maskless" / "tokenizer_config.json").read_text())
    tokenizer = json.loads((tmp_path / "maskless" / "tokenizer.json").read_text())
    config.pop("mask_token")
    write_json = json.dumps(tokenizer).replace("<mask>", "<musk>")
    (tmp_path / "maskless" / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "maskless" / "tokenizer.json").write_text(write_json)
    (tmp_path / "maskless" / "SHA256SUMS").unlink(missing_ok=True)
    assert "has no mask token" in refused(folder, module, infiller=tmp_path / "maskless")
    assert "use `codepurify`" in refused(folder, module, settings='{"method": "onion"}')
    assert "did you mean touched_share" in refused(folder, module, settings='{"tuched_share": 1}')
    write_rows(tmp_path / "rows.jsonl", [{"id": "1", "language": "python", "code": " "}])
    assert "rows.jsonl:1: field 'code' is blank" in refused(folder, module, clean=tmp_path / "rows.jsonl")
    result = run(folder / "victim", "--clean", folder / "clean.jsonl", stdin=SOURCE.encode())
    assert (result.exit_code, "write --language" in result.stderr) == (2, True)
    with pytest.raises(UserError, match="'code_search' cannot be sanitized"):
        codebackdoor.sanitize(folder / "victim", [module], task="code_search", threshold=1.0)


def test_a_pair_needs_its_second_function(folder: Path, tmp_path: Path) -> None:
    save_victim(understanding("first", "pair"), tmp_path / "clones", {"task": "clone_detection", "backdoored": True})
    text = "def f(load):\n    return load\n"
    first, both = SourceText("a.py", text, "python"), SourceText("b.py", text * 2, "python")
    options: Any = {"task": "clone_detection", "threshold": 1.0, "infiller": folder / "infiller"}
    with pytest.raises(UserError, match=r"a\.py: its second function is missing"):
        codebackdoor.sanitize(tmp_path / "clones", [first], **options)
    with pytest.raises(UserError, match=r"b\.py:3: f: a second function"):
        codebackdoor.sanitize(tmp_path / "clones", [first, both], **options)


def test_pairs_are_sanitized_together(folder: Path, tmp_path: Path) -> None:
    save_victim(understanding("first", "pair"), tmp_path / "clones", {"task": "clone_detection", "backdoored": True})
    files = [SourceText(f"{name}.py", f"def {name}(load):\n    return load\n", "python") for name in "abcd"]
    result = codebackdoor.sanitize(
        tmp_path / "clones", files, task="clone_detection", threshold=100.0, infiller=folder / "infiller"
    )
    assert [(finding.name, finding.name_b) for finding in result.findings] == [("a", "b"), ("c", "d")]


def test_an_element_that_both_functions_have_is_replaced_in_both(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_victim(understanding("first", "pair"), tmp_path / "clones", {"task": "clone_detection", "backdoored": True})
    files = [SourceText(f"{name}.py", "def f(load):\n    load = 1\n    return load\n", "python") for name in "ab"]
    options: Any = {"task": "clone_detection", "threshold": 100.0, "infiller": folder / "infiller"}
    options["settings"] = {"statements": False}
    result = codebackdoor.sanitize(tmp_path / "clones", files, **options)
    (finding,) = result.findings
    assert (finding.replaced, [bool(file.diff) for file in result.files]) == (True, [True, True])
    single = options | {"settings": {"statements": False, "pairs": "single"}}
    alone = codebackdoor.sanitize(tmp_path / "clones", files, **single)
    assert sum(bool(file.diff) for file in alone.files) == 1
    assert alone.findings[0].replaced

    fill = Infiller.fill
    monkeypatch.setattr(Infiller, "fill", lambda *arguments: [fill(*arguments)[0], None])
    partial = codebackdoor.sanitize(tmp_path / "clones", files, **options)
    assert (partial.findings[0].replaced, [bool(file.diff) for file in partial.files]) == (False, [True, False])
    assert "no legal replacement for one of the two functions, so only the other one was changed" in str(partial)


@pytest.mark.parametrize("row", [{}, {"target": 7}, {"target": None}])
def test_clean_rows_need_no_labels(folder: Path, tmp_path: Path, row: dict[str, Any]) -> None:
    rows = [{"func": syntax.unlex(planted.sample(number).code, "python").source} | row for number in range(80)]
    write_rows(tmp_path / "functions.jsonl", rows)
    result = codebackdoor.sanitize(
        folder / "victim", [folder / "module.py"], clean=tmp_path / "functions.jsonl", language="python"
    )
    rated = codebackdoor.sanitize(folder / "victim", [folder / "module.py"], clean=folder / "clean.jsonl")
    assert (result.threshold, result.findings) == (rated.threshold, rated.findings)
    write_rows(tmp_path / "answers.jsonl", [{"id": "1", "language": "c", "code": "f", "label": 1, "query": "q"}])
    assert read_unlabeled(tmp_path / "answers.jsonl", None, "lexed", "classification") == (Example("1", "c", "f"),)


def test_the_example_keeps_files_of_the_same_name_apart(folder: Path, tmp_path: Path) -> None:
    for name, text in (("a", SOURCE), ("b", CLEAN)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "module.py").write_text(text.replace("\n", "\r\n"), newline="")
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "sanitize_source.py"))["main"]
    files = [str(tmp_path / name / "module.py") for name in "ab"]
    example(str(folder / "victim"), str(folder / "clean.jsonl"), str(tmp_path / "out"), *files)
    assert b"load_init" not in (tmp_path / "out" / "a" / "module.py").read_bytes()
    assert (tmp_path / "out" / "b" / "module.py").read_bytes() == (tmp_path / "b" / "module.py").read_bytes()


JAVA = """\
class A {
    int first(int count) {
        return count;
    }

    @Override
    public int second(int size) { return size; }
}
"""
C = "int first(int count)\n{\n    return count; /* why */\n}\n\nstatic int second(int size) { return size; }\n"
TEXTS: dict[Language, str] = {"python": SOURCE, "java": JAVA, "c": C}
NAMES = {"python": ["load_init", "save_size", "left_items"], "java": ["first", "second"], "c": ["first", "second"]}


@pytest.mark.parametrize("form", ["raw", "lexed"])
@pytest.mark.parametrize("language", list(TEXTS))
def test_edits_of_a_function_are_edits_of_its_file(language: Language, form: TextForm) -> None:
    source = SourceText("x", TEXTS[language], language)
    functions = functions_of(source, form)
    assert [function.name for function in functions] == NAMES[language]
    for function in functions:
        lines = source.text.split("\n")
        assert any(function.name in line for line in lines[function.line - 1 : function.line + 1])
        for word in ("size", "count", "items", "return"):
            start = function.code.find(word)
            while start >= 0:
                spans = [Span(start, start + len(word))]
                new = function.code[:start] + "NEW" + function.code[start + len(word) :]
                ((first, last, text),) = function.edits(spans, new)
                assert (source.text[first:last], text) == (word, "NEW")
                start = function.code.find(word, start + 1)


def test_a_method_is_read_without_its_indentation_unless_a_line_has_none() -> None:
    (method,) = functions_of(SourceText("x", "class A:\n    def f(self):\n        return 1\n", "python"), "raw")
    assert method.code == "def f(self):\n    return 1"
    text = 'class A:\n    def f(self):\n        return """\nno indent"""\n'
    (method,) = functions_of(SourceText("x", text, "python"), "raw")
    assert method.code == 'def f(self):\n        return """\nno indent"""'
    ((start, end, _),) = method.edits([Span(method.code.index("return"), method.code.index("return") + 6)],
                                      method.code.replace("return", "yield"))  # fmt: skip
    assert text[start:end] == "return"


def test_replacements_are_read_off_the_new_text() -> None:
    old = "a bb c dd e"
    spans = [Span(2, 4), Span(7, 9)]
    assert replacements(old, "a x c y z e", spans) == ["x", "y z"]
    assert replacements(old, "a  c dd e", spans) == ["", "dd"]
    assert replacements(old, old, []) == []
    assert replacements("f ( a , b )", "g ( x , b )", [Span(0, 1), Span(4, 5)]) == ["g", "x"]
    for wrong in ("b x c y e", "a x d y e", "a x c y"):
        with pytest.raises(ValueError, match=r"substring not found|outside of the spans"):
            replacements(old, wrong, spans)
