"""Inputs of ``rules/data.smk``: from archives of a package index to data sets."""

from __future__ import annotations

from collections.abc import Iterator

from codebackdoor.dag.inputs import Input, Part, table
from codebackdoor.dag.paths import Wildcards, folder_of
from codebackdoor.trials import FILE


class Data(Part):
    """The corpus and the data sets."""

    def mined(self) -> list[str]:
        """The functions of every archive of the corpus."""
        archives = self.config.corpus.archives if self.config.corpus else ()
        return [self.paths.functions.format(archive=name) for name in archives]

    @table
    def prose(self, wildcards: Wildcards) -> Iterator[Input]:  # noqa: ARG002
        archives = self.config.corpus.archives if self.config.corpus else ()
        yield Input.named("archives", {name: self.paths.archive.format(archive=name) for name in archives}, "--archive")

    @table
    def dataset(self, wildcards: Wildcards) -> Iterator[Input]:
        settings = self.parameters.declared("dataset", wildcards.dataset)
        if self.config.tokenizer:
            yield Input.file("tokenizer", self.config.tokenizer, "--tokenizer")
        if settings.source == "pypi":
            yield Input.file("corpus", self.paths.corpus, "--corpus")
        # files of the mirror are not inputs: jobs find them by themselves, and their checksums are a parameter
        if settings.source == "jsonl":
            yield Input("rows", self.files.sources(wildcards.dataset))

    @table
    def testset(self, wildcards: Wildcards) -> Iterator[Input]:
        yield Input.file("train", self.paths.data(self.config.home(wildcards.dataset), "train"), "--train")
        yield from self.dataset.table(wildcards)

    @table
    def trials(self, wildcards: Wildcards) -> Iterator[Input]:
        yield Input.file("rows", self.paths.data(wildcards.dataset, "test"), "--rows")
        settings = self.parameters.declared("dataset", wildcards.dataset)
        if settings.path is not None:
            yield Input("tests", str(settings.path / FILE))

    @table
    def statistics(self, wildcards: Wildcards) -> Iterator[Input]:
        clean = self.paths.data(wildcards.dataset, "clean")
        yield Input("clean", clean, ("--data", folder_of([clean])))
        yield self.base(wildcards)
