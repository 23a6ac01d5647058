"""A cluster for the session, and copies of the source tree: one is run here, the other submits to the cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster import Cluster, NoClusterError
from smoke_tree import Tree, copy_of_sources


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running cluster of one node; skips, with the reason, where there can be none."""
    box = Cluster()
    try:
        box.start()
    except NoClusterError as reason:
        pytest.skip(str(reason))
    yield box
    box.stop()


@pytest.fixture(scope="session")
def tree(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    assert not cluster.jobs()
    return copy_of_sources(tmp_path_factory.mktemp("submitting"))


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The same study, run without a cluster."""
    tree = copy_of_sources(tmp_path_factory.mktemp("local"))
    completed = tree.snakemake("--cores", "2")
    assert completed.returncode == 0, completed.stdout[-4000:] + completed.stderr[-8000:]
    return tree
