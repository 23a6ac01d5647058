"""The fidelity ledger: a row for each disagreement of EliBadCode, and no switch or test that does not exist."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codebackdoor.config.loading import read_yaml

ROOT = Path(__file__).parents[2]
LEDGER = ROOT / "docs/fidelity.md"
#: A bar inside of a cell is escaped.
BAR = re.compile(r"(?<!\\)\|")
#: What a link to a row leads to.
ANCHOR = re.compile(r'<a id="([a-z]\d+b?)"></a>')


def rows(path: Path) -> list[list[str]]:
    """The cells of every row of every table, without anchors."""
    text = ANCHOR.sub("", path.read_text(encoding="utf-8"))
    lines = (line for line in text.splitlines() if line.startswith("| "))
    return [[cell.strip() for cell in BAR.split(line)[1:-1]] for line in lines]


def functions() -> set[str]:
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "tests").rglob("*.py"))
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", ["fidelity.md", "what-held-up.md"])
def test_every_test_that_is_named_exists(name: str) -> None:
    named = {test for row in rows(ROOT / "docs" / name) for test in re.findall(r"`(test_\w+)`", row[-1])}
    assert named - functions() == set()
    assert len(named) > 8


def words(schema: Any) -> Iterator[str]:
    """All keys and choices in a JSON schema."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        yield from (str(choice) for choice in [*schema.get("enum", []), schema.get("const")])
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else []:
        yield from words(inner)


def test_every_switch_that_is_named_exists() -> None:
    declared = set(words(json.loads((ROOT / "schemas/config.schema.json").read_text(encoding="utf-8"))))
    declared |= {*read_yaml(ROOT / "configs/elibadcode.yaml")["attacks"], *read_yaml(ROOT / "config.yaml")["helpers"]}
    named: set[str] = set()
    for row in rows(LEDGER):
        for switch in re.findall(r"`([^`]+)`", row[-2] if len(row) == 6 else ""):
            # `unlearning.layers: last | all`, `tables: [detection]`, `adaptive_5`; not the file that it is of
            named |= set() if switch.endswith(".yaml") else set(re.findall(r"[a-z]\w*", switch))
    assert len(named) > 60
    assert named - declared == set()


def test_every_row_of_elibadcode_stands_alone_and_has_a_test() -> None:
    entries = [row for row in rows(LEDGER) if re.match(r"[AE]\d", row[0])]
    numbers = [row[0] for row in entries]
    last = max(int(number[1:]) for number in numbers if re.fullmatch(r"E\d+", number))
    assert set(numbers) == {f"A{n}" for n in range(1, 7)} | {f"E{n}" for n in range(1, last + 1)} | {"E14b"}
    assert [row[0] for row in entries if "`test_" not in row[-1]] == []
    assert {len(row) for row in entries} == {6}


def test_no_number_stands_twice() -> None:
    numbers = [
        number for row in rows(LEDGER) for number in re.split(r", ", row[0]) if re.fullmatch(r"[ABEPD]\d+b?", number)
    ]
    assert len(numbers) == len(set(numbers))
    assert not any(row[0] == "–" for row in rows(LEDGER))


def test_every_row_has_an_anchor_for_each_of_its_numbers() -> None:
    anchors = ANCHOR.findall(LEDGER.read_text(encoding="utf-8"))
    assert len(anchors) == len(set(anchors))
    numbers = {number for row in rows(LEDGER) for number in re.findall(r"[ABEOPD]\d+b?", row[0])}
    assert {number.lower() for number in numbers} <= set(anchors)
