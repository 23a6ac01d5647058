"""The smoke study on a real SLURM: success, failure, cancelled jobs, limits of time and memory, a killed Snakemake.

Each test submits real jobs and takes a minute or more: `make test-slurm`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from cluster import Cluster
from smoke_tree import CONFIGS, Tree

#: Quick looks at the queue: the profile's own numbers spare a controller that others use, too.
HURRY = (
    "--slurm-init-seconds-before-status-checks",
    "3",
    "--seconds-between-status-checks",
    "3",
    "--latency-wait",
    "15",
)
SUBMIT = ("snakemake", "--profile", "profiles/slurm", *HURRY)
VICTIM = "models/defects/codebert/none-0/seed{}/none/cross_entropy/none"
TIMEOUT = 900.0


def submit(tree: Tree, *options: str) -> subprocess.CompletedProcess[str]:
    return tree.run(*SUBMIT, "--configfile", CONFIGS[1], *options)


def begin(tree: Tree, *options: str) -> subprocess.Popen[str]:
    """The same in the background, in a process group of its own."""
    return subprocess.Popen(
        [*SUBMIT, "--configfile", CONFIGS[1], *options],
        cwd=tree.root,
        env=tree.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def until(event: str, condition: Callable[[], object]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {event}"
        time.sleep(0.5)


def training(seed: int, epochs: int) -> tuple[str, ...]:
    """Options for one victim that trains a while; the seed tells the tests' victims apart."""
    model = {"architecture": "codebert", "base": "pretrained", "epochs": epochs}
    return ("--config", f"seeds=[{seed}]", f"models={json.dumps({'codebert': model})}", "--")


def progress(tree: Tree, seed: int) -> Path:
    victim = tree.out / VICTIM.format(seed)
    return victim.parent / f".{victim.name}.progress/progress.safetensors"


def log(tree: Tree, seed: int) -> str:
    return (tree.out / "logs/train" / f"{VICTIM.format(seed).removeprefix('models/')}.log").read_text()


def history(tree: Tree, seed: int) -> bytes:
    return (tree.out / VICTIM.format(seed) / "history.json").read_bytes()


def undisturbed(local: Tree, seed: int, epochs: int) -> bytes:
    completed = local.snakemake(
        "--cores", "2", *training(seed, epochs), f"runs/smoke/{VICTIM.format(seed)}/history.json"
    )
    assert completed.returncode == 0, completed.stderr[-4000:]
    return history(local, seed)


def test_the_study_ends_with_the_numbers_of_a_local_run(cluster: Cluster, tree: Tree, local: Tree) -> None:
    completed = submit(tree)
    assert completed.returncode == 0, completed.stdout[-4000:] + completed.stderr[-8000:] + cluster.show_logs()
    expected = {path.relative_to(local.out): path.read_bytes() for path in local.out.rglob("metrics.json")}
    # of 16 scenarios, and the summary
    assert len(expected) == 17
    assert {path.relative_to(tree.out): path.read_bytes() for path in tree.out.rglob("metrics.json")} == expected
    assert not cluster.jobs()
    again = submit(tree, "--dry-run")
    assert "Nothing to be done" in again.stdout + again.stderr


def test_a_failing_job_shows_its_log(tree: Tree) -> None:
    broken = 'datasets={"broken": {"task": "defect_detection", "max_tokens": 2}}'
    failed = submit(tree, "--retries", "0", "--config", broken, "--", "runs/smoke/data/broken/train.jsonl")
    assert failed.returncode != 0
    assert "error: datasets.broken: no row is left for train" in failed.stdout + failed.stderr
    assert not list((tree.out / "data/broken").glob("*"))


def test_a_cancelled_training_goes_on_and_ends_with_the_same_bytes(cluster: Cluster, tree: Tree, local: Tree) -> None:
    run = begin(tree, *training(11, 60), f"runs/smoke/{VICTIM.format(11)}/history.json")
    until("the first epoch", progress(tree, 11).is_file)
    jobs = cluster.jobs()
    assert len(jobs) == 1
    subprocess.run(["scancel", *jobs], check=True)
    output, _ = run.communicate(timeout=TIMEOUT)
    assert run.returncode == 0, output[-6000:]
    assert "resuming after epoch" in log(tree, 11)
    assert history(tree, 11) == undisturbed(local, 11, 60)


