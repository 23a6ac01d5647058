"""One hash of the code that a job runs, so that editing a method reruns its jobs and no others.

A fingerprint covers some modules and all modules of this package that they import, at any depth and also inside
functions. It excludes the registries (a new method must not rerun the existing ones), imports for type checking, and
the modules of settings: the values of settings are parameters of the job, and of the classes that the caller names
(``settings_classes``) only the methods count. It is computed from syntax trees without docstrings, so comments, layout
and quotes do not matter, and the same code has the same hash on every supported version of Python.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

from codebackdoor.config.base import Settings

PACKAGE = "codebackdoor"
ROOT = Path(__file__).resolve().parents[1]

#: Package files that look up methods and model families by name. Like settings (every module ``settings``), they are
#: not part of what a job runs.
REGISTRIES = frozenset(
    f"{PACKAGE}.{name}"
    for name in (
        "tasks",
        "attacks",
        "defenses",
        "defenses.filtering",
        "defenses.objectives",
        "defenses.elimination",
        "defenses.purification",
        "victims.families",
    )
)
SETTINGS_PACKAGE = f"{PACKAGE}.config"

#: Libraries whose version is part of the fingerprint of code that imports them: import name and distribution.
LIBRARIES = {
    "sqlglot": "sqlglot",
    "torch": "torch",
    "transformers": "transformers",
    "tree_sitter": "tree-sitter",
}


def fingerprint(*modules: str, settings: Iterable[type[Settings]] = (), root: Path = ROOT) -> str:
    """Return 16 hexadecimal digits for the code of ``modules`` (full dotted names) and everything that they import,
    and for the methods of the classes ``settings``.

    ``root`` is the folder of the package's source. Raises ValueError for a name that is not a module of the package.
    """
    names = closure(modules, root)
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(f"{name} {_read(name, root).digest}\n".encode())
    # without names, so that a class without methods of its own changes nothing
    for methods in filter(None, (_methods(cls, root) for cls in settings)):
        digest.update(f"{methods}\n".encode())
    libraries = {library for name in names for library in _read(name, root).libraries}
    for library in sorted(libraries):
        # builds with and without a local suffix (+cpu) count as the same version
        digest.update(f"{library} {version(LIBRARIES[library]).partition('+')[0]}\n".encode())
    return digest.hexdigest()[:16]


def closure(modules: Iterable[str], root: Path = ROOT) -> frozenset[str]:
    """Return the names of ``modules`` and of every module of the package that they import at any depth."""
    visited: set[str] = set()
    queue = list(modules)
    for name in queue:
        if module_path(name, root) is None:
            raise ValueError(f"{name} is not a module under {root}")
    while queue:
        name = queue.pop()
        if name not in visited and not _is_excluded(name):
            visited.add(name)
            queue.extend(_read(name, root).imports)
    return frozenset(visited)


def settings_classes(settings: Settings) -> tuple[type[Settings], ...]:
    """The class of ``settings``, its bases, and those of the settings that it contains, in a fixed order."""
    values = (value for value in vars(settings).values() if isinstance(value, Settings))
    nested = [cls for value in values for cls in settings_classes(value)]
    bases = [cls for cls in type(settings).__mro__ if issubclass(cls, Settings)]
    return tuple(dict.fromkeys(bases + nested))


def module_path(name: str, root: Path = ROOT) -> Path | None:
    """Return the file of a module or package by its full dotted name; None if there is none."""
    parts = name.split(".")
    if parts[0] != PACKAGE:
        return None
    base = root.joinpath(*parts[1:])
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return path
    return None


def _methods(cls: type[Settings], root: Path) -> str:
    """The normal form of the methods of a class that a job may call.

    All but the validators, whose results are the values of the settings, and the estimates of a job's cost (``Work``).
    """
    path = module_path(cls.__module__, root)
    if path is None:
        raise ValueError(f"{cls.__module__} is not a module under {root}")
    classes = _parsed_classes(path, path.stat().st_mtime_ns)
    return "".join(part for node in classes[cls.__name__].body if _may_be_called_by_a_job(node) for part in _dump(node))


@cache
def _parsed_classes(path: Path, _changed: int) -> dict[str, ast.ClassDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _may_be_called_by_a_job(node: ast.stmt) -> bool:
    if not isinstance(node, ast.FunctionDef):
        return False
    decorators = {name.id for item in node.decorator_list for name in ast.walk(item) if isinstance(name, ast.Name)}
    returned = {name.id for name in ast.walk(node.returns) if isinstance(name, ast.Name)} if node.returns else set()
    return "Work" not in returned and not decorators & {"field_validator", "model_validator"}


def normal_form(source: str) -> str:
    """Return the syntax tree of ``source`` without docstrings, positions and empty fields, as one line of text."""
    return "".join(_dump(ast.parse(source)))


class _Module:
    """One source file: its hash, and the modules and libraries that it imports."""

    def __init__(self, path: Path, name: str, root: Path) -> None:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        self.digest = hashlib.sha256("".join(_dump(tree)).encode()).hexdigest()
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        imported = set(_imported(tree.body, package))
        self.imports = frozenset(_existing(imported, root))
        self.libraries = frozenset(module.partition(".")[0] for module in imported) & LIBRARIES.keys()


@cache
def _parsed(path: Path, _changed: int, name: str, root: Path) -> _Module:
    return _Module(path, name, root)


def _read(name: str, root: Path) -> _Module:
    path = module_path(name, root)
    if path is None:
        raise ValueError(f"{name} is not a module under {root}")
    return _parsed(path, path.stat().st_mtime_ns, name, root)


def _is_excluded(name: str) -> bool:
    is_settings = name.startswith(f"{SETTINGS_PACKAGE}.") or name.endswith(".settings")
    return name in (PACKAGE, SETTINGS_PACKAGE) or name in REGISTRIES or is_settings


def _imported(nodes: Iterable[ast.AST], package: str) -> Iterator[str]:
    """Dotted names that the code imports: for ``from a import b`` both ``a`` and ``a.b``."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            yield from _imported(node.orelse, package)
        else:
            yield from _imported(ast.iter_child_nodes(node), package)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"


def _existing(names: Iterable[str], root: Path) -> Iterator[str]:
    """The modules of this package among ``names``, and the packages that contain them."""
    for name in names:
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            if module_path(".".join(parts[:length]), root) is not None:
                yield ".".join(parts[:length])


def _dump(node: ast.AST) -> Iterator[str]:
    """Yield the parts of a textual form of the tree that is the same in every Python version."""
    yield f"({type(node).__name__}"
    for name, value in ast.iter_fields(node):
        # absent and empty fields are omitted: 3.12 added some (type_params)
        if value is None or value == [] or name in ("kind", "type_comment", "type_ignores"):
            continue
        yield f" {name}="
        if isinstance(value, ast.AST):
            yield from _dump(value)
        elif isinstance(value, list):
            if name == "body" and _has_docstring(node):
                value = value[1:]
            elif isinstance(node, ast.JoinedStr):
                # 3.12 ends a format specification with an empty constant, 3.11 does not
                value = [part for part in value if not (isinstance(part, ast.Constant) and part.value == "")]
            yield "["
            for element in value:
                yield from _dump(element) if isinstance(element, ast.AST) else (repr(element),)
            yield "]"
        else:
            yield repr(value)
    # here None is the value, not an absent field
    if isinstance(node, ast.Constant) and node.value is None:
        yield " value=None"
    yield ")"


def _has_docstring(node: ast.AST) -> bool:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
