"""Paraphrases by a model that writes: any text-to-text or chat model of transformers, greedy and in batches.

Control tokens that an input spells out, such as the end of the user's turn, are read as plain text.

A chat model gets one message of the user through its own template; its padding is on the left, where greedy
output continues. A model without a template would continue the text instead of rewriting it, and is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from codebackdoor.batch_sizes import GPU_TOKENS
from codebackdoor.defenses.purification.paraphrasing.settings import TEXT
from codebackdoor.defenses.purification.paraphrasing.template import check_template, rendered
from codebackdoor.defenses.views import TextView
from codebackdoor.errors import UserError, quoted
from codebackdoor.files import read_object
from codebackdoor.victims import devices
from codebackdoor.victims.batching import computed
from codebackdoor.victims.checkpoints import check_safetensors, load_weights, local_folder
from codebackdoor.victims.families import ModelClass
from codebackdoor.victims.tokenizer_loading import check_tokenizer, load_tokenizer

#: How often control tokens are broken up: breaking one may join the parts of another.
_ROUNDS = 8
#: Tokens of one batch, prompts and longest outputs together.
WRITER_TOKENS = {"cpu": 8192, "cuda": GPU_TOKENS}


@dataclass(frozen=True)
class Writer:
    """A loaded paraphraser; ``is_chat``: its prompts go through its tokenizer's template."""

    model: Any
    tokenizer: Any
    prompt: str
    longest: int
    is_chat: bool

    @torch.inference_mode()
    def paraphrase(self, texts: Sequence[str]) -> list[str | None]:
        """The model's answer to each prompt, in order; the answer to a text depends only on that text.

        None for a text that is too long for the model or cannot be written without its control tokens.
        """
        plain = {index: plain for index, text in enumerate(texts) if (plain := self.plain(text)) is not None}
        rows = {index: ids for index, text in plain.items() if self._fits(ids := self._ids(text))}
        prompts = list(rows.values())
        answers = computed(
            [len(row) + self.longest for row in prompts],
            WRITER_TOKENS[self.model.device.type],
            lambda batch: self._answers([prompts[number] for number in batch]),
        )
        by_index = dict(zip(rows, answers, strict=True))
        return [by_index.get(index) for index in range(len(texts))]

    def check_prompt(self) -> None:
        """Raise UserError if the prompt without a text and an answer do not fit into the model's positions."""
        if not self._fits(ids := self._ids("")):
            raise UserError(
                f"prompt: its {len(ids)} sub-tokens and {self.longest} for the answer do not fit into the paraphraser's"
                f" {self._positions} positions; write a smaller `longest` or a shorter prompt, or use another model"
            )

    def _ids(self, text: str) -> list[int]:
        request = self.prompt.replace(TEXT, text)
        # a template writes the special tokens itself
        message = rendered(self.tokenizer, request) if self.is_chat else request
        ids: list[int] = self.tokenizer(message, add_special_tokens=not self.is_chat, verbose=False)["input_ids"]
        return ids

    def plain(self, text: str) -> str | None:
        """The text with a space within each control token, which the tokenizer then reads as plain text.

        None if its normalization still yields a control token.
        """
        controls, ids = self._controls
        for _ in range(_ROUNDS):
            text, count = controls.subn(lambda match: f"{match[0][:1]} {match[0][1:]}", text)
            if not count:
                break
        encoded = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return text if ids.isdisjoint(encoded) else None

    @cached_property
    def _controls(self) -> tuple[re.Pattern[str], frozenset[int]]:
        """A pattern for the added tokens that are not ordinary words or gaps, and their ids without the unknown one."""
        added = self.tokenizer.added_tokens_decoder.items()
        controls = {
            token.content: int(id_)
            for id_, token in added
            if token.content.strip() and (token.special or not token.content.strip().isalnum())
        }
        longest_first = sorted(controls, key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        # text of unknown characters is plain as well
        return pattern, frozenset(controls.values()) - {self.tokenizer.unk_token_id}

    @property
    def _positions(self) -> int | None:
        positions = getattr(self.model.config, "max_position_embeddings", None)
        return positions if isinstance(positions, int) else None

    def _fits(self, ids: Sequence[int]) -> bool:
        needed = len(ids) + (self.longest if self.is_chat else 0)
        return self._positions is None or needed <= self._positions

    def _answers(self, rows: Sequence[Sequence[int]]) -> list[str]:
        width = max(map(len, rows))
        pad = int(self.tokenizer.pad_token_id)
        filling = [[pad] * (width - len(row)) for row in rows]
        masks = [[0] * (width - len(row)) for row in rows]
        ones = [[1] * len(row) for row in rows]
        pads_left = self.is_chat
        ids = [[*fill, *row] if pads_left else [*row, *fill] for fill, row in zip(filling, rows, strict=True)]
        mask = [[*zeros, *real] if pads_left else [*real, *zeros] for zeros, real in zip(masks, ones, strict=True)]
        device = self.model.device
        output = self.model.generate(torch.tensor(ids, device=device), attention_mask=torch.tensor(mask, device=device))
        continuations = output[:, width:] if self.is_chat else output
        answers: list[str] = self.tokenizer.batch_decode(continuations, skip_special_tokens=True)
        return answers


def load_writer(view: TextView, prompt: str, longest: int) -> Writer:
    """Load the helper ``paraphraser``; UserError if it is missing, writes no text, or has no usable chat template."""
    if "paraphraser" not in view.helpers:
        raise UserError("the helper model 'paraphraser' is missing; name a folder for it")
    path = local_folder(view.helpers["paraphraser"])
    check_safetensors(path)
    cls, is_chat = _writing_class(str(read_object(path / "config.json").get("model_type")), str(path))
    tokenizer = load_tokenizer(path)
    if is_chat and not tokenizer.chat_template:
        raise UserError(
            f"{path}: a chat model needs a chat template, and its tokenizer has none (chat_template in "
            "tokenizer_config.json, or chat_template.jinja); use an instruction-tuned or a text-to-text model"
        )
    if is_chat:
        check_template(path)
    if tokenizer.pad_token_id is None and tokenizer.eos_token is not None:
        # padding is masked, so any token will do
        tokenizer.pad_token = tokenizer.eos_token
    model = load_weights(cls, path, may_drop=True)
    check_tokenizer(tokenizer, model.get_input_embeddings().num_embeddings, path)
    model.generation_config = _greedy(model.generation_config, tokenizer, longest)
    writer = Writer(model.to(devices.device()).eval(), tokenizer, prompt, longest, is_chat)
    writer.check_prompt()
    return writer


def _greedy(config: Any, tokenizer: Any, longest: int) -> Any:
    """Greedy decoding with the folder's special tokens, and none of its other settings (samples, beams, penalties)."""
    from transformers import GenerationConfig

    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=longest,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=config.eos_token_id if config.eos_token_id is not None else tokenizer.eos_token_id,
        bos_token_id=config.bos_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
        forced_bos_token_id=config.forced_bos_token_id,
    )


def _writing_class(model_type: str, where: str) -> tuple[ModelClass, bool]:
    """The class of transformers that writes text for a type of models, and whether it is one that only continues."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )

    if model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        return ModelClass(model_type, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES[model_type]), False
    if model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return ModelClass(model_type, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]), True
    raise UserError(
        f"{where}: a model of type {quoted(model_type)} does not write text; the paraphraser is a text-to-text model "
        "such as t5, or a chat model such as llama, of transformers, without code of its own"
    )
