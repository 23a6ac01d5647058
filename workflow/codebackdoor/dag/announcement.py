"""The announcement before a run's first job: its experiments, and a title and a time estimate for each job."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from codebackdoor.config.scenario import NONE, UNDEFENDED_OBJECTIVE, Scenario
from codebackdoor.config.study import Config
from codebackdoor.costs import bill, local
from codebackdoor.dag.paths import Paths
from codebackdoor.report import labels
from codebackdoor.runs.terminal import duration

#: Wildcards whose values are names of variants.
_VARIANTS = ("dataset", "model", "filtering", "objective", "elimination", "purification")


def announcement(config: Config, paths: Paths, jobs: Iterable[Any], cores: int | None) -> tuple[str, dict[str, Any]]:
    """A text, and the jobs of a run as arguments of ``runs.terminal.RunProgress``.

    ``jobs`` are Snakemake's. ``cores`` is None on a cluster, where the time cannot be estimated.
    """
    jobs = [job for job in jobs if not job.is_norun]
    titles = {job.jobid: title(job.rule.message or job.rule.name, job.wildcards_dict) for job in jobs}
    seconds: dict[int, float] = {}
    if cores is not None and not bill.uses_hub(config):
        prices = {job.jobid: _price(config, paths, job) for job in jobs}
        seconds = {job: price for job, price in prices.items() if price is not None}
    names = ", ".join(config.experiments)
    count = f"{len(titles)} job{'s' * (len(titles) != 1)}"
    time = _time(titles, seconds, cores or 1)
    text = (
        f"Experiments: {names}. {count} to run{time}.\n"
        f"Results go to {config.out}; `make run` ends with its tables and {config.out}/report.html."
    )
    return text, {"titles": titles, "seconds": seconds, "cores": cores or 1}


def _time(titles: Mapping[int, str], seconds: Mapping[int, float], cores: int) -> str:
    if not seconds:
        return ""
    untimed = len(titles) - len(seconds)
    more = f", not counting {untimed} job{'s' * (untimed != 1)} never timed before" if untimed else ""
    time = duration(sum(seconds.values()) / cores)
    rough = time if time.startswith("less") else f"about {time}"
    return f", {rough} on {cores} core{'s' * (cores > 1)}{more}"


def _price(config: Config, paths: Paths, job: Any) -> float | None:
    rule, _, path = str(job.log[0]).removeprefix(f"{paths.logs}/").removesuffix(".log").partition("/")
    reuses = any(str(option).startswith("--inverted") for option in job.params.get("inputs", ()))
    price = local.job_seconds(rule, path, reuses, config)
    return None if price is None else price * job.threads


def title(message: str, wildcards: Mapping[str, str]) -> str:
    """A rule's message with the names that tables use; parts about unused defenses are removed.

    The parts of a message are separated by commas.
    """
    words = dict(wildcards)
    for kind in _VARIANTS:
        if kind in wildcards:
            is_default = wildcards[kind] in (NONE, UNDEFENDED_OBJECTIVE)
            words[kind] = "" if is_default else labels.word(wildcards[kind])
    if "attack" in wildcards:
        attack = labels.attack(Scenario("", "", wildcards["attack"], wildcards.get("rate", "0")))
        words |= {"attack": attack if wildcards["attack"] == NONE else f"attack {attack}", "rate": ""}
    text = re.sub(r"\s+", " ", message.format(wildcards=SimpleNamespace(**words)))
    text = re.sub(r"(?: ?,)+(?= *(?:[,.)]|$))", "", re.sub(r" ?(,\s*)+", ", ", text)).replace(" )", ")").rstrip(". ")
    return text[:1].lower() + text[1:]
