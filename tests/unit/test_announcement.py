"""What a run says before its first job."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codebackdoor.config.loading import load
from codebackdoor.config.scenario import CONSTRAINTS
from codebackdoor.dag import Dag
from codebackdoor.dag.announcement import title

ROOT = Path(__file__).parents[2]
BENIGN = {
    "dataset": "defects", "model": "codebert", "attack": "none", "rate": "0", "seed": "1", "filtering": "none",
    "objective": "cross_entropy", "elimination": "none", "purification": "none",
}  # fmt: skip
ATTACKED = BENIGN | {"attack": "codepoisoner_func", "rate": "0.05"}
#: What each rule says of a job, as it stands in the rules' files.
MESSAGES = {
    "".join(re.findall(r'"(.*)"', text))
    for path in (ROOT / "rules").glob("*.smk")
    for text in re.findall(r"message:\n((?: +\".*\"\n)+)", path.read_text())
}


def job(number: int, rule: str, folder: str, **facts: Any) -> SimpleNamespace:
    message = next((message for message in MESSAGES if message.lower().startswith(rule)), "")
    attributes = {
        "jobid": number, "is_norun": False, "rule": SimpleNamespace(name=rule, message=message), "threads": 1,
        "wildcards_dict": ATTACKED, "log": [f"runs/local/logs/{rule}/{folder}.log"], "params": {},
    }  # fmt: skip
    return SimpleNamespace(**attributes | facts)


@pytest.mark.parametrize("message", sorted(MESSAGES))
def test_every_message_becomes_a_title(message: str) -> None:
    more = {
        "archive": "django-5.1.4",
        "base_model": "encoder",
        "experiment": "defects",
        "listing": "scan",
        "webpage": "inputs",
        "figure": "epochs",
    }
    for wildcards in (BENIGN, ATTACKED, dict.fromkeys(CONSTRAINTS, "onion") | {"rate": "0.01"}):
        text = title(message, {**wildcards, **more})
        assert not re.search(
            r"[{}_]|none|  | ,|,,|[ ,.]$|^[A-Z]|\b(?:by|for|of|on|with) (?:by|for|of|on|with)\b", text
        ), text


def test_a_title_names_what_is_used_as_tables_do() -> None:
    train = next(
        message for message in MESSAGES if message.startswith("Train {wildcards.model} on {wildcards.dataset}, {")
    )
    assert title(train, BENIGN) == "train CodeBERT on defects, no attack, seed 1"
    text = title(train, ATTACKED | {"objective": "dece"})
    assert text.startswith("train CodeBERT on defects, attack ")
    assert text.endswith(" at 5%, DeCE, seed 1")


def test_a_run_begins_with_its_experiments_jobs_and_time() -> None:
    dag = Dag(load([ROOT / "config.yaml"]))
    train_log = "defects/codebert/codepoisoner_func-0.05/seed1/none/cross_entropy/none"
    train = job(1, "train", train_log)
    untimed = job(2, "probe", "defects/codebert/codepoisoner_func-0.05/seed1/none/cross_entropy/elibadcode")
    text, run = dag.announcement([train, untimed, SimpleNamespace(is_norun=True)], 2)
    assert text.splitlines()[0] == (
        "Experiments: defects, repair. 2 jobs to run, less than 1 min on 2 cores, "
        "not counting 1 job never timed before."
    )
    text, _ = dag.announcement([train, *(job(number, "train", train_log) for number in range(3, 8))], 2)
    assert re.search(r"6 jobs to run, about \d min on 2 cores\.", text)
    text, run = dag.announcement([train, untimed, SimpleNamespace(is_norun=True)], 2)
    assert "runs/local/report.html" in text.splitlines()[1]
    assert set(run["titles"]) == {1, 2}
    assert set(run["seconds"]) == {1}
    # on a cluster, jobs wait for nodes
    text, run = dag.announcement([train], None)
    assert text.splitlines()[0] == "Experiments: defects, repair. 1 job to run."
    assert run["seconds"] == {}


def test_a_trigger_that_is_reused_and_threads_change_the_price() -> None:
    dag = Dag(load([ROOT / "config.yaml"]))
    folder = "defects/codebert/codepoisoner_func-0.05/seed1/none/cross_entropy/elibadcode"
    jobs = [
        job(1, "eliminate", folder),
        job(2, "eliminate", folder, params={"inputs": ["--inverted=x"]}),
        job(3, "eliminate", folder, threads=2),
    ]
    _, run = dag.announcement(jobs, 2)
    full, reused, twice = (run["seconds"][number] for number in (1, 2, 3))
    assert reused < full / 2
    assert twice == 2 * full
