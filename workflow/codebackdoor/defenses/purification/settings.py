"""Settings that all purifications share."""

from __future__ import annotations

from typing import ClassVar

from codebackdoor.config.base import Head, ReadWhere, Settings

#: Methods that rewrite each function by itself work on every task that reads functions.
FUNCTIONS: tuple[Head, ...] = ("classification", "pair", "retrieval")


class PurificationSettings(Settings):
    """What a purification reads, and what its threshold means."""

    #: Whether the method looks at the victim; one that does not rewrites a test set once for all victims.
    reads_victim: ClassVar[bool] = True
    #: Whether the method needs the trigger that an elimination before it on the path has inverted.
    reads_trigger: ClassVar[bool] = False
    #: What the method does beyond its threshold, as the rest of a sentence that begins with the method's name.
    threshold_meaning: ClassVar[str] = ""
    #: A fixed threshold leaves nothing to calibrate.
    read_where: ClassVar[ReadWhere] = {
        "touched_share": ("threshold", (None,)),
        "removed_share": ("threshold", (None,)),
        "calibration_inputs": ("threshold", (None,)),
    }
