"""Configurations and settings that are no mistake of the syntax and still cannot be read: one line each, at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from codebackdoor.cli import main
from codebackdoor.config.datasets import AnyDataset
from codebackdoor.config.loading import load, merge, parse, read_yaml, validate
from codebackdoor.errors import UserError

ROOT = Path(__file__).parents[2]
DEFAULT = read_yaml(ROOT / "config.yaml")

_TENFOLD = "\n".join(
    ["x0: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    + [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 9)]
)
#: YAML, and what is said of it behind the file's name.
UNREADABLE = {
    f"{_TENFOLD}\nseeds: *x8": ": line 5: more than 20000 values; write fewer",
    "a: &a {k: 1}\n" + "b: {<<: [" + ", ".join(["*a"] * 15_000) + "]}": ": line 2: more than 20000 values",
    "seeds: [" + "1," * 25_000 + "1]": ": line 1: more than 20000 values",
    "seeds: &a [1, *a]": ": line 1: the alias refers to a value that contains it; write it out",
    "corpus: &a\n  archives: {x: *a}": ": line 2: the alias refers to a value that contains it",
    "corpus: &a {<<: *a}": ": line 1: the alias refers to a value that contains it",
    "seeds: " + "[" * 3000 + "]" * 3000: ": line 1: nested more than 100 levels deep",
    "seeds:\n" + "- " * 3000 + "1": ": nested more than 100 levels deep",
    "".join(f"{' ' * depth}a:\n" for depth in range(150)) + " " * 150 + "b: 1": ": nested more than 100 levels deep",
    "seeds: [" + "1" * 5000 + "]": "cannot be read (a number has 5000 digits; the maximum is 40)",
    "seeds: [" + "1:" * 3000 + "1]": "cannot be read (a number has 6001 digits",
    "lr: 1." + "0" * 500: "cannot be read (a number has 502 digits",
    "models: {a: {lr: .inf}}": ": 'models.a.lr' is inf; write a finite number",
    "models: {a: {lr: [.nan]}}": ": 'models.a.lr' is nan; write a finite number",
    "out: 2024-13-45": ": line 1: '2024-13-45' cannot be read (month must be in 1..12)",
    "\nout: !!timestamp never": ": line 2: 'never' cannot be read",
    "out: !!int ''": ": line 1: '' cannot be read",
    "out: !!int one": ": line 1: 'one' cannot be read",
    "out: !!bool maybe": ": line 1: 'maybe' cannot be read",
    "out: !!float x": ": line 1: 'x' cannot be read",
    "out: !!binary x": "line 1: settings cannot be binary; write text",
    "out: !!python/object/apply:os.system [id]": ": not YAML (could not determine a constructor",
    "out: *nothing": ": not YAML (found undefined alias",
    "? [a]\n: b": ": not YAML (while constructing a mapping",
    'out: "runs/\\ud800"': r": field 'out' contains \ud800, a lone surrogate",
    'out: 1\n"out": 2': ": line 2: out already occurs in line 1; remove one of them",
    '"\\e[2J": 1\n"\\e[2J": 2': r": line 2: '\x1b[2J' already occurs",
    "out: \x07": ": not YAML (unacceptable character",
    "- 1": ": expected sections such as 'datasets:' and 'experiments:'",
    "": ": expected sections",
    "---\na: 1\n---\nb: 1": ": not YAML (expected a single document",
}


@pytest.mark.parametrize(("text", "message"), UNREADABLE.items(), ids=range(len(UNREADABLE)))
def test_yaml_that_cannot_be_kept_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_yaml(path)
    full_message = str(error.value)
    assert full_message.startswith(f"{path}:")
    assert message in full_message
    assert "\n" not in full_message
    assert len(full_message) < 500


def test_a_configuration_is_a_regular_file_of_a_usual_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(100 << 30)
    (tmp_path / "latin").write_bytes(b"out: runs/x\ntokenizer: caf\xe9\n")
    for path, message in (
        (tmp_path / "pipe", "is a named pipe, not a file"),
        (Path("/dev/zero"), "is a device, not a file"),
        (tmp_path, "is a folder, not a file"),
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path / "sparse", "larger than the maximum of 1 MiB"),
    ):
        result = CliRunner().invoke(main, ["check", str(ROOT / "config.yaml"), str(path)])
        assert (result.exit_code, result.output) == (2, result.output.splitlines()[0] + "\n")
        assert result.output.startswith(f"error: {path}: {message}")
    with pytest.raises(UserError, match=r"latin:2: not UTF-8"):
        read_yaml(tmp_path / "latin")


def test_a_configuration_from_another_system_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xef\xbb\xbfout: runs/mine\r\nseeds: [1,\r\n  2]\r\n")
    assert read_yaml(path) == {"out": "runs/mine", "seeds": [1, 2]}
    assert load([ROOT / "config.yaml", path]).out == "runs/mine"


def test_an_alias_may_be_used_often(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("x: &x {a: 1}\ny: [" + ", ".join(["*x"] * 1000) + "]\nz: {<<: *x, a: 2}\n")
    assert read_yaml(path)["y"] == [{"a": 1}] * 1000
    assert read_yaml(path)["z"] == {"a": 2}


def _changed(path: str, value: object) -> dict[str, Any]:
    raw: Any = value
    for part in reversed(path.split(".")):
        raw = {part: raw}
    return merge(DEFAULT, raw)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("models.codebert.epochs", 10**12, "input should be less than or equal to 10000"),
        ("models.codebert.batch_tokens", 10**12, "a number beyond the limit of 1000000000; write a smaller one"),
        ("models.codebert.lr", float("inf"), "input should be a finite number"),
        ("models.codebert.lr", float("nan"), "input should be a finite number"),
        ("datasets.defects.seed", 10**30, "a number beyond the limit of 1000000000"),
        ("datasets.defects.seed", -(10**12), "a number beyond the limit of 1000000000"),
        ("attacks.codepoisoner_func.target_label", 10**9, "1000000000 is not a label of defects; write 0 or 1"),
        ("seeds", [10**12], "less than or equal to 1000000000"),
        ("seeds", list(range(1000, 30_000)), "combinations in its grids; a study has at most 20000, so cross fewer"),
        ("seeds", ["x" * 10**6], "not 'xxx"),
        ("crafting_seed", 10**40, "less than or equal to 1000000000"),
        ("models." + "x" * 200, {"architecture": "codebert"}, "string should have at most 100 characters"),
        ("experiments.defects.title", {"x": ["y" * 10**6]}, "input should be a valid string"),
        ("y" * 10**6, 1, "unknown key 'yyy"),
        ("\x1b[2J", 1, r"unknown key '\x1b[2J'"),
        ("datasets.defects.task", "z" * 10**6, "unknown task 'zzz"),
        ("models.codebert.architecture", ["z" * 10**6], "unknown architecture \"['zzz"),
    ],
)  # fmt: skip
def test_a_value_without_measure_is_one_short_line(path: str, value: object, message: str) -> None:
    with pytest.raises(UserError) as error:
        validate(_changed(path, value))
    full_message = str(error.value)
    assert message in full_message
    assert all(len(line) < 400 for line in full_message.splitlines())
    assert full_message.isprintable() or "\n" in full_message


def test_of_many_mistakes_the_first_are_listed() -> None:
    with pytest.raises(UserError) as error:
        validate(_changed("seeds", ["x"] * 30_000))
    lines = str(error.value).splitlines()
    assert len(lines) == 21
    assert lines[0].startswith("seeds.0: ")
    assert lines[-1] == "and 29980 more mistakes"


#: What no key of a configuration takes, or few do.
ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**15, 0.5, float("nan"), "", "x", "\x00", "~", "$NONE", "{x}", "../..", [], [[]]),
    *([None], [{}], {}, {"x": None}, {None: 1}, {1: 2}, {True: {}}, [["a"] * 3] * 3, b"bytes"),
)


def _paths(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [above, *(path for key, child in children for path in _paths(child, (*above, key)))]


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    if isinstance(value, dict):
        return {key: _replaced(child, path[1:], new) if key == path[0] else child for key, child in value.items()}
    return [_replaced(child, path[1:], new) if key == path[0] else child for key, child in enumerate(value)]


def test_whatever_stands_at_a_key_is_taken_or_refused() -> None:
    """Every place of the default study holds every eleventh odd value; an error names the section."""
    places = [path for path in _paths(DEFAULT) if path]
    cases = [(path, odd) for path in places for odd in ODD][::11]
    errors = [(path[0], _refusal(_replaced(DEFAULT, path, odd))) for path, odd in cases]
    assert [(section, error) for section, error in errors if error is not None and section not in error] == []
    accepted = sum(error is None for _, error in errors)
    assert 0 < accepted < len(errors) / 10


def _refusal(raw: Any) -> str | None:
    """Why a configuration is refused; None if it is accepted."""
    try:
        validate(raw)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 10_000, "nested more than 100 levels deep"),
        ('{"task": ' + "9" * 5000 + "}", "a number has 5000 digits"),
        ('{"task": "defect_detection", "clean": NaN}', "NaN is not a valid number in JSON"),
        ('{"task": "defect_detection", "seed": 1, "seed": 2}', "the key 'seed' occurs twice in one object"),
        ('{"task": "defect_detection", "path": "\\ud800"}', r"field 'path' contains \ud800"),
        ('{"task": "defect_detection"', "not JSON ("),
        ("[1]", "expected keys with values"),
        ("null", "expected keys with values"),
    ],
)
def test_settings_that_cannot_be_read_are_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        parse(AnyDataset, text, "datasets.mine")
    assert str(error.value).startswith("datasets.mine: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    result = CliRunner().invoke(main, ["dataset", "mine", "--settings", text, "--out", "never", "--seed", "1"])
    assert (result.exit_code, result.output) == (2, f"error: {error.value}\n")
