"""Every method of the unions is at home in one folder, says what it is called and where it comes from, and is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from codebackdoor.config import methods
from codebackdoor.config.base import Settings, models_in, tag_of
from codebackdoor.dag.fingerprint import PACKAGE, module_path
from codebackdoor.defenses.purification.settings import PurificationSettings

ROOT = Path(__file__).parents[2]
UNIONS = {name: union for name, union in vars(methods).items() if name.startswith("Any")}
METHODS = [kind for union in UNIONS.values() for kind in models_in(union) if issubclass(kind, Settings)]
every_method = pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.__name__)


def test_there_is_a_union_for_each_kind() -> None:
    assert set(UNIONS) == {"AnyAttack", "AnyElimination", "AnyFiltering", "AnyObjective", "AnyPurification"}
    assert len(METHODS) >= 14


@every_method
def test_a_method_has_a_label_and_a_reference(kind: type[Settings]) -> None:
    assert kind.label
    reference = kind.reference
    assert reference is not None
    assert reference.authors
    assert reference.title
    assert 1980 < reference.year < 2100
    assert reference.url.startswith("https://")


@pytest.mark.parametrize("kind", list(models_in(methods.AnyPurification)), ids=lambda kind: kind.__name__)
def test_the_threshold_of_a_purification_is_explained(kind: type[PurificationSettings]) -> None:
    assert ("threshold" in kind.model_fields) == bool(kind.threshold_meaning)


@every_method
def test_a_method_is_a_folder_with_its_settings_and_its_implementation(kind: type[Settings]) -> None:
    folder, _, module = kind.__module__.rpartition(".")
    assert module == "settings"
    assert folder.rpartition(".")[2] == tag_of(kind)
    for name in (folder, f"{folder}.settings", f"{folder}.method"):
        path = module_path(name)
        assert path is not None, name
        tree = ast.parse(path.read_text(encoding="utf-8"))
        classes = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        assert (kind.__name__ in classes) == (name == kind.__module__)


def test_reading_a_configuration_imports_nothing_heavy() -> None:
    code = (
        f"import pathlib, sys; from {PACKAGE}.config.loading import load; load([pathlib.Path('config.yaml')])\n"
        "heavy = {'torch', 'numpy', 'transformers', 'tree_sitter', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
