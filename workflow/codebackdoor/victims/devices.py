"""Where models run: the device that the caller was given, not whatever the machine has.

A scheduler hands out accelerators by job; a job that was given none stays on the processor, also on a machine where it
could see one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

#: Accelerators that this process may use; None where nobody has said: then what is there is used.
_allotted: int | None = None


def allot(accelerators: int | None) -> None:
    """Say how many accelerators this process may use, before any model is loaded."""
    global _allotted
    _allotted = accelerators


def device() -> torch.device:
    """The accelerator of this process, or the processor; an allotted one that is not there is a warning.

    On a processor, numbers below 1e-38 count as zero from here on. Attention of the shipped base models is so sharp
    that a fifth of its probabilities are as small, and a processor takes a detour for each: half of a training's time.
    """
    import torch

    torch.set_flush_denormal(True)
    if _allotted != 0 and torch.cuda.is_available():
        return torch.device("cuda")
    if _allotted:
        log.warning("this job was given %d accelerators, and torch sees none: it runs on the processor", _allotted)
    return torch.device("cpu")
