"""How many tokens share a batch on a GPU: for the code that runs models, and for the estimates of what that costs."""

from __future__ import annotations

#: Maximum number of sub-tokens in a batch on a GPU, including padding.
GPU_TOKENS = 65536
