"""Decoder-only models: prompt, separator and output are one row, and the victim learns the tokens of the output.

The row of a batch is the prompt with its padding on the right, the separator, and the output. Padding is masked, and
positions count only real tokens, so that a row's result does not depend on the batch. Losses skip the prompt, the
separator and padding; the end of text is a token of the output like any other, and never the padding.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from codebackdoor.config.model_settings import Pooling
from codebackdoor.errors import UserError, quoted
from codebackdoor.victims.families.base import Family
from codebackdoor.victims.tokens import PADS_WITH_END

if TYPE_CHECKING:
    from torch import Tensor

    from codebackdoor.victims.families.base import NextToken
    from codebackdoor.victims.victim import Victim

#: The padding token that is added to a tokenizer without one.
_PADDING = "<pad>"


class Lengths(Protocol):
    """The maximum lengths of a victim, or of its settings."""

    @property
    def max_length(self) -> int: ...
    @property
    def max_target_length(self) -> int: ...


class Causal(Family):
    pooling: Pooling = "last"
    is_causal = True

    def prepare_output(self, tokenizer: Any, config: Any, folder: Path) -> None:
        """Make padding and end of text two different tokens, and let the model use the tokenizer's end of text."""
        if tokenizer.eos_token_id is None:
            raise UserError(
                f"{folder}: the tokenizer has no end of text, which a victim learns to write; set eos_token in "
                "tokenizer_config.json"
            )
        if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
            if tokenizer.unk_token_id not in (None, tokenizer.eos_token_id):
                tokenizer.pad_token = tokenizer.unk_token
            elif len(tokenizer) < config.vocab_size:
                tokenizer.add_special_tokens({"pad_token": _PADDING})
            else:
                raise UserError(f"{folder}: {PADS_WITH_END}")
        config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id

    def output_problem(self, victim: Victim) -> str | None:
        tokenizer = victim.tokenizer
        if victim.pad_id == victim.model.config.eos_token_id:
            return PADS_WITH_END
        if victim.separator is None:
            return (
                "config.json does not say what stands between a prompt and its output: write codebackdoor.separator "
                "there, next to head, text_form, max_length and max_target_length"
            )
        ids = separator_ids(victim)
        if not ids or tokenizer.unk_token_id in ids:
            return f"separator: the tokenizer has no sub-tokens for {quoted(victim.separator)}; write another text"
        positions = self.longest_input(victim.model.config.to_dict())
        return None if positions is None else row_problem(victim, positions, len(ids))

    def target_ids(self, victim: Victim, ids: list[int]) -> list[int]:
        """Remove the beginning of sequence and add the end of text, which most tokenizers of decoders leave out."""
        end = int(victim.model.config.eos_token_id)
        text = ids[1:] if ids[:1] == [victim.tokenizer.bos_token_id] else ids
        text = text[:-1] if text[-1:] == [end] else text
        return [*text[: victim.max_target_length - 1], end]

    def output_logits(self, victim: Victim, inputs: Tensor, mask: Tensor, outputs: Tensor) -> Tensor:
        import torch

        suffix = torch.cat([_separators(victim, mask), outputs[:, :-1]], 1)
        visible, positions = _placed(mask, suffix.shape[1])
        logits: Tensor = victim.model(
            inputs_embeds=_row(victim, inputs, suffix),
            attention_mask=visible,
            position_ids=positions,
            use_cache=False,
            logits_to_keep=outputs.shape[1],
        ).logits
        return logits

    def next_token(self, victim: Victim, inputs: Tensor, mask: Tensor) -> NextToken:
        import torch

        separators, cache = _separators(victim, mask), None
        embedded = _row(victim, inputs, separators)
        visible, positions = _placed(mask, separators.shape[1])

        def step(tokens: Tensor | None) -> Tensor:
            nonlocal embedded, visible, positions, cache
            if tokens is not None:
                embedded = victim.model.get_input_embeddings()(tokens)
                visible = torch.cat([visible, torch.ones_like(visible[:, :1])], 1)
                positions = positions[:, -1:] + 1
            output = victim.model(
                inputs_embeds=embedded,
                attention_mask=visible,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            logits: Tensor = output.logits[:, -1]
            return logits

        return step


def row_problem(lengths: Lengths, positions: int, separator: int) -> str | None:
    """Why the longest prompt and output do not fit into one row; None if they do.

    The last token of an output takes no position.
    """
    room = positions - separator + 1
    if lengths.max_length + lengths.max_target_length <= room:
        return None
    return (
        f"prompt and output share the {positions} positions of this model, and their separator takes {separator}; "
        f"write max_length and max_target_length with a sum of at most {room}"
    )


def separator_ids(victim: Victim) -> list[int]:
    """The sub-tokens between a prompt and its output, without special tokens."""
    ids: list[int] = victim.tokenizer(victim.separator, add_special_tokens=False)["input_ids"]
    return ids


def _separators(victim: Victim, mask: Tensor) -> Tensor:
    """The separator of every row of a batch, [B, S]."""
    return mask.new_tensor(separator_ids(victim)).expand(len(mask), -1)


def _row(victim: Victim, inputs: Tensor, suffix: Tensor) -> Tensor:
    """Embeddings of prompts, given as ids [B, T] or as embeddings [B, T, H], followed by those of the ids [B, N]."""
    import torch

    embed = victim.model.get_input_embeddings()
    return torch.cat([inputs if inputs.is_floating_point() else embed(inputs), embed(suffix)], 1)


def _placed(mask: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """The mask [B, T + N] of prompts with mask [B, T] followed by N = ``tokens`` tokens, and each token's position."""
    import torch

    visible = torch.cat([mask, mask.new_ones(len(mask), tokens)], 1)
    return visible, (visible.cumsum(1) - 1).clamp(min=0)
