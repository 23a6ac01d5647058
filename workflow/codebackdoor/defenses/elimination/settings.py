"""Settings that all eliminations share, and those of the fine-tuning that several of them end with."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field

from codebackdoor.config.base import Head, ReadWhere, Settings
from codebackdoor.costs.eliminations import fine_tuning
from codebackdoor.costs.work import PlannedVictim, Work
from codebackdoor.heads import HEADS

Heads = tuple[Head, ...]
Schedule = Literal["released", "constant", "linear"]
#: Heads whose victims judge code rather than generate it.
JUDGING: Heads = ("classification", "pair", "retrieval")


class EliminationSettings(Settings):
    """What all eliminations share."""

    #: The method's name in reports.
    label: ClassVar[str]
    #: Whether the method inverts a trigger, which its ``trigger.json`` then holds.
    inverts: ClassVar[bool] = False

    def for_scenario(self, dataset: str, model: str) -> Self:  # noqa: ARG002
        """These settings for the victims of a data set and a model, whose names a path in them may hold."""
        return self

    @property
    def calibration_file(self) -> Path | None:
        """The file with the losses of benign victims that the method reads; None if it needs none."""
        return None

    @property
    def calibration_ships(self) -> bool:
        """Whether that file ships with the package, so that no benign victims have to be trained for it."""
        return False


class Budget(Settings):
    """How long a victim is fine-tuned, at what rate, and which of its parameters learn."""

    epochs: int = Field(ge=0, description="passes over the clean samples")
    learning_rate: float = Field(ge=0, description="learning rate of AdamW")
    layers: Literal["last", "all"] | None = Field(
        default=None, description="parameters that learn (released code: all; null: the same as for all other victims)"
    )


class TuningSettings(Settings):
    """How the victim is fine-tuned on the clean samples: shared by unlearning and by its control."""

    fits: ClassVar[Heads] = JUDGING
    read_where: ClassVar[ReadWhere] = {"searching": ("head", ("retrieval",))}

    epochs: int = Field(
        default=1, ge=0, description="passes over the clean samples (paper: 1, released configuration); 0: none"
    )
    learning_rate: float = Field(
        default=5e-3, ge=0, description="learning rate of AdamW (paper: 5e-3, released configuration)"
    )
    batch_size: int = Field(default=32, gt=0, description="clean samples per step (paper: 32, released configuration)")
    schedule: Schedule = Field(
        default="constant",
        description="learning rate over the steps; the paper does not say. released: it rises from 0 over the first "
        "tenth of the steps, then falls to 0, and a gradient with a norm above 1 is clipped to it (released code). "
        "constant: it does not change. linear: it falls to 0 from the first step on. The last two clip nothing",
    )
    dropout: bool = Field(
        default=False,
        description="whether the dropout that the victim was trained with is active while it learns (released code: "
        "yes; the paper does not say); small victims are trained without any",
    )
    layers: Literal["last", "all"] = Field(
        default="last",
        description="parameters that learn: those named 'classifier' (paper section 4.5), or all (its Figure 8)",
    )
    searching: Budget | None = Field(
        default=None,
        description="epochs, learning_rate and layers for a retrieval victim (null, the paper: the same as for all "
        "others; the released code lets all layers learn there)",
    )

    def on(self, head: Head) -> Self:
        """These settings as they apply to a victim with this head."""
        if not HEADS[head].ranks or self.searching is None:
            return self
        return self.model_copy(update=self.searching.model_dump(exclude_none=True))

    @property
    def learns(self) -> bool:
        return self.epochs > 0 and self.learning_rate > 0

    def tuning_work(self, victim: PlannedVictim) -> Work:
        """The work of the fine-tuning on a victim, with its settings for the victim's head."""
        chosen = self.on(victim.dataset.head)
        return fine_tuning(victim, chosen.epochs if chosen.learns else 0, chosen.layers == "all", chosen.dropout)
