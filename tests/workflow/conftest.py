"""A copy of the source tree in which the whole study has run once, at smoke scale."""

from __future__ import annotations

import shutil

import pytest
from smoke_tree import Tree, copy_of_sources


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return copy_of_sources(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="session")
def finished(tree: Tree) -> Tree:
    """The tree after the whole study has run."""
    completed = tree.snakemake()
    assert completed.returncode == 0, completed.stdout[-4000:] + completed.stderr[-8000:]
    shutil.copytree(tree.root, tree.root.with_name("unchanged"))
    return tree


@pytest.fixture(scope="session")
def unchanged(finished: Tree) -> Tree:
    """A copy of the finished tree from before any test changed something in it."""
    return Tree(finished.root.with_name("unchanged"))
