"""Every job says what it needs, so that a scheduler can place it, and asks for more when it is tried again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from codebackdoor.dag import LONGEST

ROOT = Path(__file__).parents[2]
RULES = {
    f"{path.stem}-{number}": body
    for path in sorted((ROOT / "rules").glob("*.smk"))
    for number, body in enumerate(re.split(r"^ *rule\b", path.read_text(), flags=re.MULTILINE)[1:])
    if "shell:" in body
}


@pytest.mark.parametrize("name", RULES)
def test_every_job_asks_for_threads_memory_time_and_accelerators(name: str) -> None:
    body = RULES[name]
    assert re.search(r"^\s+threads: \d", body, re.MULTILINE)
    assert re.search(r"\bgpu=(0|dag\.\w*gpu),", body)
    for resource in ("mem_mb", "runtime"):
        assert re.search(rf"\b{resource}=(growing\(\d+\)|dag\.\w*{resource}),", body), resource
    # with two retries, no attempt is over what a partition may take
    assert all(3 * int(minutes) <= LONGEST for minutes in re.findall(r"runtime=growing\((\d+)\)", body))
    # what is given is also what is used
    assert ("--gpus {resources.gpu}" in body) == ("gpu=dag." in body)


@pytest.mark.parametrize(
    "name", [name for name, body in RULES.items() if '"provenance.json"' in body or "/provenance" in body]
)
def test_what_is_recorded_names_the_code(name: str) -> None:
    assert "--code {params.code}" in RULES[name]


def test_rules_are_found() -> None:
    assert len(RULES) >= 18


def test_the_cluster_profile_knows_no_rule_that_is_not_there() -> None:
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    assert profile["executor"] == "slurm"
    names = {name for path in (ROOT / "rules").glob("*.smk") for name in re.findall(r"rule (\w+):", path.read_text())}
    local = re.findall(r"^    (\w+),$", (ROOT / "Snakefile").read_text().partition("localrules:")[2], re.MULTILINE)
    assert set(local) - {"all"} <= names
    assert set(profile.get("set-resources", {})) <= names
