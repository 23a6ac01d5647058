"""Every job requests what it needs from a scheduler, and more when it is retried; rules are short and without logic."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from codebackdoor.config.loading import load
from codebackdoor.dag import Dag
from codebackdoor.dag.resources import MAX_RUNTIME

ROOT = Path(__file__).parents[2]
FILES = {path.stem: path.read_text() for path in sorted((ROOT / "rules").glob("*.smk"))}
#: Rules with a command; others inherit it (``use rule``).
RULES = {
    f"{stem}-{number}": body
    for stem, text in FILES.items()
    for number, body in enumerate(re.split(r"^ *(?:use )?rule\b", text, flags=re.MULTILINE)[1:])
    if "shell:" in body
}
INHERITED = {
    rule: parent
    for text in FILES.values()
    for parent, rule in re.findall(r"^use rule (\w+) as (\w+) with:", text, re.M)
}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_requests_threads_memory_time_and_accelerators(name: str) -> None:
    body = RULES[name]
    assert re.search(r"^\s+threads: \d", body, re.MULTILINE)
    (resources,) = re.findall(r"^ *\*\*dag\.resources\.(.+),$", body, re.MULTILINE)
    # with two retries, no attempt requests more than a partition accepts
    assert all(3 * int(minutes) <= MAX_RUNTIME for minutes in re.findall(r"\bruntime=(\d+)", resources))
    # the accelerators that a job requests are those that it uses
    assert ("--gpus {resources.gpu}" in body) != resources.startswith("fixed(")


def test_every_kind_of_job_requests_memory_time_and_accelerators() -> None:
    resources = Dag(load([ROOT / "config.yaml"])).resources
    kinds = (resources.fixed(1, 1), resources.victim, resources.helpers("filtering"), resources.attack(1, 1))
    assert all(set(kind) == {"mem_mb", "runtime", "gpu"} for kind in kinds)


def test_no_rule_is_a_copy_of_another() -> None:
    commands = [
        " ".join(re.findall(r'"(.*)"', body.partition("shell:")[2].partition("\n\n\n")[0])) for body in RULES.values()
    ]
    assert len(set(commands)) == len(commands)
    assert set(INHERITED.values()) <= rule_names()


def test_rules_contain_no_logic() -> None:
    """Decisions are the DAG object's; the rules of one loop differ in their names and wildcards alone."""
    for text in FILES.values():
        code = re.sub(r'"[^"\n]*"|#.*', "", text)
        assert not re.search(r"\b(if|else|def|while|try|and|or|not|in)\b", code.replace("for kind in dag.", "")), text


@pytest.mark.parametrize(
    "name", [name for name, body in RULES.items() if '"provenance.json"' in body or "/provenance" in body]
)
def test_what_is_recorded_names_the_code(name: str) -> None:
    assert "--code {params.code}" in RULES[name]


def rule_names() -> set[str]:
    return (
        {name for text in FILES.values() for name in re.findall(r"^rule (\w+):", text, re.M)}
        | INHERITED.keys()
        | {"predict"}
    )


def test_rules_are_found() -> None:
    assert len(RULES) >= 18


def test_the_cluster_profile_names_only_rules_that_exist() -> None:
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    assert profile["executor"] == "slurm"
    local = re.findall(r"^    (\w+),$", (ROOT / "Snakefile").read_text().partition("localrules:")[2], re.MULTILINE)
    assert set(local) - {"all"} <= rule_names()
    assert set(profile.get("set-resources", {})) <= rule_names()
