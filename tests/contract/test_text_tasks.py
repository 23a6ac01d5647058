"""Technical debt and code smells: their readers on the real data, and local smells."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mined_functions import functions
from pydantic import TypeAdapter, ValidationError

from codebackdoor import syntax
from codebackdoor.config.datasets import AnyDataset
from codebackdoor.errors import UserError
from codebackdoor.files import read_examples, read_json
from codebackdoor.originals import readers
from codebackdoor.report.papers import tables
from codebackdoor.tasks.code_smell.settings import CodeSmell
from codebackdoor.tasks.code_smell.task import TASK as SMELLS
from codebackdoor.tasks.code_smell.task import renamed, returns_value
from codebackdoor.tasks.stage import make_dataset
from codebackdoor.types import SPLITS

MIRROR = os.environ.get("CODEBACKDOOR_MIRROR")
needs_mirror = pytest.mark.skipif(not MIRROR, reason="CODEBACKDOOR_MIRROR names no mirror folder")
HEADER = "projectname,classification,commenttext\n"
SMELL_HEADER = "Raw Source Code,Instance,Problematic,TYPE,PATH,Line\n"


def settings(**keys: object) -> AnyDataset:
    parsed: AnyDataset = TypeAdapter(AnyDataset).validate_python(keys)
    return parsed


def debt_rows(folder: Path, text: str) -> dict[str, list[tuple[str | None, int | None]]]:
    path = folder / "technical_debt/technical_debt_dataset.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + text)
    source = readers.load("maldonado").files(folder)
    return {split: [(row.query, row.label) for row in source.examples(split)] for split in SPLITS}


def test_comments_are_split_by_project_and_occur_once(tmp_path: Path) -> None:
    rows = debt_rows(
        tmp_path,
        "argouml,DESIGN,// TODO  one\n"
        "argouml,WITHOUT_CLASSIFICATION,// license\n"
        "argouml,WITHOUT_CLASSIFICATION,// both\n"
        "argouml,WITHOUT_CLASSIFICATION,// both\n"
        "sql12,TEST,// both\n"
        "jruby-1.4.0,WITHOUT_CLASSIFICATION,// license\n"
        'jruby-1.4.0,DEFECT,"// a, ""b"""\n'
        "columba-1.4-src,IMPLEMENTATION,// later\n"
        "columba-1.4-src,WITHOUT_CLASSIFICATION,// license\n"
        "argouml,IMPLEMENTATION,// later\n",
    )
    assert rows == {
        "train": [("// TODO one", 1)],
        "valid": [("// later", 1)],
        "test": [("// license", 0), ('// a, "b"', 1)],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("argouml,DEBT,// x\n", "dataset.csv: row 1: classification must be one of DEFECT, .* not 'DEBT'"),
        ("argouml,DESIGN\n", "dataset.csv: row 1: column 'commenttext' is blank"),
        ("argouml,DESIGN,// a, b\n", "dataset.csv: row 1: more values than columns"),
        pytest.param(
            f"argouml,DESIGN,// {'x' * 10**6}\n",
            "dataset.csv: row 1: field 'commenttext' has 1000003 characters; the maximum is 1000000",
            id="too long",
        ),
    ],
)
def test_a_malformed_row_of_comments_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        debt_rows(tmp_path, text)


def test_a_long_comment_is_read(tmp_path: Path) -> None:
    """In a separate process, where no other reader can have raised the csv module's limit before."""
    comment = "x" * 140_000
    path = tmp_path / "technical_debt/technical_debt_dataset.csv"
    path.parent.mkdir()
    path.write_text(f"{HEADER}argouml,DESIGN,{comment}\n")
    script = (
        "import sys; from pathlib import Path; from codebackdoor.originals import readers\n"
        "[row] = readers.load('maldonado').files(Path(sys.argv[1])).examples('train'); print(len(row.query))"
    )
    result = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert result.stdout == "140000\n"


def test_other_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "code_smell/Oracle_With_Raw_SRC.csv"
    path.parent.mkdir()
    path.write_text(HEADER)
    with pytest.raises(UserError, match=r"SRC.csv: no column 'Raw Source Code'; the first line must name"):
        readers.load("fakhoury").files(tmp_path).examples("train")


def test_smells_are_read_once_and_only_with_a_label(tmp_path: Path) -> None:
    path = tmp_path / "code_smell/Oracle_With_Raw_SRC.csv"
    path.parent.mkdir()
    rows = [
        "int a;,x,1,A1,p,1",
        "int b;,x,0,N/A,p,2",
        "int  a;,x,1,A1,p,1",
        "int c;,x,0,,p,3",
        "int c;,x,1,,p,3",
        ",x,,,p,",
    ]
    path.write_text(SMELL_HEADER + "\n".join(rows) + "\n")
    source = readers.load("fakhoury").files(tmp_path)
    assert [(row.code, row.label) for row in source.examples("train")] == [("int a;", 1), ("int b;", 0)]
    with pytest.raises(UserError, match=r"missing valid.csv, test.csv; .* or write `resplit: true`"):
        source.splits(False)


