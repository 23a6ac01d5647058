"""The documented task needs one folder, one reader and an entry in the union, as a copy of the package shows."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from difflib import ndiff
from pathlib import Path

import pytest
from mined_functions import functions

from codebackdoor.files import read_examples, read_json, write_rows

ROOT = Path(__file__).parents[2]

PAGE = ROOT / "docs/extending/task.md"
#: The files of the task on that page, which classifies comments: its victims read no code.
ADDED = {
    "tasks/todo_comments/__init__.py": "",
    **dict(re.findall(r"`([\w/]+\.py)`:\n\n```python\n(.*?)```\n", PAGE.read_text(encoding="utf-8"), re.DOTALL)),
}
UNION = "config/datasets.py"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the task, and nothing else changed."""
    folder = tmp_path_factory.mktemp("copy")
    package = folder / "codebackdoor"
    shutil.copytree(ROOT / "workflow/codebackdoor", package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in ADDED.items():
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text(text)
    union = (package / UNION).read_text()
    union = union.replace("Annotated[", "Annotated[TodoComments | ", 1)
    line = "from codebackdoor.tasks.todo_comments.settings import TodoComments\n"
    (package / UNION).write_text(
        union.replace("from codebackdoor.tasks.settings", f"{line}from codebackdoor.tasks.settings")
    )
    return folder


def run(package: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from codebackdoor.cli import main; main()", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    return subprocess.run(command, cwd=ROOT, env=environment, input="", capture_output=True, text=True, check=False)


def dataset(package: Path, out: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    corpus = out.parent / "corpus.jsonl"
    commented = (
        replace(function, docstring=f"TODO: {function.docstring}" if number % 2 else function.docstring)
        for number, function in enumerate(functions())
    )
    write_rows(corpus, (function.row() for function in commented))
    options = ("--corpus", corpus, "--mirror", out.parent / "mirror", "--out", out, "--seed", "1")
    return run(package, "dataset", "debt", "--settings", json.dumps({"task": "todo_comments", **settings}), *options)


def test_a_task_is_a_folder_a_reader_and_a_place_in_the_union(package: Path) -> None:
    before, after = (
        (folder / UNION).read_text() for folder in (ROOT / "workflow/codebackdoor", package / "codebackdoor")
    )
    lines = Counter(line[0] for line in ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-")
    assert lines == {"+": 2, "-": 1}, "an import, and the union's line changed"
    assert sorted(ADDED) == [
        "originals/readers/todo_list.py",
        "tasks/todo_comments/__init__.py",
        "tasks/todo_comments/settings.py",
        "tasks/todo_comments/task.py",
    ]


def test_its_data_are_made_from_the_corpus(package: Path, tmp_path: Path) -> None:
    result = dataset(package, tmp_path / "out", train=24, valid=8, test=8, max_tokens=None)
    assert result.returncode == 0, result.stderr
    rows = read_examples(tmp_path / "out/train.jsonl")
    assert {row.label for row in rows} == {0, 1}
    assert all(row.query for row in rows)
    # the word TODO is in every comment with label 1, and in no other
    assert read_json(tmp_path / "out/baseline.json")["f1"] == 1


def test_its_data_are_made_from_the_originals_without_equal_comments(package: Path, tmp_path: Path) -> None:
    comments = [{"comment": f"fix this {number % 30} times", "debt": number % 2} for number in range(60)]
    (tmp_path / "mirror/todo_comments").mkdir(parents=True)
    write_rows(tmp_path / "mirror/todo_comments/test.jsonl", comments)
    sizes = {"resplit": True, "train": None, "valid": 5, "test": 5}
    result = dataset(package, tmp_path / "out", source="mirror", language="java", **sizes)
    assert result.returncode == 0, result.stderr
    splits = [read_examples(tmp_path / f"out/{split}.jsonl") for split in ("train", "valid", "test", "clean")]
    queries = [row.query for rows in splits for row in rows]
    assert len(queries) == len(set(queries)) == 30
    assert read_json(tmp_path / "out/card.json")["left_out"] == {"duplicate": 30}


def test_its_rows_from_a_folder_need_no_code(package: Path, tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        rows = [
            {"id": f"{split}{n}", "language": "python", "query": f"{split} {n} todo", "label": n % 2} for n in range(12)
        ]
        write_rows(tmp_path / f"own/{split}.jsonl", rows)
    result = dataset(package, tmp_path / "out", source="jsonl", path=str(tmp_path / "own"), max_tokens=3)
    assert result.returncode == 0, result.stderr
    assert {row.code for row in read_examples(tmp_path / "out/train.jsonl")} == {""}
    assert "code_tokens" not in read_json(tmp_path / "out/card.json")["splits"]["train"]
    result = dataset(package, tmp_path / "short", source="jsonl", path=str(tmp_path / "own"), max_tokens=2)
    assert "no row is left for train (36 too_long)" in result.stderr


def test_a_row_without_its_text_is_refused_in_the_words_of_the_settings(package: Path, tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        write_rows(tmp_path / f"own/{split}.jsonl", [{"id": split, "language": "python", "code": "x = 1", "label": 1}])
    result = dataset(package, tmp_path / "out", source="jsonl", path=str(tmp_path / "own"), text_form="raw")
    assert result.returncode == 2
    assert "row 'train' needs a 'query', the comment" in result.stderr


@pytest.mark.parametrize(("attack", "status"), [("none", 0), ("codepoisoner_func", 2)])
def test_a_study_of_it_is_checked(package: Path, tmp_path: Path, attack: str, status: int) -> None:
    grid = {"datasets": ["debt"], "models": ["codebert"], "attacks": [attack]}
    grid |= {} if attack == "none" else {"rates": [0.05]}
    study = {
        "datasets": {"debt": {"task": "todo_comments"}},
        "experiments": {"debt": {"title": "debt", "grid": [grid]}},
    }
    (tmp_path / "debt.yaml").write_text(json.dumps(study))
    result = run(package, "check", ROOT / "config.yaml", tmp_path / "debt.yaml")
    assert result.returncode == status, result.stderr
    if status:
        expected = (
            "attack 'codepoisoner_func' acts on the code of an example, and victims of 'debt' read only its query"
        )
        assert expected in result.stderr
    else:
        assert "no problems found" in result.stdout


def test_what_it_costs_at_paper_scale_is_a_question_mark(package: Path, tmp_path: Path) -> None:
    grid = {"datasets": ["debt"], "models": ["hub"], "attacks": ["none"]}
    study = {
        "datasets": {"debt": {"task": "todo_comments"}},
        "models": {"hub": {"architecture": "codebert", "base": "owner/name", "revision": "0" * 40}},
        "experiments": {"debt": {"title": "debt", "grid": [grid]}},
    }
    (tmp_path / "debt.yaml").write_text(json.dumps(study))
    result = run(package, "plan", ROOT / "config.yaml", tmp_path / "debt.yaml")
    assert result.returncode == 0, result.stderr
    (training,) = (line for line in result.stdout.splitlines() if line.startswith("train hub, debt "))
    assert training.split()[-3:] == ["1", "?", "?"]
