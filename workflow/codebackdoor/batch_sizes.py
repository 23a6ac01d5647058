"""Sizes of what is computed at once: for the code that runs models, and for the estimates of what that costs.

These are not settings: a job's fingerprint covers this module, so that a change repeats the jobs.
"""

from __future__ import annotations

#: Maximum number of sub-tokens in a batch on a GPU, including padding.
GPU_TOKENS = 65536
#: Share of the candidates of a step of a trigger search, the best on the first samples, that are scored on all samples
#: (``race``).
RACED_SHARE = 1 / 8
