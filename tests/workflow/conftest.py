"""A copy of the source tree in which the whole study has run once, at smoke scale."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from smoke_tree import Tree

ROOT = Path(__file__).parents[2]
SOURCES = ("Snakefile", "config.yaml", "configs", "rules", "envs", "report", "profiles", "workflow")


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    root = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, root / name)
    return Tree(root)


@pytest.fixture(scope="session")
def finished(tree: Tree) -> Tree:
    """The tree after the whole study has run."""
    found = tree.snakemake()
    assert found.returncode == 0, found.stdout[-4000:] + found.stderr[-8000:]
    return tree
