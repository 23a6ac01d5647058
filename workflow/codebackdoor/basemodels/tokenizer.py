"""The local tokenizer: one byte-level BPE for every base model, with RoBERTa's pre-tokenization.

The layout marks of lexed text are added tokens *with* their leading space, so that decoding is exact and a word after
a mark has the same pieces as elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from codebackdoor.syntax import MARKS

SPECIAL = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
#: Their ids, which are the order in which they are listed above.
BOS, PAD, EOS, UNK, MASK = range(len(SPECIAL))
#: Smaller ids are special tokens: never masked, never drawn as noise.
FIRST_ORDINARY = len(SPECIAL)

#: What surrounds a sequence: RoBERTa ``<s> … </s>``, T5 ``… </s>``, a causal LM ``<s> …``.
Template = Literal["<s> $A </s>", "$A </s>", "<s> $A"]


def train_bpe(texts: Iterable[str], size: int) -> Tokenizer:
    """Train a byte-level BPE of ``size`` entries, special tokens and marks included, on lexed texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(MARKS),
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_without_marks(texts), trainer)
    tokenizer.add_tokens([AddedToken(f" {mark}", normalized=False, special=False) for mark in MARKS])
    return tokenizer


def _without_marks(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for mark in MARKS:
            text = text.replace(f" {mark}", "\n")
        yield from (line.strip(" ") for line in text.split("\n") if line.strip(" "))


def wrap(bpe: Tokenizer, template: Template, max_length: int) -> PreTrainedTokenizerFast:
    """Return a fast tokenizer that puts ``template`` around a text and saves with a model."""
    copy = Tokenizer.from_str(bpe.to_str())
    specials = [(token, copy.token_to_id(token)) for token in ("<s>", "</s>") if token in template]
    copy.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(single=template, pair=None, special_tokens=specials),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=copy,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
        **{f"{name}_token": token for name, token in SPECIAL.items()},
    )


def encode(bpe: Any, texts: Sequence[str]) -> list[NDArray[np.int64]]:
    """Return the sub-token ids of each text, without special tokens."""
    encodings = bpe.encode_batch(list(texts), add_special_tokens=False)
    return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]
