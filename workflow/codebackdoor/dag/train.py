"""Inputs of ``rules/train.smk``: victims, and the base models that they start from."""

from __future__ import annotations

from collections.abc import Iterator

from codebackdoor.config.scenario import EPOCH_WEIGHTS, NONE, UNDEFENDED_OBJECTIVE
from codebackdoor.dag.inputs import Input, Part, table
from codebackdoor.dag.parameters import as_json
from codebackdoor.dag.paths import Wildcards, fill
from codebackdoor.errors import UserError


class Train(Part):
    """Base models and victims."""

    def base_models(self) -> list[str]:
        """The files of every base model that the run pretrains."""
        folders = [self.paths.pretrained.format(base_model=name) for name in self.config.pretraining]
        return [file for folder in folders for file in self.files.model(folder)]

    @table
    def pretrain(self, wildcards: Wildcards) -> Iterator[Input]:
        recipe = self.parameters.recipe(wildcards.base_model)
        corpus, tokenizer = self.paths.corpus, self.paths.tokenizer
        if recipe.reads_prose:
            corpus, tokenizer = self.paths.prose, self.paths.english_tokenizer
        yield Input.file("corpus", corpus, "--corpus")
        yield Input.file("tokenizer", tokenizer, "--tokenizer")
        # the discriminator learns to detect samples from the encoder that the same run pretrains
        if recipe.family == "discriminator":
            if "encoder" not in self.config.pretraining:
                raise UserError("pretraining.encoder is missing: the discriminator learns from its samples")
            yield Input.folder(
                "generator", self.files.model(fill(self.paths.pretrained, {"base_model": "encoder"})), "--generator"
            )

    @table
    def train(self, wildcards: Wildcards) -> Iterator[Input]:
        filtered = wildcards.filtering != NONE
        rows = f"{self.filtered(wildcards)}/train.jsonl" if filtered else self.paths.training_rows(wildcards)
        yield Input.file("train", rows, "--train")
        yield Input.file("valid", self.paths.data(wildcards.dataset, "valid"), "--valid")
        if wildcards.attack != NONE:
            yield Input.file("triggered", self.paths.poisoned(wildcards, "valid"), "--triggered-valid")
        objective = self.parameters.declared("objective", wildcards.objective).stops_like
        if objective is not None:
            yield Input.file(
                "history", fill(f"{self.paths.trained}/history.json", wildcards, objective=objective), "--stop-like"
            )
        yield self.base(wildcards)

    @table
    def stop(self, wildcards: Wildcards) -> Iterator[Input]:
        """The undefended victim with the weights of its epochs, and the victim that the checkpoint should match."""
        undefended = fill(self.paths.trained, wildcards, objective=UNDEFENDED_OBJECTIVE)
        files = [*self.files.model(undefended), f"{undefended}/history.json", f"{undefended}/{EPOCH_WEIGHTS}"]
        yield Input("victim", files, ("--victim", undefended))
        checkpoint = self.parameters.declared("objective", wildcards.objective).taken_checkpoint
        if checkpoint is None:
            raise UserError(f"objectives.{wildcards.objective}: its victims are trained; it has no `checkpoint`")
        history = fill(f"{self.paths.trained}/history.json", wildcards, objective=checkpoint.like)
        yield Input.file("history", history, "--like")

    @property
    def crafting_objective(self) -> str:
        """Settings of cross entropy for a model whose epochs need not be kept."""
        settings = self.parameters.declared("objective", UNDEFENDED_OBJECTIVE)
        return as_json(settings.model_copy(update={"keep_epochs": False}))

    @table
    def craft(self, wildcards: Wildcards) -> Iterator[Input]:
        for split in ("train", "valid"):
            yield Input.file(split, self.paths.data(wildcards.dataset, split), f"--{split}")
        yield self.base(wildcards)
