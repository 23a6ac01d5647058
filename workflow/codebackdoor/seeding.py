"""Random generators derived from (seed, stage, names); nothing in the project seeds a global generator."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, stage: str, *names: str) -> int:
    """Return a 63-bit seed that depends on every argument and on nothing else."""
    text = "\x1f".join((str(seed), stage, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, stage: str, *names: str) -> np.random.Generator:
    return np.random.default_rng(derive(seed, stage, *names))
