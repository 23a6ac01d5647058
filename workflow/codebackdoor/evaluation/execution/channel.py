"""Messages between two processes over a pair of pipes: a length, then JSON."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

#: Maximum length of a message, in bytes.
LONGEST_MESSAGE = 2**25


class ClosedError(Exception):
    """The other process ended, or sent something that is not a message."""


@dataclass(frozen=True, slots=True)
class Channel:
    """The file descriptors to read from and to write to."""

    reading: int
    writing: int

    def send(self, message: Any) -> None:
        content = json.dumps(message).encode()
        data = memoryview(len(content).to_bytes(4, "big") + content)
        try:
            while data:
                data = data[os.write(self.writing, data) :]
        except OSError:
            raise ClosedError from None

    def receive(self) -> Any:
        size = int.from_bytes(self._read(4), "big")
        if size > LONGEST_MESSAGE:
            raise ClosedError
        try:
            return json.loads(self._read(size))
        except (ValueError, RecursionError):
            raise ClosedError from None

    def _read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            part = os.read(self.reading, min(size, 2**20))
            if not part:
                raise ClosedError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def pair() -> tuple[Channel, Channel]:
    """The two ends of a channel."""
    first, second = os.pipe(), os.pipe()
    return Channel(first[0], second[1]), Channel(second[0], first[1])