def test_a_job_over_its_time_gets_more_and_goes_on(tree: Tree, local: Tree) -> None:
    minutes = "train:runtime=1 if attempt == 1 else 60"
    # some minutes of work: SLURM looks at limits every half minute
    epochs = 2000
    completed = submit(
        tree, "--set-resources", minutes, *training(12, epochs), f"runs/smoke/{VICTIM.format(12)}/history.json"
    )
    assert completed.returncode == 0, completed.stdout[-4000:] + completed.stderr[-6000:]
    assert "resuming after epoch" in log(tree, 12)
    assert history(tree, 12) == undisturbed(local, 12, epochs)


def test_a_job_over_its_memory_gets_more(cluster: Cluster, tree: Tree, local: Tree) -> None:
    megabytes = "train:mem_mb=300 if attempt == 1 else 2500"
    completed = submit(
        tree, "--set-resources", megabytes, *training(13, 20), f"runs/smoke/{VICTIM.format(13)}/history.json"
    )
    output = completed.stdout + completed.stderr
    assert completed.returncode == 0, output[-6000:]
    assert "exceeded memory limit" in (cluster.folder / "slurmd.log").read_text()
    assert output.count("Trying to restart job") == 1
    assert history(tree, 13) == undisturbed(local, 13, 20)


def test_a_job_that_asks_for_an_accelerator_is_given_one_and_looks_for_it(cluster: Cluster, tree: Tree) -> None:
    target = f"runs/smoke/{VICTIM.format(15)}/history.json"
    run = begin(tree, "--set-resources", "train:gpu=1", *training(15, 20), target)
    until("the first epoch", progress(tree, 15).is_file)
    queue = subprocess.run(["squeue", "-h", "-O", "tres-per-job:40"], capture_output=True, text=True, check=True)
    assert "gpu:1" in queue.stdout
    output, _ = run.communicate(timeout=TIMEOUT)
    assert run.returncode == 0, output[-6000:]
    # there is none behind the scheduler's: it says so, and does its work on the processor
    assert "this job was given 1 accelerators, and torch sees none" in log(tree, 15)


def test_orphans_of_a_killed_snakemake_are_found_and_a_rerun_goes_on(cluster: Cluster, tree: Tree, local: Tree) -> None:
    target = f"runs/smoke/{VICTIM.format(14)}/history.json"
    run = begin(tree, *training(14, 60), target)
    until("the first epoch", progress(tree, 14).is_file)
    refused = tree.run("codebackdoor", "orphans")
    assert refused.returncode == 2
    assert "Snakemake is already running in this folder" in refused.stderr

    # somebody's own job, from the same folder
    subprocess.run(["sbatch", "--mem=100", "--wrap", "sleep 600"], cwd=tree.root, check=True, capture_output=True)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert len(cluster.jobs()) == 2, "the job outlives its Snakemake"
    settled = tree.run("codebackdoor", "orphans")
    assert settled.returncode == 0, settled.stderr
    assert "rule_train" in settled.stdout
    assert settled.stdout.endswith("1 job ended\n")
    (unrelated_job,) = cluster.jobs()
    subprocess.run(["scancel", unrelated_job], check=True)
    assert tree.snakemake("--unlock").returncode == 0
    rerun = submit(tree, *training(14, 60), target)
    assert rerun.returncode == 0, rerun.stdout[-4000:] + rerun.stderr[-6000:]
    assert "resuming after epoch" in log(tree, 14)
    assert history(tree, 14) == undisturbed(local, 14, 60)


def test_orphans_may_be_waited_for(cluster: Cluster, tree: Tree) -> None:
    run = begin(tree, *training(16, 60), f"runs/smoke/{VICTIM.format(16)}/history.json")
    until("the first epoch", progress(tree, 16).is_file)
    run.send_signal(signal.SIGKILL)
    run.wait()
    settled = tree.run("codebackdoor", "orphans", "--wait")
    assert settled.returncode == 0, settled.stderr
    assert settled.stdout.endswith("1 job finished\n")
    assert len(json.loads(history(tree, 16))["epochs"]) == 60
    assert tree.snakemake("--unlock").returncode == 0
