"""How long a text is: in sub-tokens of the victims' tokenizer, or without one in words between white space."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from codebackdoor.errors import UserError
from codebackdoor.files import sha256
from codebackdoor.tasks.base import RowGroup

_VOCABULARY = "vocab.json"


class TokenCounter:
    """Counts tokens of texts; special tokens do not count."""

    def __init__(self, tokenizer: Path | None) -> None:
        """``tokenizer`` is a ``tokenizer.json`` or its folder; a folder may hold vocab.json and merges.txt instead, the
        older form of a byte-level BPE."""
        self._path = tokenizer
        if tokenizer is not None and tokenizer.is_dir():
            single, parts = tokenizer / "tokenizer.json", tokenizer / _VOCABULARY
            self._path = parts if parts.is_file() and not single.is_file() else single
        if self._path is not None and not self._path.is_file():
            raise UserError(f"{self._path}: no such file; name a tokenizer.json or the folder it lies in")

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import ByteLevelBPETokenizer, Tokenizer

        try:
            if self._path is not None and self._path.name == _VOCABULARY:
                merges = self._path.with_name("merges.txt")
                if not merges.is_file():
                    raise UserError(f"{merges}: no such file, which goes with {_VOCABULARY}")
                tokenizer: Any = ByteLevelBPETokenizer.from_file(str(self._path), str(merges))
            else:
                tokenizer = Tokenizer.from_file(str(self._path))
        except UserError:
            raise
        except Exception as error:  # the library raises nothing more specific
            raise UserError(f"{self._path}: not a tokenizer ({error})") from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @property
    def unit(self) -> str:
        return "words" if self._path is None else "sub-tokens"

    @property
    def digest(self) -> str | None:
        """SHA-256 of the tokenizer's file."""
        return None if self._path is None else sha256(self._path)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        if self._path is None:
            return [len(text.split()) for text in texts]
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [len(encoding.ids) for encoding in encodings]

    def length(self, text: str) -> int:
        # a batch of one text would start the library's threads each time
        return (
            len(text.split()) if self._path is None else len(self._tokenizer.encode(text, add_special_tokens=False).ids)
        )

    def longest(self, group: RowGroup, fields: Sequence[str]) -> int:
        """Length of the longest text of a group in these fields."""
        texts = {text for row in group.rows for name in fields if (text := getattr(row, name)) is not None}
        return max(map(self.length, texts))
