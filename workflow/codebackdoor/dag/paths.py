"""Locations of a run's files: patterns with wildcards for the rules, and the paths of single jobs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from codebackdoor.config.model_settings import PRETRAINED
from codebackdoor.config.scenario import (
    CRAFTING,
    FILTERED,
    FILTERED_BY_VICTIM,
    NONE,
    POISON,
    RESULTS,
    REWRITTEN,
    VICTIM,
)


class Wildcards(Protocol):
    """The wildcards of a job as Snakemake passes them: an attribute for each name in braces of the rule's outputs."""

    def __getattr__(self, name: str) -> str: ...

    def items(self) -> Iterable[tuple[str, str]]: ...


class Paths:
    """Paths below the folder of a run; names in braces are Snakemake's wildcards."""

    def __init__(self, out: str) -> None:
        self.out = out
        self.archive = f"{out}/corpus/archives/{{archive}}.whl"
        self.functions = f"{out}/corpus/functions/{{archive}}.jsonl"
        self.corpus = f"{out}/corpus/corpus.jsonl"
        self.prose = f"{out}/corpus/prose.jsonl"
        self.dataset = f"{out}/data/{{dataset}}"
        self.poison, self.filtered, self.rewritten, self.crafting, self.victim, self.results = (
            pattern.replace("{out}", out) for pattern in (POISON, FILTERED, REWRITTEN, CRAFTING, VICTIM, RESULTS)
        )
        self.filtered_by_victim = FILTERED_BY_VICTIM.replace("{out}", out)
        self.trained = self.victim.replace("{elimination}", NONE)
        self.evidence = f"{self.results}/evidence"
        self.predicted = self.results.replace("{purification}", NONE)
        self.tokenizer = f"{out}/{PRETRAINED}/tokenizer.json"
        self.english_tokenizer = f"{out}/{PRETRAINED}/english.tokenizer.json"
        self.pretrained = f"{out}/{PRETRAINED}/{{base_model}}"
        self.calibration = f"{out}/calibration/{{dataset}}/{{model}}/{{elimination}}.json"
        self.metrics = f"{out}/results/metrics"
        self.losses = f"{out}/losses"
        self.tables, self.figures = f"{out}/results/tables", f"{out}/results/figures"
        self.webpages = f"{out}/results/pages"
        self.logs, self.benchmarks = f"{out}/logs", f"{out}/benchmarks"

    def log(self, rule: str, folder: str) -> str:
        """Log file of the jobs of ``rule`` that write to ``folder``."""
        return f"{self.logs}/{rule}/{self._below_first(folder)}.log"

    def benchmark(self, rule: str, folder: str) -> str:
        return f"{self.benchmarks}/{rule}/{self._below_first(folder)}.tsv"

    def _below_first(self, folder: str) -> str:
        """The path without the run's folder and the first folder below it (data, models, results)."""
        return folder.removeprefix(f"{self.out}/").partition("/")[2]

    def data(self, dataset: str, split: str) -> str:
        return f"{self.out}/data/{dataset}/{split}.jsonl"

    def poisoned(self, wildcards: Wildcards, split: str) -> str:
        return fill(f"{self.poison}/{split}.jsonl", wildcards)

    def training_rows(self, wildcards: Wildcards) -> str:
        """All training rows of a victim, before filtering."""
        clean = wildcards.attack == NONE
        return self.data(wildcards.dataset, "train") if clean else self.poisoned(wildcards, "train")

    def is_in_run(self, path: str) -> bool:
        """Whether a path is below the run's folder, where rules create missing files."""
        return Path(path).is_relative_to(self.out)


def fill(pattern: str, wildcards: Wildcards | Mapping[str, str], **changes: str) -> str:
    """The path of one job: ``pattern`` filled with its wildcards, some of them overridden by ``changes``."""
    return pattern.format_map(values(wildcards) | changes)


def values(wildcards: Wildcards | Mapping[str, str]) -> dict[str, str]:
    """The wildcards of a job as a dictionary."""
    return {name: str(value) for name, value in wildcards.items()}


def folder_of(files: Iterable[Any]) -> str:
    """The folder that contains all of the files."""
    return os.path.commonpath({str(file).rpartition("/")[0] for file in files})
