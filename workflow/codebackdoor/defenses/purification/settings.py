"""Settings that all purifications share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from codebackdoor.config.base import Head, Settings
from codebackdoor.defenses.settings import DECIDED

#: A fixed threshold leaves nothing to calibrate: for fields that only a calibration reads.
CALIBRATING: tuple[str, tuple[None]] = ("threshold", (None,))
#: Methods that rewrite each function by itself work on every task that reads functions.
FUNCTION_HEADS: tuple[Head, ...] = ("classification", "pair", "retrieval")


class PurificationSettings(Settings):
    """What a purification reads, and what its threshold means."""

    #: Whether the method looks at the victim; one that does not rewrites a test set once for all victims.
    reads_victim: ClassVar[bool] = True
    #: Whether the method needs the trigger that an elimination before it on the path has inverted.
    reads_trigger: ClassVar[bool] = False
    #: What the method does beyond its threshold, as the rest of a sentence that begins with the method's name.
    threshold_meaning: ClassVar[str] = ""
    #: The field whose value the name of a variant has to contain, since tables identify a defense by that name.
    named_by: ClassVar[str | None] = None

    @property
    def more_code(self) -> tuple[str, ...]:
        """Modules of this package that a job runs only with these settings: the method imports them by name."""
        return ()

    def missing_file(self) -> str | None:
        """The field that names a file which does not exist, and what to do about it; None: nothing is missing."""
        return None


class EvidenceSettings(PurificationSettings):
    """A purification that keeps what it measures, so that variants that differ only in their decisions share it.

    A field that is read only to decide says so by its type: ``threshold: Decided[float]``.
    """

    may_idle: ClassVar[frozenset[str]] = frozenset({"calibration_inputs"})

    method: str
    calibration_inputs: int = Field(
        1000,
        gt=0,
        description="clean validation inputs for the calibration of the threshold, drawn by seed; with n of them the "
        "share on fresh inputs has a standard error of sqrt(share (1 - share) / n): 0.5 points at the defaults",
    )

    def evidence_settings(self) -> dict[str, Any]:
        """The settings that the evidence depends on."""
        decided = {name for name, field in type(self).model_fields.items() if DECIDED in field.metadata}
        return self.model_dump(mode="json", exclude=decided)


def measured_first(purifications: Mapping[str, PurificationSettings]) -> dict[str, str]:
    """For each variant that keeps evidence, the first one with the same evidence, under whose name it is stored."""
    keeping = {name: settings for name, settings in purifications.items() if isinstance(settings, EvidenceSettings)}
    return {
        name: next(before for before in keeping if _same_evidence(keeping[before], settings))
        for name, settings in keeping.items()
    }


def _same_evidence(first: EvidenceSettings, second: EvidenceSettings) -> bool:
    return first.evidence_settings() == second.evidence_settings()
