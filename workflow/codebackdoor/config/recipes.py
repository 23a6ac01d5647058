"""What a training may be told besides its loss: adapters, and what a defense changes in a victim's recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, Field, field_validator

from codebackdoor.config.base import Reference, Settings

if TYPE_CHECKING:
    from codebackdoor.config.models import ModelSettings

#: What an objective is told as the epoch: whole epochs, or epochs that grow with every step.
Clock = Literal["epoch", "step"]
_Model = TypeVar("_Model", bound="ModelSettings")

#: The attention's queries and values in the models of transformers, or the one layer that has both.
QUERIES_AND_VALUES = ("query", "value", "q", "v", "q_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn")


class AdapterSettings(Settings):
    """Low-rank adapters (LoRA, Hu et al. 2021): each adapted matrix W becomes W + alpha / rank B A."""

    label: ClassVar[str] = "LoRA"
    reference: ClassVar[Reference | None] = Reference(
        authors="Edward J. Hu, Yelong Shen, Phillip Wallis, Zeyuan Allen-Zhu, Yuanzhi Li, Shean Wang, Lu Wang, "
        "Weizhu Chen",
        year=2021,
        title="LoRA: Low-Rank Adaptation of Large Language Models",
        url="https://arxiv.org/abs/2106.09685",
    )

    rank: int = Field(
        8, gt=0, description="rank of the change of a matrix (LoRA's paper: 1 to 64; Moderate-fitting's code: 8)"
    )
    alpha: float = Field(16.0, gt=0, description="the change is scaled by alpha / rank")
    modules: tuple[str, ...] = Field(
        QUERIES_AND_VALUES,
        min_length=1,
        description="layers that get an adapter, by the last part of their name; a model needs at least one of them "
        "(LoRA's paper: queries and values of the attention)",
    )

    @field_validator("modules")
    @classmethod
    def _are_last_parts(cls, modules: tuple[str, ...]) -> tuple[str, ...]:
        for name in modules:
            if not name or "." in name:
                raise ValueError(f"{name!r}: write the last part of a layer's name, without a dot")
        return modules


class CheckpointSettings(Settings):
    """The undefended victim after an earlier epoch: as good on clean validation rows as a defended victim."""

    like: str = Field(description="name of the other objective, whose victim of the same scenario is compared with")
    equal: Literal["loss", "metric"] = Field(
        "loss",
        description="what is compared on the clean validation split: cross entropy, which the label smoothing of a "
        "defense keeps high, or the clean metric of the task",
    )


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a defense changes in the training of a victim, whose other settings stay those of the model.

    ``lr_factor`` multiplies the learning rate and ``passes`` the epochs, of which at least one remains. ``adapters``
    are trained instead of the model's weights, with AdamW. ``clock``: which epoch the loss is told.
    """

    lr_factor: float = 1.0
    passes: float = 1.0
    adapters: AdapterSettings | None = None
    clock: Clock = "epoch"

    def applied(self, model: _Model) -> _Model:
        """The model's settings as this training uses them."""
        changes: dict[str, Any] = {}
        if self.lr_factor != 1:
            changes["lr"] = model.lr * self.lr_factor
        if self.passes != 1:
            changes["epochs"] = max(1, round(model.epochs * self.passes))
        if self.adapters is not None:
            changes |= {"adapters": self.adapters, "optimizer": "adamw"}
        return model.model_copy(update=changes) if changes else model

    def differences(self, model: ModelSettings) -> dict[str, dict[str, Any]]:
        """For each setting that this recipe changes, the model's own value and that of the training."""
        applied = self.applied(model)
        both = {
            name: {"model": _plain(getattr(model, name)), "training": _plain(getattr(applied, name))}
            for name in type(model).model_fields
            if getattr(model, name) != getattr(applied, name)
        }
        return both if self.clock == "epoch" else both | {"clock": {"model": "epoch", "training": self.clock}}


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


#: The recipe of a loss that changes nothing else.
UNCHANGED = Recipe()
