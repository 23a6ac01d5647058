"""Where outputs may be put, known before the work; folders that appear whole, by one writer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from codebackdoor.cli import main
from codebackdoor.errors import UserError
from codebackdoor.files import atomic
from codebackdoor.outputs import check_file, check_folder, new_folder

FILLING = """
import sys, time
from pathlib import Path
from codebackdoor.outputs import new_folder
with new_folder(Path(sys.argv[1])) as folder:
    (folder.part / "half").write_text("x")
    print("writing", flush=True)
    time.sleep(60)
"""


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "elsewhere")


def link(path: Path) -> None:
    (path.parent / "elsewhere").write_text("kept")
    path.symlink_to(path.parent / "elsewhere")


SPECIAL = pytest.mark.parametrize("make", [folder, pipe, dangling, link])


@SPECIAL
def test_what_is_no_regular_file_is_not_replaced(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "out"
    make(path)
    before = path.lstat()
    for write in (check_file, lambda where: atomic(where).__enter__()):
        with pytest.raises(UserError, match=f"^{path}: exists and is not a regular file"):
            write(path)
    assert path.lstat() == before
    assert {entry.name for entry in tmp_path.iterdir()} <= {"out", "elsewhere"}


@SPECIAL
def test_each_command_refuses_it_before_it_reads_anything(make: Callable[[Path], None], tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out)
    nothing = str(tmp_path / "none")
    for words in (
        ("fetch", "x-1"),
        ("mine", "x-1", "--archive", nothing),
        ("corpus", nothing),
        ("statistics", "--dataset", "{", "--data", nothing, "--base", nothing),
        ("tokenizer", "--corpus", nothing, "--size", "400"),
        ("calibrate", "--settings", "{", "--dataset", "{", "--victim", f"1={nothing}", "--clean", nothing),
    ):
        result = CliRunner().invoke(main, [*words, "--out", str(out)])
        assert (result.exit_code, result.output) == (
            2,
            f"error: {out}: exists and is not a regular file; use another path\n",
        )


@pytest.mark.parametrize(
    ("name", "reason"), [("file/below", "Not a directory"), ("x" * 254, "too long"), ("x" * 300, "too long")]
)
def test_a_place_that_cannot_be_written_is_one_sentence(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="use another path") as refused:
        check_file(tmp_path / name)
    assert reason in str(refused.value) or "File exists" in str(refused.value)
    with pytest.raises(UserError, match="use another path"), new_folder(tmp_path / name):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_under_proc_and_with_a_name_of_other_bytes_there_is_no_output() -> None:
    for name in ("/proc/none/x", "/", os.fsdecode(b"/tmp/\xff")):
        with pytest.raises(UserError, match="use another path"):
            check_file(Path(name))
        with pytest.raises(UserError, match=r"use another|already exists"), new_folder(Path(name)):
            pass


def test_a_folder_of_outputs_is_a_folder_or_can_become_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_folder(tmp_path)
    check_folder(tmp_path / "new" / "below")
    assert not (tmp_path / "new").exists()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        result = CliRunner().invoke(
            main, ["poison", "x", "--settings", "{", "--dataset", "{", "--rate", "0.1", "--data", "d", "--seed", "1",
                   "--out", str(place)]
        )  # fmt: skip
        assert result.output == f"error: {place}: {tmp_path / 'file'} is not a folder; use another path\n"


def test_a_regular_file_is_written_over_and_a_check_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("kept")
    check_file(tmp_path / "out")
    check_file(tmp_path / "new")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("out", "kept")]


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def broken() -> None:
        with new_folder(tmp_path / "a[1]") as new:
            (new.part / "x").write_text("half")
            raise OSError("of the work")

    with pytest.raises(OSError, match=r"^of the work$"):
        broken()
    with new_folder(tmp_path / "a[1]") as new:
        (new.part / "x").write_text("unwanted")
    assert list(tmp_path.iterdir()) == []
    with new_folder(tmp_path / "deep" / "a[1]") as new:
        (new.part / "x").write_text("whole")
        new.finish()
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["a[1]"]
    assert (tmp_path / "deep" / "a[1]" / "x").read_text() == "whole"
    assert (tmp_path / "deep" / "a[1]").stat().st_mode & 0o777 == 0o777 & ~_umask()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def test_a_second_writer_is_refused_and_what_a_killed_one_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "new"
    with subprocess.Popen([sys.executable, "-c", FILLING, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        with pytest.raises(UserError, match="another process is writing it"), new_folder(path):
            pass
        assert len(list(tmp_path.glob(".new.*.part/half"))) == 1
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert len(list(tmp_path.glob(".new.*.part/half"))) == 1
    with new_folder(path) as new:
        new.finish()
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"]


def test_an_output_with_a_longer_name_keeps_its_unfinished_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "model.seed2") as longer:
        (tmp_path / ".model.x1_y.part").mkdir()
        with new_folder(tmp_path / "model") as new, atomic(tmp_path / "model.json"):
            new.finish()
        longer.finish()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model", "model.json", "model.seed2"]


def test_a_folder_that_is_filled_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new"

    def late() -> None:
        with new_folder(path) as new:
            path.mkdir()
            (path / "x").write_text("of somebody else")
            new.finish()

    with pytest.raises(UserError, match="not empty"):
        late()
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"]
    assert [entry.name for entry in path.iterdir()] == ["x"]
    for exists in (path, tmp_path / "link"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to("nowhere")
        with pytest.raises(UserError, match="already exists"), new_folder(exists):
            pass
