"""Files appear whole or not at all, what a killed writer left goes with the next, a full disk is one sentence."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors import SafetensorError

from codebackdoor import files
from codebackdoor.cli import main
from codebackdoor.errors import MAX_QUOTED, UserError, disk_trouble, quoted
from codebackdoor.files import (
    atomic,
    read_examples,
    read_json,
    read_object,
    read_rows,
    read_text,
    sha256,
    write_examples,
    write_json,
)
from codebackdoor.types import Example

DYING = """
import os, signal, sys
from pathlib import Path
from codebackdoor.files import atomic
with atomic(Path(sys.argv[1])) as stream:
    stream.write("half")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_goes_with_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a[1].json"
    (tmp_path / ".other.json.x.part").write_text("another's")
    killed = subprocess.run([sys.executable, "-c", DYING, str(path)], check=False)
    assert killed.returncode == -9
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 2
    write_json(path, {"whole": True})
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".other.json.x.part", "a[1].json"]


def test_of_two_writers_the_first_fails_and_the_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows"

    def both() -> None:
        with atomic(path) as first:
            first.write("first")
            with atomic(path) as second:
                second.write("second")

    with pytest.raises(FileNotFoundError):
        both()
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_sentence_whoever_says_it() -> None:
    with pytest.raises(OSError, match="No space left") as full:
        Path("/dev/full").write_text("x")
    assert str(disk_trouble(full.value)).startswith("the disk is full: free some space")
    rust = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert str(disk_trouble(rust)).startswith("the disk is full")
    # it may be said of a mirror, a cache or a program as well as of a folder of results
    for number in (errno.EACCES, errno.EROFS):
        message = str(disk_trouble(OSError(number, os.strerror(number), "/mirror/lock.json")))
        assert message.startswith("/mirror/lock.json: ")
        assert "`out`" not in message
    assert disk_trouble(OSError(errno.ENOENT, "no such file")) is None
    assert disk_trouble(ValueError("a bug")) is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: object, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)

    monkeypatch.setattr(Path, "mkdir", refuse)
    result = CliRunner().invoke(main, ["schema", str(tmp_path / "schemas")])
    assert result.exit_code == 2
    assert result.output.startswith(f"error: {tmp_path / 'schemas'}: permission denied")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("read", [read_text, read_json, read_examples])
