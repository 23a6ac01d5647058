"""Conventions of pretrained tokenizers: marks of words, padding, and the token that masks part of an input."""

from __future__ import annotations

from typing import Any, Literal

from codebackdoor.errors import UserError

#: Marks of a piece that begins a word (byte-level BPE, SentencePiece).
WORD_INITIAL = ("Ġ", "▁")
NO_PADDING = "the tokenizer has no padding token; set pad_token in tokenizer_config.json"
PADS_WITH_END = (
    "the padding is the end of text, so that a victim could not tell the end of its output from padding; set another "
    "pad_token in tokenizer_config.json"
)


def stand_in(tokenizer: Any, first: Literal["mask", "unknown"]) -> tuple[str, int]:
    """Text and id of the token that masks part of an input: the mask or the unknown token, preferably ``first``.

    The methods differ in their preference (ledger E21). Raises UserError for a tokenizer that has neither.
    """
    tokens = [(tokenizer.mask_token, tokenizer.mask_token_id), (tokenizer.unk_token, tokenizer.unk_token_id)]
    for token, index in tokens if first == "mask" else reversed(tokens):
        if index is not None:
            return str(token), int(index)
    raise UserError("the victim's tokenizer has neither a mask nor an unknown token, so no input can be masked")
