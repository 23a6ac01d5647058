"""Settings of DBS."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.config.base import Head, Reference
from codebackdoor.costs.eliminations import search
from codebackdoor.costs.work import PlannedVictim, Work
from codebackdoor.defenses.elimination.inversion.settings import (
    Afterwards,
    InversionSettings,
    Judged,
    Searched,
)
from codebackdoor.defenses.elimination.settings import Heads


class DbsSettings(InversionSettings):
    """Dynamic bound scaling (Shen et al. 2022) with EliBadCode's vocabulary and unlearning (its section 5.1).

    The defaults are the configuration that Shen et al. released; their code and EliBadCode's copy of it differ in the
    fields that name the copy.
    """

    label: ClassVar[str] = "DBS"
    reference: ClassVar[Reference | None] = Reference(
        authors="Guangyu Shen et al.",
        year=2022,
        title="Constrained Optimization with Dynamic Bound-scaling for Effective NLP Backdoor Defense",
        url="https://arxiv.org/abs/2202.05749",
    )
    fits: ClassVar[Heads] = ("classification", "pair")

    method: Literal["dbs"]
    iterations: Searched[int] = Field(
        default=200, gt=0, description="steps of the search of one label (Shen et al.: 200)"
    )
    learning_rate: Searched[float] = Field(default=0.5, gt=0, description="learning rate of Adam (Shen et al.: 0.5)")
    decay_every: Searched[int] = Field(
        default=50, gt=0, description="steps after which the learning rate is multiplied by `decay` (Shen et al.: 50)"
    )
    decay: Searched[float] = Field(
        default=0.5, gt=0, le=1, description="factor of the learning rate (Shen et al.: 0.5)"
    )
    initial_temperature: Searched[float] = Field(
        default=2.0, gt=0, description="temperature until the loss is below the barrier once (Shen et al.: 2)"
    )
    barrier: Searched[float] = Field(
        default=0.1,
        gt=0,
        description="first barrier: loss, in nats, below which the temperature falls; half the loss of each accepted "
        "trigger is the next barrier (Shen et al.: 0.1)",
    )
    relax_after: Searched[int | None] = Field(
        default=5,
        gt=0,
        description="rollbacks since the last accepted trigger after which the barrier is doubled, up to just below "
        "that trigger's loss (Shen et al.: 5; null, EliBadCode's copy: never)",
    )
    check_every: Searched[int] = Field(
        default=5, gt=0, description="steps from one temperature to the next (Shen et al.: 5)"
    )
    scale_down: Searched[float] = Field(
        default=2.0, gt=1, description="divisor of the temperature under the barrier (Shen et al.: 2)"
    )
    scale_up: Searched[float | None] = Field(
        default=None,
        gt=1,
        description="factor of the temperature when it rolls back (null, the released code: `scale_down`; nothing "
        "reads the 5 of its configuration)",
    )
    max_temperature: Searched[float] = Field(default=2.0, gt=0, description="highest temperature (Shen et al.: 2)")
    noise: Searched[float] = Field(
        default=10.0,
        ge=0,
        description="upper limit of the uniform noise, from 0, that is added inside the softmax in the one step of a "
        "rollback; it does not change the weights (Shen et al.: 10)",
    )
    one_hot_within: Searched[float] = Field(
        default=1e-3,
        gt=0,
        description="a mixture below the barrier is accepted as a trigger if the number of slots minus the sum of "
        "their largest shares is less than this (Shen et al.: 0.001)",
    )
    keep: Searched[Literal["one_hot", "lowest"]] = Field(
        default="one_hot",
        description="mixture that is rounded at the end. one_hot: the last one that was accepted as a trigger; if none "
        "was, the one with the lowest loss, which is never flagged (Shen et al. then have none). lowest: also one that "
        "was not accepted, if its loss is lower (EliBadCode's copy)",
    )
    flag_below: Judged[float] = Field(
        default=1e-3,
        ge=0,
        description="a label is flagged as the target if its trigger's loss, in nats, is at most this (Shen et al.: "
        "0.001, on TrojAI's models); a fixed bound, without calibration",
    )
    unlearn_when_clean: Afterwards[bool] = Field(
        default=True, description="unlearn the trigger with the lowest loss even if that loss is above `flag_below`"
    )

    def unlearns(self, flagged: bool, head: Head) -> bool:  # noqa: ARG002
        return flagged or self.unlearn_when_clean

    def search_work(self, victim: PlannedVictim, inverted: bool = False) -> Work:
        steps = 0 if inverted else victim.labels * len(self.positions) * self.iterations
        samples = self._samples_of_other_labels(victim)
        return search(victim, steps, samples, self.sample_tokens) + self._positioning(victim, inverted)
