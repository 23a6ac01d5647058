"""Files appear whole or not at all, what a killed writer left goes with the next, a full disk is one sentence."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors import SafetensorError

from codebackdoor.cli import main
from codebackdoor.errors import UserError, disk_trouble
from codebackdoor.files import atomic, read_examples, read_json, read_text, write_json

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
    assert sorted(one.name for one in tmp_path.iterdir()) == [".other.json.x.part", "a[1].json"]


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
    assert str(disk_trouble(full.value)).startswith("the disk is full: free some of it")
    rust = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert str(disk_trouble(rust)).startswith("the disk is full")
    # it may be said of a mirror, a cache or a program as well as of a folder of results
    for number in (errno.EACCES, errno.EROFS):
        said = str(disk_trouble(OSError(number, os.strerror(number), "/mirror/lock.json")))
        assert said.startswith("/mirror/lock.json: ")
        assert "`out`" not in said
    assert disk_trouble(OSError(errno.ENOENT, "no such file")) is None
    assert disk_trouble(ValueError("a bug")) is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: object, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)

    monkeypatch.setattr(Path, "mkdir", refuse)
    found = CliRunner().invoke(main, ["schema", str(tmp_path / "schemas")])
    assert found.exit_code == 2
    assert found.output.startswith(f"error: {tmp_path / 'schemas'}: there is no permission")
    assert found.output.count("\n") == 1


@pytest.mark.parametrize("read", [read_text, read_json, read_examples])
def test_a_folder_or_bytes_where_a_text_is_read_are_one_sentence(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    with pytest.raises(UserError, match=f"{tmp_path}: a folder, where a file is read"):
        read(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff\n")
    with pytest.raises(UserError, match="not UTF-8"):
        read(tmp_path / "bytes")
