"""Imports point one way, and only the syntax package knows tree-sitter."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from codebackdoor.dag.fingerprint import PACKAGE, ROOT

FILES = sorted(ROOT.rglob("*.py"))
#: What each part may import of the package, beside itself and the ground that all stand on.
GROUND = {
    "",
    "batch_sizes",
    "bleu",
    "config",
    "errors",
    "files",
    "heads",
    "loader",
    "outputs",
    "parsing",
    "pools",
    "seeding",
    "settings",
}
GROUND |= {"trials", "types"}
#: What the configuration needs of the report: names, help and printed tables. They are light, so that the registry of
#: products and the papers' data are also where the configuration takes its choices from.
LIGHT_REPORT = ("report.products", "report.inputs", "report.papers")
ALLOWED = {
    # settings.py of a method's folder, wherever that is
    # they say what their method costs
    "settings": {"costs"},
    "": set(),
    "errors": set(),
    "trials": set(),
    "types": set(),
    "files": set(),
    "heads": set(),
    "loader": set(),
    "batch_sizes": set(),
    "bleu": set(),
    "parsing": set(),
    "outputs": set(),
    "pools": set(),
    "seeding": set(),
    "config": {"products"},
    # the light modules of the report, which stand on the ground alone
    "products": set(),
    "costs": set(),
    "runs": set(),
    "syntax": set(),
    "corpora": {"syntax"},
    # wheels are fetched into a mirror as well, and queries are made from docstrings as in the local corpus
    "originals": {"syntax", "corpora"},
    "victims": {"corpora", "originals"},
    # base models are pretrained on mined functions, and written as the folders that victims start from
    "basemodels": {"syntax", "corpora", "originals", "victims"},
    "tasks": {"syntax", "corpora", "originals"},
    "attacks": {"syntax", "victims"},
    "defenses": {"syntax", "victims"},
    "evaluation": {"syntax", "tasks"},
    # significance tests and distances are computed where a table is made: they need no test rows
    "report": {"evaluation", "products", "syntax"},
}
TOP = {"cli", "commands", "dag", "library"}


def part_of(path: Path) -> str:
    if path.name == "settings.py":
        return "settings"
    if path.relative_to(ROOT).with_suffix("").as_posix().removesuffix("/__init__").replace("/", ".") in LIGHT_REPORT:
        return "products"
    return path.relative_to(ROOT).parts[0].removesuffix(".py").replace("__init__", "")


def imported_part(name: str) -> str:
    """The part that a dotted name of the package belongs to."""
    parts = name.split(".")
    if ".".join(parts[1:3]) in LIGHT_REPORT:
        return "products"
    return "settings" if "settings" in parts else parts[1]


def imports(path: Path) -> set[str]:
    """Dotted names imported at run time, anywhere in the file."""
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            assert node.module is not None
            names.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    part = part_of(path)
    if part in TOP:
        return
    parts = {p.name.removesuffix(".py") for p in ROOT.iterdir() if p.name != "__init__.py"}
    layers = parts | {"settings", "products"}
    imported = {imported_part(name) for name in imports(path) if name.startswith(f"{PACKAGE}.")} & layers
    assert imported <= ALLOWED[part] | GROUND | {part}, (
        f"{part} may not import {sorted(imported - ALLOWED[part] - GROUND - {part})}"
    )


#: Folders of methods, and some that each must contain.
METHODS = {
    "attacks": {"afraidoor", "badcode", "badpre", "bnc_fixed"},
    "defenses/filtering": {"bki", "codepurify", "onion"},
    "defenses/objectives": {"cross_entropy", "dece", "gce", "in_trust"},
    "defenses/elimination": {"dbs", "elibadcode", "fine_tuning"},
    "defenses/purification": {"attdef", "codepurify", "onion", "oseql", "similarity"},
}


@pytest.mark.parametrize("kind", METHODS)
def test_no_method_imports_another(kind: str) -> None:
    """What two methods of a kind share lies next to their folders; settings may contain those of another method."""
    folder, package = ROOT / kind, f"{PACKAGE}.{kind.replace('/', '.')}"
    methods = {path.parent.name for path in folder.glob("*/method.py")}
    assert methods >= METHODS[kind]
    for path in folder.rglob("*.py"):
        other_methods = methods - {path.relative_to(folder).parts[0]}
        foreign_imports = [
            name
            for name in imports(path)
            if "settings" not in name.split(".")
            and any(f"{name}.".startswith(f"{package}.{method}.") for method in other_methods)
        ]
        assert not foreign_imports, f"{path} imports {foreign_imports}"


#: What the kinds of defenses, ``suspicion`` and ``stages`` may import of each other. All of them may also import the
#: modules next to their folders (views, helper models, thresholds, texts of inputs), which import none of them.
KINDS: dict[str, set[str]] = {
    "suspicion": set(),
    "filtering": {"suspicion"},
    "objectives": set(),
    "elimination": set(),
    "purification": {"suspicion"},
    "stages": {"filtering", "elimination", "purification"},
}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "defenses").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_kinds_of_defenses_import_in_one_direction(path: Path) -> None:
    assert all((ROOT / "defenses" / name).is_dir() for name in KINDS)
    kind = path.relative_to(ROOT / "defenses").parts[0]
    package = f"{PACKAGE}.defenses."
    imported = {name.removeprefix(package).split(".")[0] for name in imports(path) if name.startswith(package)}
    allowed = KINDS.get(kind, set()) | {kind}
    assert imported & KINDS.keys() <= allowed, f"{kind} may not import {sorted(imported & KINDS.keys() - allowed)}"


def test_reading_a_configuration_imports_nothing_heavy() -> None:
    code = "import sys; from codebackdoor.config import study; print(sorted({'torch', 'numpy'} & {*sys.modules}))"
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout == "[]\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_syntax_imports_tree_sitter(path: Path) -> None:
    if part_of(path) != "syntax":
        assert not [name for name in imports(path) if name.startswith("tree_sitter")]


def test_the_ground_imports_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "sklearn", "tree_sitter", "matplotlib"}
    light = GROUND | TOP | {"runs", "costs", "products"}
    for path in FILES:
        if part_of(path) in light - {"commands", "library", "seeding"}:
            heavy_imports = {name.split(".")[0] for name in imports(path)} & heavy
            assert not heavy_imports, f"{path} imports {sorted(heavy_imports)}"


#: Where generated programs and their tests run, in a process that can do no harm (tests/unit/test_execution.py).
ISOLATED = "evaluation/execution/"


def test_nothing_dangerous_is_called() -> None:
    """No eval, no exec, no sys.path, no remote code, no global seeds."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called == "exec" and path.relative_to(ROOT).as_posix().startswith(ISOLATED):
                    continue
                assert called not in {"eval", "exec", "np.random.seed", "random.seed", "pickle.load"}, path
                # once, of known originals, and then weights alone
                if called == "torch.load":
                    assert path.relative_to(ROOT).as_posix() == "originals/conversion.py"
                    assert "weights_only=True" in [ast.unparse(word) for word in node.keywords]
                # without it, transformers asks the user whether to run a folder's code
                if called.endswith(".from_pretrained"):
                    assert "trust_remote_code=False" in [ast.unparse(word) for word in node.keywords], path
            if isinstance(node, ast.Attribute):
                isolated = path.relative_to(ROOT).as_posix().startswith(ISOLATED)
                assert ast.unparse(node) != "sys.path" or isolated, path
            if isinstance(node, ast.keyword):
                assert node.arg != "trust_remote_code" or ast.unparse(node.value) == "False", path
