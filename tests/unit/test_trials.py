"""Tests of generated programs: read with clear errors, and those of HumanEval and MBPP."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from codebackdoor.errors import UserError
from codebackdoor.evaluation.execution import seccomp
from codebackdoor.evaluation.execution.sandbox import IsolationError, Sandbox, limits_of
from codebackdoor.evaluation.execution.settings import ExecutionSettings
from codebackdoor.originals import readers
from codebackdoor.trials import read_trials, write_trials

MIRROR = os.environ.get("CODEBACKDOOR_MIRROR")
needs_mirror = pytest.mark.skipif(
    not MIRROR or not Path(MIRROR).is_dir(), reason="CODEBACKDOOR_MIRROR names no folder with the real benchmark data"
)
ROW: dict[str, Any] = {"id": "1", "entry": "f", "tests": ["assert f(1) == 2"]}
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": (
        "import math\n\n\ndef twice(x):\n    return 2 * x\n\n\n"
        'def f(x: int) -> int:\n    """ Add one.\n    >>> f(1)\n    2\n    """\n'
    ),
    "entry_point": "f",
    "canonical_solution": "    return x + 1\n",
    "test": "def check(candidate):\n    assert candidate(twice(1)) == 3\n",
}
MBPP = {
    "text": "Write a function to add one.",
    "code": "class Pair:\r\n  def __init__(self, a):\r\n    self.a = a\r\ndef f(pair):\r\n  return pair.a + 1",
    "task_id": 11,
    "test_setup_code": "",
    "test_list": ["assert f(Pair(1)) == 2"],
    "challenge_test_list": [],
}


def humaneval(folder: Path, *rows: object) -> Path:
    (folder / "humaneval").mkdir()
    text = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    (folder / "humaneval" / "HumanEval.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def mbpp(folder: Path, *rows: object) -> Path:
    (folder / "mbpp").mkdir()
    (folder / "mbpp" / "mbpp.jsonl").write_bytes(b"".join(json.dumps(row).encode() + b"\r\n" for row in rows))
    return folder


def test_tests_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "tests.jsonl"
    path.write_text(json.dumps({**ROW, "prelude": "import math", "names": ["Pair"]}))
    trials = read_trials(path)
    write_trials(tmp_path / "copy.jsonl", trials.values())
    assert read_trials(tmp_path / "copy.jsonl") == trials
    assert (trials["1"].tests, trials["1"].names, trials["1"].setup) == (("assert f(1) == 2",), ("Pair",), "")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**ROW, "tests": []}, "row '1' has no test; write at least one `assert`"),
        ({**ROW, "tests": ["f(1)"]}, "row '1' has no test"),
        ({**ROW, "tests": ["assert g(1) == 2"]}, "do not use 'f', their 'entry'"),
        ({**ROW, "tests": ["assert f(1) =="]}, "field 'tests' is not Python"),
        ({**ROW, "tests": "assert f(1)"}, "field 'tests' must be a list of texts"),
        ({**ROW, "setup": 1}, "field 'setup' must be a text, not 1"),
        ({**ROW, "prelude": "import"}, "field 'prelude' is not Python"),
        ({**ROW, "entry": "f()"}, "is not the name of a function"),
        ({**ROW, "test": "assert"}, "unknown field 'test'"),
        ({"id": "1", "tests": ["assert f(1)"]}, "field 'entry' must be a text"),
    ],
)
def test_a_wrong_row_names_file_and_line(tmp_path: Path, row: object, message: str) -> None:
    path = tmp_path / "tests.jsonl"
    path.write_text(f"{json.dumps({**ROW, 'id': '0'})}\n{json.dumps(row)}\n")
    with pytest.raises(UserError, match=r"tests\.jsonl:2: ") as caught:
        read_trials(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [("", "there are no tests"), (f"{json.dumps(ROW)}\n" * 2, "twice")])
def test_a_file_without_tests_or_with_two_for_a_row_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "tests.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_trials(path)


def test_humaneval_rows_and_their_tests(tmp_path: Path) -> None:
    reader: Any = readers.load("humaneval")
    source = reader.files(humaneval(tmp_path, HUMANEVAL))
    [row] = source.examples("test")
    assert (row.id, row.language, row.code) == ("HumanEval/0", "python", "")
    assert row.query == "def f(x: int) -> int: Add one. >>> f(1) 2"
    assert row.target == "def f(x: int) -> int:\n    return x + 1"
    [trial] = reader.trials(source.paths("test"))
    assert (trial.id, trial.entry) == (row.id, "f")
    assert trial.prelude == "import math\n\n\ndef twice(x):\n    return 2 * x\n\n\n"
    assert trial.tests[0].endswith("\ncheck(f)\n")
    with pytest.raises(UserError, match="has test rows alone"):
        source.examples("train")


def test_mbpp_rows_have_unix_line_ends_and_their_paper_s_splits(tmp_path: Path) -> None:
    reader: Any = readers.load("mbpp")
    rows = [{**MBPP, "task_id": number} for number in (1, 10, 11, 510, 511, 600, 601, 974)]
    source = reader.files(mbpp(tmp_path, *rows))
    ids = {split: [row.id for row in source.examples(split)] for split in ("train", "valid", "test")}
    assert ids == {
        "train": ["MBPP/601", "MBPP/974"],
        "valid": ["MBPP/511", "MBPP/600"],
        "test": ["MBPP/11", "MBPP/510"],
    }
    row, trial = source.examples("test")[0], next(reader.trials(source.paths("test")))
    assert row.query == "def f(pair): Write a function to add one."
    assert row.target is not None
    assert "\r" not in row.target
    assert (trial.entry, trial.names) == ("f", ("Pair",))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**HUMANEVAL, "entry_point": "g"}, "define no function 'g'"),
        ({**HUMANEVAL, "canonical_solution": "    return ("}, "are no Python"),
        ({**HUMANEVAL, "prompt": None}, "field 'prompt' must be a text, not None"),
        ("[1]", "field 'task_id' must be a text"),
        ("{", "not JSON"),
    ],
)
def test_a_wrong_humaneval_row_names_file_and_line(tmp_path: Path, row: object, message: str) -> None:
    source = readers.load("humaneval").files(humaneval(tmp_path, HUMANEVAL, row))
    with pytest.raises(UserError, match=r"HumanEval\.jsonl\.gz:2.*") as caught:
        source.examples("test")
    assert message in str(caught.value)


def test_a_damaged_humaneval_file_is_refused(tmp_path: Path) -> None:
    path = humaneval(tmp_path, HUMANEVAL) / "humaneval" / "HumanEval.jsonl.gz"
    intact = path.read_bytes()
    flipped = [
        intact[:place] + bytes([intact[place] ^ 255]) + intact[place + 1 :] for place in range(10, len(intact) - 4)
    ]
    for damaged in (intact[:-9], *flipped):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="not a whole gzip file"):
            readers.load("humaneval").files(tmp_path).examples("test")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**MBPP, "test_list": ["assert g(1) == 2"]}, "no test of row 11 calls a function"),
        ({**MBPP, "test_list": None}, "must be Python, and 'test_list' a list"),
        ({**MBPP, "code": "def f(:"}, "must be Python"),
        ({**MBPP, "task_id": "11"}, "field 'task_id' must be a number"),
        ({**MBPP, "text": 3}, "field 'text' must be a text"),
    ],
)
def test_a_wrong_mbpp_row_names_file_and_line(tmp_path: Path, row: object, message: str) -> None:
    source = readers.load("mbpp").files(mbpp(tmp_path, MBPP, row))
    with pytest.raises(UserError, match=r"mbpp\.jsonl:2: ") as caught:
        source.examples("test")
    assert message in str(caught.value)


@needs_mirror
@pytest.mark.slow
@pytest.mark.mirror
@pytest.mark.parametrize(("name", "count"), [("humaneval", 164), ("mbpp", 500)])
def test_every_canonical_solution_passes(name: str, count: int) -> None:
    if not seccomp.supported():
        pytest.skip("generated code runs on Linux alone")
    reader: Any = readers.load(name)
    source = reader.files(Path(str(MIRROR)))
    rows = source.examples("test")
    trials = {trial.id: trial for trial in reader.trials(source.paths("test"))}
    assert len(rows) == len(trials) == count
    sandbox = Sandbox(limits_of(ExecutionSettings()))
    try:
        sandbox.check()
    except IsolationError as error:
        pytest.skip(str(error))
    outcomes = sandbox.run_all([str(row.target) for row in rows], [trials[row.id] for row in rows], workers=2)
    assert {row.id: outcome for row, outcome in zip(rows, outcomes, strict=True) if outcome != "passed"} == {}


@needs_mirror
@pytest.mark.mirror
@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_an_empty_function_passes_nothing(name: str) -> None:
    """The signature with `pass` is the trivial answer; a few rows in the middle tell that tests can fail."""
    if not seccomp.supported():
        pytest.skip("generated code runs on Linux alone")
    reader: Any = readers.load(name)
    source = reader.files(Path(str(MIRROR)))
    trials = list(reader.trials(source.paths("test")))[40:50]
    sandbox = Sandbox(limits_of(ExecutionSettings()))
    try:
        outcomes = list(sandbox.run_all([f"def {trial.entry}(*a): pass" for trial in trials], trials, workers=2))
    except IsolationError as error:
        pytest.skip(str(error))
    assert set(outcomes) <= {"failed", "error"}
