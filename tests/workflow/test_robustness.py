"""A full disk, a folder that cannot be written, a checkpoint that was cut short, two runs at once: one message each."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from smoke_tree import CONFIGS, Tree, copy_of_sources

from codebackdoor import files

pytestmark = pytest.mark.slow

VICTIM = "models/defects/codebert/none-0/seed1/none/cross_entropy/none"
RESULTS = "results/defects/codebert/none-0/seed1/none/cross_entropy/none/none"
CORPUS = "runs/smoke/corpus/corpus.jsonl"


@pytest.fixture
def copy(finished: Tree, tmp_path: Path) -> Tree:
    """The finished study, to be damaged."""
    shutil.copytree(finished.root, tmp_path / "tree", ignore=shutil.ignore_patterns("__pycache__"))
    return Tree(tmp_path / "tree")


def errors(completed: subprocess.CompletedProcess[str]) -> list[str]:
    return [
        line.strip() for line in (completed.stdout + completed.stderr).splitlines() if line.strip().startswith("error:")
    ]


def test_a_checkpoint_cut_short_is_named_and_made_again(copy: Tree) -> None:
    weights = copy.out / VICTIM / "model.safetensors"
    metrics = copy.out / RESULTS / "metrics.json"
    original, answers, then = weights.read_bytes(), metrics.read_bytes(), weights.stat()
    weights.write_bytes(original[: len(original) // 2])
    os.utime(weights, ns=(then.st_atime_ns, then.st_mtime_ns))
    shutil.rmtree(copy.out / RESULTS)
    target = f"runs/smoke/{RESULTS}/metrics.json"

    failed = copy.snakemake("--cores", "2", "--show-failed-logs", "--", target)
    assert failed.returncode != 0
    (message,) = errors(failed)
    assert message.startswith(
        f"error: runs/smoke/{VICTIM}/model.safetensors: truncated or changed since it was written"
    )
    assert message.endswith(
        f"if a run wrote runs/smoke/{VICTIM}, delete it and run again; otherwise restore the original"
    )
    assert "Traceback" not in failed.stdout + failed.stderr

    shutil.rmtree(copy.out / VICTIM)
    resumed = copy.snakemake("--cores", "2", "--", target)
    assert resumed.returncode == 0, resumed.stderr[-4000:]
    assert weights.read_bytes() == original
    assert metrics.read_bytes() == answers


def test_of_two_runs_in_one_folder_the_second_says_so_and_the_first_goes_on(copy: Tree) -> None:
    victim = copy.out / VICTIM.replace("seed1", "seed21")
    settings = ("seeds=[21]", 'models={"codebert": {"architecture": "codebert", "base": "pretrained", "epochs": 80}}')
    target = victim.relative_to(copy.root) / "history.json"
    run = ("snakemake", "--cores", "1", "--configfile", CONFIGS[1], "--config", *settings, "--", str(target))
    first = subprocess.Popen(
        run, cwd=copy.root, env=copy.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 120
    while not (victim.parent / f".{victim.name}.progress").is_dir():
        assert time.monotonic() < end
        assert first.poll() is None
        time.sleep(0.1)
    second, settled = copy.run(*run), copy.run("codebackdoor", "orphans")
    assert first.poll() is None, "the first run ended before it was disturbed"
    assert second.returncode != 0
    assert "Directory cannot be locked" in second.stdout + second.stderr
    assert "Traceback" not in second.stderr
    assert settled.returncode == 2
    assert settled.stderr.startswith(f"error: Snakemake is already running in this folder (process {first.pid})")
    assert first.wait() == 0
    assert len(files.read_json(victim / "history.json")["epochs"]) == 80


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB, which holds neither archive nor corpus."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def test_a_full_disk_and_one_that_cannot_be_written_are_one_sentence(
    finished: Tree, small_disk: Path, tmp_path: Path
) -> None:
    tree = copy_of_sources(tmp_path / "tree")
    # the archives are there already, so that no network is asked
    archives = tree.root / "mirror"
    shutil.copytree(finished.out / "corpus/archives", archives)
    for path in archives.iterdir():
        path.rename(archives / f"{path.stem}-py3-none-any.whl")
    (tree.root / "runs").symlink_to(small_disk)
    target = ("--config", "mirror=mirror", "--", CORPUS)

    completed = tree.snakemake("--cores", "1", "--show-failed-logs", *target)
    assert completed.returncode != 0
    assert set(errors(completed)) == {"error: the disk is full: free some space, and run again; finished work is kept"}
    assert "Traceback" not in completed.stdout + completed.stderr
    assert not list(small_disk.rglob("*.part"))

    # where not even a log finds room
    completed = tree.snakemake("--cores", "1", *target)
    assert completed.returncode != 0
    assert f"kB are free on the disk of {tree.root}/runs/smoke; free some" in completed.stdout + completed.stderr
    assert "Traceback" not in completed.stderr

    remount(small_disk, "ro")
    completed = tree.snakemake("--cores", "1", *target)
    assert completed.returncode != 0
    assert f"out: {tree.root}/runs/smoke is not writable" in completed.stdout + completed.stderr
    assert "Traceback" not in completed.stderr

    remount(small_disk, "rw,size=200m")
    completed = tree.snakemake("--cores", "1", *target)
    assert completed.returncode == 0, completed.stderr[-4000:]
    assert (tree.root / CORPUS).read_bytes() == (finished.root / CORPUS).read_bytes()
