"""The device that models run on: the accelerator allotted to this process, or the CPU.

A scheduler assigns accelerators to jobs; a job without one stays on the CPU even if an accelerator is visible to it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

#: Number of accelerators that this process may use; None if it was not set, so that any is used.
_allotted: int | None = None


def allot(accelerators: int | None) -> None:
    """Set how many accelerators this process may use, before any model is loaded."""
    global _allotted
    _allotted = accelerators


def device() -> torch.device:
    """The accelerator of this process, or the CPU, with a warning if an allotted accelerator is missing.

    From here on, the CPU rounds numbers below 1e-38 to zero. A fifth of the attention probabilities of the shipped base
    models are that small, and denormal arithmetic on them would take half of the training time.
    """
    import torch

    torch.set_flush_denormal(True)
    if _allotted != 0 and torch.cuda.is_available():
        return torch.device("cuda")
    if _allotted:
        log.warning("this job was given %d accelerators, and torch sees none: it runs on the CPU", _allotted)
    return torch.device("cpu")
