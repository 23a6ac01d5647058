"""What has to be known of a tokenizer that others have made: marks of words, padding, and what stands for a mask."""

from __future__ import annotations

from typing import Any, Literal

from codebackdoor.errors import UserError

#: What a tokenizer writes before a piece that begins a word (byte-level BPE, SentencePiece).
WORD_INITIAL = ("Ġ", "▁")
NO_PADDING = "the tokenizer has no padding token; set pad_token in tokenizer_config.json"


def stand_in(tokenizer: Any, first: Literal["mask", "unknown"]) -> tuple[str, int]:
    """Text and id of what stands for a masked part of an input: that token, else the other one.

    The methods differ in which they prefer (ledger E21). Raises UserError for a tokenizer with neither.
    """
    tokens = [(tokenizer.mask_token, tokenizer.mask_token_id), (tokenizer.unk_token, tokenizer.unk_token_id)]
    for token, index in tokens if first == "mask" else reversed(tokens):
        if index is not None:
            return str(token), int(index)
    raise UserError("the victim's tokenizer knows neither a mask nor an unknown token, so nothing can be masked for it")
