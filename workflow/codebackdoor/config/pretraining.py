"""Pretraining recipes of the small local base models; a family's main recipe has the family's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from codebackdoor.config.base import Helper, Settings

Family = Literal["encoder", "seq2seq", "causal", "decoder", "discriminator", "english"]


#: The family of the base model that can serve as each helper; there is none for the paraphraser.
HELPER_FAMILIES: Mapping[Helper, Family] = {
    "infiller": "encoder",
    "language_model": "causal",
    "english_model": "english",
    "discriminator": "discriminator",
}


class Pretraining(Settings):
    """Architecture and recipe of one local base model."""

    family: Family = Field(
        description="encoder: masked LM (RoBERTa class); seq2seq: denoising (T5); causal, decoder: next token (GPT-2, "
        "GPTBigCode class); discriminator: which sub-tokens were filled in by the encoder (ELECTRA class); english: "
        "next token (GPT-2) of docstrings and comments instead of code, with a tokenizer of its own"
    )
    vocabulary: int = Field(
        4096, gt=300, description="entries of the byte-level BPE, special tokens and layout marks included"
    )
    hidden: int = Field(128, gt=0, description="width of the hidden states")
    layers: int = Field(2, gt=0, description="transformer layers (seq2seq: of the encoder and of the decoder)")
    heads: int = Field(4, gt=0, description="attention heads")
    max_length: int = Field(
        128, gt=8, description="maximum sequence length in sub-tokens, special tokens included; the rest is cropped"
    )
    steps: int = Field(20000, ge=0, description="optimizer steps")
    batch_tokens: int = Field(6144, gt=0, description="maximum number of sub-tokens in a batch, padding included")
    lr: float = Field(1e-3, gt=0, description="peak learning rate of AdamW (embeddings, norms, biases)")
    matrix_lr: float = Field(0.02, gt=0, description="peak learning rate of Muon (weight matrices of the layers)")
    warmup: float = Field(0.02, ge=0, le=1, description="share of the steps with a rising learning rate")
    decay: float = Field(0.4, ge=0, le=1, description="share of the steps, at the end, with a falling learning rate")
    noise: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of the sub-tokens that are masked or replaced (not causal, decoder, english)",
    )
    position_std: float = Field(
        0.1,
        gt=0,
        description="standard deviation of new position embeddings; with 0.02, the loss plateau lasts longer",
    )
    precision: Literal["float32", "bfloat16"] = Field("bfloat16", description="precision of the matrix products")
    seed: int = Field(1, description="seed of weights, batches and noise")

    @property
    def reads_prose(self) -> bool:
        """Whether the model learns from the corpus's docstrings and comments instead of its functions."""
        return self.family == "english"

    @property
    def longest_input(self) -> int | None:
        """Maximum input length of the base model in sub-tokens; None for T5, whose positions are relative."""
        return None if self.family == "seq2seq" else self.max_length
