"""A fingerprint depends on what code does and what it imports, not on how it is formatted."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

import pytest

from codebackdoor.config.loading import load
from codebackdoor.dag import fingerprint, parameters
from codebackdoor.dag.parameters import STAGES
from codebackdoor.victims.families import FAMILIES

BASE = '''"""Docstring."""
from __future__ import annotations

import torch


def score(x: float, *, name: str = "a") -> str:
    """Says something."""
    value = {**{}, "k": [x, None]}
    return f"{value['k']!r:>{x}} {name=}" "tail"
'''


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of two methods that share a helper, found through a registry."""
    return write(
        tmp_path,
        {
            "__init__": "__version__ = '1'\n",
            "helper": "def help(): return 1\n",
            "config/__init__": "",
            "config/attacks": "class One: pass\n",
            "attacks/__init__": "from codebackdoor import victims\nNAMES = ('one', 'two')\n",
            "attacks/one": "from codebackdoor.attacks import NAMES\nfrom codebackdoor.config.attacks import One\n"
            "def build():\n    from codebackdoor import helper\n    return helper\n",
            "attacks/two": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from codebackdoor import helper\n"
            "from . import near\n",
            "attacks/near": "x = 1\n",
            "victims": "import torch\n",
        },
    )


def test_comments_docstrings_and_layout_do_not_count() -> None:
    reformatted = (
        BASE.replace('"""Docstring."""\n', "# a comment\n")
        .replace('    """Says something."""\n', "\n")
        .replace('"a"', "'a'")
        .replace('    return f"', '    return (\n        f"')
        .replace('"tail"', "'tail')")
    )
    assert fingerprint.normal_form(BASE) == fingerprint.normal_form(reformatted)


@pytest.mark.parametrize(("old", "new"), [("None", "0"), ("!r", "!s"), ('"a"', '"b"'), ("{x}", "{name}"), ("{}", "1")])
def test_every_change_of_meaning_counts(old: str, new: str) -> None:
    changed = BASE.replace(old, new, 1)
    assert changed != BASE
    assert fingerprint.normal_form(BASE) != fingerprint.normal_form(changed)


def test_the_normal_form_is_the_same_on_every_python() -> None:
    form = fingerprint.normal_form("def f(x):\n    'doc'\n    return f'{x!r:>{1}}{x=}' 'y', {**x}\n")
    assert form == (
        "(Module body=[(FunctionDef name='f' args=(arguments args=[(arg arg='x')]) body=[(Return value=(Tuple "
        "elts=[(JoinedStr values=[(FormattedValue value=(Name id='x' ctx=(Load)) conversion=114 "
        "format_spec=(JoinedStr values=[(Constant value='>')(FormattedValue value=(Constant value=1) conversion=-1)]))"
        "(Constant value='x=')(FormattedValue value=(Name id='x' ctx=(Load)) conversion=114)(Constant value='y')])"
        "(Dict keys=[None] values=[(Name id='x' ctx=(Load))])] ctx=(Load)))])])"
    )


def test_imports_are_followed_also_inside_functions_but_not_into_registries(package: Path) -> None:
    closure = fingerprint.closure(["codebackdoor.attacks.one"], package)
    assert closure == {"codebackdoor.attacks.one", "codebackdoor.helper"}


def test_type_checking_imports_are_not_followed_and_relative_ones_are(package: Path) -> None:
    closure = fingerprint.closure(["codebackdoor.attacks.two"], package)
    assert closure == {"codebackdoor.attacks.two", "codebackdoor.attacks.near"}


def test_a_change_reaches_exactly_its_users(package: Path) -> None:
    names = ("codebackdoor.attacks.one", "codebackdoor.attacks.two", "codebackdoor.helper")
    before = [fingerprint.fingerprint(name, root=package) for name in names]
    write(
        package,
        {
            "helper": "def help(): return 2\n",
            "config/attacks": "class Two: pass\n",
            "attacks/__init__": "NAMES = ()\n",
            "attacks/three": "import torch\n",
            "__init__": "__version__ = '2'\n",
        },
    )
    after = [fingerprint.fingerprint(name, root=package) for name in names]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True, False]


def test_the_version_of_a_used_library_counts(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("codebackdoor.attacks.one", "codebackdoor.victims")
    monkeypatch.setattr(fingerprint, "version", lambda _: "1.0+cpu")
    before = [fingerprint.fingerprint(name, root=package) for name in names]
    monkeypatch.setattr(fingerprint, "version", lambda _: "1.0")
    assert before == [fingerprint.fingerprint(name, root=package) for name in names]
    monkeypatch.setattr(fingerprint, "version", lambda _: "2.0")
    after = [fingerprint.fingerprint(name, root=package) for name in names]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False]


def test_the_parser_of_sql_counts_where_targets_are_decided_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """On it depends whether a predicate always holds, inside functions that import it when they are called."""

    def codes() -> dict[str, str]:
        modules = {"score": "tasks.code_generation.task", "poison": STAGES["poison"], "mine": STAGES["mine"]}
        return {stage: fingerprint.fingerprint(f"{fingerprint.PACKAGE}.{name}") for stage, name in modules.items()}

    before, version = codes(), fingerprint.version
    monkeypatch.setattr(fingerprint, "version", lambda name: "0.1" if name == "sqlglot" else version(name))
    assert {stage for stage, code in codes().items() if code != before[stage]} == {"score", "poison"}


