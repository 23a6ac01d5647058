"""The settings of data sets refuse what cannot be, and say what to write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from codebackdoor import tasks
from codebackdoor.config.datasets import DATASETS, AnyDataset
from codebackdoor.errors import UserError
from codebackdoor.tasks.code_repair.settings import CodeRepair
from codebackdoor.tasks.defect_detection.settings import DefectDetection

ADAPTER: TypeAdapter[Any] = TypeAdapter(AnyDataset)


def test_the_task_decides_the_settings() -> None:
    defects, repair = (ADAPTER.validate_python({"task": task}) for task in ("defect_detection", "code_repair"))
    assert isinstance(defects, DefectDetection)
    assert isinstance(repair, CodeRepair)
    assert repair.max_tokens < defects.max_tokens
    names = [
        "clone_detection",
        "code_generation",
        "code_repair",
        "code_search",
        "code_smell",
        "defect_detection",
        "technical_debt",
    ]
    assert sorted(tasks.names()) == names


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_can_be_loaded_and_agrees_with_its_settings(name: str) -> None:
    task, settings = tasks.load(name), ADAPTER.validate_python({"task": name})
    assert type(task).__module__ == f"codebackdoor.tasks.{name}.task"
    assert settings.task == name
    assert type(settings) is DATASETS[name]


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown task 'defect_detecton'; did you mean 'defect_detection'"):
        tasks.load("defect_detecton")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "jsonl"}, "write `path`"),
        ({"path": "here"}, "write `path`"),
        ({"source": "mirror"}, "write `language: c`"),
        ({"language": "java"}, "write `language: python`"),
        ({"resplit": True}, "remove the key"),
        ({"source": "jsonl", "path": "here", "resplit": True, "test": None}, "needs a number of rows"),
        ({"mix": {"operator": 0, "variable": 0, "arguments": 0, "condition": 0}}, "at least one above 0"),
        ({"mutants": [0, 0, 0]}, "not all 0"),
        ({"mutants": [1, -1, 1]}, "at least 0"),
        ({"tain": 5}, "tain"),
        ({"clean": 1.0}, "less than 1"),
        ({"original": "devign"}, "write `source: mirror`, or remove the key"),
        ({"source": "mirror", "language": "c", "original": "devin"}, "'devin' is not .*; did you mean 'devign'"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ADAPTER.validate_python({"task": "defect_detection", **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "clone_detection", "overlap": [0.9, 0.6]}, "the smaller one first"),
        ({"task": "clone_detection", "names": [0, 0, 0]}, "not all 0"),
        ({"task": "clone_detection", "source": "mirror"}, "write `language: java`"),
        (
            {"task": "clone_detection", "source": "mirror", "language": "java", "original": "bugs2fix"},
            "known: bigclone",
        ),
        ({"task": "code_search", "pool": 1}, "greater than 1"),
        ({"task": "code_search", "rank": 0}, "greater than 0"),
    ],
)
def test_impossible_settings_of_pairs_and_search_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ADAPTER.validate_python(settings)


def test_an_original_is_in_the_settings_only_if_it_is_named() -> None:
    repair = {"task": "code_repair", "source": "mirror", "language": "java"}
    default = ADAPTER.validate_python(repair)
    named = ADAPTER.validate_python({**repair, "original": "bugs2fix_identifiers"})
    assert (default.originals, named.originals) == ("bugs2fix", "bugs2fix_identifiers")
    # finished studies keep their parameters
    assert "original" not in default.model_dump(mode="json")
    assert ADAPTER.validate_python(named.model_dump(mode="json")) == named


def test_the_documented_table_of_published_data_is_the_settings() -> None:
    page = (Path(__file__).parents[2] / "docs/configuration.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    rows = rows[rows.index(next(row for row in rows if row[0] == "`original`")) + 1 :]
    documented = [
        (name.strip("`"), task.replace(" ", "_"), language, license_)
        for name, task, _, language, license_, _ in (row for row in rows if len(row) == 6)
    ]
    names = {"c": "C", "java": "Java", "python": "Python"}
    assert sorted(documented) == sorted(
        (name, task, names[facts.language], facts.license)
        for task, settings in DATASETS.items()
        for name, facts in settings.published.items()
    )
