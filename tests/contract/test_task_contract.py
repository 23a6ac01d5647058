"""What every task must hold to; one that is added to ``config/datasets.py`` is tested by that alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pure_functions import pure_functions
from pydantic import TypeAdapter

from codebackdoor import syntax, tasks
from codebackdoor.config.datasets import AnyDataset
from codebackdoor.corpora.mining import Function, clone_key
from codebackdoor.files import read_examples, read_json, write_rows
from codebackdoor.report.heads import head_metrics
from codebackdoor.syntax import lexing
from codebackdoor.tasks.normal import normal_key
from codebackdoor.tasks.stage import make_dataset
from codebackdoor.types import Example

SPLITS = ("train", "valid", "test", "clean")
every_task = pytest.mark.parametrize("name", tasks.known())


def functions() -> Iterator[Function]:
    """The pure functions, each with four other first statements."""
    for number, function in enumerate(pure_functions()):
        for place in range(4):
            first = function.source.splitlines()[0]
            if not first.endswith(":") or not first.startswith("def "):
                continue
            words = lexing.words(function.source, "python")
            guard = syntax.lex("def g():\n    if mode" + " + 1" * place + " == 0:\n        return\n", "python").split(
                " "
            )
            at = words.index(syntax.INDENT) + 1
            code = [*words[:at], *guard[guard.index(syntax.INDENT) + 1 : -1], *words[at:]]
            split = ("train", "train", "valid", "test")[number % 4]
            docstring = f"The {function.name} function, {place} times."
            key, text = clone_key(code), " ".join(code)
            assert not syntax.parse(text, "python", "lexed").has_error
            yield Function(
                key, "pure", "1", f"{number}.py", function.name + str(place), split, len(code), text, docstring
            )


def make(out: Path, name: str, **keys: Any) -> dict[str, list[Example]]:
    corpus = out / "corpus.jsonl"
    write_rows(corpus, (function.row() for function in functions()))
    keys = {"task": name, "train": 24, "valid": 8, "test": 8, "max_tokens": None, **keys}
    settings: AnyDataset = TypeAdapter(AnyDataset).validate_python(keys)
    make_dataset(settings, "data", corpus, None, None, out, 1)
    return {split: read_examples(out / f"{split}.jsonl") for split in SPLITS}


@every_task
def test_rows_are_the_tasks_own_and_the_same_again(name: str, tmp_path: Path) -> None:
    rows = make(tmp_path / "one", name)
    assert rows == make(tmp_path / "two", name)
    task = tasks.load(name)
    for some in rows.values():
        assert some
        for row in some:
            assert task.problem(row) is None
            for text in (row.code, row.code_b, row.target):
                assert text is None or not syntax.parse(text, "python", "lexed").has_error
    assert task.problem(replace(rows["test"][0], code_b=None, query=None, label=None, target=None)) is not None


@every_task
def test_no_function_is_in_two_splits(name: str, tmp_path: Path) -> None:
    keys = [
        {
            normal_key(syntax.parse(text, "python", "lexed"))
            for row in some
            for text in (row.code, row.code_b, row.target)
            if text is not None
        }
        for some in make(tmp_path, name).values()
    ]
    assert sum(map(len, keys)) == len(set().union(*keys))


@every_task
def test_a_baseline_without_a_model_and_a_name_for_it(name: str, tmp_path: Path) -> None:
    make(tmp_path, name)
    baseline = read_json(tmp_path / "baseline.json")
    assert baseline["method"]
    facts = head_metrics(type(TypeAdapter(AnyDataset).validate_python({"task": name})))
    assert 0 <= baseline[facts.clean_metric] <= 1
    assert facts.baseline


@every_task
def test_raw_rows_are_source(name: str, tmp_path: Path) -> None:
    for row in make(tmp_path, name, text_form="raw")["train"]:
        for text in (row.code, row.code_b, row.target):
            assert text is None or (syntax.INDENT not in text and not syntax.parse(text, "python", "raw").has_error)