def test_a_folder_or_bytes_where_a_text_is_read_are_one_sentence(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    with pytest.raises(UserError, match=f"{tmp_path}: is a folder, not a file"):
        read(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff\n")
    with pytest.raises(UserError, match="not UTF-8"):
        read(tmp_path / "bytes")


DEEP = "[" * 100_000
ROW = '{"id": "1", "language": "python", "code": "x = 1"'
#: JSON that a parser takes, or fails on with something else than a syntax error, and what is said of it.
UNREADABLE = {
    DEEP: "nested more than 100 levels deep",
    "[" * 101 + "]" * 101: "nested more than 100 levels deep",
    '{"a": ' * 200 + "1" + "}" * 200: "nested more than 100 levels deep",
    '{"seed": ' + "1" * 5000 + "}": "a number has 5000 digits; the maximum is 40",
    '{"lr": NaN}': "NaN is not a valid number in JSON",
    '{"lr": -Infinity}': "-Infinity is not a valid number in JSON",
    '{"lr": 1e999}': "the number '1e999' is too large",
    '{"label": 0, "label": 1}': "the key 'label' occurs twice in one object",
    '{"code": "caf\\udce9"}': r"field 'code' contains \udce9, a lone surrogate",
    '{"a": [{"b": "\\uD800x"}]}': r"field 'a.b' contains \ud800, a lone surrogate",
    '{"\\udfff": 1}': r"a key contains \udfff, a lone surrogate",
    '{"a": 1}}': ":1: not JSON (Extra data at character 9)",
    "": ":1: not JSON (Expecting value at character 1)",
}


@pytest.mark.parametrize(("text", "message"), UNREADABLE.items(), ids=range(len(UNREADABLE)))
@pytest.mark.parametrize("read", [read_json, lambda path: list(read_rows(path))])
def test_json_that_cannot_be_kept_is_one_line_that_names_its_place(
    tmp_path: Path, read: Callable[[Path], object], text: str, message: str
) -> None:
    if read is not read_json and not text:
        pytest.skip("an empty line is no row")
    path = tmp_path / "some.json"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read(path)
    line = str(error.value)
    assert line.startswith(f"{path}:")
    assert message.removeprefix(":1") in line
    assert "\n" not in line
    assert len(line) < 400


def test_what_is_within_the_limits_is_read(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    # the length that a tokenizer without one states, pairs of surrogates that are one character, a file from Windows
    path.write_bytes(
        b'\xef\xbb\xbf{"model_max_length": 1000000000000000019884624838656,\r\n "a": "\\ud83d\\ude00"}\r\n'
    )
    assert read_json(path) == {"model_max_length": 1000000000000000019884624838656, "a": "\N{GRINNING FACE}"}
    path.write_text("[" * 100 + "]" * 100)
    read_json(path)
    path.write_bytes(b"\xef\xbb\xbf" + ROW.encode() + b', "label": null}\r\n\r\n' + ROW.encode() + b', "label": 1}\r\n')
    assert [row.label for row in read_examples(path)] == [None, 1]
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert read_text(path) == "one\ntwo\nthree\n"


def test_an_object_is_no_list(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("[1]")
    with pytest.raises(UserError, match=r"config.json: expected a JSON object, not \[1\]"):
        read_object(path)
    path.write_text('{"a": 1}')
    assert read_object(path) == {"a": 1}


@pytest.mark.parametrize("read", [read_text, read_json, read_examples, sha256])
def test_only_regular_files_are_read(tmp_path: Path, read: Callable[[Path], object]) -> None:
    pipe, loop = tmp_path / "pipe", tmp_path / "loop"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    for path, message in (
        (pipe, "is a named pipe, not a file"),
        (Path("/dev/zero"), "is a device, not a file"),
        (tmp_path / "socket", "is a socket, not a file"),
        (loop, "cannot be read"),
        (tmp_path / ("x" * 300), "cannot be read"),
        (pipe / "below", "no such file"),
    ):
        with pytest.raises(UserError, match=message) as error:
            read(path)
        assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (read_json, "larger than the maximum of 64 MiB"),
        (read_text, "larger than the maximum of 1024 MiB"),
        (read_examples, ":1: the line is longer than 16 MiB"),
    ],
)
def test_a_file_that_is_too_large_is_refused_before_memory_is_taken(
    tmp_path: Path, read: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as stream:
        stream.truncate(200 << 30)
    with pytest.raises(UserError, match=message):
        read(path)


def test_a_row_that_is_wrong_is_named_by_its_own_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = ROW.encode() + b"}\n"
    path.write_bytes(good * 3 + ROW.encode() + b', "query": "\xff"}\n' + good)
    with pytest.raises(UserError, match=r"rows.jsonl:4: not UTF-8 \(invalid start byte\); save it as UTF-8"):
        read_examples(path)
    path.write_bytes(good * 3 + b"\xff" + good)
    with pytest.raises(UserError, match=r"rows.jsonl:4: not UTF-8"):
        read_text(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"label": 1.0}, "field 'label' must be int, not float: 1.0"),
        ({"label": True}, "field 'label' must be int, not bool: True"),
        ({"label": "1"}, "field 'label' must be int, not str: '1'"),
        ({"label": [1]}, r"field 'label' must be int, not list: \[1\]"),
        ({"id": 7}, "field 'id' must be str, not int: 7"),
        ({"id": None}, "field 'id' is missing"),
        ({"code": None}, "field 'code' is missing"),
        ({"code": {"text": "x"}}, "field 'code' must be str, not dict"),
        ({"language": "pyhton"}, "unknown language 'pyhton'; did you mean 'python'"),
        ({"language": "x" * 5_000_000}, "unknown language 'xxx"),
        ({"id": ["x" * 5_000_000]}, "field 'id' must be str, not list"),
        ({"y" * 5_000_000: 1}, "unknown field 'yyy"),
        ({"\x1b[2Jclean": 1}, r"unknown field '\\x1b\[2Jclean'"),
    ],
)
def test_a_row_of_a_wrong_shape_is_one_short_line(tmp_path: Path, row: dict[str, object], message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{ROW}}}\n{json.dumps({'id': '2', 'language': 'python', 'code': 'x = 1'} | row)}\n")
    with pytest.raises(UserError, match=rf"rows.jsonl:2: {message}") as error:
        read_examples(path)
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


def test_a_quoted_value_is_short_and_one_line() -> None:
    assert quoted("a\n\x1b") == r"'a\n\x1b'"
    for value in ("x" * 10**6, ["x" * 10**6] * 10**4, {"x" * 10**6: [["y" * 999] * 9] * 9}, b"z" * 10**6):
        assert len(quoted(value)) <= MAX_QUOTED + 3


def test_a_poisoned_row_of_a_wrong_shape_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = {"id": "1", "language": "python", "code": "x = 1", "source_id": "1", "attack": "a", "status": "injected",
            "original_label": 0, "original_target": None, "spans": [["code", 0, 1]]}  # fmt: skip
    path.write_text(json.dumps(good))
    assert files.read_poisoned(path)[0].status == "injected"
    for change, message in (
        ({"spans": [["code", "a", 1]]}, "invalid literal"),
        ({"spans": 5}, "not iterable"),
        ({"draws": "x"}, "has no attribute 'items'"),
        ({"spans": [[1]]}, "not enough values"),
        ({"status": "evil"}, "unknown status 'evil'"),
        ({"status": []}, r"unknown status \[\]"),
        ({"label": "0"}, "must be int"),
    ):
        path.write_text(json.dumps(good | change))
        with pytest.raises(UserError, match=rf"rows.jsonl:1: .*{message}"):
            files.read_poisoned(path)


def test_a_row_with_nothing_but_a_query_has_no_code(tmp_path: Path) -> None:
    row = Example("1", "java", query="fix me", label=1)
    write_examples(tmp_path / "rows.jsonl", [row])
    assert "code" not in json.loads((tmp_path / "rows.jsonl").read_text())
    assert read_examples(tmp_path / "rows.jsonl") == [row]
    assert row.texts == {"query": "fix me"}


def test_code_that_was_emptied_is_still_a_text(tmp_path: Path) -> None:
    row = Example("1", "java", "", label=1)
    write_examples(tmp_path / "rows.jsonl", [row])
    assert read_examples(tmp_path / "rows.jsonl") == [row]
    assert row.texts == {"code": ""}
