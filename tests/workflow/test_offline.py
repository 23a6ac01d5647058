"""A node without network: a run takes everything from a mirror folder, and says at once what is not in it.

Where that folder lies, and what it weighs, matters to no finished file.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from smoke_tree import CONFIGS, ROOT, Tree, copy_of_sources

from codebackdoor.config.hub import HubId
from codebackdoor.corpora.archives import ARCHIVES
from codebackdoor.files import sha256, write_rows
from codebackdoor.originals.lock import Lock

pytestmark = pytest.mark.slow

ARCHIVE = "networkx-3.0"
BASE = HubId("tiny/encoder", "0123456789abcdef0123456789abcdef01234567")
POISONED = {"attacks": ["codepoisoner_func"], "rates": [0.05], "eliminations": ["none", "elibadcode"]}
#: One poisoned victim, cleaned once, and its inputs purified by each method: the helper of one is from the hub, that of
#: the other in git, with weights beyond the size of which Snakemake takes checksums.
GRID = {"datasets": ["defects"], "models": ["codebert"], "purifications": ["none", "onion", "codepurify"], **POISONED}
DEVIGN = "runs/smoke/data/devign/test.jsonl"
VICTIM = "runs/smoke/models/defects/codebert/none-0/seed7/none/cross_entropy/none/model.safetensors"
#: A network namespace of its own, with no interface that is up.
WITHOUT_NETWORK = ("unshare", "--map-root-user", "--net")


@pytest.fixture(scope="module")
def offline(finished: Tree, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A tree that has run nothing, with a mirror: an archive, C functions, and a model as if it came from the hub."""
    tree = copy_of_sources(tmp_path_factory.mktemp("offline"))
    mirror = tree.root / "mirror"
    shutil.copytree(finished.out / "models/base/encoder", mirror / BASE.place)
    shutil.copy2(finished.out / f"corpus/archives/{ARCHIVE}.whl", mirror / ARCHIVES[ARCHIVE].file)
    for split, first in (("train", 0), ("valid", 40), ("test", 60)):
        numbers = range(first, first + 40 if split == "train" else first + 20)
        code = "int f{0}(int a) {{ return a * {0} + g{0}(a); }}"
        rows = ({"func": code.format(number), "target": number % 2, "idx": number} for number in numbers)
        write_rows(mirror / f"devign/{split}.jsonl", rows)
    for path in sorted([*(mirror / BASE.place).iterdir(), *(mirror / "devign").iterdir()]):
        Lock(mirror).record(path.relative_to(mirror).as_posix(), sha256(path))
    shutil.copytree(ROOT / "basemodels", tree.root / "basemodels")
    shutil.copy2(mirror / BASE.place / "tokenizer.json", tree.root)
    overlay = {
        "mirror": "mirror",
        "corpus": {"archives": [ARCHIVE]},
        "tokenizer": "tokenizer.json",
        "helpers": {"infiller": str(BASE), "language_model": "basemodels/causal"},
        "models": {"codebert": {"base": BASE.repository, "revision": BASE.revision}},
        "datasets": {"devign": {"task": "defect_detection", "source": "mirror", "language": "c"}},
        "experiments": {"defects": {"grid": [GRID], "figures": [], "paper": []}, "repair": None},
    }
    (tree.root / "offline.yaml").write_text(yaml.safe_dump(overlay))
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
        refused = offline.snakemake("offline.yaml", "--", VICTIM)
    assert refused.returncode != 0
    output = refused.stdout + refused.stderr
    assert f"mirror/{wheel.name} is missing" in output
    assert f"mirror/{BASE.place}: model.safetensors has " in output
    assert "`make fetch CONFIG='configs/smoke.yaml offline.yaml' MIRROR=mirror` downloads what is missing" in output
    assert not offline.out.exists()


def test_without_network_a_study_is_done_from_a_mirror_alone(offline: Tree) -> None:
    if shutil.which("unshare") is None or subprocess.run([*WITHOUT_NETWORK, "true"], check=False).returncode:
        pytest.skip("this system does not allow a process to leave the network (unshare --map-root-user --net)")
    study = ("snakemake", "--configfile", CONFIGS[1], "offline.yaml", "--", "all", DEVIGN)
    report = ("codebackdoor", "report", *CONFIGS, "offline.yaml")
    for command in (study, report):
        completed = offline.run(*WITHOUT_NETWORK, *command)
        assert completed.returncode == 0, completed.stdout[-2000:] + completed.stderr[-6000:]
    assert (offline.root / DEVIGN).stat().st_size > 0
    assert (offline.out / "report.html").stat().st_size > 0


def test_where_the_mirror_lies_changes_nothing_also_of_a_run_from_elsewhere(offline: Tree, tmp_path: Path) -> None:
    if not (offline.out / "report.html").is_file():
        pytest.skip("needs the study of the test above")
    pulled, elsewhere = copy_of_sources(tmp_path / "pulled"), tmp_path / "else where"
    assert offline.run("codebackdoor", "keep-records", *CONFIGS, "offline.yaml").returncode == 0
    # as after `git clone`, `make pull` and `make fetch`: git's and the mirror's files are newer than the run's
    for name in ("basemodels", "runs"):
        shutil.copytree(offline.root / name, pulled.root / name, copy_function=shutil.copyfile)
    for name in ("offline.yaml", "tokenizer.json"):
        shutil.copyfile(offline.root / name, pulled.root / name)
    shutil.copytree(offline.root / "mirror", elsewhere, copy_function=shutil.copyfile)
    assert pulled.run("codebackdoor", "restore-records", *CONFIGS, "offline.yaml").returncode == 0
    dry_run = pulled.snakemake("offline.yaml", "--config", f"mirror={elsewhere}", "--dry-run", "--", "all", DEVIGN)
    assert "Nothing to be done" in dry_run.stdout + dry_run.stderr
    # other bytes under the same name are another data set
    devign = elsewhere / "devign/test.jsonl"
    devign.write_text(devign.read_text().replace("return", "return 0 +"))
    Lock(elsewhere).record("devign/test.jsonl", sha256(devign))
    dry_run = pulled.snakemake("offline.yaml", "--config", f"mirror={elsewhere}", "--dry-run", "--", "all", DEVIGN)
    assert re.search(r"^dataset +1$", dry_run.stdout + dry_run.stderr, re.MULTILINE)
    assert re.search(r"^total +1$", dry_run.stdout + dry_run.stderr, re.MULTILINE)


def test_a_base_that_changed_behind_the_lock_is_not_trained(offline: Tree) -> None:
    weights = offline.root / "mirror" / BASE.place / "model.safetensors"
    data = weights.read_bytes()
    # of the same size, so that only the job that loads it finds out
    with replaced(weights, data[:-1] + bytes([data[-1] ^ 1])):
        failed = offline.snakemake("offline.yaml", "--", VICTIM)
    assert failed.returncode != 0
    [log] = (offline.out / "logs/train").glob("*/*/none-0/seed7/**/*.log")
    assert log.read_text().count("\n") == 1
    assert "model.safetensors was changed since it was fetched" in log.read_text()
    assert "`make fetch` downloads it again" in log.read_text()
