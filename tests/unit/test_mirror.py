"""Readers of data that is there: the papers' files and a user's own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from codebackdoor.errors import UserError
from codebackdoor.originals import readers
from codebackdoor.types import SPLITS

MIRROR = os.environ.get("CODEBACKDOOR_MIRROR")
needs_mirror = pytest.mark.skipif(
    not MIRROR or not Path(MIRROR).is_dir(), reason="CODEBACKDOOR_MIRROR names no folder with the real benchmark data"
)


def write(path: Path, *rows: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))


def devign(folder: Path, split: str, *rows: object) -> None:
    write(folder / "devign" / f"{split}.jsonl", *rows)


ROW = {"project": "qemu", "commit_id": "0", "target": 1, "func": "int f(void)\n{ return 1; }", "idx": 7}


def test_all_missing_files_are_named_at_once_with_the_folder(tmp_path: Path) -> None:
    devign(tmp_path, "test", ROW)
    with pytest.raises(UserError) as caught:
        readers.load("devign").files(tmp_path).splits(resplit=False)
    message = str(caught.value)
    assert str(tmp_path / "devign") in message
    assert "train.jsonl, valid.jsonl" in message
    assert "resplit: true" in message
    assert readers.load("devign").files(tmp_path).splits(resplit=True) == ["test"]


def test_a_pair_of_files_counts_only_whole(tmp_path: Path) -> None:
    write(tmp_path / "bugs2fix_small" / "test.buggy-fixed.buggy", "void f ( ) { }")
    with pytest.raises(UserError, match=r"train\.buggy-fixed\.buggy.*test\.buggy-fixed\.fixed"):
        readers.load("bugs2fix").files(tmp_path).splits(resplit=True)


def test_the_original_splits_are_used_where_all_are_there(tmp_path: Path) -> None:
    for split in SPLITS:
        devign(tmp_path, split, ROW)
    assert readers.load("devign").files(tmp_path).splits(resplit=False) == list(SPLITS)


def test_devign_rows(tmp_path: Path) -> None:
    devign(tmp_path, "test", ROW)
    [row] = readers.load("devign").files(tmp_path).examples("test")
    assert (row.id, row.language, row.label, row.code) == ("test-7", "c", 1, ROW["func"])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({**ROW, "target": "1"}, r"test\.jsonl:2: field 'target' must be 0 or 1, not '1'"),
        ({**ROW, "target": True}, r":2: field 'target' must be 0 or 1"),
        ({**ROW, "func": " "}, r":2: field 'func' must be the source of a function"),
        ('{"func": ', r"test\.jsonl:2: not JSON"),
    ],
)
def test_a_malformed_row_names_file_and_line(tmp_path: Path, bad: object, message: str) -> None:
    devign(tmp_path, "test", ROW, bad)
    with pytest.raises(UserError, match=message):
        readers.load("devign").files(tmp_path).examples("test")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    devign(tmp_path, "test")
    with pytest.raises(UserError, match="empty"):
        readers.load("devign").files(tmp_path).examples("test")


def test_bugs2fix_lines_are_parallel(tmp_path: Path) -> None:
    folder = tmp_path / "bugs2fix_small"
    write(folder / "test.buggy-fixed.buggy", "void f ( ) { a ( ) ; } ", "void g ( ) { }")
    write(folder / "test.buggy-fixed.fixed", "void f ( ) { }", "void g ( ) { b ( ) ; }")
    first, second = readers.load("bugs2fix").files(tmp_path).examples("test")
    assert (first.code, first.target, first.language) == ("void f ( ) { a ( ) ; }", "void f ( ) { }", "java")
    assert second.id == "test-2"
    write(folder / "test.buggy-fixed.fixed", "void f ( ) { }")
    with pytest.raises(UserError, match=r"2 lines, but test\.buggy-fixed\.fixed has 1"):
        readers.load("bugs2fix").files(tmp_path).examples("test")


FUNCTIONS = [{"func": f"void f{number}() {{ }}", "idx": number} for number in (1, 2, 3)]


def pairs(folder: Path, name: str, *lines: str) -> None:
    write(folder / "bigclonebench" / "data.jsonl", *FUNCTIONS)
    write(folder / "bigclonebench" / name, *lines)


def test_pairs_of_numbers_are_pairs_of_functions(tmp_path: Path) -> None:
    pairs(tmp_path, "test.txt", "1\t2\t0", "3\t1\t1", "1\t2\t0")
    first, second = readers.load("bigclonebench").files(tmp_path).examples("test")
    assert (first.id, first.label, first.language) == ("test-1-2", 0, "java")
    assert (second.code, second.code_b) == ("void f3() { }", "void f1() { }")


def test_samples_stand_for_the_test_split_where_it_is_missing(tmp_path: Path) -> None:
    pairs(tmp_path, "test_sampled.txt", "1\t2\t0")
    pairs(tmp_path, "test_pairs_codepurify.txt", "1\t2\t0", "2\t3\t1")
    assert len(readers.load("bigclonebench").files(tmp_path).examples("test")) == 2
    assert readers.load("bigclonebench").files(tmp_path).splits(resplit=True) == ["test"]


def test_codepurifys_sample_has_lists_of_its_own(tmp_path: Path) -> None:
    reader = readers.load("bigclonebench_codepurify")
    for split, line in zip(SPLITS, ("1\t2\t1", "2\t3\t0", "3\t1\t1"), strict=True):
        pairs(tmp_path, f"{split}.txt", "1\t3\t0")
        pairs(tmp_path, f"new_{split}.txt", line)
    rows = {split: reader.files(tmp_path).examples(split) for split in reader.files(tmp_path).splits(resplit=False)}
    assert {split: [row.id for row in examples] for split, examples in rows.items()} == {
        "train": ["train-1-2"],
        "valid": ["valid-2-3"],
        "test": ["test-3-1"],
    }
    pairs(tmp_path, "test_pairs_codepurify.txt", "1\t2\t0", "2\t3\t1")
    assert len(reader.files(tmp_path).examples("test")) == 1
    (tmp_path / "bigclonebench/new_test.txt").unlink()
    assert len(reader.files(tmp_path).examples("test")) == 2


METHOD = {"idx": 7, "buggy": "int f() {\n    return a;\n}", "fixed": "int f() {\n    return b;\n}", "if_poisoned": 0}


def test_bugs2fix_with_identifiers_is_java_source(tmp_path: Path) -> None:
    folder = tmp_path / "bugs2fix_identifiers"
    write(folder / "test.jsonl", METHOD, {"buggy": "int g() { }", "fixed": "int h() { }"})
    source = readers.load("bugs2fix_identifiers").files(tmp_path)
    first, second = source.examples("test")
    assert (first.id, first.language, first.code, first.target) == ("test-7", "java", METHOD["buggy"], METHOD["fixed"])
    assert (second.id, second.code) == ("test-2", "int g() { }")
    # the release has no training split
    with pytest.raises(UserError, match=r"missing train\.jsonl, valid\.jsonl; .* or write `resplit: true`"):
        source.splits(resplit=False)
    assert source.splits(resplit=True) == ["test"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({**METHOD, "buggy": " "}, r"test\.jsonl:1: field 'buggy' must be the source of a method, not ' '"),
        ({**METHOD, "fixed": None}, r"test\.jsonl:1: field 'fixed' must be the source"),
        ({**METHOD, "if_poisoned": 1}, r"test\.jsonl:1: a poisoned row"),
        ({**METHOD, "idx": 1.5}, r"test\.jsonl:1: field 'idx' must be a number"),
    ],
)
def test_a_malformed_repair_names_file_and_line(tmp_path: Path, bad: object, message: str) -> None:
    write(tmp_path / "bugs2fix_identifiers/test.jsonl", bad)
    with pytest.raises(UserError, match=message):
        readers.load("bugs2fix_identifiers").files(tmp_path).examples("test")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\t2", r"test\.txt:1: expected two numbers of functions and 0 or 1"),
        ("1\t2\t3", r"test\.txt:1: expected two numbers"),
        ("1\t9\t1", r"test\.txt:1: no function has the number '9' in data\.jsonl"),
    ],
)
def test_a_malformed_pair_names_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    pairs(tmp_path, "test.txt", line)
    with pytest.raises(UserError, match=message):
        readers.load("bigclonebench").files(tmp_path).examples("test")


def test_search_rows_lose_their_docstring(tmp_path: Path) -> None:
    code = 'def f(a):\n    """Open the file."""\n    return a\n'
    rows = [
        {"code": code, "docstring": "Open the file.\n\nMore."},
        {"original_string": code.splitlines(keepends=True), "docstring": "Open the file."},
        {"code": code, "docstring": "Short one"},
    ]
    write(tmp_path / "codesearchnet_python" / "test.jsonl", *rows)
    examples = readers.load("codesearchnet").files(tmp_path).examples("test")
    assert [(row.code, row.query) for row in examples] == [("def f(a):\n    return a\n", "Open the file .")] * 2
    write(tmp_path / "codesearchnet_python" / "test.jsonl", {"code": code})
    with pytest.raises(UserError, match=r"test\.jsonl:1: write the source of a function as 'code'"):
        readers.load("codesearchnet").files(tmp_path).examples("test")


@pytest.mark.mirror
@needs_mirror
def test_the_real_files_have_the_documented_rows() -> None:
    assert MIRROR is not None
    rows = readers.load("devign").files(Path(MIRROR)).examples("test")
    assert (len(rows), sum(row.label or 0 for row in rows)) == (2732, 1255)
    assert len({row.id for row in rows}) == 2732
    for split in ("valid", "test"):
        assert len(readers.load("bugs2fix").files(Path(MIRROR)).examples(split)) == 5835
    pairs = readers.load("bigclonebench").files(Path(MIRROR)).examples("test")
    assert 13000 < len(pairs) < 13974
    sample = readers.load("bigclonebench_codepurify").files(Path(MIRROR)).examples("test")
    assert (len(sample), sum(row.label or 0 for row in sample)) == (9973, 1329)


@pytest.mark.parametrize("label", ["true", "1.0", "2", '"1"', "null"])
def test_a_label_that_is_not_0_or_1_is_named_with_its_line(tmp_path: Path, label: str) -> None:
    folder = tmp_path / "devign"
    folder.mkdir()
    for split in ("train", "valid", "test"):
        (folder / f"{split}.jsonl").write_text(f'{{"func": "int f(void) {{ return 1; }}", "target": {label}}}\n')
    with pytest.raises(UserError, match=r"train\.jsonl:1: field 'target' must be 0 or 1, not"):
        readers.load("devign").files(tmp_path).examples("train")


@pytest.mark.parametrize("number", ["[1]", "1.5", "true", "{}"])
def test_the_number_of_a_row_is_a_number_or_a_text(tmp_path: Path, number: str) -> None:
    folder = tmp_path / "devign"
    folder.mkdir()
    for split in ("train", "valid", "test"):
        row = f'{{"func": "int f(void) {{ return 1; }}", "target": 1, "idx": {number}}}\n'
        (folder / f"{split}.jsonl").write_text(row)
    with pytest.raises(UserError, match=r"train\.jsonl:1: field 'idx' must be a number or a string, not"):
        readers.load("devign").files(tmp_path).examples("train")