def test_a_change_in_any_module_that_a_job_imports_changes_its_fingerprint_and_no_other_does(tmp_path: Path) -> None:
    root = tmp_path / "codebackdoor"
    shutil.copytree(fingerprint.ROOT, root, ignore=shutil.ignore_patterns("__pycache__", "*.json", "*.j2"))
    stage = f"{fingerprint.PACKAGE}.{STAGES['predict']}"
    imported = fingerprint.closure([stage], root)
    names = {_module(path, root) for path in root.rglob("*.py")}
    assert len(imported) > 10
    assert len(names - imported) > 100
    before = fingerprint.fingerprint(stage, root=root)
    for name in sorted(names):
        path = fingerprint.module_path(name, root)
        assert path is not None
        text, time = path.read_text(), path.stat().st_mtime_ns
        path.write_text(f"{text}\nADDED = 1\n")
        os.utime(path, ns=(time + 1, time + 1))
        assert (fingerprint.fingerprint(stage, root=root) != before) == (name in imported), name
        path.write_text(text)
        os.utime(path, ns=(time, time))


def _module(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join((fingerprint.PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)))


def test_whatever_decides_how_a_program_ended_is_in_the_fingerprint_of_its_execution() -> None:
    folder = fingerprint.ROOT / "evaluation" / "execution"
    names = {_module(path, fingerprint.ROOT) for path in folder.glob("*.py") if path.stem != "settings"}
    assert names - fingerprint.closure([f"{fingerprint.PACKAGE}.{STAGES['execute']}"]) == set()


@pytest.mark.parametrize(
    ("edited", "old", "new", "reruns"),
    [
        # a base class, what both methods inherit, and the class itself
        ("defenses/elimination/inversion/settings.py", '"all" if position', '"words" if position', ["eliminate"]),
        ("config/base.py", "    def ", "    def added(self) -> None: ...\n\n    def ", ["eliminate", "purify"]),
        ("defenses/purification/codepurify/settings.py", "self.touched_share == 1", "False", ["purify"]),
        # what a job costs and which values are accepted
        ("defenses/elimination/inversion/settings.py", "def search_work(", "def searching(", []),
        ("defenses/suspicion/settings.py", "def _something_to_mask(", "def _is_complete(", []),
        # fields, whose values are parameters
        ("defenses/elimination/inversion/settings.py", "length: Searched[int]", "length: Searched[float]", []),
    ],
)
def test_methods_of_the_settings_that_a_job_receives_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edited: str, old: str, new: str, reruns: list[str]
) -> None:
    root = tmp_path / "codebackdoor"
    shutil.copytree(fingerprint.ROOT, root, ignore=shutil.ignore_patterns("__pycache__", "*.json", "*.j2"))
    monkeypatch.setattr(parameters, "fingerprint", partial(fingerprint.fingerprint, root=root))
    config = load([Path(__file__).parents[2] / "config.yaml"])

    def codes() -> dict[str, str]:
        jobs = parameters.Parameters(config)
        return {
            "eliminate": jobs.code("eliminate", elimination="elibadcode"),
            "purify": jobs.code("purify", purification="codepurify"),
        }

    before = codes()
    text = (root / edited).read_text()
    assert old in text
    (root / edited).write_text(text.replace(old, new, 1))
    assert [stage for stage, code in codes().items() if code != before[stage]] == reruns


def test_an_unknown_module_is_refused(package: Path) -> None:
    with pytest.raises(ValueError, match=r"codebackdoor\.attacks\.four is not a module"):
        fingerprint.fingerprint("codebackdoor.attacks.four", root=package)


def test_every_registry_exists() -> None:
    for name in (*fingerprint.REGISTRIES, fingerprint.SETTINGS_PACKAGE):
        assert fingerprint.module_path(name) is not None


def test_editing_a_family_changes_the_code_of_its_own_victims_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "codebackdoor"
    shutil.copytree(fingerprint.ROOT, root, ignore=shutil.ignore_patterns("__pycache__", "*.json", "*.j2"))
    monkeypatch.setattr(parameters, "fingerprint", partial(fingerprint.fingerprint, root=root))
    config = load([Path(__file__).parents[2] / "config.yaml"])

    def codes() -> dict[tuple[str, str], str]:
        jobs = parameters.Parameters(config)
        stages = ("train", "predict", "eliminate", "calibrate", "purify", "probe")
        return {(stage, model): jobs.code(stage, model=model) for stage in stages for model in ("codebert", "codet5")}

    before = codes()
    for name in FAMILIES:
        assert fingerprint.module_path(f"{fingerprint.PACKAGE}.victims.families.{name}") is not None
    # a new family: its file, and its line in the registry
    (root / "victims/families/mamba.py").write_text("class Mamba:\n    pass\n")
    (root / "victims/families/__init__.py").write_text("from codebackdoor.victims.families.mamba import Mamba\n")
    assert codes() == before
    with (root / "victims/families/t5.py").open("a") as file:
        file.write("\nADDED = 1\n")
    changed = {key for key, code in codes().items() if code != before[key]}
    assert changed == {key for key in before if key[1] == "codet5"}
