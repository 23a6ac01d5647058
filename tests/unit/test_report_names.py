"""The report knows no paper, task, method or model by name, and its classes have names of their own."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from codebackdoor.config.base import Settings, models_in, tag_of
from codebackdoor.config.sections import SECTIONS
from codebackdoor.config.study import Config
from codebackdoor.dag.fingerprint import ROOT
from codebackdoor.report import papers

REPORT = ROOT / "report"


def names() -> set[str]:
    """Papers, tasks, methods and model architectures, as the configuration and the papers' files call them."""
    kinds = (model for section in SECTIONS.values() for model in models_in(Config.model_fields[section].annotation))
    tags = {tag_of(model) for model in kinds if issubclass(model, Settings)} - {None}
    return {str(tag) for tag in tags} | {*papers.papers()} | {paper.title for paper in papers.papers().values()}


def words(path: Path) -> Iterator[str]:
    """All identifiers and strings of a module, without its docstrings, which cite the papers that it follows."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        for field in ("id", "attr", "arg", "name"):
            if isinstance(value := getattr(node, field, None), str):
                yield value


def test_the_report_names_no_paper_task_method_or_model() -> None:
    pattern = re.compile(rf"(?<![a-z0-9])({'|'.join(sorted(map(re.escape, names())))})(?![a-z0-9])", re.IGNORECASE)
    assert len(names()) > 20
    named = [
        f"{path.relative_to(REPORT)}: {match[0]}"
        for path in sorted(REPORT.rglob("*.py"))
        for text in words(path)
        for match in pattern.finditer(text)
    ]
    assert named == []


def test_such_a_name_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text('"""EliBadCode."""\nif task == "code_search":\n    onion = paper("dece")\n')
    assert {"code_search", "onion", "dece"} <= {*words(tmp_path / "module.py")}
    assert "EliBadCode." not in {*words(tmp_path / "module.py")}


def test_every_class_of_the_report_has_a_name_of_its_own() -> None:
    classes = {
        path: [node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
        for path in ROOT.rglob("*.py")
    }
    counts = Counter(name for in_module in classes.values() for name in in_module)
    in_report = {name for path, in_module in classes.items() if REPORT in path.parents for name in in_module}
    assert {name for name in in_report if counts[name] > 1} == set()
