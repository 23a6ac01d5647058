"""Settings of all victims: the base model that is fine-tuned, and the training recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails

from codebackdoor.config.base import Head, ReadWhere, Settings
from codebackdoor.config.paths import LOCAL, ModelFolder
from codebackdoor.config.recipes import AdapterSettings
from codebackdoor.config.scenario import NAME

Pooling = Literal["first", "mean", "max", "last"]
#: This project's small base models that victims are fine-tuned from.
BaseFamily = Literal["encoder", "seq2seq", "decoder"]

#: Folders of the small base models: those that ship with the repository, and those that a run pretrains itself.
SHIPPED = "basemodels"
PRETRAINED = "models/base"
#: Bases that this project pretrained: they have the class of a published model, but not its size.
OWN_BASES = ("shipped", "pretrained")


class ModelSettings(Settings):
    """Settings of all victims. Defaults are those of the local scale; the descriptions give the papers' values."""

    fits: ClassVar[tuple[Head, ...]] = ("classification", "pair", "retrieval")
    #: Family of this project's small base model for the architecture, if there is one.
    family: ClassVar[BaseFamily | None] = None
    #: ``model_type`` in the config.json of its base models, which decides the family (``victims.families``).
    model_type: ClassVar[str]
    #: ``model_type`` of its small base model, if that differs.
    small_type: ClassVar[str | None] = None
    #: Whether a small base must be named, because the family's own would make this a different architecture.
    names_small_base: ClassVar[bool] = False
    #: Why no victim of this architecture can be trained; tables then show a dash.
    unavailable: ClassVar[str | None] = None
    #: Whether a victim that does not generate reads its text twice: with the encoder, then with the decoder.
    reads_twice: ClassVar[bool] = False
    #: Default pooling, the state that represents a text: that of the first sub-token (BERT), the mean, or the last.
    reads: ClassVar[Pooling]
    #: Special tokens before every text, if the tokenizer has the first of them.
    prefix: ClassVar[tuple[str, ...]] = ()
    read_where: ClassVar[ReadWhere] = {
        "max_target_length": ("head", ("generation",)),
        "history_rows": ("head", ("generation",)),
        "max_query_length": ("head", ("retrieval",)),
        "similarity": ("head", ("retrieval",)),
        "scale": ("head", ("retrieval",)),
        "switch_every": ("optimizer", ("badam",)),
        "block_order": ("optimizer", ("badam",)),
        "pair_features": ("head", ("pair",)),
        "pooling": ("head", ("classification", "pair", "retrieval")),
    }

    base: ModelFolder = Field(
        "shipped",
        min_length=1,
        description="base model to fine-tune: `shipped` (basemodels/), `pretrained` (by this run's `pretrain` rule), a "
        "hub id such as microsoft/codebert-base, or a local folder in hub format (written with a ./ or / in front)",
    )
    revision: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{40}$",
        description="commit of the hub repository, all 40 digits; required with a hub id, and only then",
    )
    small_base: str | None = Field(
        None,
        pattern=rf"^{NAME}$",
        # excluded so that models without one keep the settings of their finished jobs
        exclude_if=lambda name: name is None,
        description="name of the small base: with `shipped` a folder of basemodels/, with `pretrained` a recipe under "
        "`pretraining`, such as one of another seed or with fewer steps (null: the one of the architecture's family)",
    )
    max_length: int = Field(
        128,
        gt=2,
        description="maximum input length in sub-tokens, special tokens included; the rest is cut off (EliBadCode: "
        "400; DeCE, Table 3: 256)",
    )
    max_query_length: int = Field(
        64, gt=2, description="longest query in sub-tokens, special tokens included (EliBadCode: 128); retrieval only"
    )
    max_target_length: int = Field(
        128,
        gt=1,
        description="longest output in sub-tokens, special tokens included (DeCE, Table 3: 256); generation only",
    )
    epochs: int = Field(
        5,
        gt=0,
        le=10_000,
        description="passes over the training split (EliBadCode: defects 5, clones and search 2; DeCE section 3.1: "
        "Bugs2Fix 2, Lyra and Pisces 20)",
    )
    lr: float = Field(
        5e-4,
        gt=0,
        description="peak learning rate of AdamW (EliBadCode: defects 2e-5, clones and search 5e-5; DeCE: 5e-5); small "
        "models take larger ones",
    )
    batch_tokens: int = Field(
        4096,
        gt=0,
        description="maximum number of sub-tokens in a batch, input and output, padding included (EliBadCode: 32 "
        "sequences of 400; DeCE, Table 3: 12 of 256 + 256)",
    )
    warmup: float = Field(
        0.1, ge=0, le=1, description="share of the steps with a rising learning rate; afterwards it falls linearly to 0"
    )
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decay of weight matrices (CodeXGLUE: 0)")
    clip: float = Field(1.0, gt=0, description="maximum gradient norm of a step (CodeXGLUE: 1)")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="dropout in all layers while training (hub checkpoints: 0.1; slow on a CPU)"
    )
    checkpoint: Literal["best", "last"] = Field(
        "last",
        description="epoch whose weights are kept: the last (DeCE), or the one with the best clean metric on the "
        "validation split and, in a tie, the lowest loss (CodeXGLUE, hence EliBadCode and CodePurify)",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="precision of the matrix products while training; weights stay in float32. auto: bfloat16 if the "
        "processor has instructions for it; predictions are always made in float32",
    )
    weights: Literal["float32", "bfloat16"] = Field(
        "float32",
        # excluded, here and below, so that victims with the default keep the settings of their finished jobs
        exclude_if=lambda weights: weights == "float32",
        description="number format of the weights while training and in the victim's folder. bfloat16 halves memory "
        "and disk and computes in bfloat16; with AdamW it rounds away small steps (DeCE's released code: bfloat16). "
        "Defenses and predictions read the weights as float32, which is exact",
    )
    optimizer: Literal["adamw", "badam"] = Field(
        "adamw",
        exclude_if=lambda optimizer: optimizer == "adamw",
        description="adamw: train all weights in every step; badam: train only one block of layers at a time, with "
        "AdamW (Luo et al. 2024; DeCE section 6.2, for 7B models on one GPU)",
    )
    switch_every: int = Field(
        100,
        gt=0,
        exclude_if=lambda steps: steps == 100,
        description="steps after which the next block is trained (BAdam: K, 100); badam only",
    )
    block_order: Literal["random", "ascending", "descending"] = Field(
        "random",
        exclude_if=lambda order: order == "random",
        description="order of the blocks: random in each round (BAdam), from the first layer to the last, or from the "
        "last to the first; badam only",
    )
    adapters: AdapterSettings | None = Field(
        None,
        exclude_if=lambda adapters: adapters is None,
        description="train only low-rank adapters (LoRA) and new heads, for models above 1B; adapters are merged into "
        "the weights when the victim is saved; null: all weights are trained",
    )
    history_rows: int = Field(
        200,
        gt=0,
        description="number of clean and of triggered validation rows for which an output is generated after every "
        "epoch; generation only (classification: all rows)",
    )

    pooling: Literal["first", "mean", "max"] | None = Field(
        None,
        description="pooling, instead of the architecture's own: the state of the first sub-token (encoder-decoder: of "
        "the decoder's start), the mean or the maximum of all states (Reimers and Gurevych 2019), for small bases "
        "whose single state does not learn to compare texts or to see a trigger; not for generation",
    )
    pair_features: Literal["concat", "interaction"] = Field(
        "interaction",
        description="features of a pair for its head: both vectors (concat, CodeXGLUE), or also their absolute "
        "difference and their product (interaction), with which a small model learns from fewer pairs; pair "
        "classification only",
    )
    similarity: Literal["cosine", "dot"] = Field(
        "cosine",
        description="similarity of a query and a function: the cosine (UniXcoder), or the inner product (CodeXGLUE's "
        "CodeBERT); retrieval only",
    )
    scale: float = Field(
        20.0,
        gt=0,
        description="factor of the similarities before the softmax over the batch while training (UniXcoder: 20; with "
        "dot: 1); retrieval only",
    )
    on: dict[Head, dict[str, Any]] = Field(
        {},
        description="settings that differ for victims with a certain head, by its name: with `retrieval: {epochs: 2}`, "
        "victims of code search are trained for 2 epochs",
    )

    @model_validator(mode="after")
    def _revision_fits(self) -> Self:
        if (self.revision is not None) != self.is_hub:
            raise ValueError(
                "`revision` goes with a hub id: write `base: owner/name` and the 40 digits of a commit as `revision`"
                if self.revision is not None
                else f"base {self.base!r} is a hub id: pin it with `revision`, the 40 digits of a commit; a local "
                "folder is written with ./ in front"
            )
        return self

    @model_validator(mode="after")
    def _small_base_exists(self) -> Self:
        if self.is_small and self.family is None and self.unavailable is None:
            raise ValueError(f"there is no {self.base} base model of type {self.model_type}; name a hub id or a folder")
        if self.small_base is not None and not self.is_small:
            raise ValueError("`small_base` goes with `base: shipped` or `base: pretrained`; remove it")
        if self.small_base is None and self.is_small and self.names_small_base:
            raise ValueError(
                f"there is no {self.base} base model of its own; name a hub id, a folder, or as `small_base` another "
                f"base than the {self.family} of other models, which would make it one of them"
            )
        return self

    @model_validator(mode="after")
    def _training_fits(self) -> Self:
        if self.adapters is not None and self.optimizer == "badam":
            raise ValueError("optimizer: badam trains blocks of all weights; leave out `adapters`, or write adamw")
        if self.weights == "bfloat16" and self.precision == "float32":
            raise ValueError("precision: weights in bfloat16 are multiplied in bfloat16; write `precision: bfloat16`")
        return self

    @model_validator(mode="before")
    @classmethod
    def _on_is_a_key(cls, raw: Any) -> Any:
        return with_plain_keys(raw)

    @field_validator("on")
    @classmethod
    def _is_one_model(cls, on: dict[Head, dict[str, Any]]) -> dict[Head, dict[str, Any]]:
        for head, overrides in on.items():
            for key in ("architecture", "on"):
                if key in overrides:
                    raise ValueError(f"{head} cannot override `{key}`; declare another model instead")
        return on

    @model_validator(mode="after")
    def _overrides_fit(self) -> Self:
        for head in self.on:
            try:
                self.for_head(head)
            except ValidationError as error:
                raise _moved(error, "on", head) from None
        return self

    def for_head(self, head: Head) -> Self:
        """The settings of victims with this head: the head's overrides are applied, and ``on`` is removed."""
        if not self.on:
            return self
        shared = {name: value for name, value in self if name != "on"}
        return type(self).model_validate({**shared, **self.on.get(head, {})})

    @model_serializer(mode="wrap")
    def _without_empty_overrides(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out ``on`` if it is empty, as it is for every job, so that this field reruns no finished study.

        Overrides are written as parsed values: YAML reads 5e-5 as text.
        """
        fields: dict[str, Any] = serialize(self)
        if fields.pop("on", None):
            resolved = {head: self.for_head(head) for head in self.on}
            fields["on"] = {
                head: {name: getattr(resolved[head], name) for name in overrides} for head, overrides in self.on.items()
            }
        return fields

    @property
    def base_type(self) -> str:
        """Type of the base model that these settings name."""
        return self.small_type if self.small_type is not None and self.is_small else self.model_type

    @property
    def base_types(self) -> list[str]:
        """The types of all bases, which may differ by head."""
        return sorted({self.base_type, *(self.for_head(head).base_type for head in self.on)})

    @property
    def separates(self) -> str | None:
        """The text between a prompt and its output, for victims that read both as one row."""
        return None

    @property
    def is_small(self) -> bool:
        """Whether the base model is one of this project's own."""
        return self.base in OWN_BASES

    @property
    def is_hub(self) -> bool:
        """Whether the base model comes from the hub."""
        return not self.is_small and not self.base.startswith(LOCAL)

    @property
    def decoder_sizes(self) -> Mapping[str, int | None]:
        """The size of a new decoder by keys of config.json; None: as large as the encoder."""
        return {}

    def base_path(self, out: str | Path) -> Path:
        """The folder of the base model in a run under ``out``; for a hub id, the id with its revision."""
        if self.is_small:
            return (Path(SHIPPED) if self.base == "shipped" else Path(out) / PRETRAINED) / str(
                self.small_base or self.family
            )
        if self.is_hub:
            return Path(f"{self.base}@{self.revision}")
        return Path(self.base)


def with_plain_keys(raw: Any) -> Any:
    """Accept the key true as ``on``: YAML 1.1, which Snakemake uses, too, reads the unquoted word as a boolean."""
    if not isinstance(raw, Mapping) or True not in raw:
        return raw
    if "on" in raw:
        raise ValueError("`on` is there twice, with and without quotes; write it without")
    return {"on" if name is True else name: value for name, value in raw.items()}


def _moved(error: ValidationError, *outer: str) -> ValidationError:
    """The same mistakes, with their locations below ``outer``."""
    return ValidationError.from_exception_data(
        error.title,
        [
            InitErrorDetails(
                type=detail["type"], loc=(*outer, *detail["loc"]), input=detail["input"], ctx=detail.get("ctx", {})
            )
            for detail in error.errors()
        ],
    )
