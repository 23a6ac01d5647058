"""Lyra with its Chinese comments."""

from __future__ import annotations

from pathlib import Path

from codebackdoor.originals.base import SourceFiles
from codebackdoor.originals.readers import lyra

ORIGINAL, SHARED = lyra.ORIGINAL, lyra.SHARED


def files(mirror: Path) -> SourceFiles:
    return lyra.commented(mirror, "comm_zh")
