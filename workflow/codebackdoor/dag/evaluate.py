"""Inputs of ``rules/evaluate.smk``: predictions, and the metrics computed from them."""

from __future__ import annotations

from collections.abc import Iterator

from codebackdoor.config.scenario import NONE
from codebackdoor.dag.inputs import Input, Part, table
from codebackdoor.dag.parameters import as_json
from codebackdoor.dag.paths import Wildcards, fill
from codebackdoor.heads import HEADS
from codebackdoor.trials import FILE
from codebackdoor.types import CLEAN


class Evaluate(Part):
    """Predictions, probes and scores."""

    @table
    def predict(self, wildcards: Wildcards) -> Iterator[Input]:
        yield self.victim(self.paths.victim, wildcards)
        yield Input.named("testsets", self.testsets.of(wildcards), "--input")

    @table
    def predict_rewritten(self, wildcards: Wildcards) -> Iterator[Input]:
        yield from self.predict.table(wildcards)
        yield Input.named("replacements", self.testsets.rewritten(wildcards), "--replacement")

    def pool(self, wildcards: Wildcards) -> list[str]:
        """The option with the number of functions that a dual encoder ranks for a query."""
        dataset = self.parameters.declared("dataset", wildcards.dataset)
        return ["--pool", str(dataset.ranking.pool)] if HEADS[dataset.head].ranks else []

    @table
    def probe(self, wildcards: Wildcards) -> Iterator[Input]:
        yield self.victim(self.paths.trained, wildcards)
        yield Input.file("triggered", self.paths.poisoned(wildcards, "test"), "--triggered")
        yield Input.file("clean", self.paths.data(wildcards.dataset, "test"), "--clean")

    @table
    def states(self, wildcards: Wildcards) -> Iterator[Input]:
        yield self.base(wildcards)
        benign = fill(self.paths.trained, wildcards, attack=NONE, rate="0")
        yield Input.folder("benign", self.files.model(benign), "--benign")
        yield self.victim(self.paths.trained, wildcards)
        yield Input.file("triggered", self.paths.poisoned(wildcards, "test"), "--triggered")
        yield Input.file("clean", self.paths.data(wildcards.dataset, "test"), "--clean")

    @table
    def audit(self, wildcards: Wildcards) -> Iterator[Input]:
        yield Input.file("rows", self.paths.training_rows(wildcards), "--train")
        yield Input.file("judged", f"{self.filtered(wildcards)}/judged.jsonl", "--judged")

    @table
    def score(self, wildcards: Wildcards) -> Iterator[Input]:
        testsets = self.testsets.of(wildcards)
        yield Input.named("references", testsets, "--reference")
        folder = fill(self.paths.results, wildcards)
        stems = ["predictions"] if wildcards.purification == NONE else ["predictions", "purified"]
        files = [f"{folder}/{stem}.{testset}.jsonl" for stem in stems for testset in testsets]
        if self.testsets.has_tests(wildcards.dataset):
            files.append(f"{folder}/executed.{CLEAN}.jsonl")
        yield Input.folder("predictions", files, "--predictions")

    @table
    def execute(self, wildcards: Wildcards) -> Iterator[Input]:
        yield Input("predictions", fill(f"{self.paths.results}/predictions.{CLEAN}.jsonl", wildcards))
        yield Input.file("tests", f"{self.paths.out}/data/{wildcards.dataset}/{FILE}", "--tests")

    def execution(self, wildcards: Wildcards) -> list[str]:
        """The options with the execution settings and the text form of the outputs."""
        form = self.parameters.declared("dataset", wildcards.dataset).text_form
        return ["--settings", as_json(self.config.execution), "--form", form]
