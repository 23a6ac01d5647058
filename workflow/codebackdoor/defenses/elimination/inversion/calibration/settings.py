"""Settings of methods whose label scan is calibrated on benign victims, and where their calibrations are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from codebackdoor.config.base import Head, ReadWhere
from codebackdoor.config.paths import CalibrationPath
from codebackdoor.defenses.elimination.inversion.settings import (
    Afterwards,
    InversionSettings,
    Judged,
)


class CalibratedSettings(InversionSettings):
    """A label scan that compares with benign victims, and the unlearning of what it flags.

    A method with these settings has, in its module ``method``, the functions of ``elimination.LabelScanner``; all else
    that a calibration needs follows from the settings.
    """

    read_where: ClassVar[ReadWhere] = {
        **InversionSettings.read_where,
        "ratio": ("calibration", ()),
        "unlearn_when_clean": ("calibration", ()),
        "rounds": ("calibration", ()),
    }
    may_idle: ClassVar[frozenset[str]] = frozenset({"ratio", "unlearn_when_clean", "rounds"})
    #: Folder of the calibrations that ship with the method, if any; the setting ``calibration`` names one by its stem.
    shipped: ClassVar[Path | None] = None

    calibration: Judged[CalibrationPath | None] = Field(
        default=None,
        description="losses that benign victims reach in the same search: name of a shipped calibration, or path of a "
        "JSON file, in which {dataset} and {model} stand for the scenario's; null: the label of the smallest loss is "
        "always flagged, never 'clean' (released code)",
    )
    ratio: Judged[float] = Field(
        default=0.5,
        gt=0,
        le=1,
        description="a label is flagged when its loss is at most this share of the lowest loss of a benign shadow",
    )
    unlearn_when_clean: Afterwards[bool | Literal["retrieval"]] = Field(
        default=False,
        description="unlearn the most suspicious trigger even if the scan says 'clean' (paper, Table 4); retrieval: "
        "only in code search, where the paper has no verdict",
    )
    rounds: Afterwards[int] = Field(
        default=1,
        gt=0,
        description="maximum number of triggers that are unlearned one after another. 1: the one that the scan flags "
        "(paper). More: after each, the edited victim is scanned with fresh seeds, until a scan says 'clean'",
    )

    @classmethod
    def shipped_calibrations(cls) -> dict[str, Path]:
        """The files of the calibrations that ship with the method, by their names."""
        files = sorted(cls.shipped.glob("*.json")) if cls.shipped is not None else ()
        return {path.stem: path for path in files}

    def for_scenario(self, dataset: str, model: str) -> Self:
        if self.calibration is None:
            return self
        name = self.calibration.replace("{dataset}", dataset).replace("{model}", model)
        return self.model_copy(update={"calibration": name})

    @property
    def calibration_file(self) -> Path | None:
        if self.calibration is None:
            return None
        return self.shipped_calibrations().get(self.calibration, Path(self.calibration))

    @property
    def calibration_ships(self) -> bool:
        return self.calibration in self.shipped_calibrations()

    def calibrated_search(self) -> dict[str, Any]:
        """The settings that a calibration depends on, which exclude how a scan uses it and what follows."""
        return {**self._method(), **self.phase("positioned", "searched"), "ratio": self.ratio}

    def unlearns(self, flagged: bool, head: Head) -> bool:
        return flagged or self.unlearn_when_clean is True or self.unlearn_when_clean == head
