"""A node without network: a run takes everything from a mirror folder, and says at once what is not in it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from smoke_tree import CONFIGS, Tree, copy_of_sources

from codebackdoor.config.hub import HubId
from codebackdoor.corpora.archives import ARCHIVES
from codebackdoor.corpora.lock import Lock

pytestmark = pytest.mark.slow

ARCHIVE = "networkx-3.0"
BASE = HubId("tiny/encoder", "0123456789abcdef0123456789abcdef01234567")
VICTIM = "runs/smoke/models/defects/codebert/none-0/seed1/none/cross_entropy/none/model.safetensors"
#: A network namespace of its own, with no interface that is up.
WITHOUT_NETWORK = ("unshare", "--map-root-user", "--net")


@pytest.fixture(scope="module")
def offline(finished: Tree, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A tree that has run nothing, with a mirror: an archive, and a base model as if it came from the hub."""
    tree = copy_of_sources(tmp_path_factory.mktemp("offline"))
    mirror = tree.root / "mirror"
    shutil.copytree(finished.out / "models/base/encoder", mirror / BASE.place)
    shutil.copy2(finished.out / f"corpus/archives/{ARCHIVE}.whl", mirror / ARCHIVES[ARCHIVE].file)
    for path in sorted((mirror / BASE.place).iterdir()):
        Lock(mirror).record(f"{BASE.place}/{path.name}")
    own = {
        "mirror": "mirror",
        "corpus": {"archives": [ARCHIVE]},
        "tokenizer": f"mirror/{BASE.place}/tokenizer.json",
        "models": {"codebert": {"base": BASE.repository, "revision": BASE.revision}},
    }
    (tree.root / "offline.yaml").write_text(yaml.safe_dump(own))
    return tree


@contextmanager
def replaced(path: Path, data: bytes | None) -> Iterator[None]:
    """Give a file another content, or none, for a while."""
    before = path.read_bytes()
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


def test_what_is_not_in_the_mirror_is_said_before_any_job(offline: Tree) -> None:
    weights = offline.root / "mirror" / BASE.place / "model.safetensors"
    wheel = offline.root / "mirror" / ARCHIVES[ARCHIVE].file
    with replaced(weights, weights.read_bytes()[:-1]), replaced(wheel, None):
        found = offline.snakemake("offline.yaml", "--", VICTIM)
    assert found.returncode != 0
    said = found.stdout + found.stderr
    assert f"mirror/{wheel.name} is missing" in said
    assert f"mirror/{BASE.place}: model.safetensors has " in said
    assert "`make fetch CONFIG='configs/smoke.yaml offline.yaml' MIRROR=mirror` brings what is missing" in said
    assert not offline.out.exists()


def test_without_network_a_victim_is_trained_from_a_mirror_alone(offline: Tree) -> None:
    if shutil.which("unshare") is None or subprocess.run([*WITHOUT_NETWORK, "true"], check=False).returncode:
        pytest.skip("this system does not allow a process to leave the network (unshare --map-root-user --net)")
    arguments = ("snakemake", "--configfile", CONFIGS[1], "offline.yaml", "--", VICTIM)
    found = offline.run(*WITHOUT_NETWORK, *arguments)
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-6000:]
    assert (offline.root / VICTIM).stat().st_size > 0


def test_a_base_that_changed_behind_the_lock_is_not_trained(offline: Tree) -> None:
    weights = offline.root / "mirror" / BASE.place / "model.safetensors"
    data = weights.read_bytes()
    # of the same size, so that only the job that loads it finds out
    with replaced(weights, data[:-1] + bytes([data[-1] ^ 1])):
        found = offline.snakemake("offline.yaml", "--", VICTIM)
    assert found.returncode != 0
    [log] = (offline.out / "logs/train").rglob("*.log")
    assert log.read_text().count("\n") == 1
    assert "model.safetensors was changed since it was fetched" in log.read_text()
    assert "`make fetch` brings it again" in log.read_text()
