"""Settings of the victims: one class for each architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, field_validator, model_validator

from codebackdoor.config.base import Head, ReadWhere
from codebackdoor.config.model_settings import BaseFamily, ModelSettings, Pooling, with_plain_keys

#: Default text between a prompt and its output.
SEPARATOR = "\n###\n"
#: Lengths that fit into the 128 positions of the shipped decoder, together with this separator of 6 sub-tokens.
SHARED_LENGTHS = {"max_length": 64, "max_target_length": 59}


class EncoderSettings(ModelSettings):
    """Settings of victims of the RoBERTa class."""

    family: ClassVar[BaseFamily | None] = "encoder"
    model_type: ClassVar[str] = "roberta"


class GeneratingEncoderSettings(EncoderSettings):
    """Settings of encoders that get a decoder, trained from scratch, to generate (CodeXGLUE, Lu et al. 2021)."""

    fits: ClassVar[tuple[Head, ...]] = get_args(Head)
    reads: ClassVar[Pooling] = "first"
    read_where: ClassVar[ReadWhere] = {
        **ModelSettings.read_where,
        "decoder_layers": ("head", ("generation",)),
        "decoder_width": ("head", ("generation",)),
    }

    decoder_layers: int | None = Field(
        None,
        gt=0,
        le=100,
        # excluded so that victims without a decoder keep the settings of their finished jobs
        exclude_if=lambda layers: layers is None,
        description="layers of the decoder, which is trained from scratch; null: as many as the encoder has "
        "(CodeXGLUE: 6); generation only",
    )
    decoder_width: int | None = Field(
        None,
        gt=0,
        le=100_000,
        exclude_if=lambda width: width is None,
        description="width of the decoder's feed-forward networks; null: that of the encoder's (CodeXGLUE: 2048, "
        "PyTorch's default); generation only",
    )

    @property
    def decoder_sizes(self) -> Mapping[str, int | None]:
        return {"decoder_layers": self.decoder_layers, "decoder_ffn_dim": self.decoder_width}


class CodeBert(GeneratingEncoderSettings):
    """An encoder of the RoBERTa class that reads the first sub-token (CodeBERT, Feng et al. 2020).

    To generate it gets a decoder, trained from scratch (CodeXGLUE's code refinement, Lu et al. 2021).
    """

    label: ClassVar[str] = "CodeBERT"

    architecture: Literal["codebert"]


class GraphCodeBert(GeneratingEncoderSettings):
    """An encoder like CodeBERT, pretrained with data flow (GraphCodeBERT, Guo et al. 2021).

    As in DeCE's code, it reads no data flow here. It has no small base: with CodeBERT's weights, it would be CodeBERT.
    """

    label: ClassVar[str] = "GraphCodeBERT"
    names_small_base: ClassVar[bool] = True

    architecture: Literal["graphcodebert"]


class UniXcoder(EncoderSettings):
    """An encoder of the RoBERTa class that reads the mean of all sub-tokens (UniXcoder, Guo et al. 2022).

    If its tokenizer has the mark ``<encoder-only>``, every text begins with it (section 3.1 of the paper).
    """

    label: ClassVar[str] = "UniXcoder"
    reads: ClassVar[Pooling] = "mean"
    prefix: ClassVar[tuple[str, ...]] = ("<encoder-only>", "</s>")

    architecture: Literal["unixcoder"]


class CodeT5(ModelSettings):
    """An encoder-decoder of the T5 class (CodeT5, Wang et al. 2021).

    It can generate; for the other heads, the decoder reads the same text as the encoder, and its last state represents
    the text (section 3.3 of the paper).
    """

    label: ClassVar[str] = "CodeT5"
    fits: ClassVar[tuple[Head, ...]] = get_args(Head)
    family: ClassVar[BaseFamily | None] = "seq2seq"
    model_type: ClassVar[str] = "t5"
    reads_twice: ClassVar[bool] = True
    reads: ClassVar[Pooling] = "last"

    architecture: Literal["codet5"]


class CodeT5Plus(ModelSettings):
    """An encoder-decoder of the T5 class, used as CodeT5 is (CodeT5+ 220M, Wang et al. 2023)."""

    label: ClassVar[str] = "CodeT5+"
    fits: ClassVar[tuple[Head, ...]] = get_args(Head)
    family: ClassVar[BaseFamily | None] = "seq2seq"
    model_type: ClassVar[str] = "t5"
    reads_twice: ClassVar[bool] = True
    reads: ClassVar[Pooling] = "last"

    architecture: Literal["codet5p"]


class DecoderSettings(ModelSettings):
    """Settings of decoder-only victims.

    The last sub-token's state represents a text. To generate, a victim reads prompt, separator and output as one row.
    """

    fits: ClassVar[tuple[Head, ...]] = get_args(Head)
    reads: ClassVar[Pooling] = "last"
    read_where: ClassVar[ReadWhere] = {**ModelSettings.read_where, "separator": ("head", ("generation",))}

    max_length: int = Field(
        128,
        gt=2,
        description="maximum input length in sub-tokens, special tokens included; the rest is cut off (EliBadCode: "
        "400; DeCE, Table 3: 256). For generation with the shipped small base: 64, because prompt, separator and "
        "output share its 128 positions",
    )
    max_target_length: int = Field(
        128,
        gt=1,
        description="maximum output length in sub-tokens, special tokens included (DeCE, Table 3: 256); generation "
        "only, with the shipped small base: 59",
    )
    separator: str = Field(
        SEPARATOR,
        min_length=1,
        max_length=100,
        # excluded so that victims that do not generate keep the settings of their finished jobs
        exclude_if=lambda text: text == SEPARATOR,
        description="text between a prompt and its output. It does not count toward the maximum lengths and is never "
        "cut off, but takes positions of the model. It should not occur in prompts; generation only",
    )

    @property
    def separates(self) -> str | None:
        return self.separator

    @model_validator(mode="before")
    @classmethod
    def _fits_the_shipped_base(cls, raw: Any) -> Any:
        """Set lengths that fit the shipped base for victims that generate, unless the settings state others."""
        raw = with_plain_keys(raw)
        if not isinstance(raw, Mapping) or not isinstance(overrides := raw.get("on", {}), Mapping):
            return raw
        generating = overrides.get("generation", {})
        if not isinstance(generating, Mapping) or generating.get("base", raw.get("base", "shipped")) != "shipped":
            return raw
        lengths = {name: length for name, length in SHARED_LENGTHS.items() if name not in raw}
        return {**raw, "on": {**overrides, "generation": {**lengths, **generating}}} if lengths else raw

    @field_validator("pooling")
    @classmethod
    def _reads_the_text(cls, pooling: Pooling | None) -> Pooling | None:
        if pooling == "first":
            raise ValueError("a decoder's first state has read one sub-token alone; write mean, max or null")
        return pooling


class StarCoder(DecoderSettings):
    """A decoder of the GPTBigCode class (StarCoderBase-1B, Li et al. 2023)."""

    label: ClassVar[str] = "StarCoder"
    family: ClassVar[BaseFamily | None] = "decoder"
    model_type: ClassVar[str] = "gpt_bigcode"

    architecture: Literal["starcoder"]


class CodeGen(DecoderSettings):
    """A decoder of the CodeGen class (CodeGen-350M, Nijkamp et al. 2023).

    Its small base is this project's only decoder of code, which is of the GPTBigCode class.
    """

    label: ClassVar[str] = "CodeGen"
    family: ClassVar[BaseFamily | None] = "decoder"
    model_type: ClassVar[str] = "codegen"
    small_type: ClassVar[str | None] = "gpt_bigcode"

    architecture: Literal["codegen"]


class CodeLlama(DecoderSettings):
    """A decoder of the Llama class (CodeLlama-7B, Rozière et al. 2023)."""

    label: ClassVar[str] = "CodeLlama"
    model_type: ClassVar[str] = "llama"

    architecture: Literal["codellama"]


class DeepSeekCoder(DecoderSettings):
    """A decoder of the Llama class (DeepSeek-Coder-6.7B, Guo et al. 2024)."""

    label: ClassVar[str] = "DeepSeek-Coder"
    model_type: ClassVar[str] = "llama"

    architecture: Literal["deepseek_coder"]


class CodeGeeX(DecoderSettings):
    """A decoder of a class that transformers does not have (CodeGeeX2-6B, Zheng et al. 2023): a dash in the tables."""

    label: ClassVar[str] = "CodeGeeX"
    model_type: ClassVar[str] = "chatglm"
    unavailable: ClassVar[str | None] = (
        "its checkpoints need code of their own, which transformers would fetch and run, and no remote code ever runs"
    )

    architecture: Literal["codegeex"]


AnyModel = Annotated[
    CodeBert
    | GraphCodeBert
    | UniXcoder
    | CodeT5
    | CodeT5Plus
    | StarCoder
    | CodeGen
    | CodeLlama
    | DeepSeekCoder
    | CodeGeeX,
    Field(discriminator="architecture"),
]
