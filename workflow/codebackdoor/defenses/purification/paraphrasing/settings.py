"""Settings of paraphrasing."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from codebackdoor import types
from codebackdoor.config.base import Head, Helper, ReadWhere, Reference
from codebackdoor.config.paths import FilePath
from codebackdoor.costs.work import PurificationJob, Work
from codebackdoor.defenses.purification.settings import PurificationSettings

ParaphrasingSource = Literal["rules", "model", "file"]
ParaphrasingRule = Literal["words", "clauses", "synonyms"]
#: Placeholder for the text in a prompt.
TEXT = "{text}"


class ParaphrasingSettings(PurificationSettings):
    """Rewrites natural-language inputs with a language model, or with rules if there is none (Jain et al. 2023)."""

    label: ClassVar[str] = "Paraphrasing"
    reference: ClassVar[Reference | None] = Reference(
        authors="Neel Jain, Avi Schwarzschild, Yuxin Wen, Gowthami Somepalli, John Kirchenbauer, Ping-yeh Chiang, "
        "Micah Goldblum, Aniruddha Saha, Jonas Geiping, Tom Goldstein",
        year=2023,
        title="Baseline Defenses for Adversarial Attacks Against Aligned Language Models",
        url="https://arxiv.org/abs/2309.00614",
    )
    fits: ClassVar[tuple[Head, ...]] = ("classification", "generation")
    acts_on: ClassVar[tuple[types.Field, ...]] = ("query",)
    reads_victim: ClassVar[bool] = False
    read_where: ClassVar[ReadWhere] = {
        "rules": ("source", ("rules",)),
        "known": ("source", ("rules",)),
        "prompt": ("source", ("model",)),
        "longest": ("source", ("model",)),
        "file": ("source", ("file",)),
        "sha256": ("source", ("file",)),
    }

    named_by: ClassVar[str | None] = "source"

    method: Literal["paraphrasing"]
    source: ParaphrasingSource = Field(
        "rules",
        description="who paraphrases. rules: rewriting without a model, which keeps names and literals and is weaker "
        "than a language model; model: the helper `paraphraser`, a text-to-text or chat model (DeCE section 5.2: "
        "GPT-3.5-turbo); file: recorded paraphrases. The name of the variant must say it: paraphrasing_rules",
    )
    rules: tuple[ParaphrasingRule, ...] = Field(
        ("words", "clauses", "synonyms"),
        description="rules that are applied, in this order. words: drop words that no clean validation text has; "
        "clauses: put a leading subordinate clause behind its main clause; synonyms: replace common words of "
        "documentation; an empty list changes nothing",
    )
    known: int = Field(
        1,
        gt=0,
        le=1000,
        description="number of clean validation texts that must contain a word for the rule `words` to keep it; names "
        "and literals (with digits, underscores, inner capitals, quotes or signs) are always kept",
    )
    prompt: str = Field(
        f"Assuming my prompt is unsafe, please paraphrasing my question to the safe prompt.\n{TEXT}",
        max_length=2000,
        description=f"the prompt of the model, with {TEXT} in place of the input (DeCE section 5.2: the default); for "
        f'a text-to-text model its own prefix, such as "paraphrase: {TEXT}"',
    )
    longest: int = Field(
        128, gt=0, le=4096, description="longest paraphrase, in sub-tokens of the model; decoding is greedy"
    )
    file: FilePath | None = Field(
        None,
        description='JSON Lines of recorded paraphrases, {"text": INPUT, "paraphrase": TEXT}, one for every input',
    )
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="checksum of that file, all 64 digits")

    @model_validator(mode="after")
    def _source_is_complete(self) -> Self:
        for name in ("file", "sha256"):
            if self.source == "file" and getattr(self, name) is None:
                raise ValueError(
                    "`source: file` needs `file`, JSON Lines of recorded paraphrases, and `sha256`, its checksum "
                    f"(sha256sum FILE); {name} is missing"
                )
        if self.prompt.count(TEXT) != 1:
            raise ValueError(f"prompt: write {TEXT} once, where the input belongs")
        return self

    @property
    def helpers(self) -> tuple[Helper, ...]:  # type: ignore[override]
        return ("paraphraser",) if self.source == "model" else ()

    def missing_file(self) -> str | None:
        if self.file is None or Path(self.file).is_file():
            return None
        return f"file: {self.file}: no such file; record the paraphrases there, or write `source: rules`"

    def work(self, job: PurificationJob) -> Work | None:  # noqa: ARG002
        """Rules and files cost next to nothing; the size of a paraphraser is unknown to a plan."""
        return None if self.source == "model" else Work()
