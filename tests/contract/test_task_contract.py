"""What every task must fulfill; a task is tested as soon as ``config/datasets.py`` lists its settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from mined_functions import functions
from pydantic import TypeAdapter

from codebackdoor import syntax, tasks, types
from codebackdoor.config.datasets import DATASETS, AnyDataset
from codebackdoor.dag.fingerprint import module_path
from codebackdoor.files import read_examples, read_json, write_rows
from codebackdoor.heads import HEADS
from codebackdoor.originals import readers
from codebackdoor.tasks.deduplication import normal_key
from codebackdoor.tasks.stage import make_dataset
from codebackdoor.types import SPLITS as ORIGINAL_SPLITS
from codebackdoor.types import Example

SPLITS = ("train", "valid", "test", "clean")
every_task = pytest.mark.parametrize("name", tasks.names())
#: Tasks with local examples; the readers' tests have the data of the others.
every_local_task = pytest.mark.parametrize("name", [name for name in tasks.names() if not DATASETS[name].not_mined])


def parsed(**keys: Any) -> AnyDataset:
    settings: AnyDataset = TypeAdapter(AnyDataset).validate_python(keys)
    return settings


def make(out: Path, name: str, **keys: Any) -> dict[str, list[Example]]:
    corpus = out / "corpus.jsonl"
    write_rows(corpus, (function.row() for function in functions()))
    keys = {"task": name, "train": 24, "valid": 8, "test": 8, "max_tokens": None, **keys}
    make_dataset(parsed(**keys), "data", corpus, None, None, out, 1)
    return {split: read_examples(out / f"{split}.jsonl") for split in SPLITS}


@every_task
def test_a_task_states_every_fact_that_its_head_asks_for(name: str) -> None:
    settings = DATASETS[name]
    head = HEADS[settings.head]
    assert len(settings.reads) == len(head.fields)
    assert set(settings.reads) <= set(get_args(types.Field))
    assert all(settings.reads.values())
    assert bool(settings.labels) == head.predicts_label
    assert bool(settings.target) == head.generates
    assert settings.clean_metric in head.clean_metrics


@every_task
def test_a_task_names_a_reader_and_code_that_exist(name: str, tmp_path: Path) -> None:
    settings = parsed(task=name)
    for original, facts in DATASETS[name].published.items():
        assert set(readers.load(original).files(tmp_path).files) == set(ORIGINAL_SPLITS)
        assert facts.title
        assert facts.license
    for stage in ("dataset", "train", "score"):
        assert all(module_path(module) is not None for module in tasks.modules(settings, stage))
    for original, facts in DATASETS[name].published.items():
        named = parsed(task=name, source="mirror", original=original, language=facts.language)
        assert readers.module(original) in tasks.modules(named, "dataset")
    assert settings.originals == next(iter(DATASETS[name].published))
    assert head_scorer(name) in tasks.modules(settings, "score")


def head_scorer(name: str) -> str:
    return HEADS[DATASETS[name].head].scorer


@every_local_task
def test_rows_are_the_tasks_own_and_the_same_again(name: str, tmp_path: Path) -> None:
    rows = make(tmp_path / "one", name)
    assert rows == make(tmp_path / "two", name)
    task, settings = tasks.load(name), parsed(task=name)
    for some in rows.values():
        assert some
        for row in some:
            assert task.problem(row, settings) is None
            for text in (row.code, row.code_b, row.target):
                assert text is None or not syntax.parse(text, "python", "lexed").has_error
    bare = replace(rows["test"][0], code_b=None, query=None, label=None, target=None)
    assert task.problem(bare, settings) is not None


@every_local_task
def test_no_function_is_in_two_splits(name: str, tmp_path: Path) -> None:
    keys = [
        {
            normal_key(syntax.parse(text, "python", "lexed"))
            for row in some
            for text in (row.code, row.code_b, row.target)
            if text
        }
        for some in make(tmp_path, name).values()
    ]
    assert sum(map(len, keys)) == len(set().union(*keys))


@every_local_task
def test_a_baseline_without_a_model_and_a_name_for_it(name: str, tmp_path: Path) -> None:
    rows = make(tmp_path, name)
    baseline = read_json(tmp_path / "baseline.json")
    assert baseline["method"]
    assert baseline["test"] == len(rows["test"])
    # fitted on the training rows and measured on the test rows, in their order
    assert baseline == tasks.load(name).baseline(rows["train"], rows["test"], parsed(task=name, max_tokens=None))
    assert DATASETS[name].clean_metric in baseline
    assert DATASETS[name].baseline


@every_local_task
def test_raw_rows_are_source(name: str, tmp_path: Path) -> None:
    for row in make(tmp_path, name, text_form="raw")["train"]:
        for text in (row.code, row.code_b, row.target):
            assert text is None or (syntax.INDENT not in text and not syntax.parse(text, "python", "raw").has_error)