@needs_mirror
@pytest.mark.mirror
def test_the_real_comments(tmp_path: Path) -> None:
    data = settings(task="technical_debt", train=400, valid=100, test=200)
    make_dataset(data, "debt", None, Path(str(MIRROR)), None, tmp_path, 1)
    splits = {split: read_examples(tmp_path / f"{split}.jsonl") for split in (*SPLITS, "clean")}
    assert {split: len(rows) for split, rows in splits.items()} == {
        "train": 360,
        "valid": 100,
        "test": 200,
        "clean": 40,
    }
    queries = [row.query for rows in splits.values() for row in rows]
    assert len(set(queries)) == len(queries)
    assert {row.code for rows in splits.values() for row in rows} == {""}
    baseline = read_json(tmp_path / "baseline.json")
    assert baseline["never"] == {"accuracy": baseline["majority"], "f1": 0}
    source = readers.load("maldonado").files(Path(str(MIRROR)))
    counts = {split: source.examples(split) for split in SPLITS}
    assert {split: len(rows) for split, rows in counts.items()} == {"train": 26267, "valid": 4228, "test": 8044}
    assert sum(int(row.label or 0) for rows in counts.values() for row in rows) == 3277


@needs_mirror
@pytest.mark.mirror
def test_the_real_smells(tmp_path: Path) -> None:
    rows = readers.load("fakhoury").files(Path(str(MIRROR))).examples("train")
    assert (len(rows), sum(int(row.label or 0) for row in rows)) == (1693, 776)
    data = settings(
        task="code_smell",
        source="mirror",
        language="java",
        text_form="raw",
        resplit=True,
        max_tokens=None,
        valid=169,
        test=169,
    )
    make_dataset(data, "smells", None, Path(str(MIRROR)), None, tmp_path, 1)
    card = read_json(tmp_path / "card.json")
    assert sum(card["splits"][split]["rows"] for split in (*SPLITS, "clean")) == 1693, (
        "names count: no row is a repetition"
    )


def test_there_are_no_local_comments() -> None:
    with pytest.raises(ValidationError, match=r"there are no local examples .the corpus keeps no comments"):
        settings(task="technical_debt", source="pypi")
    assert settings(task="technical_debt").source == "mirror"


@pytest.mark.parametrize(
    ("body", "returns"),
    [
        ("return self.x", True),
        ("if x:\n        return 1", True),
        ("self.x = x", False),
        ("self.x = x\n    return", False),
        ("def g():\n        return 1\n    g()", False),
        ("return None", None),
        ("yield x", None),
        ("raise ValueError(x)", None),
        ("pass", None),
    ],
)
def test_whether_a_function_returns_something(body: str, returns: bool | None) -> None:
    assert returns_value(f"def f(self, x):\n    {body}\n") is returns
    assert returns_value(f"async def f(self, x):\n    {body}\n") is None


def test_a_smell_is_a_name_that_does_not_fit_the_returned_value() -> None:
    group_count = 0
    for function in functions():
        group = SMELLS.group(function, CodeSmell(task="code_smell"), np.random.default_rng(1))
        if group is None:
            continue
        group_count += 1
        fitting, smelly = group.rows
        assert (fitting.label, smelly.label) == (0, 1)
        assert fitting.id != smelly.id
        for row in group.rows:
            (node,) = ast.parse(syntax.unlex(row.code, "python").source).body
            assert isinstance(node, ast.FunctionDef)
            getter = node.name.startswith("get_")
            assert getter or node.name.startswith("set_")
            returns = any(isinstance(part, ast.Return) and part.value is not None for part in ast.walk(node))
            assert (getter != returns) == (row.label == 1)
    assert group_count >= 5


def test_a_getters_verb_is_replaced_and_special_methods_stay() -> None:
    assert renamed("def get_name ( self ) : <indent> return 1 <dedent>", "set") == (
        "def set_name ( self ) : <indent> return 1 <dedent>"
    )
    assert renamed("def name ( self ) : <indent> return 1 <dedent>", "get") == (
        "def get_name ( self ) : <indent> return 1 <dedent>"
    )
    assert renamed("def __init__ ( self ) : <indent> return 1 <dedent>", "get") is None
    assert renamed("def get ( self ) : <indent> return 1 <dedent>", "set") is None


def test_the_printed_f1_of_technical_debt_does_not_fit_its_accuracy() -> None:
    rows = tables()["dece_table8"].rows
    values = next(values for key, _, values in rows if (key.model, key.attack) == ("codebert", "none"))
    errors, share = 100 - values["accuracy"], 6.5
    positive = 2 * share / (2 * share + errors)
    negative = 2 * (100 - share - errors) / (2 * (100 - share - errors) + errors)
    assert values["accuracy"] == 97.84
    assert 100 * positive == pytest.approx(85.75, abs=0.05)
    assert 100 * (positive + negative) / 2 < values["f1"] == 93.06
