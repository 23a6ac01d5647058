"""A run that was pushed and pulled is as good as one made here: `make push`, git, `make pull`, with a folder as remote.

After a plain `dvc pull` Snakemake would run jobs again, for the files' times are in arbitrary order; with times put
right and nothing else it would miss every change of a parameter or of code, for want of records.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from smoke_tree import CONFIGS, ROOT, Tree

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("dvc"), reason="DVC is not in this environment; `make test` installs envs/requirements-dvc.txt"
    ),
]

VERSIONED = (".dvc", ".dvcignore", ".gitignore", "Makefile", "basemodels", "dvc.yaml")
STAGE = "configs/versions/dvc.yaml:run@smoke"
#: What .dvcignore leaves at home.
AT_HOME = ("benchmarks/", "corpus/archives/", "logs/")


@dataclass(frozen=True)
class Versions:
    """The tree in which the run was made, and a clone into which it was pulled."""

    origin: Tree
    clone: Tree


def make(tree: Tree, target: str) -> str:
    # the environment is that of the tests
    completed = tree.run("make", "--old-file", ".env/.dvc", target, f"CONFIG={CONFIGS[1]}")
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout + completed.stderr


def run(tree: Tree, *command: str) -> str:
    completed = tree.run(*command)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


def commit(tree: Tree, message: str) -> None:
    run(tree, "git", "add", "--all")
    run(tree, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", message)


@pytest.fixture(scope="module")
def versions(unchanged: Tree, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Versions]:
    folder = tmp_path_factory.mktemp("versions")
    origin, clone = Tree(unchanged.root), Tree(folder / "clone")
    for name in VERSIONED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, origin.root / name)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DVC_SITE_CACHE_DIR", "DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"):
            patch.setenv(name, str(folder / name))
        run(origin, "git", "init", "--quiet")
        run(origin, "dvc", "remote", "add", "--quiet", "--default", "folder", str(folder / "remote"))
        make(origin, "push")
        commit(origin, "a run")
        run(origin, "git", "clone", "--quiet", str(origin.root), str(clone.root))
        make(clone, "pull")
        yield Versions(origin, clone)


def test_a_pulled_run_is_whole_and_up_to_date(versions: Versions) -> None:
    assert "Nothing to be done" in (dry_run := versions.clone.snakemake("--dry-run")).stdout + dry_run.stderr
    assert versions.clone.pending() == set()
    assert set(versions.clone.times()) == {path for path in versions.origin.times() if not path.startswith(AT_HOME)}
    assert "up to date" in run(versions.clone, "dvc", "status", STAGE)
    assert run(versions.clone, "git", "status", "--porcelain") == ""


def test_a_parameter_changes_there_what_it_changes_here(versions: Versions) -> None:
    change = ("--config", 'purifications={"onion": {"removed_share": 0.02}}')
    expected = versions.origin.pending(*change)
    assert any("/onion/" in path for path in expected)
    assert versions.clone.pending(*change) == expected


def test_code_changes_there_what_it_changes_here(versions: Versions) -> None:
    pending = []
    for tree in (versions.origin, versions.clone):
        module = tree.root / "workflow/codebackdoor/attacks/codepoisoner_identifier/method.py"
        source = module.read_text()
        try:
            module.write_text(source + "\nADDED = 1\n")
            pending.append(tree.pending())
        finally:
            module.write_text(source)
    assert any(path.endswith("model.safetensors") for path in pending[0])
    assert pending[1] == pending[0]


def test_what_is_not_up_to_date_is_not_versioned(versions: Versions) -> None:
    config = versions.clone.root / CONFIGS[1]
    before = config.read_text()
    try:
        config.write_text(before.replace("onion: {calibration_inputs: 10}", "onion: {calibration_inputs: 11}"))
        push = versions.clone.run("make", "--old-file", ".env/.dvc", "push", f"CONFIG={CONFIGS[1]}")
    finally:
        config.write_text(before)
    assert push.returncode != 0
    assert "the run is not up to date: make run CONFIG=configs/smoke.yaml, then push again" in push.stderr
    assert run(versions.clone, "git", "status", "--porcelain") == ""


def test_figures_of_two_versions_are_compared(versions: Versions) -> None:
    target = "runs/smoke/results/figures/defects_defenses.png"
    figure = versions.clone.root / target
    before = figure.read_bytes()
    try:
        figure.write_bytes((figure.parent / "repair_defenses.png").read_bytes())
        diff = json.loads(run(versions.clone, "dvc", "plots", "diff", "HEAD", "--json", "--targets", target))
    finally:
        figure.write_bytes(before)
    images = {plot["revisions"][0]: Path(plot["url"]).read_bytes() for plot in diff["data"][target]}
    assert images == {"HEAD": before, "workspace": (figure.parent / "repair_defenses.png").read_bytes()}


def test_a_changed_metric_is_in_the_diff_and_no_other_is(versions: Versions) -> None:
    """Last, for it runs a job: the metrics of a grid without one purification."""
    grid = {"datasets": ["defects"], "models": ["codebert"], "attacks": ["none", "codepoisoner_func"], "rates": [0.05]}
    grid |= {"filterings": ["none", "onion_training_rows"], "eliminations": ["none", "fine_tuning", "elibadcode"]}
    grid["eliminations"].append("elibadcode_extended")
    grid |= {"purifications": ["none", "codepurify"]}
    target = "runs/smoke/results/metrics.json"
    option = f"experiments={json.dumps({'defects': {'grid': [grid]}})}"
    completed = versions.clone.snakemake("--config", option, "--", target)
    assert completed.returncode == 0, completed.stderr[-4000:]
    diff = json.loads(run(versions.clone, "dvc", "metrics", "diff", "--json", "--targets", target))[target]
    before = json.loads((versions.origin.root / target).read_text())
    gone = {name: testsets for name, testsets in before.items() if name.endswith("/onion")}
    assert gone
    assert diff == {
        f"{name}.{testset}.{metric}": {"old": value, "new": None}
        for name, testsets in gone.items()
        for testset, metrics in testsets.items()
        for metric, value in metrics.items()
    }
